package control

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// TestDialOfADaemonThatHangs: its socket takes connections, and nobody answers.
func TestDialOfADaemonThatHangs(t *testing.T) {
	dir, err := os.MkdirTemp("", "pc")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, _, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, dir); !errors.Is(err, ErrSilent) || errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial = %v; want ErrSilent", err)
	}
	given, up := context.WithCancel(t.Context())
	up()
	if _, err := Dial(given, dir); err == nil || errors.Is(err, ErrSilent) {
		t.Errorf("Dial of somebody who gives up = %v; want that", err)
	}
}

// TestRefusalKeepsItsKind: wrong usage that only the daemon sees is wrong usage at the command line.
func TestRefusalKeepsItsKind(t *testing.T) {
	c, err := Dial(t.Context(), serve(t, &fakeService{Healths: choosy{}}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for user, usage := range map[string]bool{"nobody": true, "nav": false} {
		_, err := c.Pass(t.Context(), user)
		var told *Error
		if !errors.As(err, &told) || told.Usage != usage || told.Text != "no "+user {
			t.Errorf("Pass(%s) = %+v; want usage %v", user, err, usage)
		}
	}
}

type choosy struct{ Healths }

func (choosy) Pass(_ context.Context, user string) (Pass, error) {
	return Pass{}, &Error{Text: "no " + user, Usage: user == "nobody"}
}
