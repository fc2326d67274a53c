package bridge

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/smtp"
	"net/textproto"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern/bridge/event"
	"postern/bridge/sandbox"
)

// exactConfig has a user for each way out: SMTP, Graph by sendMail, Graph by drafts, and auto.
const exactConfig = `
[bridge]
hostname = "bridge.contoso.test"
data_dir = "data"
default_domain = "contoso.test"

[[listener]]
address = "127.0.0.1:0"

{PROVIDER}
[[account]]
name = "smtp"
provider = "contoso"
mailbox = "svc@contoso.test"
transport = "smtp"
rate_per_minute = 0
max_message = "150MiB"

[[account]]
name = "mime"
provider = "contoso"
mailbox = "nav@contoso.test"
transport = "graph"
drafts = "never"
rate_per_minute = 0

[[account]]
name = "drafts"
provider = "contoso"
mailbox = "erp@contoso.test"
transport = "graph"
default = true
rate_per_minute = 0
max_message = "150MiB"

[[account]]
name = "auto"
provider = "contoso"
mailbox = "sales@contoso.test"
rate_per_minute = 0

[[user]]
name = "smtp"
password = '{HASH}'
account = "smtp"
sender = { mode = "account" }

[[user]]
name = "mime"
password = '{HASH}'
account = "mime"
sender = { mode = "account" }

[[user]]
name = "drafts"
password = '{HASH}'
account = "drafts"
sender = { mode = "account" }

[[user]]
name = "auto"
password = '{HASH}'
account = "auto"
sender = { mode = "account" }
`

// hand gives a message in, byte for byte but for what DATA needs.
func (w *world) hand(user string, to []string, text []byte) error {
	w.t.Helper()
	c, err := smtp.Dial(w.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Auth(smtp.PlainAuth("", user, w.password, "127.0.0.1")); err != nil {
		return err
	}
	if err := c.Mail("app@erp.local"); err != nil {
		return err
	}
	for _, a := range to {
		if err := c.Rcpt(a); err != nil {
			return fmt.Errorf("RCPT %s: %w", a, err)
		}
	}
	d, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := d.Write(text); err != nil {
		return err
	}
	return d.Close()
}

// corpusMail is one message of the corpus with its envelope.
type corpusMail struct {
	name string
	text []byte
	to   []string
}

func corpus(t testing.TB) (all []corpusMail) {
	t.Helper()
	list, err := os.ReadFile("testdata/corpus/envelopes.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		parts := strings.Split(strings.TrimSpace(line), "\t")
		text, err := os.ReadFile(filepath.Join("testdata/corpus", parts[0]))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, corpusMail{parts[0], text, parts[1:]})
	}
	return all
}

// bodyDigest is that of the octets after the header, with CRLF lines and one at the end, as DATA carries them.
func bodyDigest(text []byte) string {
	body := bodyAsGiven(text)
	body = bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	if len(body) > 0 && !bytes.HasSuffix(body, []byte("\r\n")) {
		body = append(body, "\r\n"...)
	}
	return fmt.Sprintf("%x of %d", sha256.Sum256(body), len(body))
}

// bodyAsGiven is everything after the header block, found by rules of its own: the first line that is no field ends it.
func bodyAsGiven(text []byte) []byte {
	rest := text
	for first := true; len(rest) > 0; first = false {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		name, _, field := bytes.Cut(line, []byte(":"))
		folded := len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
		switch {
		case len(line) == 0:
			return after
		case first && bytes.HasPrefix(line, []byte("From ")), folded && !first, field && !bytes.ContainsAny(bytes.TrimRight(name, " \t"), " \t"):
			rest = after
		default:
			return rest
		}
	}
	return nil
}

