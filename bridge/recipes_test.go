package bridge

import (
	"fmt"
	"net"
	"net/mail"
	"net/smtp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/bridge/sandbox"
)

// recipe is what an application hands in under a recipe of the README, and what then arrives.
type recipe struct {
	user, from, subject, to string // user "" is a client without a login; to "" is customer@example.test
	header                  string // further fields

	wantFrom, wantSender, wantReplyTo, mailbox string // addresses; mailbox "" is that of wantFrom
	fabrikam                                   bool   // it leaves through the other tenant
	reply                                      string
}

// recipes are the README's, by title.
var recipes = map[string][]recipe{
	"One shared mailbox for everyone": {
		{user: "erp", from: "Ann <ann@contoso.test>", wantFrom: "office@contoso.test", wantReplyTo: "ann@contoso.test", mailbox: "svc@contoso.test"},
		{user: "web", from: "shop@www.local", wantFrom: "office@contoso.test", wantReplyTo: "shop@www.local", mailbox: "svc@contoso.test"},
	},
	"Each application its own account": {
		{user: "erp", from: "erp@contoso.test", wantFrom: "erp@contoso.test"},
		{user: "web", from: "www-data@web01", wantFrom: "svc@contoso.test", wantReplyTo: "www-data@web01"},
		{user: "erp", from: "svc@contoso.test", reply: "550 5.7.1"},
	},
	"Every person from his own address": {
		{user: "crm", from: "Ann <erp@contoso.test>", wantFrom: "erp@contoso.test"},
		{user: "crm", from: "nav@contoso.test", wantFrom: "nav@contoso.test"},
		{user: "crm", wantFrom: "svc@contoso.test"},
		{user: "crm", from: "ceo@fabrikam.test", reply: "550 5.7.1"},
	},
	"Noreply for invoices": {
		{user: "nav", from: "erp@contoso.test", subject: "Invoice 4711", wantFrom: "noreply@contoso.test", wantReplyTo: "accounts@contoso.test", mailbox: "erp@contoso.test"},
		{user: "nav", from: "erp@contoso.test", subject: "Reminder", wantFrom: "erp@contoso.test"},
	},
	"On behalf of the requester in approval mails": {
		{user: "nav", from: "Berta Buyer <buyer@contoso.test>", subject: "Approval of order 7", wantFrom: "buyer@contoso.test", wantSender: "erp@contoso.test", mailbox: "erp@contoso.test"},
		{user: "nav", from: "Berta Buyer <buyer@contoso.test>", subject: "Order 7", wantFrom: "erp@contoso.test"},
		{user: "nav", from: "boss@fabrikam.test", subject: "Approval of order 8", reply: "550 5.7.1"},
	},
	"Sales, purchasing and warehouse from three accounts": {
		{user: "nav", from: "nav@erp.local", subject: "Offer", wantFrom: "sales@contoso.test"},
		{user: "nav", from: "nav@erp.local", subject: "Purchase order 5", wantFrom: "purchasing@contoso.test"},
		{user: "nav", from: "nav@erp.local", subject: "Note 5", header: "X-Document: delivery\r\n", wantFrom: "warehouse@contoso.test"},
	},
	"A scanner that cannot authenticate": {
		{from: "Scan", to: "erp@contoso.test", wantFrom: "svc@contoso.test"},
		{from: "scanner@copier.local", to: "nav@contoso.test", wantFrom: "svc@contoso.test"},
		{from: "scanner@copier.local", reply: "550 5.7.1"},
	},
	"Two tenants in one bridge": {
		{user: "nav", from: "erp@contoso.test", wantFrom: "erp@contoso.test"},
		{user: "nav", from: "erp@fabrikam.test", wantFrom: "erp@fabrikam.test", fabrikam: true},
		{user: "nav", from: "other@fabrikam.test", reply: "550 5.7.1"},
	},
}

// readRecipes takes the TOML block out of each part of the README's section.
func readRecipes(t *testing.T) map[string]string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(readme), "\n## Recipes\n")
	if !ok {
		t.Fatal("the README has no recipes")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	all := map[string]string{}
	for _, part := range strings.Split(section, "\n### ")[1:] {
		title, rest, _ := strings.Cut(part, "\n")
		_, block, ok := strings.Cut(rest, "```toml\n")
		if !ok {
			t.Fatalf("recipe %q has no TOML", title)
		}
		all[title], _, _ = strings.Cut(block, "```")
	}
	return all
}

// TestRecipes runs each recipe of the README as it is printed, but for what belongs to a place: hashes, ids, endpoints
// and addresses of networks.
func TestRecipes(t *testing.T) {
	printed := readRecipes(t)
	for title := range printed {
		if recipes[title] == nil {
			t.Errorf("nothing is tested of %q", title)
		}
	}
	for title, mails := range recipes {
		t.Run(title, func(t *testing.T) {
			text, ok := printed[title]
			if !ok {
				t.Fatal("the README does not have it")
			}
			cook(t, text, mails)
		})
	}
}

