package message

import (
	"net/url"
	"strconv"
	"strings"
)

// mayGo are the fields that a rebuilt message may lose or that the next server writes itself (issue "Exact mail"): trace
// fields, Date, User-Agent, and signatures over bytes that are not kept.
var mayGo = map[string]bool{"received": true, "return-path": true, "date": true, "mime-version": true, "user-agent": true,
	"dkim-signature": true, "domainkey-signature": true, "authentication-results": true, "arc-seal": true,
	"arc-message-signature": true, "arc-authentication-results": true, "received-spf": true, "bcc": true, "resent-bcc": true,
	"content-type": true, "content-transfer-encoding": true, "content-language": true, "content-disposition": true,
	"content-id": true, "content-description": true, "content-length": true, "lines": true}

// kept are the fields that stand in a property of their own.
var kept = map[string]bool{"from": true, "sender": true, "to": true, "cc": true, "reply-to": true, "subject": true, "message-id": true,
	"in-reply-to": true, "references": true, "thread-topic": true, "thread-index": true, "importance": true, "priority": true,
	"sensitivity": true, "disposition-notification-to": true, "return-receipt-to": true}

// fields takes the top-level header apart. A field that nothing carries is a *CannotRebuild.
func (p *rebuildPlan) fields(h Header) error {
	for _, f := range h.Fields {
		name := strings.ToLower(f.Name)
		if !mayGo[name] && !kept[name] && !strings.HasPrefix(name, "x-") {
			return &CannotRebuild{Field: f.Name}
		}
	}
	for name, to := range map[string]*[]Mailbox{"From": &p.From, "Sender": &p.Sender, "To": &p.To, "Cc": &p.Cc, "Reply-To": &p.ReplyTo} {
		for _, f := range h.All(name) {
			for _, e := range f.Addresses().Entries() {
				if e.Err == nil {
					*to = append(*to, e.Mailbox)
				}
			}
		}
	}
	p.Subject = decodeWords(h.Get("Subject"))
	p.MessageID = h.MessageID()
	for _, name := range []string{"In-Reply-To", "References", "Thread-Topic", "Thread-Index"} {
		if v := h.Get(name); v != "" {
			p.Threads = append(p.Threads, Pair{name, decodeWords(v)})
		}
	}
	p.Importance = importance(h)
	p.ReadReceipt = h.Get("Disposition-Notification-To") != "" || h.Get("Return-Receipt-To") != ""
	for _, s := range []string{"Personal", "Private", "Company-Confidential"} {
		if strings.EqualFold(h.Get("Sensitivity"), s) {
			p.Sensitivity = s
		}
	}
	p.extra(h)
	return nil
}

// importance reads the three fields that say it (RFC 2156, and X-Priority of old clients).
func importance(h Header) string {
	all := strings.ToLower(h.Get("Importance") + " " + h.Get("Priority") + " " + h.Get("X-MSMail-Priority"))
	first := strings.TrimSpace(h.Get("X-Priority"))
	switch {
	case strings.Contains(all, "high") || strings.Contains(all, "urgent") && !strings.Contains(all, "non-urgent"):
		return "high"
	case strings.Contains(all, "low") || strings.Contains(all, "non-urgent"):
		return "low"
	case strings.HasPrefix(first, "1") || strings.HasPrefix(first, "2"):
		return "high"
	case strings.HasPrefix(first, "4") || strings.HasPrefix(first, "5"):
		return "low"
	}
	return ""
}

// extra picks the X- fields that go along: our own before the others, in their order, as far as there is room.
func (p *rebuildPlan) extra(h Header) {
	pick := func(ours bool) {
		for _, f := range h.Fields {
			is := strings.HasPrefix(strings.ToLower(f.Name), "x-postern-")
			shown := map[string]bool{"x-priority": true, "x-msmail-priority": true}[strings.ToLower(f.Name)]
			if len(f.Name) > 2 && strings.EqualFold(f.Name[:2], "x-") && is == ours && !shown && len(p.Extra) < maxExtraHeaders && isPrintable(f.Value()) {
				p.Extra = append(p.Extra, Pair{f.Name, f.Value()})
			}
		}
	}
	pick(true)
	pick(false)
}

// fileName is the name that a part was given, by RFC 2231 (in any charset), by RFC 2047 as Outlook writes it, or plain;
// without folders.
func (e *entity) fileName() string {
	name := parameter(e.header.Get("Content-Disposition"), "filename")
	if name == "" {
		name = parameter(e.header.Get("Content-Type"), "name")
	}
	if name == "" && e.media == "message/rfc822" {
		return ""
	}
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	return cleanName(name)
}

// parameter reads a parameter of a structured field, with the continuations and charsets of RFC 2231 section 3 and 4,
// which mime.ParseMediaType knows in UTF-8 alone, and the encoded words that are wrong there and common.
func parameter(value, name string) string {
	params := splitParameters(value)
	if v, ok := params[name+"*"]; ok {
		return decode2231(v, "")
	}
	if v, ok := params[name]; ok {
		return decodeWords(v)
	}
	var b strings.Builder
	charset := ""
	for i := 0; i < 100; i++ {
		key := name + "*" + strconv.Itoa(i)
		if v, ok := params[key+"*"]; ok {
			if i == 0 {
				parts := strings.SplitN(v, "'", 3)
				if len(parts) == 3 {
					charset, v = parts[0], parts[2]
				}
			}
			raw, err := url.PathUnescape(v)
			if err != nil {
				return ""
			}
			b.WriteString(raw)
		} else if v, ok := params[key]; ok {
			b.WriteString(v)
		} else {
			break
		}
	}
	return inUTF8(b.String(), charset)
}

func decode2231(v, charset string) string {
	if parts := strings.SplitN(v, "'", 3); len(parts) == 3 {
		charset, v = parts[0], parts[2]
	}
	raw, err := url.PathUnescape(v)
	if err != nil {
		return ""
	}
	return inUTF8(raw, charset)
}

func inUTF8(s, charset string) string {
	if charset == "" || strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "us-ascii") {
		return decodeWords(s)
	}
	enc, err := browserCharset(charset)
	if err != nil {
		return ""
	}
	out, err := enc.NewDecoder().String(s)
	if err != nil {
		return ""
	}
	return out
}

// splitParameters reads "; name=value" with quoted strings. Names are lower case; the first of equal ones counts.
func splitParameters(value string) map[string]string {
	params := map[string]string{}
	_, rest, _ := strings.Cut(value, ";")
	for rest != "" {
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		name = strings.ToLower(strings.Trim(name, " \t;"))
		after = strings.TrimLeft(after, " \t")
		var v string
		if strings.HasPrefix(after, `"`) {
			v, rest = quotedValue(after)
		} else {
			v, rest, _ = strings.Cut(after, ";")
			v = strings.TrimSpace(v)
		}
		if _, twice := params[name]; !twice {
			params[name] = v
		}
		rest = strings.TrimLeft(rest, " \t;")
	}
	return params
}

// quotedValue reads a quoted string. A backslash quotes a quote or a backslash alone: Windows programs write paths.
func quotedValue(s string) (v, rest string) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		case s[i] == '"':
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
