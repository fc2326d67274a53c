package submission

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMailOverTheRateIsTakenAndLeavesLater(t *testing.T) {
	now := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	q := &queue{}
	o := options(t, q)
	o.Users = []User{{Name: "nav", RatePerMinute: 3}, {Name: "web"}}
	o.Now = func() time.Time { return now }
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	submit := func(user string) {
		t.Helper()
		s := session
		s.User = user
		if _, err := d.Submit(t.Context(), s, envelopeTo(t, "to@d.test"), strings.NewReader("From: erp@c.test\r\n\r\nHi\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, offsets ...time.Duration) {
		t.Helper()
		var got []time.Duration
		for _, m := range q.messages {
			at := time.Duration(0)
			if !m.Plan.NotBefore.IsZero() {
				at = m.Plan.NotBefore.Sub(now)
			}
			got = append(got, at)
		}
		if !slices.Equal(got, offsets) {
			t.Errorf("%s: they leave after %v; want %v", what, got, offsets)
		}
		q.messages = nil
	}
	for range 8 {
		submit("nav")
	}
	want("three a minute", 0, 0, 0, time.Minute, time.Minute, time.Minute, 2*time.Minute, 2*time.Minute)
	submit("web")
	want("another user has his own", 0)
	now = now.Add(90 * time.Second)
	submit("nav")
	want("it goes on where it was", 30*time.Second)
	now = now.Add(time.Hour)
	submit("nav")
	want("an hour later all is forgotten", 0)

	// What was not accepted counts for nothing.
	q.err = errors.New("the disk is full")
	for range 10 {
		s := session
		if _, err := d.Submit(t.Context(), s, envelopeTo(t, "to@d.test"), strings.NewReader("From: erp@c.test\r\n\r\nHi\r\n")); err == nil {
			t.Fatal("Submit = nil")
		}
	}
	q.err = nil
	submit("nav")
	submit("nav")
	want("after refusals", 0, 0)
}

func TestPaceOutlivesTheProcess(t *testing.T) {
	now := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	var p Pacer
	for _, after := range []time.Duration{2 * time.Minute, time.Minute, 2 * time.Minute, time.Minute} {
		p.Resume("nav", now.Add(after))
	}
	if at := p.reserve("nav", 2, now); !at.Equal(now.Add(3 * time.Minute)) {
		t.Errorf("the next leaves after %v; want 3m", at.Sub(now))
	}
}

// TestPaceHoldsTheRate: whatever comes when, any 60 seconds hold at most the rate, and nothing leaves before it came.
func TestPaceHoldsTheRate(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		rate := 1 + r.IntN(5)
		now := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
		var p Pacer
		var leave []time.Time
		for range 1 + r.IntN(60) {
			now = now.Add(time.Duration(r.IntN(40_000)) * time.Millisecond)
			at := p.reserve("nav", rate, now)
			if at.Before(now) {
				t.Fatalf("seed %d: it leaves %v before it came", seed, now.Sub(at))
			}
			if r.IntN(10) == 0 { // the message was refused after all
				p.cancel("nav", at)
				continue
			}
			leave = append(leave, at)
		}
		slices.SortFunc(leave, time.Time.Compare)
		for i := rate; i < len(leave); i++ {
			if d := leave[i].Sub(leave[i-rate]); d < time.Minute {
				t.Fatalf("seed %d: %d leave within %v", seed, rate+1, d)
			}
		}
	}
}

// TestAClockThatIsSetBackKeepsNoUser: what was to leave by a clock that was ahead counts for as long as so much mail takes, not
// until then.
func TestAClockThatIsSetBackKeepsNoUser(t *testing.T) {
	now := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	reserved := func(p *Pacer, ahead time.Time) {
		for range 7 {
			p.reserve("nav", 3, ahead)
		}
	}
	resumed := func(p *Pacer, ahead time.Time) {
		for i := range 7 {
			p.Resume("nav", ahead.Add(time.Duration(i/3)*time.Minute))
		}
	}
	for _, tc := range []struct {
		name  string
		ahead func(*Pacer, time.Time)
	}{{"in one process", reserved}, {"taken up at the start", resumed}} {
		for _, by := range []time.Duration{10 * time.Minute, time.Hour, 10 * 24 * time.Hour} {
			var p Pacer
			tc.ahead(&p, now.Add(by))
			var got []time.Duration
			for range 4 {
				got = append(got, p.reserve("nav", 3, now).Sub(now))
			}
			if want := []time.Duration{3 * time.Minute, 3 * time.Minute, 4 * time.Minute, 4 * time.Minute}; !slices.Equal(got, want) {
				t.Errorf("%s, by %v: with seven before them they leave after %v; want %v", tc.name, by, got, want)
			}
			if later := now.Add(10 * time.Minute); !p.reserve("nav", 3, later).Equal(later) {
				t.Errorf("%s, by %v: ten minutes later it is not forgotten", tc.name, by)
			}
		}
	}
}

// TestRefusedMailLeavesNoTooShortMinute: what was put behind it keeps its time, and nobody gets that a second time.
func TestRefusedMailLeavesNoTooShortMinute(t *testing.T) {
	start := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	for _, perMinute := range []int{1, 2, 5, 30} {
		for seed := range uint64(50) {
			r := rand.New(rand.NewPCG(seed, uint64(perMinute)))
			var p Pacer
			var leave, open []time.Time
			now := start
			end := func() { // of one of those that are being handed in
				i := r.IntN(len(open))
				if at := open[i]; r.IntN(10) < 3 {
					p.cancel("nav", at)
				} else {
					leave = append(leave, at)
				}
				open = slices.Delete(open, i, i+1)
			}
			for range 300 {
				now = now.Add(time.Duration(r.Int64N(int64(time.Minute) / int64(perMinute))))
				if len(open) == 4 {
					end()
				}
				open = append(open, p.reserve("nav", perMinute, now))
			}
			slices.SortFunc(leave, time.Time.Compare)
			for i := perMinute; i < len(leave); i++ {
				if leave[i].Sub(leave[i-perMinute]) < time.Minute {
					t.Fatalf("%d a minute, seed %d: %d leave from %v to %v", perMinute, seed, perMinute+1, leave[i-perMinute].Sub(start), leave[i].Sub(start))
				}
			}
		}
	}
}