// fabrikam is the other tenant.
func fabrikam(t *testing.T) *sandbox.Sandbox {
	t.Helper()
	box, err := sandbox.Start(sandbox.Options{Dir: t.TempDir(), Mailboxes: []sandbox.Mailbox{{Address: "erp@fabrikam.test"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	return box
}

// placed replaces what belongs to a place.
func placed(text string, other *sandbox.Sandbox) string {
	text = strings.NewReplacer(`"$argon2id$v=19$m=12288,t=3,p=1$..."`, `'{HASH}'`, `"192.0.2.10:25"`, `"127.0.0.1:0"`, "192.0.2.31/32", "127.0.0.1/32").Replace(text)
	head := "[bridge]\nhostname = \"bridge.contoso.test\"\ndata_dir = \"data\"\n"
	if !strings.Contains(text, "[[listener]]") {
		head += "[[listener]]\naddress = \"127.0.0.1:0\"\n"
	}
	if other != nil {
		contoso := "[[provider]]\nname      = \"contoso\"\ntenant    = \"contoso.onmicrosoft.com\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n"
		text = strings.Replace(text, contoso, "{PROVIDER}", 1)
		theirs := "[[provider]]\nname      = \"fabrikam\"\ntenant    = \"fabrikam.onmicrosoft.com\"\nclient_id = \"22222222-3333-4444-5555-666666666666\"\n"
		return head + strings.Replace(text, theirs, other.ConfigTOML("fabrikam", sandbox.PublicClientID), 1)
	}
	if strings.Contains(text, `"app-only"`) {
		return head + "{CONFIDENTIAL}\n" + text
	}
	return head + "{PROVIDER}\n" + text
}

func cook(t *testing.T, text string, mails []recipe) {
	var other *sandbox.Sandbox
	if strings.Contains(text, "fabrikam") {
		other = fabrikam(t)
	}
	w := newWorld(t, worldOptions{config: placed(text, other), unsigned: true, prepare: func(w *world) {
		svc, erp := []string{"svc@contoso.test"}, []string{"erp@contoso.test"}
		w.box.SetMailbox(sandbox.Mailbox{Address: "office@contoso.test", Shared: true, SendAs: svc})
		w.box.SetMailbox(sandbox.Mailbox{Address: "buyer@contoso.test", SendOnBehalf: erp})
		w.box.SetMailbox(sandbox.Mailbox{Address: "purchasing@contoso.test"})
		w.box.SetMailbox(sandbox.Mailbox{Address: "warehouse@contoso.test"})
	}})
	for _, a := range w.b.cfg.Accounts {
		box := w.box
		if a.Provider == "fabrikam" {
			box = other
		}
		if a.SignIn != "delegated" {
			continue
		}
		if _, err := w.b.SignIn(t.Context(), a.Name, box.RefreshToken(a.Login)); err != nil {
			t.Fatalf("sign in %s: %v\n%s", a.Name, err, w.log())
		}
	}
	arrived := map[*sandbox.Sandbox]int{}
	for i, m := range mails {
		err := w.handIn(m, i)
		if m.reply != "" {
			if err == nil || !strings.HasPrefix(strings.ReplaceAll(err.Error(), `"`, ""), m.reply) {
				t.Errorf("mail %d: %v; want %s", i, err, m.reply)
			}
			continue
		}
		if err != nil {
			t.Fatalf("mail %d: %v\n%s", i, err, w.log())
		}
		box := w.box
		if m.fabrikam {
			box = other
		}
		arrived[box]++
		got, err := box.Wait(t.Context(), arrived[box])
		if err != nil {
			t.Fatalf("mail %d: %v\n%s", i, err, w.log())
		}
		m.check(t, i, got[len(got)-1])
	}
}

// handIn is what the application does.
func (w *world) handIn(m recipe, n int) error {
	to := m.to
	if to == "" {
		to = "customer@example.test"
	}
	text := fmt.Sprintf("To: %s\r\nSubject: %s\r\n%s\r\nmail %d\r\n", to, m.subject, m.header, n)
	if m.from != "" {
		text = "From: " + m.from + "\r\n" + text
	}
	var auth smtp.Auth
	if m.user != "" {
		host, _, _ := net.SplitHostPort(w.addr)
		auth = smtp.PlainAuth("", m.user, w.password, host)
	}
	return smtp.SendMail(w.addr, auth, "app@erp.local", []string{to}, []byte(text))
}

func (m recipe) check(t *testing.T, n int, r sandbox.Received) {
	t.Helper()
	mailbox := m.mailbox
	if mailbox == "" {
		mailbox = m.wantFrom
	}
	if !strings.EqualFold(r.Mailbox, mailbox) || r.Sender != m.wantSender || !slices.Contains(r.Recipients, or(m.to, "customer@example.test")) {
		t.Errorf("mail %d left through %q, on behalf by %q, to %v; want %q, %q", n, r.Mailbox, r.Sender, r.Recipients, mailbox, m.wantSender)
	}
	msg, err := mail.ReadMessage(strings.NewReader(string(r.Raw)))
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{"From": m.wantFrom, "Sender": m.wantSender, "Reply-To": m.wantReplyTo} {
		got := ""
		if v := msg.Header.Get(field); v != "" {
			a, err := mail.ParseAddress(v)
			if err != nil {
				t.Fatalf("mail %d: %s %q: %v", n, field, v, err)
			}
			got = a.Address
		}
		if got != want {
			t.Errorf("mail %d: %s is %q; want %q", n, field, got, want)
		}
	}
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
