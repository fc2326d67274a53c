package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/auth/token"
	"postern/bridge/envelope/envelopetest"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// app answers Verify.
type app struct {
	found Verified
	err   error
}

func (a app) Verify(context.Context) (Verified, error) { return a.found, a.err }

// provider answers as a does.
func provider(a app) Provider {
	return Provider{Name: "contoso", ClientID: "1234", Open: func(func(http.RoundTripper) http.RoundTripper) (Verifier, error) { return a, nil }}
}

// way is a transport that answers probes and mail, and keeps what it was sent.
type way struct {
	probe error
	send  reply.Outcome
	sent  []message.Outgoing
}

func (w *way) Probe(context.Context) error { return w.probe }

func (w *way) Send(_ context.Context, out message.Outgoing) reply.Outcome {
	w.sent = append(w.sent, out)
	return w.send
}

var address = envelopetest.Address

func TestProvider(t *testing.T) {
	const role = "yellow provider contoso, reach: "
	for _, tc := range []struct {
		name   string
		app    app
		byRole bool
		want   []string // beginnings
	}{
		{"a public app", app{}, false, []string{"green provider contoso: tenant and client_id are right"}},
		{"an app with a credential", app{found: Verified{Credential: "certificate"}}, false, []string{"green provider contoso: tenant, client_id and certificate are right"}},
		{"roles matter where an account uses them alone", app{found: Verified{Roles: []string{"Mail.Send"}, RolesKnown: true}}, false,
			[]string{"green provider contoso: "}},
		{"the app may send as everybody", app{found: Verified{Roles: []string{"Mail.Send"}, RolesKnown: true}}, true,
			[]string{"green provider contoso: ", role + "the app has Mail.Send, and may send as EVERY mailbox"}},
		{"the app may send as some", app{found: Verified{RolesKnown: true}}, true, []string{"green provider contoso: ", "green provider contoso, reach: the app has no Mail.Send"}},
		{"roles that cannot be read", app{}, true, []string{"green provider contoso: ", role + "whether the app may send as every mailbox"}},
		{"a refusal says what to do, and nothing about roles", app{err: &token.Error{Text: "provider contoso: the secret has expired", Remedy: "create a new one"}}, true,
			[]string{"red provider contoso: the secret has expired; create a new one"}},
		{"an error that nobody has classed", app{err: errors.New("broken pipe")}, false, []string{"red provider contoso: broken pipe"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := provider(tc.app)
			p.ByRole = tc.byRole
			wantLines(t, Run(t.Context(), Options{Providers: []Provider{p}}), tc.want...)
		})
	}
	broken := Provider{Name: "contoso", Open: func(func(http.RoundTripper) http.RoundTripper) (Verifier, error) { return nil, errors.New("no tenant") }}
	wantLines(t, Run(t.Context(), Options{Providers: []Provider{broken}}), "red provider contoso: no tenant; correct the provider in the file")
}

func wantLines(t *testing.T, got []Line, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d lines; want %d: %+v", len(got), len(want), got)
	}
	for i, l := range got {
		text := l.State + " " + l.Subject + ": " + l.Text
		if l.Remedy != "" {
			text += "; " + l.Remedy
		}
		if !strings.HasPrefix(text, want[i]) {
			t.Errorf("line %d: %s\nwant: %s", i+1, text, want[i])
		}
	}
}

func TestAccount(t *testing.T) {
	refused := &Refusal{Outcome: reply.Outcome{Reply: reply.Reply{Code: 535, Enhanced: "5.7.139", Text: "denied"}, Means: "SMTP AUTH is off", Remedy: "switch it on"}}
	unsigned := &Refusal{Outcome: reply.Outcome{Reply: reply.Reply{Text: "no token"}, Err: &token.Error{Text: "needs sign-in", Remedy: "run: postern signin erp"}}}
	gone := &Refusal{Outcome: reply.Outcome{Err: errors.New("connection refused")}}
	for _, tc := range []struct {
		name        string
		graph, smtp error
		change      func(*Account)
		want        []string
		works       bool
	}{
		{"both ways work", nil, nil, nil, []string{"green account erp, graph: Microsoft Graph takes mail for erp@contoso.test", "green account erp, smtp: the smarthost lets erp@contoso.test in"}, true},
		{"one way of an auto account is enough", nil, refused, nil,
			[]string{"green account erp, graph: ", "yellow account erp, smtp: SMTP AUTH is off (535 5.7.139 denied); mail goes by graph; switch it on"}, true},
		{"of another every way must work", nil, refused, func(a *Account) { a.Auto = false }, []string{"green account erp, graph: ", "red account erp, smtp: SMTP AUTH is off"}, true},
		{"no way works", unsigned, gone, nil, []string{"red account erp, graph: needs sign-in; run: postern signin erp", "red account erp, smtp: connection refused"}, false},
		{"a domain shows a token alone", nil, errors.New("no token"), func(a *Account) { a.Domain = true },
			[]string{"green account erp, graph: has a token; a mailbox of the domain shows itself", "yellow account erp, smtp: no token; mail goes by graph"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := Account{Name: "erp", Mailbox: "erp@contoso.test", Auto: true,
				Ways: []Way{{"graph", &way{probe: tc.graph}}, {"smtp", &way{probe: tc.smtp}}}}
			if tc.change != nil {
				tc.change(&a)
			}
			works := false
			wantLines(t, Run(t.Context(), Options{Accounts: []Account{a}, Works: func(string) { works = true }}), tc.want...)
			if works != tc.works {
				t.Errorf("it works: %v; want %v", works, tc.works)
			}
		})
	}
}

