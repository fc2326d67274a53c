package sandbox

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"mime"
	"net/http"
	"regexp"
	"strings"
)

// recipientJSON is Graph's recipient.
type recipientJSON struct {
	EmailAddress struct {
		Name    string `json:"name"`
		Address string `json:"address"`
	} `json:"emailAddress"`
}

// nameValue is a header field or an extended property.
type nameValue struct {
	Name  string `json:"name"`
	ID    string `json:"id"`
	Value string `json:"value"`
}

// jsonMessage is Graph's message as far as the sandbox knows it; what it does not know is refused.
type jsonMessage struct {
	Subject string `json:"subject"`
	Body    struct {
		ContentType string `json:"contentType"`
		Content     string `json:"content"`
	} `json:"body"`
	To          []recipientJSON  `json:"toRecipients"`
	Cc          []recipientJSON  `json:"ccRecipients"`
	Bcc         []recipientJSON  `json:"bccRecipients"`
	ReplyTo     []recipientJSON  `json:"replyTo"`
	From        *recipientJSON   `json:"from"`
	Sender      *recipientJSON   `json:"sender"`
	Importance  string           `json:"importance"`
	Receipt     bool             `json:"isReadReceiptRequested"`
	MessageID   string           `json:"internetMessageId"`
	Headers     []nameValue      `json:"internetMessageHeaders"`
	Extended    []nameValue      `json:"singleValueExtendedProperties"`
	Attachments []attachmentJSON `json:"attachments"`
}

type attachmentJSON struct {
	Type        string `json:"@odata.type"`
	Name        string `json:"name"`
	ContentType string `json:"contentType"`
	ContentID   string `json:"contentId"`
	Inline      bool   `json:"isInline"`
	Bytes       []byte `json:"contentBytes"`
	Size        int64  `json:"size"`           // of an upload session
	Kind        string `json:"attachmentType"` // likewise
}

func (a attachmentJSON) attachment() attachment {
	return attachment{id: "AAMkATT" + random(12), name: a.Name, contentType: a.ContentType, contentID: a.ContentID, inline: a.Inline, data: a.Bytes}
}

// readMessage parses a message; false once it was answered.
func (c *graphCall) readMessage(raw []byte, into *jsonMessage) bool {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		c.fail(http.StatusBadRequest, "RequestBodyRead", "The message cannot be read: "+err.Error())
		return false
	}
	if len(into.Headers) > 5 {
		c.fail(http.StatusBadRequest, "InvalidInternetMessageHeaderCollection", "Maximum number of headers in one message should be less than or equal to 5.")
		return false
	}
	for _, h := range into.Headers {
		if len(h.Name) < 3 || !strings.EqualFold(h.Name[:2], "x-") || strings.ContainsAny(h.Name+h.Value, "\r\n") {
			c.fail(http.StatusBadRequest, "InvalidInternetMessageHeader", "The internet message header name '"+h.Name+"' should start with 'x-' or 'X-'.")
			return false
		}
	}
	for _, a := range into.Attachments {
		if a.Type != "#microsoft.graph.fileAttachment" || a.Name == "" {
			c.fail(http.StatusBadRequest, "ErrorInvalidRequest", "The sandbox takes fileAttachment with a name only.")
			return false
		}
	}
	return true
}

func (m *jsonMessage) addresses(list []recipientJSON) (out []string) {
	for _, r := range list {
		out = append(out, r.EmailAddress.Address)
	}
	return out
}

// submitJSON is sendMail with {"message": ..., "saveToSentItems": ...}.
func (c *graphCall) submitJSON(raw []byte, mailbox, own Mailbox) {
	var body struct {
		Message json.RawMessage `json:"message"`
		Save    any             `json:"saveToSentItems"` // the documented example has it as a string
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		c.fail(http.StatusBadRequest, "RequestBodyRead", "The body is not JSON.")
		return
	}
	d := &draft{mailbox: mailbox, own: own}
	if !c.readMessage(body.Message, &d.fields) {
		return
	}
	for _, a := range d.fields.Attachments {
		d.attached = append(d.attached, a.attachment())
	}
	m := d.text()
	l := &letter{Received: Received{Via: ViaGraph, ClientID: c.token.clientID, Login: c.token.login, Raw: m.bytes()},
		text: m, mailbox: mailbox, own: own, id: own.Address, shared: c.token.login == "" || c.token.may("Mail.Send.Shared")}
	var err error
	if l.Recipients, err = d.recipients(m); err != nil {
		l.checked = "invalid"
	}
	o, err := c.s.judge(l)
	if err != nil {
		c.fail(http.StatusInternalServerError, "ErrorInternalServerError", "The sandbox cannot write its folder.")
		return
	}
	c.answer(o, l)
}

