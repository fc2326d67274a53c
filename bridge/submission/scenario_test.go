package submission

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// house is what the cases below are decided by. Accounts: erp (default), svc (shared@c.test, signed in as svc@c.test),
// any (*@c.test), sales and buy.
func house(t testing.TB, q Enqueuer) Options {
	o := options(t, q)
	o.Accounts = append(o.Accounts, Account{Name: "sales", Mailbox: address(t, "sales@c.test"), MaxMessage: 100_000},
		Account{Name: "buy", Mailbox: address(t, "buy@c.test")})
	as := func(mode Mode, to string, more ...func(*Sender)) *Sender {
		s := &Sender{Mode: mode, Address: address(t, to)}
		for _, m := range more {
			m(s)
		}
		return s
	}
	o.Users = []User{
		{Name: "nav", Address: address(t, "nav@c.test")},
		{Name: "shop", Account: "sales", MaySendAs: []string{"*@shop.test"}, MaySendTo: []string{"*@d.test", "in@c.test"}},
		{Name: "scan", Sender: as(AsAccount, "")},
		{Name: "cron", Sender: as(Keep, "", func(s *Sender) { s.Otherwise = UseAccount })},
		{Name: "many", Address: address(t, "many@c.test"), Account: "any", Sender: as(CurrentUser, "")},
	}
	file := message.Part{Hash: strings.Repeat("a", 64), Size: 1000, Name: "terms.pdf", Type: "application/pdf"}
	o.Scenarios = []Scenario{
		{Name: "held", Match: Match{Header: map[string][]string{"X-Approve": {"yes", "y"}}}, Hold: true},
		{Name: "invoice", Match: Match{User: []string{"nav"}, Subject: []string{"Invoice *"}}, Sender: as(SendAs, "noreply@c.test"), ReplyTo: address(t, "desk@c.test")},
		{Name: "orders", Match: Match{User: []string{"nav"}, From: []string{"*@buy.test", "buyer@c.test"}}, Account: "buy", Sender: as(OnBehalf, "buyer@c.test"), Bcc: []envelope.Address{address(t, "archive@c.test"), address(t, "to@d.test")}},
		{Name: "approval", Match: Match{Subject: []string{"Approve: *"}}, Account: "svc", Sender: as(OnBehalf, "")},
		{Name: "both", Match: Match{To: []string{"*@both.test"}, From: []string{"erp@c.test"}}, Account: "sales"},
		{Name: "listener", Match: Match{Listener: []string{"*:2525"}}, Account: "svc", Sender: as(AsAccount, "")},
		{Name: "large", Match: Match{User: []string{"nav"}, Larger: 2000}, Account: "buy", Sender: as(AsAccount, "")},
		{Name: "tiny", Match: Match{User: []string{"scan"}, Smaller: 200}, Account: "sales"},
		{Name: "terms", Match: Match{User: []string{"shop"}, Subject: []string{"Offer ?"}}, Additions: message.Additions{Attach: []message.Part{file}}},
		{Name: "idn", Match: Match{From: []string{"*@b\u00fccher.test"}}, Sender: as(SendAs, "noreply@c.test", func(s *Sender) { s.ReplyTo = "original" })},
		{Name: "garbage", Match: Match{From: []string{"Office Scanner"}}, Sender: as(AsAccount, "")},
		{Name: "nobody", Match: Match{From: []string{""}}, Sender: as(SendAs, "system@c.test")},
		{Name: "personal", Match: Match{User: []string{"shop"}, Subject: []string{"Personal"}}, Account: "any", Sender: as(CurrentUser, "")},
		{Name: "quiet", Match: Match{User: []string{"cron"}, To: []string{"root@*"}}, ReplyTo: address(t, "it@c.test")},
	}
	return o
}

// routed is one case: who hands in what, and what leaves. The user is nav, the recipient to@d.test, the listener
// 127.0.0.1:25 and the reverse-path app@c.test, unless the case says otherwise.
type routed struct {
	name     string
	user     string
	listener string
	to       string // separated by blanks
	path     string // "<>" is the null one
	header   string // fields, separated by "|"
	size     int    // of the body

	scenario, account     string // "" is none, and erp
	from, sender, replyTo string // as fields; from without a display name
	outPath, bcc, reply   string // outPath "" is the From
}

