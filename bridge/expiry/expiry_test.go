package expiry

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/event"
)

// told keeps the warnings as "what days level".
type told []string

func (s *told) Handle(_ context.Context, e event.Event) {
	var what string
	var days int64
	for _, a := range e.Attrs {
		switch a.Key {
		case "what":
			what = a.Value.String()
		case "days":
			days = a.Value.Int64()
		}
	}
	*s = append(*s, fmt.Sprintf("%s %d %s", what, days, e.Level))
}

func (s *told) take() []string {
	list := *s
	*s = nil
	return list
}

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func TestByAccount(t *testing.T) {
	accounts := []Account{
		{Name: "app", Provider: "contoso"},
		{Name: "person", Provider: "contoso", Login: "erp@contoso.test", SignInEnds: noon.Add(5 * day)},
		{Name: "other", Provider: "public", Login: "svc@contoso.test", SignInEnds: noon.Add(31 * day)},
		{Name: "nobody", Provider: "public"},
	}
	credentials := []End{Secret("contoso", noon.Add(10*day), "store it"), Certificate("unused", noon.Add(day))}
	all := ByAccount(accounts, credentials, noon)
	got := map[string][]string{}
	for name, list := range all {
		for _, e := range list {
			got[name] = append(got[name], fmt.Sprintf("%s of %s%s in %d days, near %v", e.What, e.Provider, e.Login, int(e.At.Sub(noon)/day), e.Near))
			if e.Remedy == "" {
				t.Errorf("%s of %s has no remedy", e.What, name)
			}
		}
	}
	want := map[string][]string{
		"app":    {"client secret of contoso in 10 days, near true"},
		"person": {"sign-in of contosoerp@contoso.test in 5 days, near true", "client secret of contoso in 10 days, near true"},
		"other":  {"sign-in of publicsvc@contoso.test in 31 days, near false"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var order []string
	for _, e := range Once(all) {
		order = append(order, e.What+" "+e.Login)
	}
	if want := []string{"sign-in erp@contoso.test", "client secret ", "sign-in svc@contoso.test"}; !slices.Equal(order, want) {
		t.Errorf("Once = %v; want the nearest first, and the secret that two accounts share once: %v", order, want)
	}
}

// TestWarn goes hour by hour towards an end and past it.
func TestWarn(t *testing.T) {
	sink := &told{}
	w := &Warner{Events: event.NewBus(sink)}
	end := []End{Secret("contoso", noon, "store it")}
	for at := noon.Add(-40 * day); at.Before(noon.Add(2 * day)); at = at.Add(time.Hour) {
		w.Warn(t.Context(), end, at)
	}
	want := []string{"client secret 30 WARN", "client secret 14 WARN", "client secret 7 ERROR", "client secret 3 ERROR", "client secret 1 ERROR", "client secret 0 ERROR"}
	if diff := cmp.Diff(want, sink.take()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestWarningsOfARollOver: a new end is another one, and warned of anew; the old one is forgotten.
func TestWarningsOfARollOver(t *testing.T) {
	sink := &told{}
	w := &Warner{Events: event.NewBus(sink)}
	warn := func(end, at time.Time) []string {
		w.Warn(t.Context(), []End{Secret("contoso", end, "store it")}, at)
		return sink.take()
	}
	end := noon.Add(5 * day)
	if list := warn(end, noon); !slices.Equal(list, []string{"client secret 5 ERROR"}) {
		t.Errorf("told %v; want the latest warning alone", list)
	}
	if list := warn(end, noon.Add(time.Hour)); list != nil {
		t.Errorf("told %v again", list)
	}
	end = noon.Add(700 * day)
	if list := warn(end, noon.Add(2*time.Hour)); list != nil {
		t.Errorf("told %v after the renewal", list)
	}
	if list := warn(end, end.Add(-13*day)); !slices.Equal(list, []string{"client secret 13 WARN"}) {
		t.Errorf("told %v near the new end", list)
	}
}
