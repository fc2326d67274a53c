package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// draft is an item of a mailbox: a draft, or after /send the copy in Sent Items. Sandbox.mu guards it.
type draft struct {
	id        string
	immutable bool // made with Prefer: IdType="ImmutableId": the id stays when it is sent
	mailbox   Mailbox
	own       Mailbox // who made it
	sent      bool
	lag       int // reads that do not see yet that it was sent
	number    int // order of creation

	mime     []byte   // as it was given, nil of one made from JSON
	bcc      []string // bccRecipients that were PATCHed into a MIME draft
	patched  bool
	fields   jsonMessage // of one made from JSON
	attached []attachment
	final    Received // what was sent
}

// attachment is a file of a draft.
type attachment struct {
	id, name, contentType, contentID string
	inline                           bool
	data                             []byte
}

// text is the whole message as it would leave now.
func (d *draft) text() mailText {
	if d.mime == nil {
		return parseMail(d.fields.render(d.attached))
	}
	m := parseMail(d.mime)
	if d.patched {
		m = m.without("Bcc") // the property replaces it
	}
	return m
}

// head is text without its files, for what only reads the header.
func (d *draft) head() mailText {
	if d.mime == nil {
		return parseMail(d.fields.render(nil))
	}
	return d.text()
}

// recipients are those of To, Cc and Bcc, each once.
func (d *draft) recipients(m mailText) ([]string, error) {
	list, err := headerRecipients(m)
	for _, a := range append(d.bcc, d.fields.addresses(d.fields.Bcc)...) {
		if !has(list, a) {
			list = append(list, a)
		}
	}
	return list, err
}

// json is the item as Graph shows it, of what Postern reads.
func (d *draft) json(isDraft bool) map[string]any {
	m := d.head()
	return map[string]any{"id": d.id, "isDraft": isDraft, "internetMessageId": m.first("Message-ID"),
		"subject": m.decoded("Subject"), "hasAttachments": len(d.attached) > 0, "bccRecipients": recipientList(d.bcc)}
}

func recipientList(addresses []string) []map[string]any {
	list := []map[string]any{}
	for _, a := range addresses {
		list = append(list, map[string]any{"emailAddress": map[string]string{"address": a}})
	}
	return list
}

// messagesCall is what follows .../messages or .../mailFolders/{name}/messages.
func (c *graphCall) messagesCall(mailboxID, folder string, rest []string) {
	mailbox, own, ok := c.open(mailboxID)
	if !ok {
		return
	}
	key := "graph " + c.token.clientID + " " + mailbox.Address
	fits := c.s.enter(key, func(w Switches) int { return w.GraphConcurrency })
	defer c.s.leave(key)
	if !fits {
		c.drain()
		c.answer(outcomes["throttled"], nil)
		return
	}
	method := c.r.Method
	switch {
	case len(rest) == 0 && method == http.MethodGet:
		c.search(mailbox, folder)
	case len(rest) == 0 && method == http.MethodPost && folder == "":
		c.create(mailbox, own)
	case len(rest) == 1:
		c.item(mailbox, rest[0])
	case len(rest) == 2 && method == http.MethodPost && strings.EqualFold(rest[1], "send"):
		c.sendDraft(mailbox, rest[0])
	case len(rest) == 2 && strings.EqualFold(rest[1], "attachments"):
		c.attachments(mailbox, rest[0])
	case len(rest) == 3 && method == http.MethodPost && strings.EqualFold(rest[1], "attachments") && strings.EqualFold(rest[2], "createUploadSession"):
		c.createSession(mailbox, own, rest[0])
	default:
		c.drain()
		c.fail(http.StatusBadRequest, "BadRequest", "Resource not found for the segment '"+strings.Join(rest, "/")+"'.")
	}
}