var routes = []routed{
	// Which scenario.
	{name: "no scenario: the user's account", header: "From: erp@c.test", from: "erp@c.test"},
	{name: "no scenario: the user's own address", header: "From: nav@c.test", from: "nav@c.test"},
	{name: "no scenario: the user's account is not the default", user: "shop", header: "From: a@shop.test", account: "sales", from: "a@shop.test"},
	{name: "a subject", header: "From: erp@c.test|Subject: Invoice 4711", scenario: "invoice", from: "noreply@c.test", replyTo: "desk@c.test"},
	{name: "a subject in other case", header: "From: erp@c.test|Subject: INVOICE 4711", scenario: "invoice", from: "noreply@c.test", replyTo: "desk@c.test"},
	{name: "a subject in encoded words", header: "From: erp@c.test|Subject: =?utf-8?q?Invoi?=\r\n =?iso-8859-1?b?Y2UgNA==?=", scenario: "invoice", from: "noreply@c.test", replyTo: "desk@c.test"},
	{name: "a folded subject", header: "From: erp@c.test|Subject: Invoice\r\n 4711", scenario: "invoice", from: "noreply@c.test", replyTo: "desk@c.test"},
	{name: "a subject of another user", user: "scan", size: 500, header: "From: erp@c.test|Subject: Invoice 4711", from: "erp@c.test"},
	{name: "a subject that only begins so", header: "From: erp@c.test|Subject: Invoice", from: "erp@c.test"},
	{name: "a subject with a word before", header: "From: erp@c.test|Subject: Re: Invoice 4711", from: "erp@c.test"},
	{name: "no subject", header: "From: erp@c.test", from: "erp@c.test"},
	{name: "the first of two that hold", header: "From: buyer@c.test|Subject: Invoice 4711", scenario: "invoice", from: "noreply@c.test", replyTo: "desk@c.test"},
	{name: "a header before a subject", header: "From: erp@c.test|X-Approve: YES|Subject: Invoice 4711", scenario: "held", from: "erp@c.test"},
	{name: "a header's second word", header: "From: erp@c.test|x-approve: y", scenario: "held", from: "erp@c.test"},
	{name: "a header's second field", header: "From: erp@c.test|X-Approve: no|X-Approve: yes", scenario: "held", from: "erp@c.test"},
	{name: "a header with another value", header: "From: erp@c.test|X-Approve: maybe", from: "erp@c.test"},
	{name: "an exact From", header: "From: Buyer <BUYER@C.test>", scenario: "orders", account: "buy", from: "buyer@c.test", sender: "buy@c.test", bcc: "archive@c.test"},
	{name: "a From of a domain", header: "From: x@buy.test", scenario: "orders", account: "buy", from: "buyer@c.test", sender: "buy@c.test", bcc: "archive@c.test"},
	{name: "a From of a sub-domain is another", header: "From: x@eu.buy.test", reply: "550 5.7.1"},
	{name: "a From whose name holds the domain is another", header: "From: \"x@buy.test\" <erp@c.test>", from: "erp@c.test"},
	{name: "a From whose local part holds the domain is another", header: "From: \"x@buy.test\"@evil.test", reply: "550 5.7.1"},
	{name: "a comment with the address is no From", header: "From: erp@c.test (x@buy.test)", from: "erp@c.test"},
	{name: "an IDNA From for a Unicode glob", header: "From: a@XN--bcher-kva.test", scenario: "idn", from: "noreply@c.test", replyTo: "a@xn--bcher-kva.test"},
	{name: "a Unicode From for it", header: "From: a@B\u00dcCHER.test", scenario: "idn", from: "noreply@c.test", replyTo: "a@xn--bcher-kva.test"},
	{name: "a look-alike From is another", header: "From: a@b\u00fcch\u0435r.test", reply: "550 5.7.1"},
	{name: "a From that is no address, by its text", header: "From: Office Scanner", scenario: "garbage", from: "erp@c.test"},
	{name: "a message without From", header: "Date: Mon, 2 Nov 2026 09:59:00 +0100", scenario: "nobody", from: "system@c.test"},
	{name: "one of the recipients", to: "a@d.test x@both.test", header: "From: erp@c.test", scenario: "both", account: "sales", reply: "550 5.7.1"},
	{name: "a recipient alone is not enough", user: "shop", to: "in@c.test", header: "From: a@shop.test", account: "sales", from: "a@shop.test"},
	{name: "a recipient of a sub-domain", to: "x@eu.both.test", header: "From: erp@c.test", from: "erp@c.test"},
	{name: "a listener", listener: "0.0.0.0:2525", header: "From: anything@x.test", scenario: "listener", account: "svc", from: "shared@c.test"},
	{name: "a size above", size: 3000, header: "From: erp@c.test", scenario: "large", account: "buy", from: "buy@c.test"},
	{name: "a size not above", size: 1000, header: "From: erp@c.test", from: "erp@c.test"},
	{name: "a size below", user: "scan", size: 1, header: "From: erp@c.test", scenario: "tiny", account: "sales", from: "sales@c.test"},
	{name: "a size not below", user: "scan", size: 300, header: "From: erp@c.test", from: "erp@c.test"},
	{name: "a glob with one character", user: "shop", header: "From: a@shop.test|Subject: Offer 7", scenario: "terms", account: "sales", from: "a@shop.test"},
	{name: "a glob with one character and two there", user: "shop", header: "From: a@shop.test|Subject: Offer 77", account: "sales", from: "a@shop.test"},

	// What the scenario leaves open is the user's.
	{name: "the user's sender under a scenario's account", user: "scan", size: 1, header: "From: Scanner <x@y.test>", scenario: "tiny", account: "sales", from: "sales@c.test"},
	{name: "the user's list under a scenario", user: "shop", header: "From: sales@c.test|Subject: Offer 7", scenario: "terms", account: "sales", reply: "550 5.7.1"},
	{name: "the user's recipients under a scenario", user: "shop", to: "x@elsewhere.test", header: "From: a@shop.test|Subject: Offer 7", account: "sales", reply: "550 5.7.1"},
	{name: "otherwise under a scenario that only sets Reply-To", user: "cron", to: "root@c.test", header: "From: root@web01", scenario: "quiet", from: "erp@c.test", replyTo: "it@c.test"},
	{name: "otherwise without the scenario keeps the original", user: "cron", header: "From: root@web01", from: "erp@c.test", replyTo: "root@web01"},
	{name: "a reply_to of the scenario replaces one that is there", user: "cron", to: "root@c.test", header: "From: erp@c.test|Reply-To: old@c.test", scenario: "quiet", from: "erp@c.test", replyTo: "it@c.test"},

	// Whom may_send_as judges.
	{name: "a scenario with an address is not judged", header: "From: stranger@x.test|Subject: Invoice 1", scenario: "invoice", from: "noreply@c.test", replyTo: "desk@c.test"},
	{name: "a scenario on behalf of the application's own is judged", header: "From: stranger@x.test|Subject: Approve: 1", scenario: "approval", account: "svc", reply: "550 5.7.1"},
	{name: "and allows the account's mailbox", header: "From: shared@c.test|Subject: Approve: 1", scenario: "approval", account: "svc", from: "shared@c.test", sender: "svc@c.test"},
	{name: "and the user's own address", header: "From: nav@c.test|Subject: Approve: 1", scenario: "approval", account: "svc", from: "nav@c.test", sender: "svc@c.test"},
	{name: "the default account's mailbox is not the scenario's", header: "From: erp@c.test|Subject: Approve: 1", scenario: "approval", account: "svc", reply: "550 5.7.1"},
	{name: "on behalf judges a listed address", user: "shop", header: "From: a@shop.test|Subject: Approve: 1", scenario: "approval", account: "svc", from: "a@shop.test", sender: "svc@c.test"},
	{name: "a keeping scenario is judged by the user's list", user: "shop", header: "From: a@other.test|X-Approve: y", scenario: "held", account: "sales", reply: "550 5.7.1"},
	{name: "current-user of another domain than the account's mailboxes", user: "shop", header: "From: a@shop.test|Subject: Personal", scenario: "personal", account: "any", reply: "550 5.7.1"},

	// What is wrong whatever the scenario.
	{name: "two From fields under a rewriting scenario", header: "From: erp@c.test|From: boss@c.test|Subject: Invoice 1", scenario: "invoice", reply: "550 5.6.0"},
	{name: "two addresses under a rewriting scenario", header: "From: erp@c.test, boss@c.test|Subject: Invoice 1", scenario: "invoice", reply: "550 5.6.0"},
	{name: "a group under a rewriting scenario", header: "From: us: erp@c.test;|Subject: Invoice 1", scenario: "invoice", reply: "550 5.6.0"},
	{name: "one of two From fields that a scenario names", header: "From: x@buy.test|From: erp@c.test", scenario: "orders", account: "buy", reply: "550 5.6.0"},
	{name: "a foreign Sender under a rewriting scenario", header: "From: erp@c.test|Sender: boss@c.test|Subject: Invoice 1", scenario: "invoice", from: "noreply@c.test", replyTo: "desk@c.test"},
	{name: "a foreign Sender on behalf", header: "From: x@buy.test|Sender: boss@c.test", scenario: "orders", account: "buy", from: "buyer@c.test", sender: "buy@c.test", bcc: "archive@c.test"},
	{name: "Resent-From under a scenario by From", header: "From: erp@c.test|Resent-From: x@buy.test", from: "erp@c.test"},
	{name: "too large for the scenario's account", user: "scan", size: 150_000, listener: "x:25", header: "From: erp@c.test", from: "erp@c.test"},
	{name: "too large for the user's account", user: "shop", size: 150_000, header: "From: a@shop.test", account: "sales", reply: "552 5.3.4"},
	{name: "too large with what the scenario attaches", user: "shop", size: 99_000, header: "From: a@shop.test|Subject: Offer 7", scenario: "terms", account: "sales", reply: "552 5.3.4"},
	{name: "not too large without it", user: "shop", size: 99_000, header: "From: a@shop.test|Subject: Offer", account: "sales", from: "a@shop.test"},
	{name: "too large for the scenario's account, not for the user's", size: 150_000, header: "From: erp@c.test", to: "x@both.test", scenario: "both", account: "sales", reply: "550 5.7.1"},

	// The reverse-path.
	{name: "the reverse-path follows the scenario's From", path: "garbage@printer.local", header: "From: erp@c.test|Subject: Invoice 1", scenario: "invoice", from: "noreply@c.test", replyTo: "desk@c.test"},
	{name: "a null one stays null under a scenario", path: "<>", header: "From: erp@c.test|Subject: Invoice 1", scenario: "invoice", from: "noreply@c.test", replyTo: "desk@c.test", outPath: "<>"},
	{name: "many mailboxes: the From's", user: "many", header: "From: ann@c.test", account: "any", from: "ann@c.test"},
	{name: "many mailboxes: a scenario's account for them", user: "many", header: "From: ann@c.test|Subject: Invoice 1", account: "any", from: "ann@c.test"},
}

