package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"postern/bridge/message"
	"postern/bridge/reply"
)

// tidier is a transport that has left something.
type tidier struct {
	copies
	err    error
	tidied []string
	others [][]string
	until  []time.Time
}

func (t *tidier) CanTidy() bool { return true }

func (t *tidier) Tidy(ctx context.Context, out message.Outgoing) error {
	until, _ := ctx.Deadline()
	t.until, t.others = append(t.until, until), append(t.others, out.Others)
	var to string
	for _, a := range out.Recipients {
		to += " " + a.Local
	}
	t.tidied = append(t.tidied, field(out, "X-Postern-Id")+" "+out.Notes[out.Recipients[0].Key()]+to)
	return t.err
}

// over is what the queue says of a letter that is over for all.
func (l *letterTo) over(context.Context) (message.Outgoing, bool, error) {
	l.Notes, l.Header = l.notes, nil // it is deleted with the body
	return l.Outgoing, true, nil
}

func TestTidyGoesByParts(t *testing.T) {
	c := &tidier{}
	c.rule = func(out message.Outgoing) reply.Outcome {
		if err := out.Remember(context.Background(), out.Recipients, "draft of "+field(out, "X-Postern-Id")); err != nil {
			t.Error(err)
		}
		if len(out.Recipients) == 3 { // and r1 is invalid, whoever that is
			return reply.Outcome{Verdict: reply.Failed, Owner: reply.Recipient}
		}
		return full
	}
	h := newHouse(t, Account{Name: "erp", Mode: ModeGraph, Graph: c})
	l := newLetter(t, 3)
	l.attempt(h.relay)
	if err := h.relay.Tidy(t.Context(), l.ID, l.over); !errors.Is(err, errStopped) || len(c.tidied) != 0 {
		t.Errorf("while the mailbox is parked: Tidy = %v, asked for %q", err, c.tidied)
	}
	h.now = h.now.Add(24 * 60 * 60e9)
	c.rule = nil
	h.relay.attempt(context.Background(), Account{Name: "erp", Mode: ModeGraph, Graph: c}, way{string(ModeGraph), c}, newLetter(t, 1).Outgoing)
	c.err = errors.New("no connection")
	if err := h.relay.Tidy(t.Context(), l.ID, l.over); !errors.Is(err, c.err) {
		t.Errorf("Tidy = %v; want what the transport said", err)
	}
	c.tidied, c.err = nil, nil
	if err := h.relay.Tidy(t.Context(), l.ID, l.over); err != nil {
		t.Fatal(err)
	}
	// The half that was never tried has the whole's note: the next attempt, or Tidy, finds the whole's draft by it.
	if want := []string{"Q123.2 draft of Q123.2 r0", "Q123.3 draft of Q123 r1 r2"}; !slices.Equal(c.tidied, want) {
		t.Errorf("tidied %q; want %q", c.tidied, want)
	}
}

