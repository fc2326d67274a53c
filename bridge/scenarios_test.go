package bridge

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/reply"
)

// termsConfig adds to what the two users of worldConfig send.
const termsConfig = worldConfig + `
[[scenario]]
name = "offers"
match = { subject = "Offer *" }
attach = ["terms.pdf"]
footer = { text = "footer.txt" }
bcc = ["archive@contoso.test"]

[[scenario]]
name = "approval"
match = { subject = "Contract *" }
footer = { text = "footer.txt" }
hold = true
`

const offer = "From: a@erp.local\r\nTo: customer@example.test\r\nSubject: Offer 7\r\nDate: Fri, 20 Nov 2026 10:00:00 +0100\r\n" +
	"Message-ID: <7@erp.local>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nDear customer,\r\n.\r\nhere it is.\r\n"

// beside writes a file beside the configuration.
func (w *world) beside(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(w.file), name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func termsWorld(t *testing.T) *world {
	return newWorld(t, worldOptions{config: termsConfig, prepare: func(w *world) {
		w.beside("terms.pdf", "%PDF-1.7 terms")
		w.beside("footer.txt", "-- \nContoso GmbH, M\u00fcnchen\n")
	}})
}

// partsOf returns the text and the file of a message with one of each.
func partsOf(t *testing.T, raw []byte) (text, file string, name string) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	media, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || media != "multipart/mixed" {
		t.Fatalf("Content-Type %q, %v", m.Header.Get("Content-Type"), err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	p, err := r.NextPart() // decodes quoted-printable
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(p)
	if err != nil {
		t.Fatal(err)
	}
	text = string(b)
	if p, err = r.NextPart(); err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, p)); err != nil {
		t.Fatal(err)
	}
	return text, string(b), p.FileName()
}

func TestScenarioAddsToAMessage(t *testing.T) {
	for _, via := range []string{"graph", "smtp"} {
		t.Run(via, func(t *testing.T) {
			w := termsWorld(t)
			if err := w.submit(via, []string{"customer@example.test"}, offer); err != nil {
				t.Fatal(err)
			}
			r := w.wait(1)[0]
			text, file, name := partsOf(t, r.Raw)
			if want := "Dear customer,\r\n.\r\nhere it is.\r\n-- \r\nContoso GmbH, M\u00fcnchen\r\n"; text != want {
				t.Errorf("text %q; want %q", text, want)
			}
			if file != "%PDF-1.7 terms" || name != "terms.pdf" {
				t.Errorf("file %q of name %q", file, name)
			}
			if !slices.Equal(slices.Sorted(slices.Values(r.Recipients)), []string{"archive@contoso.test", "customer@example.test"}) {
				t.Errorf("recipients %v; want the archive too", r.Recipients)
			}
			if strings.Contains(string(r.Raw), "archive@") {
				t.Errorf("the archive is disclosed:\n%s", r.Raw)
			}
			// Mail of no scenario leaves as it came.
			if err := w.submit(via, []string{"customer@example.test"}, invoice); err != nil {
				t.Fatal(err)
			}
			if diff := differs([]byte(invoice), w.wait(2)[1].Raw); diff != "" {
				t.Errorf("other mail changed: %s", diff)
			}
		})
	}
}

// TestHeldMailLeavesAsItWasAccepted: the file may change or go while a message waits.
func TestHeldMailLeavesAsItWasAccepted(t *testing.T) {
	w := termsWorld(t)
	text := strings.Replace(offer, "Offer 7", "Contract 7", 1)
	if err := w.submit("smtp", []string{"customer@example.test"}, text); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.beside("footer.txt", "another one\n")
	w.start()
	rows, err := w.b.admin.Load().QueueRows(t.Context(), control.QueueQuery{})
	if err != nil || len(rows) != 1 || rows[0].State != "held" {
		t.Fatalf("queue = %+v, %v; want one message held", rows, err)
	}
	if _, err := w.b.admin.Load().QueueChange(t.Context(), control.QueueChange{Action: "release", QueueQuery: control.QueueQuery{IDs: []string{rows[0].ID}}}); err != nil {
		t.Fatal(err)
	}
	r := w.wait(1)[0]
	if s := string(r.Raw); !strings.Contains(s, "Contoso GmbH, M=C3=BCnchen") || strings.Contains(s, "another one") {
		t.Errorf("it did not leave with the footer that it was accepted with:\n%s", s)
	}
	if err := w.events.await(t.Context(), event.MessageRelayed, 1); err != nil {
		t.Fatal(err)
	}
	// Nothing needs the old footer any more. The three that stay: the file, and the new footer's two forms.
	w.stop()
	w.start()
	kept, err := os.ReadDir(contentsDir(w.b.cfg))
	if err != nil || len(kept) != 3 {
		t.Errorf("contents has %d files, %v; want 3", len(kept), err)
	}
}

func TestScenarioFilesThatCannotBe(t *testing.T) {
	w := termsWorld(t)
	for _, tc := range []struct{ name, file, text, want string }{
		{"a footer that is not UTF-8", "footer.txt", "M\xfcnchen", "scenario[0].footer: footer.txt: it is not UTF-8; save it as UTF-8"},
		{"a footer that is no footer", "footer.txt", strings.Repeat("x", 100_000), "footer.txt is larger than 64 KiB"},
		{"a file that leaves no room", "terms.pdf", strings.Repeat("x", 30_000_000), `scenario[0].attach: the files have`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			was, err := os.ReadFile(filepath.Join(filepath.Dir(w.file), tc.file))
			if err != nil {
				t.Fatal(err)
			}
			w.beside(tc.file, tc.text)
			defer w.beside(tc.file, string(was))
			cfg, err := config.Load(w.file)
			if err != nil {
				t.Fatal(err)
			}
			err = CheckFiles(cfg)
			var m *config.Mistakes
			if !errors.As(err, &m) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("CheckFiles = %v; want mistakes with %q", err, tc.want)
			}
			if _, err := w.b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Reload = %v; want the same", err)
			}
		})
	}
}

// TestLargeMessageIsRefusedBeforeItLiesOnAShortDisk: a scenario wants to know the size, and the queue is asked last.
func TestLargeMessageIsRefusedBeforeItLiesOnAShortDisk(t *testing.T) {
	w := newWorld(t, worldOptions{unsigned: true, config: worldConfig + `
[queue]
min_free_disk = "1000000GB"

[[scenario]]
name = "large"
match = { size = ">20MB" }
account = "by-smtp"
`})
	to, err := envelope.ParseAddress("customer@example.test")
	if err != nil {
		t.Fatal(err)
	}
	const came = 8 << 20
	body := strings.NewReader("From: a@contoso.test\r\n\r\n" + strings.Repeat("0123456789abcd\r\n", came>>4))
	_, err = w.b.front.desk.Load().Submit(t.Context(), envelope.Session{User: "graph", Protocol: "ESMTP"}, envelope.Envelope{Recipients: []envelope.Address{to}}, body)
	var refusal *reply.Error
	if !errors.As(err, &refusal) || refusal.Code != 452 || refusal.Enhanced != "4.3.1" {
		t.Errorf("Submit = %v; want 452 4.3.1", err)
	}
	if body.Len() < came/2 {
		t.Errorf("%d octets were left of %d; want nearly all", body.Len(), came)
	}
	if w.events.count(event.DiskShort) != 1 {
		t.Errorf("told %d times that the disk is short; want once", w.events.count(event.DiskShort))
	}
}
