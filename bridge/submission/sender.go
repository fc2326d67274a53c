package submission

import (
	"errors"
	"strings"

	"postern/bridge/envelope"
	"postern/bridge/message"
)

// choice is the sender that leaves, and the edits that make it so.
type choice struct {
	from  envelope.Address
	edits []message.Edit
}

// original is what the application wrote as From.
type original struct {
	present bool // there is one; an empty field is none
	entry   message.Entry
	address envelope.Address // null where err says why
	err     error
	plain   bool   // it can leave as it is: every server reads the same address
	text    string // the whole value
}

// choose decides the sender by the user's table (design.md section 5, sender modes).
func (u *user) choose(h message.Header, reversePath envelope.Address, defaultDomain string) (choice, error) {
	was, err := readFrom(h, defaultDomain)
	if err != nil {
		return choice{}, err
	}
	from, replaced, err := u.chooseFrom(was, reversePath)
	if err != nil {
		return choice{}, err
	}
	if many := u.account.Mailbox; isWildcard(many) && domainKey(from) != domainKey(many) {
		return choice{}, refuse(550, "5.7.1", "user %+q may not send as %+.120q: account %+q has mailboxes of %+.120q only",
			u.Name, from.Wire(), u.account.Name, domainKey(many))
	}
	c := choice{from: from}
	c.editFrom(was, u.sender.Name)
	c.editSender(h, u)
	c.editReplyTo(h, was, u, replaced)
	return c, nil
}

// readFrom reads the From field. More than one sender is refused whatever the mode: which of them another server would
// take for the sender, nobody knows (RFC 5322 section 3.6.2 allows several, Exchange answers 550 5.1.20).
func readFrom(h message.Header, defaultDomain string) (original, error) {
	fields := h.All("From")
	if len(fields) == 0 {
		return original{}, nil
	}
	if len(fields) > 1 {
		return original{}, refuse(550, "5.6.0", "the header has %d From fields; there must be one", len(fields))
	}
	list := fields[0].Addresses()
	if list.HasGroup() {
		return original{}, refuse(550, "5.6.0", "the From field has a group; it must have one address")
	}
	entries := list.Entries()
	if len(entries) == 0 {
		return original{}, nil
	}
	was := original{present: true, entry: entries[0], text: fields[0].Value()}
	for _, e := range entries[1:] {
		if was.entry.Err == nil && e.Err == nil || strings.Contains(e.Name, "@") || strings.Contains(entries[0].Name, "@") {
			return original{}, refuse(550, "5.6.0", "the From field has %d addresses; there must be one", len(entries))
		}
		// "Doe, John <a@b>": a comma in a name that should have been quoted.
		if e.Err == nil {
			was.entry = e
		}
		was.err = errors.New("a comma in a display name without quotes")
	}
	if was.err == nil {
		was.address, was.err = was.entry.In(defaultDomain)
	}
	was.plain = fields[0].Plain() && was.entry.Plain
	return was, nil
}

// chooseFrom returns the From that leaves; replaced where Otherwise has made it the account's. Judged is only what the
// application chose.
func (u *user) chooseFrom(was original, reversePath envelope.Address) (from envelope.Address, replaced bool, err error) {
	switch mode := u.sender.Mode; {
	case mode == AsAccount:
		return u.home, false, nil
	case mode == SendAs, mode == OnBehalf && !u.sender.Address.IsNull():
		return u.sender.Address, false, nil
	case mode == CurrentUser && !was.present && !u.Address.IsNull():
		return u.Address, false, nil
	case !was.present:
		from, err = u.inventFrom(reversePath)
		return from, false, err
	case was.err == nil && u.maySendAs.allow(was.address):
		return was.address, false, nil
	case u.sender.Otherwise == UseAccount:
		return u.home, true, nil
	case was.err != nil:
		return from, false, refuse(550, "5.7.1", "user %+q may not send as %+.120q: that is not one address, and sender.otherwise is refuse",
			u.Name, was.text)
	}
	return from, false, refuse(550, "5.7.1", "user %+q may not send as %+.120q: may_send_as allows %s", u.Name, was.address.Wire(), u.maySendAs)
}

// inventFrom is the From of a message without one: the reverse-path where the user may send as that, else the account's
// mailbox.
func (u *user) inventFrom(reversePath envelope.Address) (envelope.Address, error) {
	switch {
	case !reversePath.IsNull() && u.maySendAs.allow(reversePath):
		return reversePath, nil
	case u.home.IsNull():
		return envelope.Address{}, refuse(550, "5.7.1", "the message has no From, and user %+q has no address of his own", u.Name)
	}
	return u.home, nil
}

func (c *choice) set(name, value string) {
	c.edits = append(c.edits, message.Edit{Op: message.Set, Name: name, Value: value})
}

func (c *choice) remove(name string) {
	c.edits = append(c.edits, message.Edit{Op: message.Remove, Name: name})
}

// editFrom writes From, unless it already says what it should in a way that every server reads alike.
func (c *choice) editFrom(was original, name string) {
	switch {
	case name != "":
		c.set("From", message.Mailbox{Name: name, Address: c.from}.String())
	case !was.present:
		c.set("From", message.Mailbox{Address: c.from}.String())
	case was.err != nil || !was.plain || was.address.Key() != c.from.Key():
		c.set("From", was.entry.With(c.from))
	}
}

// editSender lets no foreign Sender out. On behalf it is who signs in, as Graph fills it in too ("Send Outlook messages
// from another user", read in November 2026). Else the next server adds one where its rights ask for it, and ours would
// only make "on behalf of" of a Send As; so a Sender stays only if it is the From that leaves, or the account in the
// modes that keep the application's own From.
func (c *choice) editSender(h message.Header, u *user) {
	fields := h.All("Sender")
	principal := u.account.Login
	if principal.IsNull() {
		principal = u.account.Mailbox
	}
	if u.sender.Mode == OnBehalf && principal.Key() != c.from.Key() {
		if !names(fields, principal) {
			c.set("Sender", message.Mailbox{Address: principal}.String())
		}
		return
	}
	own := u.sender.Mode == Keep || u.sender.Mode == CurrentUser
	if len(fields) == 0 || names(fields, c.from) || own && (names(fields, principal) || names(fields, u.account.Mailbox)) {
		return
	}
	c.remove("Sender")
}

// names reports whether the fields are one that names just this address.
func names(fields []message.Field, a envelope.Address) bool {
	if len(fields) != 1 || !fields[0].Plain() {
		return false
	}
	list := fields[0].Addresses()
	entries := list.Entries()
	return len(entries) == 1 && !list.HasGroup() && entries[0].Plain && entries[0].Address.Key() == a.Key()
}

// editReplyTo writes Reply-To as the table says; a From that Otherwise has replaced is kept there too, unless the table
// says something else.
func (c *choice) editReplyTo(h message.Header, was original, u *user, replaced bool) {
	switch mode := u.sender.ReplyTo; {
	case mode == replyToNone:
		if len(h.All("Reply-To")) > 0 {
			c.remove("Reply-To")
		}
	case !u.replyTo.IsNull():
		c.set("Reply-To", message.Mailbox{Address: u.replyTo}.String())
	case mode == replyToOriginal || replaced:
		if h.Get("Reply-To") == "" && was.present && was.err == nil && was.address.Key() != c.from.Key() {
			c.set("Reply-To", was.entry.With(was.address))
		}
	}
}