// TestCorpus sends every message of the corpus through every transport: its recipients are those of RCPT TO, its body is
// the body that was given, and nobody who is hidden shows.
func TestCorpus(t *testing.T) {
	all := corpus(t)
	if len(all) < 100 {
		t.Fatalf("the corpus has %d messages; want at least 100", len(all))
	}
	for _, via := range []string{"smtp", "mime", "drafts"} {
		t.Run(via, func(t *testing.T) {
			w := newWorld(t, worldOptions{config: exactConfig})
			given := map[string]corpusMail{}
			for _, m := range all {
				before := w.accepted()
				if err := w.hand(via, m.to, m.text); err != nil {
					t.Errorf("%s: %v", m.name, err)
					continue
				}
				if err := w.events.await(t.Context(), event.MessageAccepted, before+1); err != nil {
					t.Fatal(err)
				}
				r := w.wait(len(given) + 1)[len(given)]
				given[r.ID] = m
				if got, want := sorted(r.Recipients), sorted(m.to); !slices.Equal(got, want) {
					t.Errorf("%s: delivered to %v; want %v", m.name, got, want)
				}
				if got, want := bodyDigest(r.Raw), bodyDigest(m.text); got != want {
					t.Errorf("%s: the body is %s; want %s", m.name, got, want)
				}
			}
			if len(given) != len(all) {
				t.Errorf("%d of %d arrived", len(given), len(all))
			}
			if d := w.box.Drafts(); len(d) != 0 {
				t.Errorf("drafts left behind: %+v", d)
			}
		})
	}
}

func sorted(list []string) []string {
	var all []string
	for _, a := range list {
		all = append(all, strings.ToLower(strings.ReplaceAll(a, `"`, ""))) // the sandbox shows a quoted local part bare
	}
	slices.Sort(all)
	return all
}

// TestOneMessageIDThreeTransactions: an application sends one transaction per recipient, and the service refuses a
// Message-ID that it knows.
func TestOneMessageIDThreeTransactions(t *testing.T) {
	for _, via := range []string{"smtp", "mime", "drafts"} {
		t.Run(via, func(t *testing.T) {
			w := newWorld(t, worldOptions{config: exactConfig, sandbox: sandbox.Switches{RefuseDuplicates: true}})
			to := []string{"one@example.test", "two@example.test", "three@example.test"}
			text := "From: a@erp.local\r\nTo: one@example.test, two@example.test, three@example.test\r\nMessage-ID: <same@erp.local>\r\nSubject: s\r\n\r\nx\r\n"
			for _, a := range to {
				if err := w.hand(via, []string{a}, []byte(text)); err != nil {
					t.Fatal(err)
				}
			}
			got := map[string]int{}
			for _, r := range w.wait(3) {
				for _, a := range r.Recipients {
					got[a]++
				}
			}
			for _, a := range to {
				if got[a] != 1 {
					t.Errorf("%s got %d copies; want one", a, got[a])
				}
			}
		})
	}
}

// TestDraftsHideRecipients: also where the service strips no Bcc.
func TestDraftsHideRecipients(t *testing.T) {
	w := newWorld(t, worldOptions{config: exactConfig, sandbox: sandbox.Switches{KeepBcc: true}})
	text := "From: a@erp.local\r\nTo: one@example.test\r\nBcc: two@example.test\r\nSubject: s\r\n\r\nx\r\n"
	for _, via := range []string{"drafts", "auto"} {
		w.box.Forget()
		if err := w.hand(via, []string{"one@example.test", "two@example.test", "three@example.test"}, []byte(text)); err != nil {
			t.Fatal(err)
		}
		r := w.wait(1)[0]
		if len(r.Recipients) != 3 || bytes.Contains(r.Raw, []byte("two@")) || bytes.Contains(r.Raw, []byte("three@")) {
			t.Errorf("%s: recipients %v; want three, and the hidden two in no header:\n%s", via, r.Recipients, r.Raw)
		}
	}
}