func TestTidyOfWhatIsNotOver(t *testing.T) {
	c := &tidier{}
	h := newHouse(t, Account{Name: "erp", Mode: ModeGraph, Graph: c})
	broken := errors.New("the store cannot be read")
	for _, tc := range []struct {
		name    string
		account string
		ok      bool
		err     error
		want    string
	}{
		{"it is tried again", "erp", false, nil, ""},
		{"nobody can say", "erp", false, broken, broken.Error()},
		{"its account is gone", "gone", true, nil, `account "gone" is not configured`},
	} {
		l := newLetter(t, 1)
		l.Plan.Account = tc.account
		err := h.relay.Tidy(t.Context(), l.ID, func(context.Context) (message.Outgoing, bool, error) { return l.Outgoing, tc.ok, tc.err })
		if got := errorText(err); got != tc.want || len(c.tidied) != 0 {
			t.Errorf("%s: Tidy = %q, asked for %q; want %q and nothing", tc.name, got, c.tidied, tc.want)
		}
	}
	smtp := newHouse(t, Account{Name: "erp", Mode: ModeSMTP})
	l := newLetter(t, 1)
	if err := smtp.relay.Tidy(t.Context(), l.ID, l.over); err != nil {
		t.Errorf("by a transport that leaves nothing: %v", err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestTidyAndAnAttemptExcludeEachOther: what is sent at this moment is not removed, nor sent while it is removed.
func TestTidyAndAnAttemptExcludeEachOther(t *testing.T) {
	log := make(chan string, 4)
	c := &tidier{}
	h := newHouse(t, Account{Name: "erp", Mode: ModeGraph, Graph: c})
	l := newLetter(t, 1)
	users := func() int {
		h.relay.mu.Lock()
		defer h.relay.mu.Unlock()
		if d := h.relay.doors[l.ID]; d != nil {
			return d.users
		}
		return 0
	}
	both := func() {
		for users() < 2 {
			runtime.Gosched()
		}
	}
	c.rule = func(message.Outgoing) reply.Outcome {
		both() // Tidy is at the door
		log <- "sent"
		return sent
	}
	var all sync.WaitGroup
	all.Go(func() { l.attempt(h.relay) })
	for users() < 1 {
		runtime.Gosched()
	}
	inTidy := make(chan struct{})
	all.Go(func() {
		_ = h.relay.Tidy(t.Context(), l.ID, func(context.Context) (message.Outgoing, bool, error) {
			log <- "asked"
			close(inTidy)
			both() // the next attempt is
			log <- "tidied"
			return message.Outgoing{}, false, nil
		})
	})
	<-inTidy
	c.rule = func(message.Outgoing) reply.Outcome { log <- "sent again"; return sent }
	l.attempt(h.relay)
	all.Wait()
	var got []string
	for range 4 {
		got = append(got, <-log)
	}
	if want := []string{"sent", "asked", "tidied", "sent again"}; !slices.Equal(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
	if users() != 0 || len(h.relay.doors) != 0 {
		t.Errorf("%d messages are still held", len(h.relay.doors))
	}
}

func TestLeaves(t *testing.T) {
	memo, err := json.Marshal(note{Part: "2", Memo: `{"draft":"x"}`})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"": false, `{"part":"2"}`: false, string(memo): true, "no document": false} {
		if Leaves(text) != want {
			t.Errorf("Leaves(%q) = %v", text, !want)
		}
	}
}

// TestOthersAreNamed: what one recipient got is never taken for what an attempt for another one has left.
func TestOthersAreNamed(t *testing.T) {
	c := &tidier{}
	var others []string
	c.rule = func(out message.Outgoing) reply.Outcome {
		others = append(others, fmt.Sprint(field(out, "X-Postern-Id"), " beside ", out.Others))
		if err := out.Remember(context.Background(), out.Recipients, "draft of "+field(out, "X-Postern-Id")); err != nil {
			t.Error(err)
		}
		return sent
	}
	h := newHouse(t, Account{Name: "erp", Mode: ModeGraph, Graph: c})
	l := newLetter(t, 600)
	l.Others = []string{`{"memo":"an earlier draft"}`, `{"part":"2"}`}
	l.attempt(h.relay)
	if want := []string{"Q123 beside [an earlier draft]", "Q123.2 beside [an earlier draft draft of Q123]"}; !slices.Equal(others, want) {
		t.Errorf("attempts: %q; want %q", others, want)
	}
	if err := h.relay.Tidy(t.Context(), l.ID, l.over); err != nil {
		t.Fatal(err)
	}
	// The parts of what is over are no others to each other: halves may share the note of the whole.
	if want := [][]string{{"an earlier draft"}, {"an earlier draft"}}; !slices.EqualFunc(c.others, want, slices.Equal[[]string]) {
		t.Errorf("Tidy: %q; want %q", c.others, want)
	}
	if len(c.until) != 2 || c.until[0].IsZero() || c.until[0] != c.until[1] {
		t.Errorf("the parts end at %v; want one time for all", c.until)
	}
}
