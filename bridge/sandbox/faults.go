package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Where a Fault strikes.
type Where string

// The places.
const (
	AtToken      Where = "token"         // a token request
	AtDeviceCode Where = "devicecode"    // a request for a device code; all but Login as at token
	AtGraph      Where = "graph"         // any Graph call, before its token is looked at
	AtGreeting   Where = "smtp-greeting" // instead of 220
	AtSTARTTLS   Where = "smtp-starttls"
	AtAuth       Where = "smtp-auth" // the answer to a whole AUTH
	AtMail       Where = "smtp-mail"
	AtRcpt       Where = "smtp-rcpt"
	AtData       Where = "smtp-data" // instead of 354
	AtCreate     Where = "draft"     // POST /messages
	AtLook       Where = "look"      // GET /messages/{id}
	AtPatch      Where = "patch"     // PATCH /messages/{id}
	AtDelete     Where = "delete"    // DELETE /messages/{id}
	AtAttach     Where = "attach"    // POST /messages/{id}/attachments
	AtSend       Where = "send"      // sendMail and POST /messages/{id}/send, the request and not the verdict
	AtSession    Where = "session"   // createUploadSession
	AtUpload     Where = "upload"    // a slice at the upload host; Outcome "expire": the session is gone, "back": half of the slice is lost
	AtDot        Where = "dot"       // the verdict on a whole message, SMTP and Graph; wants Outcome

	// Only for Options.Step.
	InBody Where = "smtp-body" // after the first line of the text
	AtEnd  Where = "smtp-end"  // the last line of a text that ends in EndOfText was read; the final dot was not
	Kept   Where = "kept"      // the message was taken, and the client has no answer yet
	Made   Where = "made"      // a draft was made, and the client has no answer yet
	Cut    Where = "cut"       // the connection was cut within a body, as Fault.After has it
)

// EndOfText is the line by which AtEnd knows the end of a text.
const EndOfText = "-- end --\r\n"

// Fault is ordered trouble, in a program by Sandbox.Fault, from outside by POST /admin/fault (loopback, JSON). It strikes
// the next Times things at Where and is gone.
type Fault struct {
	Where      Where    `json:"where"`
	Times      int      `json:"times"`       // 0 is 1; negative: until ClearFaults
	Login      string   `json:"login"`       // only for this login or mailbox; "" is any. Not at the greeting and STARTTLS
	AADSTS     int      `json:"aadsts"`      // token: a number of aadstsTable
	Outcome    string   `json:"outcome"`     // dot: a name of the table in outcome.go
	Status     int      `json:"status"`      // token, graph: HTTP status; without Code the body is an HTML page
	Code       string   `json:"code"`        // graph: the error's code
	Text       string   `json:"text"`        // graph: the error's message
	RetryAfter string   `json:"retry_after"` // token, graph: the header
	Reply      string   `json:"reply"`       // smtp-*: the reply, without the line end; a 421 ends the connection
	Drop       bool     `json:"drop"`        // cut the connection
	After      int64    `json:"after"`       // with Drop, at Graph: once so many octets of the body were read; a shorter one is answered with 400
	Late       bool     `json:"late"`        // draft, attach, send, upload: only after it was done, instead of the answer
	Delay      Duration `json:"delay"`       // wait first; alone, the thing itself then goes on. With Late at draft and send alone
}

// Fault orders trouble. An error says that the fault could never do anything.
func (s *Sandbox) Fault(f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	if f.Times == 0 {
		f.Times = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
	return nil
}

// ClearFaults takes back what Fault ordered, and forgets which messages met scripted recipients.
func (s *Sandbox) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	clear(s.attempts)
}

func (f *Fault) check() error {
	smtp := []Where{AtGreeting, AtSTARTTLS, AtAuth, AtMail, AtRcpt, AtData}
	graph := []Where{AtGraph, AtCreate, AtLook, AtPatch, AtDelete, AtAttach, AtSend, AtSession}
	any := f.Drop || f.Delay.Duration > 0
	switch {
	case f.Where == AtToken, f.Where == AtDeviceCode:
		if f.AADSTS != 0 && aadstsTable[f.AADSTS].oauth == "" {
			return fmt.Errorf("the sandbox has no AADSTS%d", f.AADSTS)
		}
		any = any || f.AADSTS != 0 || f.Status != 0
	case slices.Contains(graph, f.Where):
		any = any || f.Status != 0
	case f.Where == AtUpload:
		if f.Outcome != "" && f.Outcome != "expire" && f.Outcome != "back" {
			return fmt.Errorf("an upload has no outcome %q: expire or back", f.Outcome)
		}
		any = any || f.Status != 0 || f.Outcome != ""
	case f.Where == AtDot:
		if _, ok := outcomes[f.Outcome]; f.Outcome != "" && !ok {
			return fmt.Errorf("the sandbox has no outcome %q", f.Outcome)
		}
		any = any || f.Outcome != ""
	case slices.Contains(smtp, f.Where):
		if f.Reply != "" && (len(f.Reply) < 4 || strings.ContainsAny(f.Reply, "\r\n")) {
			return fmt.Errorf("%q is not one line of an SMTP reply", f.Reply)
		}
		any = any || f.Reply != ""
	default:
		return fmt.Errorf("there is no place %q: token, devicecode, graph, draft, look, patch, delete, attach, send, session, upload, dot, smtp-greeting, smtp-starttls, smtp-auth, smtp-mail, smtp-rcpt or smtp-data", f.Where)
	}
	if f.After != 0 && (f.After < 0 || !f.Drop || f.Late || !slices.Contains(graph, f.Where)) {
		return fmt.Errorf("after %d octets of a body only a request at Graph is cut, with drop and without late", f.After)
	}
	if f.Status != 0 && (f.Status < 200 || f.Status > 599) {
		return fmt.Errorf("%d is not an HTTP status that ends a request", f.Status)
	}
	if !any {
		return fmt.Errorf("a fault at %s that does nothing", f.Where)
	}
	return nil
}

// takeFault uses up one strike at a place and waits its delay, unless that comes late; nil when nothing was ordered.
func (s *Sandbox) takeFault(at Where, login string) *Fault {
	s.step(at)
	s.mu.Lock()
	i := slices.IndexFunc(s.faults, func(f *Fault) bool {
		return f.Where == at && (f.Login == "" || strings.EqualFold(f.Login, login))
	})
	if i < 0 {
		s.mu.Unlock()
		return nil
	}
	f := *s.faults[i]
	if s.faults[i].Times--; s.faults[i].Times == 0 {
		s.faults = slices.Delete(s.faults, i, i+1)
	}
	s.mu.Unlock()
	s.logf("fault at %s", at)
	if !f.Late {
		s.pause(f.Delay.Duration)
	}
	return &f
}

// pause waits, at most until Close.
func (s *Sandbox) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// tokenFault answers a struck token request; true lets it go on.
func (s *Sandbox) tokenFault(q *tokenRequest, f *Fault) bool {
	setRetryAfter(q.w, f.RetryAfter)
	switch {
	case f.Drop:
		cutHTTP(q.w)
	case f.AADSTS != 0:
		q.fail(stsError{f.AADSTS, ""})
	case f.Status != 0:
		writeHTML(q.w, f.Status)
	default:
		return true
	}
	return false
}

func setRetryAfter(w http.ResponseWriter, v string) {
	if v != "" && v != "none" {
		w.Header().Set("Retry-After", v)
	}
}

// cutHTTP closes the connection under a request without an answer.
func cutHTTP(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}