// open finds the mailbox and checks scope and rights; ok is false once it was answered.
func (c *graphCall) open(id string) (mailbox, own Mailbox, ok bool) {
	c.s.mu.Lock()
	mailbox, known := c.s.world.mailbox(id)
	own, _ = c.s.world.mailbox(c.token.login)
	app, _ := c.s.world.app(c.token.clientID)
	c.s.mu.Unlock()
	need := "Mail.ReadWrite"
	if c.token.login != "" && !strings.EqualFold(mailbox.Address, own.Address) {
		need = "Mail.ReadWrite.Shared"
	}
	switch {
	case !known:
		c.drain()
		c.fail(http.StatusNotFound, "ErrorInvalidUser", "The requested user '"+id+"' is invalid.")
	case c.token.login == "" && len(app.RestrictTo) > 0 && !has(app.RestrictTo, mailbox.Address):
		c.drain()
		c.fail(http.StatusForbidden, "ErrorAccessDenied", "Access to OData is disabled.")
	case !c.token.may(need) && !(strings.HasSuffix(c.r.URL.Path, "/send") && c.token.may("Mail.Send")):
		c.drain()
		c.denied()
	case need == "Mail.ReadWrite.Shared" && !has(mailbox.FullAccess, own.Address):
		c.drain()
		c.denied()
	default:
		if c.token.login == "" {
			own = mailbox
		}
		return mailbox, own, true
	}
	return Mailbox{}, Mailbox{}, false
}

