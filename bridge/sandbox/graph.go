package sandbox

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"

	"strings"
)

// graphCall is one request to Graph.
type graphCall struct {
	s     *Sandbox
	w     http.ResponseWriter
	r     *http.Request
	set   Switches
	id    string // request-id
	token *accessToken
	late  *Fault // strikes instead of the answer
}

// serveGraph answers /v1.0/... ; rest is what follows the version. Segments are compared without regard to case.
func (s *Sandbox) serveGraph(w http.ResponseWriter, r *http.Request, version, rest string) {
	c := &graphCall{s: s, w: w, r: r, set: s.settings(), id: newGUID()}
	w.Header().Set("request-id", c.id)
	if id := r.Header.Get("client-request-id"); id != "" {
		w.Header().Set("client-request-id", id)
	} else {
		w.Header().Set("client-request-id", c.id)
	}
	w.Header().Set("x-ms-ags-diagnostic", `{"ServerInfo":{"DataCenter":"Sandbox","Slice":"E","Ring":"0","ScaleUnit":"001","RoleInstance":"SB0PEPF00000001"}}`)
	if f := s.takeFault(AtGraph, c.login()); f != nil && !c.strike(f) {
		return
	}
	if !c.authorize() {
		return
	}
	if version != "v1.0" {
		c.fail(http.StatusBadRequest, "BadRequest", "The sandbox has v1.0 only.")
		return
	}
	parts := strings.Split(rest, "/")
	switch {
	case len(parts) == 1 && strings.EqualFold(parts[0], "me"):
		c.me()
	case len(parts) == 2 && strings.EqualFold(parts[0], "me") && isSendMail(parts[1]):
		if c.token.login == "" {
			c.fail(http.StatusBadRequest, "BadRequest", "/me request is only valid with delegated authentication flow.")
			return
		}
		c.sendMail(c.token.login)
	case len(parts) == 3 && strings.EqualFold(parts[0], "users") && isSendMail(parts[2]):
		c.sendMail(parts[1])
	case len(parts) >= 2 && strings.EqualFold(parts[0], "me") && c.token.login != "" && isMessages(parts[1:]):
		c.folder(c.token.login, parts[1:])
	case len(parts) >= 3 && strings.EqualFold(parts[0], "users") && isMessages(parts[2:]):
		c.folder(parts[1], parts[2:])
	default:
		c.fail(http.StatusBadRequest, "BadRequest", "Resource not found for the segment '"+parts[len(parts)-1]+"'.")
	}
}

// isMessages recognises messages/... and mailFolders/{name}/messages/...
func isMessages(parts []string) bool {
	return strings.EqualFold(parts[0], "messages") ||
		len(parts) >= 3 && strings.EqualFold(parts[0], "mailFolders") && strings.EqualFold(parts[2], "messages")
}

// folder calls messagesCall with the folder, "" for the whole mailbox.
func (c *graphCall) folder(mailbox string, parts []string) {
	if strings.EqualFold(parts[0], "messages") {
		c.messagesCall(mailbox, "", parts[1:])
		return
	}
	c.messagesCall(mailbox, parts[1], parts[3:])
}

func isSendMail(segment string) bool {
	return strings.EqualFold(segment, "sendMail") || strings.EqualFold(segment, "microsoft.graph.sendMail")
}

// strike answers with an ordered fault; true lets the call go on.
func (c *graphCall) strike(f *Fault) bool {
	setRetryAfter(c.w, f.RetryAfter)
	switch {
	case f.Drop && f.After > 0:
		c.cutAfter(f.After)
	case f.Drop:
		cutHTTP(c.w)
	case f.Status != 0 && f.Code != "":
		c.drain()
		c.fail(f.Status, f.Code, f.Text)
	case f.Status != 0:
		c.drain()
		writeHTML(c.w, f.Status)
	default:
		return true
	}
	return false
}

// cutAfter cuts the connection within the body.
func (c *graphCall) cutAfter(octets int64) {
	if n, _ := io.CopyN(io.Discard, c.r.Body, octets); n < octets {
		c.fail(http.StatusBadRequest, "BadRequest", fmt.Sprintf("The sandbox was to cut the connection after %d octets, and the body has %d.", octets, n))
		return
	}
	cutHTTP(c.w)
	c.s.step(Cut)
}

// strikeLate is strike after the thing was done.
func (c *graphCall) strikeLate(f *Fault) bool {
	c.s.pause(f.Delay.Duration)
	return c.strike(f)
}

// sendFault strikes a request to send; what is ordered Late waits for the answer.
func (c *graphCall) sendFault(own Mailbox) (struck bool) {
	f := c.s.takeFault(AtSend, own.Address)
	if f != nil && f.Late {
		c.late = f
		return false
	}
	return f != nil && !c.strike(f)
}