// TestRefusedAtTheEndOfData: what the account's route cannot carry is known before 250, with the field's name.
func TestRefusedAtTheEndOfData(t *testing.T) {
	w := newWorld(t, worldOptions{config: exactConfig})
	header := "From: a@erp.local\r\nTo: one@example.test\r\nSubject: s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
	file := "\r\n--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\n" + strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 50_000) + "--b--\r\n"
	for _, tc := range []struct{ name, user, text, want string }{
		{"List-Id by drafts", "drafts", "List-Id: <l.erp.local>\r\n" + header + file, "5.6.1 .* List-Id would be lost"},
		{"a signed one by drafts", "drafts", strings.Replace(header, "multipart/mixed", "multipart/signed", 1) + file, "signed or encrypted"},
		{"any by sendMail", "mime", header + file, "5.3.4 .* drafts"},
		{"an inline PGP signature by drafts", "drafts", header + "\r\n--b\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----" + file, "5.6.1 .* signed or encrypted"},
		{"damaged base64 by drafts", "drafts", header + "\r\n--b\r\nContent-Type: application/zip; name=z.zip\r\nContent-Transfer-Encoding: base64\r\n\r\nAA==AA==" + file,
			"5.6.1 .* z.zip .* is damaged"},
		{"a printer's control in quoted-printable by drafts", "drafts", header + "\r\n--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nx\x0c" + file, ""},
		{"just too large by sendMail with our own fields", "mime", strings.Replace(header, "mixed", "x", 1) + "\r\n" + strings.Repeat("x\r\n", (3_000_000-300)/3), "5.3.4 .* drafts"},
		{"List-Id by SMTP", "smtp", "List-Id: <l.erp.local>\r\n" + header + file, ""},
		{"List-Id by auto goes by SMTP", "auto", "List-Id: <l.erp.local>\r\n" + header + file, ""},
		{"a plain one by drafts", "drafts", header + file, ""},
	} {
		err := w.hand(tc.user, []string{"one@example.test"}, []byte(tc.text))
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v; want 250", tc.name, err)
		case tc.want != "" && (err == nil || !matches(tc.want, err.Error())):
			t.Errorf("%s: %v; want %s", tc.name, err, tc.want)
		}
	}
	for _, r := range w.wait(4) {
		if len(r.Raw) < 3_000_000 || len(r.Recipients) != 1 {
			t.Errorf("%d octets to %v", len(r.Raw), r.Recipients)
		}
	}
}

// TestSizeAtTheListener: SIZE is the largest that any route of the listener carries, as the mailboxes have shown it, and
// what is larger hears so at MAIL FROM.
func TestSizeAtTheListener(t *testing.T) {
	one := func(more string) string {
		head, _, _ := strings.Cut(exactConfig, "[[account]]")
		return head + "[[account]]\nname = \"erp\"\nprovider = \"contoso\"\nmailbox = \"erp@contoso.test\"\nrate_per_minute = 0\n" + more +
			"\n[[user]]\nname = \"drafts\"\npassword = '{HASH}'\nsender = { mode = \"account\" }\n"
	}
	for _, tc := range []struct {
		name, config string
		size         int64
		refuses      int64 // messages of that size are refused by the mailbox, twice; 0: none
		then         int64 // what SIZE is at least afterwards, and under 1 kB more
	}{
		{"the largest of four accounts", exactConfig, 150 << 20, 0, 0},
		{"an account that has SMTP", one(`transport = "auto"`), 35_000_000, 0, 0},
		{"one that has sendMail alone", one("transport = \"graph\"\ndrafts = \"never\""), 3_000_000, 0, 0},
		{"one that has drafts", one("transport = \"graph\"\nmax_message = \"100MB\""), 100_000_000, 0, 0},
		{"a mailbox that refused two of 12 MB", one(`transport = "smtp"`), 35_000_000, 12_000_000, 12_000_000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, worldOptions{config: tc.config})
			w.checkSize(tc.size, tc.size)
			if tc.refuses == 0 {
				return
			}
			if err := w.box.Fault(sandbox.Fault{Where: sandbox.AtDot, Outcome: "toolarge", Times: 2}); err != nil {
				t.Fatal(err)
			}
			text := "From: a@erp.local\r\nTo: one@example.test\r\n\r\n" + strings.Repeat(strings.Repeat("0123456789", 9)+"\r\n", int(tc.refuses/92))
			for i := range 2 {
				if err := w.hand("drafts", []string{"one@example.test"}, []byte(text)); err != nil {
					t.Fatal(err)
				}
				if err := w.events.await(t.Context(), event.MessageFailed, i+1); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.events.await(t.Context(), event.AccountLimited, 1); err != nil {
				t.Fatal(err)
			}
			for w.carries() == tc.size { // EHLO asks at most once a second
				runtime.Gosched()
			}
			w.checkSize(tc.then-1000, tc.then+1000)
			if _, err := w.b.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			for w.carries() != tc.size {
				runtime.Gosched()
			}
		})
	}
}