func TestSend(t *testing.T) {
	to := address(t, "it@example.test")
	takes := &way{send: reply.Outcome{Verdict: reply.Relayed, Reply: reply.Reply{Code: 250, Text: "taken"}}}
	refuses := &way{send: reply.Outcome{Verdict: reply.Relayed, Recipients: map[string]reply.Outcome{
		to.Key(): {Verdict: reply.Failed, Reply: reply.Reply{Code: 550, Text: "not as her"}, Means: "she has not allowed it", Remedy: "grant it"}}}}
	shut := &way{probe: errors.New("no way in")}
	a := Account{Name: "erp", Mailbox: "erp@contoso.test", Login: "svc@contoso.test", Ways: []Way{{"graph", takes}, {"smtp", refuses}, {"smtp", shut}},
		Senders: []Sender{{From: address(t, "erp@contoso.test")}, {From: address(t, "buyer@contoso.test"), OnBehalf: true}}}
	got := Run(t.Context(), Options{Hostname: "bridge.contoso.test", Accounts: []Account{a}, SendTo: to, Works: func(string) {}})
	wantLines(t, got, "green account erp, graph: ", "green account erp, graph, as erp@contoso.test: sent to it@example.test: 250",
		"green account erp, graph, as buyer@contoso.test: sent to it@example.test: 250",
		"green account erp, smtp: ", "red account erp, smtp, as erp@contoso.test: she has not allowed it (550", "red account erp, smtp, as buyer@contoso.test: ",
		"red account erp, smtp: no way in")
	if len(shut.sent) != 0 || len(takes.sent) != 2 {
		t.Fatalf("sent %d and %d; want 2, and none where there is no way in", len(takes.sent), len(shut.sent))
	}
	for i, sender := range []string{"", "svc@contoso.test"} {
		out := takes.sent[i]
		h, err := message.ParseHeader(out.Final)
		if err != nil {
			t.Fatal(err)
		}
		body, err := out.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(body)
		if err != nil || int64(len(text)) != out.BodySize || !strings.Contains(string(text), "postern check --live --send-to") {
			t.Errorf("the body of message %d: %v, %d octets, %q", i, err, out.BodySize, text)
		}
		got := ""
		if all := h.All("Sender"); len(all) == 1 {
			got = all[0].Addresses().Entries()[0].Address.String()
		}
		if got != sender {
			t.Errorf("Sender of message %d is %q; want %q", i, got, sender)
		}
	}
}

func TestClock(t *testing.T) {
	noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name         string
		began, ended time.Duration // against the Date
		want         time.Duration
	}{
		{"right", 300 * time.Millisecond, 600 * time.Millisecond, 0},
		{"a slow answer hides a small error", -2 * time.Second, 2 * time.Second, 0},
		{"ahead", 10 * time.Minute, 10*time.Minute + time.Second, 10*time.Minute - time.Second},
		{"behind", -10 * time.Minute, -10*time.Minute + time.Second, -10*time.Minute + time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := clockOffset(noon, noon.Add(tc.began), noon.Add(tc.ended)); got != tc.want {
				t.Errorf("clockOffset = %v; want %v", got, tc.want)
			}
		})
	}
	got := map[string]string{}
	for _, off := range []time.Duration{0, 30 * time.Second, 2 * time.Minute, -2 * time.Minute, 6 * time.Minute, -3 * time.Hour} {
		list := clock(Line{Subject: "provider contoso"}, &dateWatch{off: off, seen: true})
		got[fmt.Sprint(off)] = list[0].State + " " + list[0].Text
	}
	want := map[string]string{
		"0s": "green this machine's clock is right", "30s": "green this machine's clock is right",
		"2m0s":    "yellow this machine's clock is 2m0s ahead of Microsoft's",
		"-2m0s":   "yellow this machine's clock is 2m0s behind Microsoft's",
		"6m0s":    "red this machine's clock is 6m0s ahead of Microsoft's",
		"-3h0m0s": "red this machine's clock is 3h0m0s behind Microsoft's",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if list := clock(Line{}, &dateWatch{}); list != nil {
		t.Errorf("no Date, and still %v", list)
	}
}