func TestRoutes(t *testing.T) {
	if len(routes) < 60 {
		t.Errorf("%d cases, want 60", len(routes))
	}
	for _, tc := range routes {
		t.Run(tc.name, func(t *testing.T) { tc.run(t) })
	}
}

func (tc routed) run(t *testing.T) {
	q := &queue{}
	o := house(t, q)
	o.SpoolDir = t.TempDir()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := session
	s.User, s.Listener = or(tc.user, "nav"), or(tc.listener, s.Listener)
	env := envelopeTo(t, strings.Fields(or(tc.to, "to@d.test"))...)
	if tc.path != "" {
		env.ReversePath = address(t, strings.Trim(tc.path, "<>"))
	}
	eml := strings.ReplaceAll(tc.header, "|", "\r\n") + "\r\n\r\n" + strings.Repeat("x", tc.size) + "\r\n"
	ex, exErr := d.Explain(t.Context(), s, env, strings.NewReader(eml))
	_, err = d.Submit(t.Context(), s, env, strings.NewReader(eml))
	if fmt.Sprint(exErr) != fmt.Sprint(err) {
		t.Errorf("Explain says %v, Submit %v", exErr, err)
	}
	if ex.Scenario != tc.scenario || ex.Account != or(tc.account, "erp") {
		if tc.reply == "" || ex.Scenario != tc.scenario {
			t.Errorf("scenario %q, account %q; want %q, %q; passed over %q", ex.Scenario, ex.Account, tc.scenario, or(tc.account, "erp"), ex.Passed)
		}
	}
	if left, _ := os.ReadDir(o.SpoolDir); len(left) > 0 {
		t.Errorf("the spool has %v", left)
	}
	if tc.reply != "" {
		checkReply(t, err, tc.reply)
		if len(q.messages) > 0 {
			t.Error("refused, and queued")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	tc.checkMessage(t, q.messages[0], ex)
	if want := eml[strings.Index(eml, "\r\n\r\n")+4:]; q.bodies[0] != want {
		t.Errorf("the body has %d octets, want %d", len(q.bodies[0]), len(want))
	}
}

func (tc routed) checkMessage(t *testing.T, m message.Message, ex Explanation) {
	t.Helper()
	final, err := message.Apply(m.Header, m.Plan.Edits)
	if err != nil {
		t.Fatal(err)
	}
	h, err := message.ParseHeader(final)
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{"From": tc.from, "Sender": tc.sender, "Reply-To": tc.replyTo} {
		got := ""
		if all := h.All(field); len(all) > 1 {
			t.Errorf("%d %s fields", len(all), field)
		} else if len(all) == 1 {
			got = all[0].Addresses().Entries()[0].Address.Key()
		}
		if got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	wantPath := or(tc.outPath, tc.from)
	if got := or(m.Plan.ReversePath.Key(), "<>"); got != wantPath || ex.ReversePath != m.Plan.ReversePath {
		t.Errorf("reverse-path %q, want %q", got, wantPath)
	}
	if m.Plan.Account != or(tc.account, "erp") || m.Plan.Scenario != tc.scenario || m.Plan.Hold != (tc.scenario == "held") {
		t.Errorf("plan %+v", m.Plan)
	}
	var bcc []string
	for _, a := range m.Plan.Bcc {
		bcc = append(bcc, a.Key())
		if !slices.Contains(m.Envelope.Recipients, a) || strings.Contains(string(final), a.Wire()) {
			t.Errorf("bcc %s: recipients %v, header:\n%s", a, m.Envelope.Recipients, final)
		}
	}
	if got := strings.Join(bcc, " "); got != tc.bcc {
		t.Errorf("bcc %q, want %q", got, tc.bcc)
	}
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func TestExplainSaysWhyNot(t *testing.T) {
	d, err := New(house(t, &queue{}))
	if err != nil {
		t.Fatal(err)
	}
	s := session
	s.User = "shop"
	ex, err := d.Explain(t.Context(), s, envelopeTo(t, "a@d.test", "b@d.test"), strings.NewReader("From: a@shop.test\r\nSubject: Offer 7\r\n\r\nHi\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range ex.Passed {
		got = append(got, p.Scenario+": "+p.Why)
	}
	want := []string{
		`held: header X-Approve: there is none, wanted is "yes" or "y"`,
		`invoice: user: "shop" is not "nav"`,
		`orders: user: "shop" is not "nav"`,
		`approval: subject: "Offer 7" is not "Approve: *"`,
		`both: from: "a@shop.test" is not "erp@c.test"`,
		`listener: listener: "127.0.0.1:25" is not "*:2525"`,
		`large: user: "shop" is not "nav"`,
		`tiny: user: "shop" is not "scan"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("passed over\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if ex.Scenario != "terms" || len(ex.Additions.Attach) != 1 || ex.Grows < 1000 {
		t.Errorf("explanation %+v", ex)
	}
}

func TestSignedMailIsLeftWhole(t *testing.T) {
	q := &queue{}
	d, err := New(house(t, q))
	if err != nil {
		t.Fatal(err)
	}
	s := session
	s.User = "shop"
	eml := "From: a@shop.test\r\nSubject: Offer 7\r\nContent-Type: multipart/signed; boundary=b; protocol=\"application/pkcs7-signature\"\r\n\r\n--b--\r\n"
	ex, err := d.Explain(t.Context(), s, envelopeTo(t, "a@d.test"), strings.NewReader(eml))
	if err != nil || !ex.LeftOut || !ex.Additions.IsZero() {
		t.Errorf("Explain = %+v, %v", ex, err)
	}
	if _, err := d.Submit(t.Context(), s, envelopeTo(t, "a@d.test"), strings.NewReader(eml)); err != nil || !q.messages[0].Plan.Additions.IsZero() {
		t.Errorf("Submit = %v, plan %+v", err, q.messages)
	}
}

func TestImpossibleScenariosAreFoundAtOnce(t *testing.T) {
	o := house(t, &queue{})
	o.Scenarios = []Scenario{
		{Name: "one", Account: "gone"},
		{Name: "two", Account: "any", Match: Match{User: []string{"scan"}}},
		{Name: "three", Sender: &Sender{Mode: SendAs}},
	}
	_, err := New(o)
	for _, want := range []string{`scenario "one": there is no account "gone"`, `scenario "two": for user "scan"`, `scenario "three": for user "nav"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v; want it to say %q", err, want)
		}
	}
}

// TestSpoolAsksForRoom: what lies there takes room as well, and the queue sees the message only when it has all come.
func TestSpoolAsksForRoom(t *testing.T) {
	short := &reply.Error{Code: 452, Enhanced: "4.3.1", Text: "insufficient system storage; try again later"}
	for _, tc := range []struct {
		name  string
		room  int64 // octets
		size  int   // of the body
		asked int   // times
		reply string
	}{
		{"a message that memory holds asks for nothing", 0, spoolMemory / 2, 0, ""},
		{"no file is made where there is no room", 0, 1 << 20, 1, "452 4.3.1"},
		{"a message is refused where room ends", 512 << 10, 40 << 20, 3, "452 4.3.1"},
		{"a message that there is room for asks for all of it", 1 << 30, 1 << 20, 4, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := &queue{}
			o := house(t, q)
			o.SpoolDir = t.TempDir()
			o.Scenarios = []Scenario{{Name: "large", Match: Match{Larger: 30 << 20}, Account: "svc", Sender: &Sender{Mode: AsAccount}}}
			lies := func() (size int64) {
				files, _ := filepath.Glob(filepath.Join(o.SpoolDir, "*"))
				for _, f := range files {
					fi, err := os.Stat(f)
					if err != nil {
						t.Fatal(err)
					}
					size += fi.Size()
				}
				return size
			}
			asked := 0
			o.Room = func(_ context.Context, octets int) error {
				asked++
				if lies()+int64(octets) > tc.room {
					return short
				}
				return nil
			}
			d, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			body := &most{r: strings.NewReader("From: erp@c.test\r\n\r\n" + strings.Repeat("0123456789abcd\r\n", tc.size>>4)), lies: lies}
			_, err = d.Submit(t.Context(), session, envelopeTo(t, "to@d.test"), body)
			if tc.reply != "" {
				checkReply(t, err, tc.reply)
			} else if err != nil {
				t.Error(err)
			}
			if asked != tc.asked || body.lay > tc.room || lies() != 0 {
				t.Errorf("asked %d times, %d octets lay there and %d stayed; want %d times, at most %d and none", asked, body.lay, lies(), tc.asked, tc.room)
			}
		})
	}
}

// most is a body that notes how much of it lies in the spool.
type most struct {
	r    io.Reader
	lies func() int64
	lay  int64
}

func (m *most) Read(p []byte) (int, error) {
	m.lay = max(m.lay, m.lies())
	return m.r.Read(p[:min(len(p), 32<<10)])
}

func TestSpoolThatCannotBeWritten(t *testing.T) {
	full := errors.New("no space left on device")
	for _, tc := range []struct {
		name  string
		err   error
		asked int // for room: whoever knows the disk tells of it
		want  string
	}{
		{"a full disk has no room, as far as the application is concerned", full, 1, "452 4.3.1"},
		{"anything else may be for a person", errors.New("input/output error"), 0, "451 4.3.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked := 0
			s := &spool{room: func(int) error { asked++; return nil }, full: func(err error) bool { return err == full }}
			if checkReply(t, s.refusal(tc.err), tc.want); asked != tc.asked {
				t.Errorf("asked for room %d times; want %d", asked, tc.asked)
			}
		})
	}
}

func TestALargeMessageIsSpooledToAFile(t *testing.T) {
	dir := t.TempDir()
	text := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	s := &spool{from: strings.NewReader(text), dir: dir, room: func(int) error { return nil }}
	if over, err := s.larger(600_000); !over || err != nil {
		t.Fatalf("larger = %v, %v", over, err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 1 {
		t.Errorf("files %v, want one", files)
	}
	if over, err := s.larger(int64(len(text))); over || err != nil {
		t.Fatalf("larger = %v, %v", over, err)
	}
	var b strings.Builder
	buf := make([]byte, 1000)
	for {
		n, err := s.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if b.String() != text {
		t.Errorf("read %d octets again, want %d", b.Len(), len(text))
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 0 {
		t.Errorf("left %v", files)
	}
}
