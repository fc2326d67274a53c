package mailboxes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"postern/bridge/envelope/envelopetest"
)

// house is what stands around Mailboxes.
type house struct {
	now     time.Time
	waiting map[string]bool
	asked   int
	fail    error
	inForce []string
}

func (h *house) open() *Mailboxes {
	return New(Options{Now: func() time.Time { return h.now },
		Waiting: func(context.Context) (map[string]bool, error) { h.asked++; return h.waiting, h.fail }})
}

func (h *house) apply(names []string) error {
	h.inForce = names
	return nil
}

func TestAdmit(t *testing.T) {
	h := &house{now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	m := h.open()
	if err := m.Set([]string{"people"}, h.apply); err != nil || h.inForce != nil {
		t.Fatalf("Set = %v, with %v in force", err, h.inForce)
	}
	for _, tc := range []struct{ name, account, from, want string }{
		{"an account for one mailbox is itself", "erp", "ann@contoso.test", "erp"},
		{"a mailbox of a domain has its own", "people", "Ann@contoso.test", "people/ann@contoso.test"},
		{"and the same the next time", "people", "ann@CONTOSO.test", "people/ann@contoso.test"},
		{"another has another", "people", "bob@contoso.test", "people/bob@contoso.test"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := m.Admit(t.Context(), tc.account, envelopetest.Address(t, tc.from)); got != tc.want || err != nil {
				t.Errorf("Admit(%q, %s) = %q, %v; want %q", tc.account, tc.from, got, err, tc.want)
			}
		})
	}
	if want := []string{"people/ann@contoso.test", "people/bob@contoso.test"}; !slices.Equal(h.inForce, want) {
		t.Errorf("in force %v; want %v", h.inForce, want)
	}
	if err := m.Set(nil, h.apply); err != nil || h.inForce != nil {
		t.Errorf("without the account: Set = %v, with %v in force; want none", err, h.inForce)
	}
	if err := m.Set([]string{"people"}, h.apply); err != nil || len(h.inForce) != 2 {
		t.Errorf("with the account again: Set = %v, with %v in force; want two", err, h.inForce)
	}
}

func TestRecall(t *testing.T) {
	h := &house{waiting: map[string]bool{"people/ann@contoso.test": true, "erp": true, "gone/x@contoso.test": true}}
	m := h.open()
	if err := errors.Join(m.Set([]string{"people"}, h.apply), m.Recall(t.Context())); err != nil || !slices.Equal(h.inForce, []string{"people/ann@contoso.test"}) {
		t.Errorf("Recall = %v, with %v in force", err, h.inForce)
	}
	h.fail = errors.New("the store is closed")
	if err := m.Recall(t.Context()); !errors.Is(err, h.fail) {
		t.Errorf("Recall = %v; want %v", err, h.fail)
	}
}

func TestMailboxesHaveABound(t *testing.T) {
	h := &house{now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	m := h.open()
	if err := m.Set([]string{"people"}, h.apply); err != nil {
		t.Fatal(err)
	}
	for i := range most {
		m.seen[fmt.Sprintf("people/p%d@contoso.test", i)] = h.now
	}
	erp := envelopetest.Address(t, "erp@contoso.test")
	for range 3 {
		if _, err := m.Admit(t.Context(), "people", erp); err == nil {
			t.Error("Admit = nil; want an error")
		}
	}
	if h.asked != 1 {
		t.Errorf("the queue was asked %d times within a minute; want once", h.asked)
	}
	if name, err := m.Admit(t.Context(), "people", envelopetest.Address(t, "p7@contoso.test")); err != nil || name != "people/p7@contoso.test" {
		t.Errorf("Admit of one that is known = %q, %v", name, err)
	}
	// An hour later those that have no mail are forgotten.
	h.now = h.now.Add(keep + time.Minute)
	h.waiting = map[string]bool{"people/p1@contoso.test": true}
	if name, err := m.Admit(t.Context(), "people", erp); err != nil || name != "people/erp@contoso.test" {
		t.Errorf("Admit = %q, %v", name, err)
	}
	if want := []string{"people/erp@contoso.test", "people/p1@contoso.test"}; !slices.Equal(h.inForce, want) {
		t.Errorf("in force %v; want %v", h.inForce, want)
	}
}