// contentType is the media type of the request, without parameters.
func (c *graphCall) contentType() string {
	kind, _, _ := strings.Cut(c.r.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// create is POST /messages: 201 and the draft.
func (c *graphCall) create(mailbox, own Mailbox) {
	fault := c.s.takeFault(AtCreate, own.Address)
	if fault != nil && !fault.Late && !c.strike(fault) {
		return
	}
	raw, done := c.body()
	if done {
		return
	}
	d := &draft{mailbox: mailbox, own: own, immutable: strings.Contains(c.r.Header.Get("Prefer"), `IdType="ImmutableId"`)}
	switch c.contentType() {
	case "text/plain":
		mime, err := base64.StdEncoding.Strict().DecodeString(string(raw))
		if err != nil || len(mime) == 0 {
			c.fail(http.StatusBadRequest, "ErrorMimeContentInvalidBase64String", "Invalid base64 string for MIME content.")
			return
		}
		d.mime = mime
		if _, err := headerRecipients(parseMail(mime)); err != nil {
			c.fail(http.StatusBadRequest, "ErrorMimeContentInvalid", "The MIME content is invalid.")
			return
		}
	case "application/json":
		if !c.readMessage(raw, &d.fields) {
			return
		}
		for _, a := range d.fields.Attachments {
			d.attached = append(d.attached, a.attachment())
		}
	default:
		c.fail(http.StatusUnsupportedMediaType, "UnsupportedMediaType", "The content type must be application/json or text/plain.")
		return
	}
	c.s.mu.Lock()
	c.s.draftNumber++
	d.number = c.s.draftNumber
	d.id = "AAMk" + strings.ReplaceAll(random(60), "-", "x") + "="
	c.s.drafts[d.id] = d
	shown := d.json(true)
	c.s.mu.Unlock()
	c.s.step(Made)
	if fault != nil && fault.Late && !c.strikeLate(fault) {
		return
	}
	if d.immutable {
		c.w.Header().Set("Preference-Applied", `IdType="ImmutableId"`)
	}
	writeJSON(c.w, http.StatusCreated, shown)
}

// find is the item of that id in the mailbox, nil where it is not seen.
func (c *graphCall) find(mailbox Mailbox, id string) *draft {
	d := c.s.drafts[id]
	if d == nil || !strings.EqualFold(d.mailbox.Address, mailbox.Address) || d.sent && !d.immutable {
		return nil
	}
	return d
}

func (c *graphCall) notFound() {
	c.fail(http.StatusNotFound, "ErrorItemNotFound", "The specified object was not found in the store.")
}

// itemFaults are where trouble with one message strikes.
var itemFaults = map[string]Where{http.MethodGet: AtLook, http.MethodPatch: AtPatch, http.MethodDelete: AtDelete}

// item is GET, PATCH and DELETE of one message.
func (c *graphCall) item(mailbox Mailbox, id string) {
	if at, ok := itemFaults[c.r.Method]; ok {
		if f := c.s.takeFault(at, mailbox.Address); f != nil && !c.strike(f) {
			return
		}
	}
	raw, done := c.body()
	if done {
		return
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	d := c.find(mailbox, id)
	switch {
	case d == nil:
		c.notFound()
	case c.r.Method == http.MethodGet:
		writeJSON(c.w, http.StatusOK, d.json(!d.seenSent()))
	case c.r.Method == http.MethodDelete:
		delete(c.s.drafts, id)
		c.w.WriteHeader(http.StatusNoContent)
	case c.r.Method != http.MethodPatch:
		c.fail(http.StatusMethodNotAllowed, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
	case d.sent:
		c.fail(http.StatusBadRequest, "ErrorInvalidPropertySet", "The property is read-only and cannot be set.")
	default:
		var change struct {
			Bcc *[]recipientJSON `json:"bccRecipients"`
		}
		if err := json.Unmarshal(raw, &change); err != nil || change.Bcc == nil {
			c.fail(http.StatusBadRequest, "RequestBodyRead", "The sandbox takes bccRecipients only in a PATCH.")
			return
		}
		d.patched, d.bcc = true, d.fields.addresses(*change.Bcc)
		d.fields.Bcc = nil
		writeJSON(c.w, http.StatusOK, d.json(true))
	}
}

// seenSent reports whether readers see already that it was sent: the copy in Sent Items "may not exist immediately"
// (facts B2).
func (d *draft) seenSent() bool {
	if d.sent && d.lag > 0 {
		d.lag--
		return false
	}
	return d.sent
}

// sendDraft is POST /messages/{id}/send: the verdict on a whole message, as of sendMail.
func (c *graphCall) sendDraft(mailbox Mailbox, id string) {
	if c.sendFault(mailbox) {
		return
	}
	c.drain()
	c.s.mu.Lock()
	d := c.find(mailbox, id)
	if d == nil || d.sent {
		c.s.mu.Unlock()
		c.notFound()
		return
	}
	m := d.text()
	l := &letter{Received: Received{Via: ViaGraph, ClientID: c.token.clientID, Login: c.token.login, Raw: m.bytes()},
		draft: d, text: m, mailbox: d.mailbox, own: d.own, id: d.own.Address, shared: c.token.login == "" || c.token.may("Mail.Send.Shared")}
	var err error
	if l.Recipients, err = d.recipients(m); err != nil {
		l.checked = "invalid"
	}
	c.s.mu.Unlock()
	o, err := c.s.judge(l)
	if err != nil {
		c.fail(http.StatusInternalServerError, "ErrorInternalServerError", "The sandbox cannot write its folder.")
		return
	}
	c.answer(o, l)
}

// Draft is what stands in a mailbox's Drafts.
type Draft struct {
	ID, Mailbox, Subject, MessageID string
	Attachments                     int
}

// Drafts returns what was created and neither sent nor deleted, in no order. Tests look for what was left behind.
func (s *Sandbox) Drafts() (list []Draft) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.drafts {
		if !d.sent {
			m := d.head()
			list = append(list, Draft{d.id, d.mailbox.Address, m.decoded("Subject"), m.first("Message-ID"), len(d.attached)})
		}
	}
	return list
}

// search answers $filter over a folder: by internetMessageId, or by the extended property of one of our header fields.
func (c *graphCall) search(mailbox Mailbox, folder string) {
	filter := c.r.URL.Query().Get("$filter")
	wanted, ok := readFilter(filter)
	if !ok {
		c.fail(http.StatusBadRequest, "ErrorInvalidUrlQueryFilter", "The query filter contains one or more invalid nodes.")
		return
	}
	list := []map[string]any{}
	c.s.mu.Lock()
	for _, d := range c.s.drafts {
		if !strings.EqualFold(d.mailbox.Address, mailbox.Address) {
			continue
		}
		sent := d.seenSent()
		in := folder == "" || strings.EqualFold(folder, "drafts") && !sent || strings.EqualFold(folder, "sentitems") && sent
		if m := d.head(); in && wanted.matches(m) {
			list = append(list, c.expanded(d.json(!sent), m))
		}
	}
	if folder == "" || strings.EqualFold(folder, "sentitems") {
		list = append(list, c.sentDirectly(mailbox, wanted)...)
	}
	c.s.mu.Unlock()
	writeJSON(c.w, http.StatusOK, map[string]any{"@odata.context": c.s.GraphURL() + "/$metadata#messages", "value": list})
}

// sentDirectly finds what sendMail and SMTP left in Sent Items. Sandbox.mu is held.
func (c *graphCall) sentDirectly(mailbox Mailbox, wanted wantedMail) (list []map[string]any) {
	for _, r := range c.s.received {
		known := false
		for _, d := range c.s.drafts {
			known = known || d.sent && d.final.ID == r.ID
		}
		if !known && strings.EqualFold(r.Mailbox, mailbox.Address) && wanted.matches(parseMail(r.Sent)) {
			list = append(list, c.expanded(map[string]any{"id": "AAMk-sent-" + r.ID, "isDraft": false, "internetMessageId": r.MessageID,
				"sentDateTime": r.At.Format(time.RFC3339)}, parseMail(r.Sent)))
		}
	}
	return list
}

// expandForm is the one $expand that the sandbox knows: a header field as an extended property.
const expandForm = "singleValueExtendedProperties($filter=id eq '" + internetHeaders

// expanded adds the field that $expand names, where the message has it.
func (c *graphCall) expanded(item map[string]any, m mailText) map[string]any {
	field, ok := strings.CutPrefix(c.r.URL.Query().Get("$expand"), expandForm)
	if field = strings.TrimSuffix(field, "')"); ok && len(m.all(field)) > 0 {
		item["singleValueExtendedProperties"] = []nameValue{{ID: internetHeaders + field, Value: m.first(field)}}
	}
	return item
}

// wantedMail is a filter that was understood: a header field has this value.
type wantedMail struct{ field, value string }

func (w wantedMail) matches(m mailText) bool { return m.first(w.field) == w.value }

// internetHeaders is the property set of header fields ("Commonly used property sets", PS_INTERNET_HEADERS).
const internetHeaders = "String {00020386-0000-0000-C000-000000000046} Name "

// readFilter understands the two filters that a bridge needs.
func readFilter(filter string) (wantedMail, bool) {
	if v, ok := strings.CutPrefix(filter, "internetMessageId eq "); ok {
		value, ok := odataString(v)
		return wantedMail{"Message-ID", value}, ok
	}
	rest, ok := strings.CutPrefix(filter, "singleValueExtendedProperties/any(ep:ep/id eq ")
	rest, ok2 := strings.CutSuffix(rest, ")")
	id, value, ok3 := strings.Cut(rest, " and ep/value eq ")
	if !ok || !ok2 || !ok3 {
		return wantedMail{}, false
	}
	name, ok := odataString(id)
	text, ok2 := odataString(value)
	field, ok3 := strings.CutPrefix(name, internetHeaders)
	return wantedMail{field, text}, ok && ok2 && ok3
}

// odataString reads a literal: quoted, with quotes doubled.
func odataString(s string) (string, bool) {
	if len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' {
		return "", false
	}
	return strings.ReplaceAll(s[1:len(s)-1], "''", "'"), true
}