// extendedFields are the properties that are header fields again when the message leaves (MS-OXCMAIL, MS-OXPROPS).
var extendedFields = map[string]string{"String 0x1042": "In-Reply-To", "String 0x1039": "References",
	"String 0x0070": "Thread-Topic", "Binary 0x0071": "Thread-Index"}

var sensitivities = map[string]string{"1": "Personal", "2": "Private", "3": "Company-Confidential"}

// render makes the message that Exchange would send: the text beside its HTML, inline files in multipart/related.
func (m *jsonMessage) render(files []attachment) []byte {
	var b bytes.Buffer
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	if m.From != nil {
		field("From", mailboxes([]recipientJSON{*m.From}))
	}
	if m.Sender != nil {
		field("Sender", mailboxes([]recipientJSON{*m.Sender}))
	}
	field("To", mailboxes(m.To))
	field("Cc", mailboxes(m.Cc))
	field("Reply-To", mailboxes(m.ReplyTo))
	field("Subject", mime.BEncoding.Encode("utf-8", m.Subject))
	field("Message-ID", m.MessageID)
	if m.Importance != "" && !strings.EqualFold(m.Importance, "normal") {
		field("Importance", strings.ToLower(m.Importance))
	}
	if m.Receipt && m.From != nil {
		field("Disposition-Notification-To", "<"+m.From.EmailAddress.Address+">")
	}
	for _, p := range m.Extended {
		if name := extendedFields[p.ID]; name != "" {
			field(name, p.Value)
		}
		if p.ID == "Integer 0x0036" {
			field("Sensitivity", sensitivities[p.Value])
		}
	}
	for _, h := range m.Headers {
		field(h.Name, h.Value)
	}
	b.WriteString("MIME-Version: 1.0\r\n")
	m.renderBody(&b, files)
	return b.Bytes()
}

func mailboxes(list []recipientJSON) string {
	var all []string
	for _, r := range list {
		if r.EmailAddress.Name == "" {
			all = append(all, r.EmailAddress.Address)
			continue
		}
		all = append(all, mime.BEncoding.Encode("utf-8", r.EmailAddress.Name)+" <"+r.EmailAddress.Address+">")
		if e := all[len(all)-1]; !strings.HasPrefix(e, "=?") {
			all[len(all)-1] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(r.EmailAddress.Name) + `" <` + r.EmailAddress.Address + ">"
		}
	}
	return strings.Join(all, ", ")
}

var tags = regexp.MustCompile(`(?s)<[^>]*>`)

func (m *jsonMessage) renderBody(b *bytes.Buffer, files []attachment) {
	var inline, others []attachment
	for _, f := range files {
		if f.inline {
			inline = append(inline, f)
		} else {
			others = append(others, f)
		}
	}
	text := func(kind, content string) {
		fmt.Fprintf(b, "Content-Type: text/%s; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n", kind)
		wrapped(b, []byte(content))
	}
	body := func() { text("plain", m.Body.Content) }
	if strings.EqualFold(m.Body.ContentType, "html") {
		body = multipart(b, "alternative", func() { text("plain", html.UnescapeString(tags.ReplaceAllString(m.Body.Content, ""))) },
			func() { text("html", m.Body.Content) })
	}
	if len(inline) > 0 {
		body = multipart(b, "related", append([]func(){body}, fileParts(b, inline)...)...)
	}
	if len(others) > 0 {
		body = multipart(b, "mixed", append([]func(){body}, fileParts(b, others)...)...)
	}
	body()
}

func fileParts(b *bytes.Buffer, files []attachment) (parts []func()) {
	for _, f := range files {
		parts = append(parts, func() {
			kind, disposition := f.contentType, "attachment"
			if kind == "" {
				kind = "application/octet-stream"
			}
			if f.inline {
				disposition = "inline"
			}
			fmt.Fprintf(b, "Content-Type: %s\r\nContent-Disposition: %s\r\n", kind, mime.FormatMediaType(disposition, map[string]string{"filename": f.name}))
			if f.contentID != "" {
				fmt.Fprintf(b, "Content-ID: <%s>\r\n", f.contentID)
			}
			b.WriteString("Content-Transfer-Encoding: base64\r\n\r\n")
			wrapped(b, f.data)
		})
	}
	return parts
}

func multipart(b *bytes.Buffer, kind string, parts ...func()) func() {
	return func() {
		boundary := "_" + kind + "_" + random(9)
		fmt.Fprintf(b, "Content-Type: multipart/%s; boundary=%q\r\n\r\n", kind, boundary)
		for _, p := range parts {
			fmt.Fprintf(b, "--%s\r\n", boundary)
			p()
			b.WriteString("\r\n")
		}
		fmt.Fprintf(b, "--%s--\r\n", boundary)
	}
}

// wrapped writes base64 in lines of 76.
func wrapped(b *bytes.Buffer, data []byte) {
	text := base64.StdEncoding.EncodeToString(data)
	for len(text) > 76 {
		b.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	b.WriteString(text)
}