// carries is what EHLO says of SIZE.
func (w *world) carries() int64 {
	w.t.Helper()
	c, err := smtp.Dial(w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	_, text := c.Extension("SIZE")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		w.t.Fatalf("SIZE %q", text)
	}
	return n
}

// checkSize compares what EHLO says with what MAIL FROM is answered.
func (w *world) checkSize(least, most int64) {
	w.t.Helper()
	size := w.carries()
	if size < least || size > most {
		w.t.Errorf("SIZE %d; want between %d and %d", size, least, most)
	}
	for n, want := range map[int64]string{size: "250 ", size + 1: "552 5.3.4 "} {
		c, err := textproto.Dial("tcp", w.addr)
		if err != nil {
			w.t.Fatal(err)
		}
		defer c.Close()
		credentials := base64.StdEncoding.EncodeToString([]byte("\x00drafts\x00" + w.password))
		reply := ""
		for _, say := range []string{"", "EHLO x", "AUTH PLAIN " + credentials, fmt.Sprintf("MAIL FROM:<app@erp.local> SIZE=%d", n)} {
			if say != "" {
				if err := c.PrintfLine("%s", say); err != nil {
					w.t.Fatal(err)
				}
			}
			code, text, err := c.ReadResponse(0)
			if err != nil {
				w.t.Fatal(err)
			}
			reply = fmt.Sprintf("%d %s", code, text)
		}
		if !strings.HasPrefix(reply, want) {
			w.t.Errorf("MAIL FROM with SIZE=%d: %q; want %s", n, reply, want)
		}
	}
}

func matches(pattern, s string) bool {
	for _, part := range strings.Split(pattern, " .* ") {
		_, after, ok := strings.Cut(s, part)
		if !ok {
			return false
		}
		s = after
	}
	return true
}

// TestManyRecipients: 1,000 by Graph go in two parts, nobody twice and nobody lost.
func TestManyRecipients(t *testing.T) {
	w := newWorld(t, worldOptions{config: exactConfig})
	var to []string
	for i := range 1000 {
		to = append(to, fmt.Sprintf("r%d@example.test", i))
	}
	if err := w.hand("drafts", to, []byte("From: a@erp.local\r\nTo: r0@example.test\r\nMessage-ID: <many@erp.local>\r\n\r\nx\r\n")); err != nil {
		t.Fatal(err)
	}
	got, ids := map[string]int{}, map[string]bool{}
	for _, r := range w.wait(2) {
		ids[r.MessageID] = true
		for _, a := range r.Recipients {
			got[a]++
		}
	}
	for _, a := range to {
		if got[a] != 1 {
			t.Fatalf("%s got %d copies", a, got[a])
		}
	}
	if len(ids) != 2 {
		t.Errorf("Message-IDs %v; want two", ids)
	}
}

// TestInvalidRecipientFailsAlone: Graph says only that one is invalid.
func TestInvalidRecipientFailsAlone(t *testing.T) {
	w := newWorld(t, worldOptions{config: exactConfig})
	to := []string{"a@example.test", "b@example.test", "invalid@example.test", "c@example.test", "d@example.test"}
	if err := w.hand("drafts", to, []byte("From: a@erp.local\r\nTo: a@example.test\r\n\r\nx\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.events.await(t.Context(), event.MessageFailed, 1); err != nil {
		t.Fatalf("%v\n%s", err, w.log())
	}
	got := map[string]int{}
	for _, r := range w.box.Received() {
		for _, a := range r.Recipients {
			got[a]++
		}
	}
	for _, a := range to {
		if want := map[bool]int{true: 0, false: 1}[a == "invalid@example.test"]; got[a] != want {
			t.Errorf("%s got %d copies; want %d", a, got[a], want)
		}
	}
	if d := w.box.Drafts(); len(d) != 0 {
		t.Errorf("drafts left behind: %+v", d)
	}
}
