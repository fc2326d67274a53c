package relay

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/message"
	"postern/bridge/reply"
)

var errUsed = errors.New("it was used")

// The talented are transports that have one ability each.
type (
	talentedLooker   struct{ fake }
	talentedSplitter struct{ fake }
	talentedTidier   struct{ fake }
	talentedDrafter  struct{ fake }
)

func (*talentedLooker) CanLook() bool { return true }
func (*talentedLooker) Look(context.Context, message.Outgoing) reply.Outcome {
	return reply.Outcome{Err: errUsed}
}
func (*talentedSplitter) Splits() bool                               { return true }
func (*talentedSplitter) CheckCarry([]byte, io.Reader) error         { return errUsed }
func (*talentedTidier) CanTidy() bool                                { return true }
func (*talentedTidier) Tidy(context.Context, message.Outgoing) error { return errUsed }
func (*talentedDrafter) DraftsInUse() string                         { return "not known" }

// forbidden is a transport that has all abilities, and may use none of them.
type forbidden struct {
	talentedLooker
	talentedSplitter
	talentedTidier
}

func (*forbidden) Send(context.Context, message.Outgoing) reply.Outcome { return sent }
func (*forbidden) CanLook() bool                                        { return false }
func (*forbidden) Splits() bool                                         { return false }
func (*forbidden) CanTidy() bool                                        { return false }
func (*forbidden) DraftsInUse() string                                  { return "" }

// ability is something that this package asks a transport for.
type ability struct {
	name string               // of the interface
	able Transport            // has it, and no other
	has  func(Transport) bool // asks as this package does, and then uses it
}

var abilities = []ability{
	{"Looker", &talentedLooker{}, func(t Transport) bool {
		l, ok := t.(Looker)
		return ok && l.CanLook() && l.Look(context.Background(), message.Outgoing{}).Err == errUsed
	}},
	{"Splitter", &talentedSplitter{}, func(t Transport) bool {
		s, ok := t.(Splitter)
		return ok && s.Splits() && s.CheckCarry(nil, nil) == errUsed
	}},
	{"Tidier", &talentedTidier{}, func(t Transport) bool {
		d, ok := t.(Tidier)
		return ok && d.CanTidy() && d.Tidy(context.Background(), message.Outgoing{}) == errUsed
	}},
	{"Drafter", &talentedDrafter{}, func(t Transport) bool {
		d, ok := t.(Drafter)
		return ok && d.DraftsInUse() == "not known"
	}},
}

// TestOutletKeepsWhatATransportCan: what counts a transport's users hides nothing that it can do, and adds nothing.
func TestOutletKeepsWhatATransportCan(t *testing.T) {
	type transport struct {
		name string
		Transport
	}
	all := []transport{{"a plain transport", &fake{}}, {"one that may use none of its abilities", &forbidden{}}}
	for _, a := range abilities {
		all = append(all, transport{"a " + a.name, a.able})
	}
	for _, tr := range all {
		t.Run(tr.name, func(t *testing.T) {
			byGraph, bySMTP := NewOutlet(tr.Transport, nil, nil), NewOutlet(nil, tr.Transport, nil)
			if byGraph.SMTP != nil || bySMTP.Graph != nil {
				t.Error("there is a transport that nobody gave")
			}
			for _, a := range abilities {
				want := tr.Transport == a.able
				for name, wrapped := range map[string]Transport{"as Graph": byGraph.Graph, "as SMTP": bySMTP.SMTP, "bare": tr.Transport} {
					if got := a.has(wrapped); got != want {
						t.Errorf("%s it is a %s: %v; want %v", name, a.name, got, want)
					}
				}
			}
		})
	}
}

// TestAbilitiesAreAll reads what this package's code asks transports for: a new ability that is not in abilities could be
// one that an Outlet hides.
func TestAbilitiesAreAll(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]string{} // where each was first asked for
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || name == "outlet.go" {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSwitchStmt:
				t.Errorf("%s: a type switch; ask for one ability at a time", set.Position(n.Pos()))
			case *ast.TypeAssertExpr:
				if n.Type == nil {
					break // the type switch's
				}
				ability, ok := n.Type.(*ast.Ident)
				if !ok {
					t.Errorf("%s: an ability needs a name", set.Position(n.Pos()))
				} else if asked[ability.Name] == "" {
					asked[ability.Name] = set.Position(n.Pos()).String()
				}
			}
			return true
		})
	}
	for name, where := range asked {
		if !slices.ContainsFunc(abilities, func(a ability) bool { return a.name == name }) {
			t.Errorf("%s: abilities lacks %s; counted must implement it, too", where, name)
		}
	}
	for _, a := range abilities {
		if asked[a.name] == "" {
			t.Errorf("nobody asks for %s", a.name)
		}
	}
}

// TestOutletClosesOnceNobodyUsesIt: transports that were replaced stay open for who has just got them, and for as long as
// anything is on its way.
func TestOutletClosesOnceNobodyUsesIt(t *testing.T) {
	retired := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	later := retired.Add(RetireAfter)
	errClose := errors.New("the connection broke")
	closes := 0
	u := &user{}
	o := NewOutlet(u, nil, func() error { closes++; return errClose })
	stays := func(when string, now time.Time) {
		t.Helper()
		if o.Idle(now) {
			t.Errorf("%s: it may be closed; want it open", when)
		}
	}
	stays("while nothing has replaced it", later)
	o.Retire(retired)
	stays("when it is replaced", retired)
	stays("a moment before the time", later.Add(-1))
	out := message.Outgoing{}
	for _, call := range []struct {
		name string
		make func()
	}{
		{"a message is on its way", func() { o.Graph.Send(t.Context(), out) }},
		{"somebody looks", func() { o.Graph.(Looker).Look(t.Context(), out) }},
		{"something is removed", func() { _ = o.Graph.(Tidier).Tidy(t.Context(), out) }},
	} {
		ran := false
		u.during = func() {
			u.during = func() {} // of a second use that ends before the first
			o.Graph.Send(t.Context(), out)
			ran = true
			stays("while "+call.name, later)
		}
		call.make()
		if !ran {
			t.Errorf("%s: the transport was not called", call.name)
		}
	}
	if !o.Idle(later) {
		t.Error("once nobody uses it: it must stay open; want that it may be closed")
	}
	if err := o.Close(); err != errClose || closes != 1 {
		t.Errorf("Close = %v, and it was closed %d times; want the closing's error, once", err, closes)
	}
	if err := o.Close(); err != nil || closes != 1 {
		t.Errorf("a second Close = %v, and it was closed %d times; want once", err, closes)
	}
}

// user is a transport that does something during each call.
type user struct{ during func() }

func (u *user) Send(context.Context, message.Outgoing) reply.Outcome { u.during(); return sent }
func (u *user) CanLook() bool                                        { return true }
func (u *user) Look(context.Context, message.Outgoing) reply.Outcome { u.during(); return sent }
func (u *user) CanTidy() bool                                        { return true }
func (u *user) Tidy(context.Context, message.Outgoing) error         { u.during(); return nil }
