package notice

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/dsn"
	"postern/bridge/event"
)

func TestRestartRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		stop := work(t, o)
		o.happen(event.AccountParked, slog.LevelError, parkedERP...)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "account erp is parked on graph: its mail waits, and nothing of it is lost")
		if err := o.Report(t.Context(), failure(t, "nav@contoso.test")); err != nil {
			t.Fatal(err)
		}
		stop()
		o.mail() // the report
		o.start(t, []string{"it@contoso.test"})
		o.happen(event.AccountParked, slog.LevelError, parkedERP...) // met again by the first message
		work(t, o)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "messages that were not sent: 1")
		o.happen(event.MessageRelayed, slog.LevelInfo, onERP...)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "over: account erp is parked on graph: its mail waits, and nothing of it is lost")
	})
}

func TestLastNoticeOfAClockThatWasAheadSilencesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		ahead := memory{LastSent: time.Now().AddDate(0, 0, 30)}
		document, err := json.Marshal(&ahead)
		if err != nil {
			t.Fatal(err)
		}
		o.kept = string(document)
		work(t, o)
		if err := o.Report(t.Context(), failure(t, "")); err != nil { // no report
			t.Fatal(err)
		}
		time.Sleep(interval - time.Second)
		wantSubjects(t, o)
		time.Sleep(gather)
		wantSubjects(t, o, "messages that were not sent: 1")
	})
}

func TestManyFailuresAreOneNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		work(t, o)
		for i := range 200 {
			f := failure(t, "") // no report
			f.Since = f.Since.Add(time.Duration(i) * time.Second)
			if err := o.Report(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			o.happen(event.MessageHeld, slog.LevelError, slog.String("queue_id", "0000000000000m02"), slog.String("user", "nav"), slog.String("err", "in doubt"))
		}
		o.happen(event.MessageHeld, slog.LevelError, slog.String("user", User)) // a notice of ours
		time.Sleep(time.Hour)
		got := wantSubjects(t, o, "messages that were not sent: 200")
		if len(got) == 1 && strings.Count(string(got[0].Body), "and 150 more") != 2 {
			t.Errorf("the notice does not count:\n%.3000s", got[0].Body)
		}
		if len(got) == 1 && !dsn.Automatic(got[0].Header) {
			t.Error("the notice does not say that a program wrote it")
		}
		time.Sleep(time.Hour)
		wantSubjects(t, o)
	})
}

func TestNoticeThatCannotBeKeptIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		work(t, o)
		o.mu.Lock()
		o.fail = errors.New("the disk is full")
		o.mu.Unlock()
		secret := Trouble{Key: "secret contoso", Text: "the client secret of provider contoso expires on 3 December"}
		o.Current("expiry ", []Trouble{secret})
		o.Current("expiry ", []Trouble{secret})
		o.Current("other ", nil)
		time.Sleep(time.Hour)
		o.mu.Lock()
		o.fail = nil
		o.mu.Unlock()
		time.Sleep(time.Hour)
		wantSubjects(t, o, secret.Text)
		o.Current("expiry ", nil)
		o.Current("expiry ", nil)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "over: "+secret.Text)
	})
}

// A power cut comes without a word: what Memory holds is all that is left.
func TestWhatWaitsToBeToldIsKeptAtOnce(t *testing.T) {
	held := func(o *office, id string) {
		o.happen(event.MessageHeld, slog.LevelError, slog.String("queue_id", id), slog.String("user", "nav"), slog.String("err", "in doubt"))
	}
	for _, tc := range []struct {
		name   string
		before func(*office) // ends while something waits to be told
	}{
		{"while no account is up", func(o *office) {
			o.setUp(nil)
			o.happen(event.AccountParked, slog.LevelError, parkedERP...)
			time.Sleep(time.Hour)
		}},
		{"between two notices", func(o *office) {
			held(o, "0000000000000m01")
			time.Sleep(gather + time.Second)
			held(o, "0000000000000m02")
			time.Sleep(interval / 2)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, "it@contoso.test")
				work(t, o)
				tc.before(o)
				held(o, "0000000000000m03")
				o.happen(event.AccountParked, slog.LevelError, slog.String("account", "hr"), slog.String("transport", "graph"))
				synctest.Wait()
				kept, _ := o.Load(t.Context())
				after := &office{kept: kept, up: map[string]bool{"erp": true}}
				after.start(t, []string{"it@contoso.test"})
				work(t, after)
				time.Sleep(time.Hour)
				var all strings.Builder
				for _, m := range after.mail() {
					all.Write(m.Body)
				}
				for _, want := range []string{"message 0000000000000m03", "account hr is parked on graph"} {
					if !strings.Contains(all.String(), want) {
						t.Errorf("after the power cut nobody is told of %q:\n%s", want, &all)
					}
				}
			})
		})
	}
}

// Attempts go on for a while after the desk has ended.
func TestWhatHappensAfterTheDeskHasEndedIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		work(t, o)()
		o.happen(event.AccountParked, slog.LevelError, parkedERP...)
		o.Keep(t.Context())
		o.start(t, []string{"it@contoso.test"})
		work(t, o)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "account erp is parked on graph: its mail waits, and nothing of it is lost")
	})
}

func TestFailureBeforeTheDeskRunsLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		stop := work(t, o)
		o.happen(event.MessageHeld, slog.LevelError, slog.String("queue_id", "0000000000000m02"), slog.String("user", "nav"), slog.String("err", "in doubt"))
		stop()
		o.start(t, []string{"it@contoso.test"})
		if err := o.Report(t.Context(), failure(t, "")); err != nil { // the queue is there first
			t.Fatal(err)
		}
		work(t, o)
		time.Sleep(time.Hour)
		got := wantSubjects(t, o, "messages that were not sent: 1")
		if len(got) == 1 && !strings.Contains(string(got[0].Body), "message 0000000000000m02") {
			t.Errorf("what the process before had not told is lost:\n%s", got[0].Body)
		}
	})
}

func TestWhatCannotBeReadAtTheStartIsNotLost(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before string // what Memory holds; "": of a desk
		want   []string
	}{
		{"it is read later, and nothing takes its place", "", []string{"message 0000000000000m02", "account erp is parked on graph", "and 10 more"}},
		{"what nobody can ever read holds nothing up", "{", []string{"account erp is parked on graph", "and 10 more"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, "it@contoso.test")
				report := func(n int) (err error) {
					f := failure(t, "") // no report
					for range n {
						f.Since = f.Since.Add(time.Second)
						err = errors.Join(err, o.Report(t.Context(), f))
					}
					return err
				}
				stop := work(t, o)
				o.happen(event.MessageHeld, slog.LevelError, slog.String("queue_id", "0000000000000m02"), slog.String("user", "nav"), slog.String("err", "in doubt"))
				stop()
				if tc.before != "" {
					o.kept = tc.before
				}
				before := o.kept
				o.lost = errors.New("disk I/O error")
				o.start(t, []string{"it@contoso.test"})
				work(t, o)
				o.happen(event.AccountParked, slog.LevelError, parkedERP...)
				if report(maxListed+10) == nil {
					t.Error("Report = nil although nothing was kept; the queue would never ask again")
				}
				time.Sleep(time.Hour)
				if kept, _ := o.Load(t.Context()); kept != before {
					t.Errorf("what was not read was replaced: %.300s", kept)
				}
				o.mu.Lock()
				o.lost = nil
				o.mu.Unlock()
				time.Sleep(time.Hour)
				var all strings.Builder
				for _, m := range o.mail() {
					all.Write(m.Body)
				}
				for _, want := range tc.want {
					if !strings.Contains(all.String(), want) {
						t.Errorf("nobody is told of %q:\n%.500s", want, &all)
					}
				}
			})
		})
	}
}

// The queue asks again for as long as a report returns an error, and after a crash before it wrote down that there was none.
func TestFailureIsToldOnceHoweverOftenItIsReported(t *testing.T) {
	report := func(t *testing.T, o *office, again time.Duration) error {
		t.Helper()
		f := failure(t, "") // no report
		f.Since = f.Since.Add(again)
		return o.Report(t.Context(), f)
	}
	full := func(o *office, err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.full = err
	}
	for _, tc := range []struct {
		name string
		do   func(*testing.T, *office)
		want string
	}{
		{"while the disk is full, and the notice leaves meanwhile", func(t *testing.T, o *office) {
			work(t, o)
			full(o, errors.New("the disk is full"))
			for range 20 {
				if report(t, o, 0) == nil {
					t.Fatal("Report = nil although nothing was kept; the queue would never ask again")
				}
				time.Sleep(5 * time.Second)
			}
			full(o, nil)
			if err := report(t, o, 0); err != nil {
				t.Fatal(err)
			}
		}, "messages that were not sent: 1"},
		{"by the next process", func(t *testing.T, o *office) {
			if err := report(t, o, 0); err != nil {
				t.Fatal(err)
			}
			o.start(t, []string{"it@contoso.test"})
			if err := report(t, o, 0); err != nil {
				t.Fatal(err)
			}
			work(t, o)
		}, "messages that were not sent: 1"},
		{"but a message that fails again after a retry is told again", func(t *testing.T, o *office) {
			work(t, o)
			for _, again := range []time.Duration{0, time.Hour} {
				if err := report(t, o, again); err != nil {
					t.Fatal(err)
				}
			}
		}, "messages that were not sent: 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, "it@contoso.test")
				tc.do(t, o)
				time.Sleep(time.Hour)
				wantSubjects(t, o, tc.want)
			})
		})
	}
}

// The queue asks again, too, until it has written down that there was no error.
func TestFailureThatWasToldIsNotToldAgain(t *testing.T) {
	for _, how := range []string{"by the same process", "by the next one"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, "it@contoso.test")
				stop := work(t, o)
				for range 4 {
					f := failure(t, "") // no report
					for range maxListed + 10 {
						f.Since = f.Since.Add(time.Second)
						if err := o.Report(t.Context(), f); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(20 * time.Minute)
					if how == "by the next one" {
						stop()
						o.start(t, []string{"it@contoso.test"})
						stop = work(t, o)
					}
				}
				wantSubjects(t, o, "messages that were not sent: 60")
			})
		})
	}
}

func TestDeskKnowsTheLatestFailuresOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		stop := work(t, o)
		f := failure(t, "") // no report
		for range maxNoted + 1 {
			f.Since = f.Since.Add(time.Second)
			if err := o.Report(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		wantSubjects(t, o, "messages that were not sent: 501")
		stop()
		var kept memory
		if err := json.Unmarshal([]byte(o.kept), &kept); err != nil {
			t.Fatal(err)
		}
		if n := len(kept.Noted); n != maxNoted || kept.Noted[n-1] != string(f.id()) {
			t.Errorf("%d failures are known; want the latest %d", n, maxNoted)
		}
	})
}
