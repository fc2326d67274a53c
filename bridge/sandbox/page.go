package sandbox

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"slices"
	"strings"
)

//go:embed page.html
var pageHTML string

// pageRows bounds the page; the folder has everything.
const pageRows = 200

// rowPeople bounds the recipients in a row, in sight and hidden ones each; the source has everybody of a header.
const rowPeople = 12

// row is one message as the page shows it.
type row struct {
	ID, Time, Via, Mailbox, Subject, Sender string
	From                                    person
	To                                      []person
	Hidden                                  []string // recipients that no header of the delivered copy names
	MoreTo, MoreHidden                      int      // those beyond rowPeople
	Exposed                                 bool     // a Bcc field was delivered
	Size                                    string
}

type person struct{ Name, Address string }

type pageData struct {
	Nonce, Dir, Config, SMTP, Graph, Authority string
	Count                                      int
	How                                        bool // show the instructions, and do not reload under the reader
	Rows                                       []row
	Logins                                     []person
}

// servePage writes the list of received mail, newest first. It has no script and reloads itself.
func (s *Sandbox) servePage(w http.ResponseWriter, r *http.Request) {
	received := s.Received()
	d := pageData{Nonce: random(16), Dir: s.dir, Config: s.ConfigTOML("sandbox", PublicClientID),
		SMTP: s.SMTPAddr(), Graph: s.GraphURL(), Authority: s.Authority(), Count: len(received), How: r.URL.RawQuery == "how"}
	for _, m := range slices.Backward(received) {
		if len(d.Rows) == pageRows {
			break
		}
		d.Rows = append(d.Rows, newRow(m))
	}
	s.mu.Lock()
	for _, m := range s.world.mailboxes {
		if !m.Shared && !m.Disabled {
			d.Logins = append(d.Logins, person{m.Name, m.Address})
		}
	}
	s.mu.Unlock()
	writePage(w, http.StatusOK, pageHTML, d, policy{style: d.Nonce, forms: "'none'"})
}

// policy is what a page may do beyond showing itself.
type policy struct {
	style string // the nonce of its own
	forms string // where they may go, as CSP says it
}

func writePage(w http.ResponseWriter, status int, html string, data any, may policy) {
	var b bytes.Buffer
	page, err := template.New("page").Parse(html)
	if err == nil {
		err = page.Execute(&b, data)
	}
	if err != nil { // a broken program
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; img-src data:; style-src 'nonce-"+may.style+
		"'; base-uri 'none'; frame-ancestors 'none'; form-action "+may.forms)
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a reader that left is its own affair
}

func newRow(m Received) row {
	text := parseMail(m.Raw)
	r := row{ID: m.ID, Time: m.At.Local().Format("2006-01-02 15:04:05"), Via: m.Via, Mailbox: m.Mailbox,
		Subject: text.decoded("Subject"), Sender: m.Sender, Size: size(len(m.Raw)), Exposed: len(text.all("Bcc")) > 0}
	r.From = person{Address: m.From}
	if from, err := text.addresses("From"); err == nil && len(from) == 1 {
		r.From.Name = from[0].Name
	}
	named := map[string]string{} // address, lower case -> name
	for _, field := range []string{"To", "Cc"} {
		list, _ := text.addresses(field) // what cannot be read names nobody
		for _, a := range list {
			named[strings.ToLower(a.Address)] = a.Name
		}
	}
	for _, a := range m.Recipients {
		if name, ok := named[strings.ToLower(a)]; ok {
			r.To = append(r.To, person{name, a})
		} else {
			r.Hidden = append(r.Hidden, a)
		}
	}
	r.MoreTo, r.MoreHidden = max(0, len(r.To)-rowPeople), max(0, len(r.Hidden)-rowPeople)
	r.To, r.Hidden = r.To[:len(r.To)-r.MoreTo], r.Hidden[:len(r.Hidden)-r.MoreHidden]
	return r
}

func size(n int) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// serveSource answers /mail/ID.txt (to look at), ID.eml (to keep) and ID-sent.txt (the Sent Items copy).
func (s *Sandbox) serveSource(w http.ResponseWriter, r *http.Request, name string) {
	ext := path.Ext(name)
	id, sent := strings.CutSuffix(strings.TrimSuffix(name, ext), "-sent")
	all := s.Received()
	i := slices.IndexFunc(all, func(m Received) bool { return m.ID == id })
	if i < 0 || ext != ".txt" && ext != ".eml" {
		http.NotFound(w, r)
		return
	}
	raw := all[i].Raw
	if sent {
		raw = all[i].Sent
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox")
	if ext == ".txt" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	} else {
		w.Header().Set("Content-Type", "message/rfc822")
		w.Header().Set("Content-Disposition", `attachment; filename="`+id+`.eml"`)
	}
	_, _ = w.Write(raw) // a reader that left is its own affair
}