// drain reads the rest of the request, so that a client that is still writing sees the answer and not a reset.
func (c *graphCall) drain() {
	_, _ = io.Copy(io.Discard, io.LimitReader(c.r.Body, 256<<20)) // a broken body changes nothing about the answer
}

// bearer is the token of the request as text.
func (c *graphCall) bearer() (string, bool) {
	scheme, text, ok := strings.Cut(c.r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(text), ok && strings.EqualFold(scheme, "Bearer")
}

// login is who the token is for, before it was judged.
func (c *graphCall) login() string {
	text, _ := c.bearer()
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if at := c.s.tokens.access[text]; at != nil {
		return at.login
	}
	return ""
}

// authorize checks the bearer token: known, for Graph, and not expired; else 401.
func (c *graphCall) authorize() bool {
	text, ok := c.bearer()
	c.s.mu.Lock()
	at := c.s.tokens.access[text]
	expired := at != nil && !c.s.now().Before(at.expires)
	c.s.mu.Unlock()
	why := ""
	switch {
	case !ok || text == "":
		why = "Access token is empty."
	case strings.Count(text, ".") != 2:
		why = "IDX14100: JWT is not well formed, there are no dots (.)."
	case at == nil:
		why = "Access token validation failure. Signature is invalid."
	case at.audience != graphResource:
		why = "Access token validation failure. Invalid audience."
	case expired:
		why = "Lifetime validation failed, the token is expired."
	default:
		c.token = at
		return true
	}
	c.drain()
	c.w.Header().Set("WWW-Authenticate", `Bearer realm="", authorization_uri="`+c.s.Authority()+`/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000"`)
	c.fail(http.StatusUnauthorized, "InvalidAuthenticationToken", why)
	return false
}

// fail writes the error object of facts B6.
func (c *graphCall) fail(status int, code, text string) {
	c.s.logf("graph: %s %s: %d %s", c.r.Method, c.r.URL.Path, status, code)
	writeJSON(c.w, status, map[string]any{"error": map[string]any{"code": code, "message": text, "innerError": map[string]string{
		"date":              c.s.now().UTC().Format("2006-01-02T15:04:05"),
		"request-id":        c.id,
		"client-request-id": c.w.Header().Get("client-request-id"),
	}}})
}

func (c *graphCall) denied() {
	c.fail(http.StatusForbidden, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
}

// me answers who is signed in; proxyAddresses only to $select, as Graph does.
func (c *graphCall) me() {
	switch {
	case c.r.Method != http.MethodGet:
		c.fail(http.StatusMethodNotAllowed, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
		return
	case c.token.login == "":
		c.fail(http.StatusBadRequest, "BadRequest", "/me request is only valid with delegated authentication flow.")
		return
	case !c.token.may("User.Read"):
		c.fail(http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
		return
	}
	c.s.mu.Lock()
	m, ok := c.s.world.mailbox(c.token.login)
	c.s.mu.Unlock()
	if !ok {
		c.fail(http.StatusNotFound, "Request_ResourceNotFound", "Resource '"+c.token.login+"' does not exist or one of its queried reference-property objects are not present.")
		return
	}
	all := map[string]any{"id": m.objectID(), "displayName": m.Name, "mail": m.Address, "userPrincipalName": m.Address,
		"businessPhones": []string{}, "preferredLanguage": nil}
	if list := c.r.URL.Query().Get("$select"); list != "" {
		all["proxyAddresses"] = append([]string{"SMTP:" + m.Address}, prefixed("smtp:", m.Aliases)...)
		for name := range all {
			if !has(strings.Split(list, ","), name) {
				delete(all, name)
			}
		}
	}
	all["@odata.context"] = c.s.GraphURL() + "/$metadata#users/$entity"
	writeJSON(c.w, http.StatusOK, all)
}

func prefixed(prefix string, list []string) (out []string) {
	for _, v := range list {
		out = append(out, prefix+v)
	}
	return out
}

// sendMail is POST .../sendMail for the mailbox of that address or object id.
func (c *graphCall) sendMail(id string) {
	if c.r.Method != http.MethodPost {
		c.fail(http.StatusMethodNotAllowed, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
		return
	}
	c.s.mu.Lock()
	mailbox, ok := c.s.world.mailbox(id)
	own, _ := c.s.world.mailbox(c.token.login)
	app, _ := c.s.world.app(c.token.clientID)
	c.s.mu.Unlock()
	if !ok {
		c.drain()
		c.fail(http.StatusNotFound, "ErrorInvalidUser", "The requested user '"+id+"' is invalid.")
		return
	}
	if c.sendFault(own) {
		return
	}
	key := "graph " + c.token.clientID + " " + mailbox.Address
	fits := c.s.enter(key, func(w Switches) int { return w.GraphConcurrency })
	defer c.s.leave(key)
	raw, done := c.body()
	switch {
	case done:
		return
	case !fits:
		c.answer(outcomes["throttled"], nil)
		return
	case c.token.login == "" && len(app.RestrictTo) > 0 && !has(app.RestrictTo, mailbox.Address):
		c.fail(http.StatusForbidden, "ErrorAccessDenied", "Access to OData is disabled.")
		return
	case !c.maySend(mailbox, own):
		c.denied()
		return
	}
	if c.token.login == "" {
		own = mailbox // app-only: the mailbox of the URL is who sends (facts B5)
	}
	c.submit(raw, mailbox, own)
}

// maySend checks scope and Full Access: another's mailbox needs both the Shared scope and the right (facts A2, B5).
func (c *graphCall) maySend(mailbox, own Mailbox) bool {
	switch {
	case c.token.login == "":
		return c.token.may("Mail.Send")
	case strings.EqualFold(mailbox.Address, own.Address):
		return c.token.may("Mail.Send") || c.token.may("Mail.Send.Shared")
	}
	return c.token.may("Mail.Send.Shared") && has(mailbox.FullAccess, own.Address)
}

// body reads the request up to the cap; done says that it has been answered already.
func (c *graphCall) body() (raw []byte, done bool) {
	raw, err := io.ReadAll(http.MaxBytesReader(nil, c.r.Body, c.set.RequestCap))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		c.drain()
		c.tooLarge()
		return nil, true
	case err != nil: // the client left in the middle
		return nil, true
	}
	return raw, false
}

// tooLarge is one of the symptoms of a request over 4 MB (facts B3).
func (c *graphCall) tooLarge() {
	switch c.set.TooLarge {
	case TooLarge400:
		c.fail(http.StatusBadRequest, "BadRequest", "The maximum request length supported is 4MB.")
	case TooLargeHTML:
		writeHTML(c.w, http.StatusInternalServerError)
	case TooLarge200:
		c.w.WriteHeader(http.StatusOK)
	default:
		c.fail(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The request entity is too large.")
	}
}

// submit takes the MIME form: base64 of the whole message as text/plain.
func (c *graphCall) submit(body []byte, mailbox, own Mailbox) {
	kind, _, _ := strings.Cut(c.r.Header.Get("Content-Type"), ";")
	switch kind = strings.ToLower(strings.TrimSpace(kind)); {
	case kind == "application/json":
		c.submitJSON(body, mailbox, own)
		return
	case kind != "text/plain":
		c.fail(http.StatusUnsupportedMediaType, "UnsupportedMediaType", "The content type must be application/json or text/plain.")
		return
	}
	// The decoder passes over CR and LF, as the page's wrapped example needs, and Strict over nothing else.
	raw, err := base64.StdEncoding.Strict().DecodeString(string(body))
	if err != nil || len(raw) == 0 {
		c.fail(http.StatusBadRequest, "ErrorMimeContentInvalidBase64String", "Invalid base64 string for MIME content.")
		return
	}
	l := &letter{
		Received: Received{Via: ViaGraph, ClientID: c.token.clientID, Login: c.token.login, Raw: raw},
		text:     parseMail(raw), mailbox: mailbox, own: own, id: own.Address,
		shared: c.token.login == "" || c.token.may("Mail.Send.Shared"),
	}
	if l.Recipients, err = headerRecipients(l.text); err != nil {
		l.checked = "invalid"
	}
	o, err := c.s.judge(l)
	if err != nil {
		c.s.logf("graph: %v", err)
		c.fail(http.StatusInternalServerError, "ErrorInternalServerError", "The sandbox cannot write its folder.")
		return
	}
	c.answer(o, l)
}

// headerRecipients are those of To, Cc and Bcc, each once: Graph has no other envelope.
func headerRecipients(m mailText) (out []string, err error) {
	for _, name := range []string{"To", "Cc", "Bcc"} {
		list, err := m.addresses(name)
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			if !has(out, a.Address) {
				out = append(out, a.Address)
			}
		}
	}
	return out, nil
}

// answer writes an outcome; l is nil before there is a message.
func (c *graphCall) answer(o outcome, l *letter) {
	if c.late != nil && !c.strikeLate(c.late) {
		return
	}
	if o.retryAfter {
		setRetryAfter(c.w, c.set.RetryAfter)
	}
	switch {
	case o.cut:
		cutHTTP(c.w)
	case o.html:
		writeHTML(c.w, o.status)
	case o.status < 300: // 202, and the 200 that means nothing was sent
		c.w.WriteHeader(o.status)
	case l == nil:
		c.fail(o.status, o.code, o.text)
	default:
		c.fail(o.status, o.code, fill(o.text, l.own.Address, l.From))
	}
}
