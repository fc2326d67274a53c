package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// The sizes of attachments (facts B3).
const (
	minUpload = 3 << 20 // an upload session is for 3 MB and more, one POST for less
	maxUpload = 150 << 20
)

// uploadSession is one attachment that comes in slices. Sandbox.mu guards it.
type uploadSession struct {
	draft   *draft
	token   string
	file    attachment
	size    int64
	expires time.Time
	slices  int
}

// attachments is GET and POST .../attachments.
func (c *graphCall) attachments(mailbox Mailbox, id string) {
	var fault *Fault
	if c.r.Method == http.MethodPost {
		fault = c.s.takeFault(AtAttach, mailbox.Address)
	}
	if fault != nil && !fault.Late && !c.strike(fault) {
		return
	}
	raw, done := c.body()
	if done {
		return
	}
	var a attachmentJSON
	if c.r.Method == http.MethodPost {
		if err := json.Unmarshal(raw, &a); err != nil || a.Type != "#microsoft.graph.fileAttachment" || a.Name == "" {
			c.fail(http.StatusBadRequest, "RequestBodyRead", "The sandbox takes a fileAttachment with a name only.")
			return
		}
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	d := c.find(mailbox, id)
	switch {
	case d == nil || d.sent:
		c.notFound()
	case c.r.Method == http.MethodGet:
		list := []map[string]any{}
		for _, f := range d.attached {
			list = append(list, map[string]any{"id": f.id, "name": f.name, "size": len(f.data)})
		}
		writeJSON(c.w, http.StatusOK, map[string]any{"value": list})
	case c.r.Method != http.MethodPost:
		c.fail(http.StatusMethodNotAllowed, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
	case len(a.Bytes) >= minUpload:
		c.fail(http.StatusRequestEntityTooLarge, "ErrorAttachmentSizeLimitExceeded", "The attachment is 3 MB or more: use an upload session.")
	default:
		f := a.attachment()
		d.attached = append(d.attached, f)
		if fault != nil && fault.Late && !c.strike(fault) {
			return
		}
		writeJSON(c.w, http.StatusCreated, map[string]any{"@odata.type": a.Type, "id": f.id, "name": f.name, "size": len(f.data)})
	}
}

// createSession is POST .../attachments/createUploadSession.
func (c *graphCall) createSession(mailbox, own Mailbox, id string) {
	if f := c.s.takeFault(AtSession, own.Address); f != nil && !c.strike(f) {
		return
	}
	raw, done := c.body()
	if done {
		return
	}
	var body struct {
		Item attachmentJSON `json:"AttachmentItem"`
	}
	err := json.Unmarshal(raw, &body)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	d := c.find(mailbox, id)
	switch {
	case err != nil || body.Item.Kind != "file" || body.Item.Name == "":
		c.fail(http.StatusBadRequest, "RequestBodyRead", "AttachmentItem needs attachmentType file, name and size.")
	case d == nil || d.sent:
		c.notFound()
	case c.token.login != "" && !strings.EqualFold(mailbox.Address, own.Address): // facts B4
		c.denied()
	case body.Item.Size < minUpload:
		c.fail(http.StatusBadRequest, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize", "The attachment size should not be less than the minimum size.")
	case body.Item.Size > maxUpload:
		c.fail(http.StatusRequestEntityTooLarge, "ErrorAttachmentSizeLimitExceeded", "The attachment size exceeds the allowed limit.")
	default:
		u := &uploadSession{draft: d, token: random(120), file: body.Item.attachment(), size: body.Item.Size,
			expires: c.s.now().Add(c.s.switches.UploadLifetime.Duration)}
		name := newGUID()
		c.s.sessions[name] = u
		writeJSON(c.w, http.StatusCreated, map[string]any{
			"@odata.context": c.s.GraphURL() + "/$metadata#microsoft.graph.uploadSession",
			"uploadUrl": fmt.Sprintf("%s/api/v2.0/Users('%s')/Messages('%s')/AttachmentSessions('%s')?authtoken=%s",
				c.s.UploadURL(), d.mailbox.objectID(), d.id, name, u.token),
			"expirationDateTime": u.expires.UTC().Format(time.RFC3339Nano), "nextExpectedRanges": []string{"0-"}})
	}
}

// UploadURL is the second host, where slices of attachments go; its name and its port are others than Graph's.
func (s *Sandbox) UploadURL() string {
	_, port, _ := strings.Cut(s.uploadLn.Addr().String(), ":")
	return "http://localhost:" + port
}

// serveUpload answers at the second host: PUT of a slice, GET of what is expected, DELETE. It knows the caller by the
// authtoken in the URL; an Authorization field is a client that gives its token away, and is refused.
func (s *Sandbox) serveUpload(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		return
	}
	defer s.wg.Done()
	c := &graphCall{s: s, w: w, r: r, set: s.settings(), id: newGUID()}
	if r.Header.Get("Authorization") != "" {
		c.drain()
		c.fail(http.StatusUnauthorized, "ErrorAuthorizationNotAllowed", "Do not send an Authorization header to the upload URL.")
		return
	}
	_, name, _ := strings.Cut(r.URL.Path, "/AttachmentSessions('")
	name = strings.TrimSuffix(name, "')")
	s.mu.Lock()
	u := s.sessions[name]
	gone := u == nil || u.token != r.URL.Query().Get("authtoken") || !s.now().Before(u.expires)
	s.mu.Unlock()
	switch {
	case gone:
		c.drain()
		c.fail(http.StatusNotFound, "uploadSessionNotFound", "The upload session was not found.")
	case r.Method == http.MethodGet:
		s.mu.Lock()
		c.ranges(u, "-")
		s.mu.Unlock()
	case r.Method == http.MethodDelete:
		s.mu.Lock()
		delete(s.sessions, name)
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut:
		c.slice(name, u)
	default:
		c.fail(http.StatusMethodNotAllowed, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
	}
}

// ranges answers what is expected next. Sandbox.mu is held.
func (c *graphCall) ranges(u *uploadSession, dash string) {
	writeJSON(c.w, http.StatusOK, map[string]any{
		"@odata.context": "https://outlook.office.com/api/v2.0/$metadata#Users('x')/Messages('x')/AttachmentSessions/$entity",
		// A capital E, and the range without its dash, as documented (facts B4).
		"ExpirationDateTime": u.expires.UTC().Format(time.RFC3339Nano), "nextExpectedRanges": []string{fmt.Sprint(len(u.file.data)) + dash}})
}

// slice takes one slice, in order.
func (c *graphCall) slice(name string, u *uploadSession) {
	f := c.s.takeFault(AtUpload, u.draft.own.Address)
	if f != nil && f.Outcome == "" && !f.Late && !c.strike(f) {
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(nil, c.r.Body, c.set.RequestCap))
	var from, to, total int64
	_, scanned := fmt.Sscanf(c.r.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &total)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	switch have := int64(len(u.file.data)); {
	case err != nil:
		c.drain()
		c.fail(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The request entity is too large.")
		return
	case f != nil && f.Outcome == "expire":
		delete(c.s.sessions, name)
		c.fail(http.StatusNotFound, "uploadSessionNotFound", "The upload session was not found.")
		return
	case scanned != nil || total != u.size || to < from || int64(len(data)) != to-from+1:
		c.fail(http.StatusBadRequest, "fragmentLengthMismatch", "The length of the fragment does not match its range.")
		return
	case from != have:
		c.fail(http.StatusRequestedRangeNotSatisfiable, "invalidRange", fmt.Sprintf("The range that is expected begins at %d.", have))
		return
	}
	u.slices++
	u.file.data = append(u.file.data, data...)
	if f != nil && f.Outcome == "back" { // what was taken last is lost again
		u.file.data = u.file.data[:from+int64(len(data))/2]
	}
	done := int64(len(u.file.data)) == u.size
	if done {
		u.draft.attached = append(u.draft.attached, u.file)
		delete(c.s.sessions, name)
	}
	switch {
	case f != nil && f.Late && !c.strike(f):
	case done:
		c.w.Header().Set("Location", fmt.Sprintf("https://outlook.office.com/api/v2.0/Users('%s')/Messages('%s')/Attachments('%s')",
			u.draft.mailbox.objectID(), u.draft.id, u.file.id))
		c.w.Header().Set("Content-Length", "0")
		c.w.WriteHeader(http.StatusCreated)
	default:
		c.ranges(u, "")
	}
}
