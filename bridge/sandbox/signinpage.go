package sandbox

import (
	_ "embed"
	"net/http"
	"net/url"
	"strings"
)

//go:embed signin.html
var signinHTML string

// scopeTexts are what Entra's consent page says, shortened.
var scopeTexts = map[string]string{
	"openid": "Sign you in", "profile": "View your basic profile", "email": "View your email address",
	"offline_access": "Maintain access to what you let it use",
	"user.read":      "Sign you in and read your profile", "mail.send": "Send mail as you",
	"mail.send.shared": "Send mail on behalf of others or yourself", "mail.read": "Read your mail",
	"mail.readwrite": "Read and write access to your mail", "mail.readwrite.shared": "Read and write mail you can access",
	"smtp.send": "Send emails from your mailbox using SMTP AUTH",
}

// signinData fills the page: a login (Page is set), a form for a device's code (Code), a form to go back by (Post), or a
// message alone.
type signinData struct {
	Nonce, Title, Text string
	Page, App, To      string
	Code               bool
	Device             bool
	Logins             []loginChoice
	Scopes             []scopeLine
	Post               string
	Fields             url.Values
}

type loginChoice struct {
	person
	Checked bool
}

type scopeLine struct{ Name, Text, Resource string }

// show writes the login page of that name.
func (s *Sandbox) show(w http.ResponseWriter, name string) {
	s.mu.Lock()
	p := s.signins.pages[name]
	d := signinData{Title: "Sign in", Page: name, App: p.app.Name, Device: p.device != nil}
	if p.admin {
		d.Title = "Permissions requested"
	}
	for _, m := range s.world.mailboxes {
		if !m.Shared && !p.admin {
			d.Logins = append(d.Logins, loginChoice{person{m.Name, m.Address}, strings.EqualFold(m.Address, p.hint)})
		}
	}
	s.mu.Unlock()
	target := ""
	if u, err := url.Parse(p.redirect); err == nil && u.Host != "" {
		d.To, target = u.Host, u.Scheme+"://"+u.Host
	}
	for _, scope := range p.scopes {
		resource, short, _ := splitScope(scope) // they were checked
		line := scopeLine{Name: short, Text: scopeTexts[strings.ToLower(short)]}
		if resource != "" {
			line.Resource = map[string]string{graphResource: "Graph", outlookResource: "Exchange Online"}[resource]
		}
		d.Scopes = append(d.Scopes, line)
	}
	s.writeSignin(w, http.StatusOK, d, target)
}

// message writes a page with one text.
func (s *Sandbox) message(w http.ResponseWriter, status int, title, text string) {
	s.writeSignin(w, status, signinData{Title: title, Text: text}, "")
}

// askForCode writes the form for the code that a device shows.
func (s *Sandbox) askForCode(w http.ResponseWriter, status int, text string) {
	s.writeSignin(w, status, signinData{Title: "Enter code", Text: text, Code: true}, "")
}

// postBack is response_mode=form_post. Entra's page sends itself by a script; ours has none, and a button.
func (s *Sandbox) postBack(w http.ResponseWriter, to *url.URL, fields url.Values) {
	s.writeSignin(w, http.StatusOK, signinData{Title: "Go back to the application", Post: to.String(), Fields: fields}, to.Scheme+"://"+to.Host)
}

// failPage shows an error that cannot be sent back to the application.
func (q *tokenRequest) failPage(e stsError) {
	q.s.logf("entra: AADSTS%d on the page", e.number)
	q.s.message(q.w, http.StatusBadRequest, "Sorry, but we're having trouble signing you in.", q.describe(e))
}

// writeSignin writes the page; its form may send the browser on to target too, because Chromium holds form-action against
// the redirect that follows.
func (s *Sandbox) writeSignin(w http.ResponseWriter, status int, d signinData, target string) {
	d.Nonce = random(16)
	writePage(w, status, signinHTML, d, policy{style: d.Nonce, forms: strings.TrimSpace("'self' " + target)})
}

// localPage lets only this machine's browser at a page, and only by that method; else it answers.
func localPage(w http.ResponseWriter, r *http.Request, method string) bool {
	switch {
	case !local(r):
		http.Error(w, "only for 127.0.0.1 and localhost", http.StatusForbidden)
	case r.Method != method:
		w.Header().Set("Allow", method)
		http.Error(w, "only "+method, http.StatusMethodNotAllowed)
	default:
		return true
	}
	return false
}
