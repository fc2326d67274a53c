// Package sample makes messages as an application would hand them in: a Message that somebody only asks about, because a
// question about the way that mail would go needs one, from a file, from single fields, or from both; and a Draft that goes
// the way, from a text and files. It must not know users, listeners or ways. The hall calls it for `postern route`, and
// cmd/postern for `postern send`. What cannot be made is an error in its asker's words.
package sample

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"postern/bridge/envelope"
	"postern/bridge/message"
)

// Message says what the message that is asked about is like.
type Message struct {
	From          string    // the header From; "" leaves that of File
	To            []string  // RCPT TO; none: those that File's To, Cc and Bcc name
	Subject       string    // "" leaves that of File
	Header        []string  // "Name: value", set in File's header
	Size          int64     // octets that the message is made to have; 0: as it is
	File          io.Reader // a message; nil: one of the header alone
	DefaultDomain string    // of an address without one
}

// Make returns the message as it would come after DATA, and its envelope.
func (m Message) Make() (io.Reader, envelope.Envelope, error) {
	var env envelope.Envelope
	file := m.File
	if file == nil { // an application writes to whom it writes
		to := ""
		if len(m.To) > 0 {
			to = "To: " + strings.Join(m.To, ",\r\n ") + "\r\n"
		}
		file = strings.NewReader(to + "\r\n")
	}
	header, body, err := message.SplitHeader(file, 0)
	if err != nil {
		return nil, env, fmt.Errorf("the file: %w", err)
	}
	edits, err := m.edits()
	if err != nil {
		return nil, env, err
	}
	if header, err = message.Apply(header, edits); err != nil {
		return nil, env, fmt.Errorf("the message asked about: %w", err)
	}
	h, err := message.ParseHeader(header)
	if err != nil {
		return nil, env, err
	}
	if env.Recipients, err = m.recipients(h); err != nil {
		return nil, env, err
	}
	if from := h.All("From"); len(from) == 1 {
		if all := from[0].Addresses().Entries(); len(all) == 1 && all[0].Err == nil {
			env.ReversePath = all[0].Address
		}
	}
	data := io.MultiReader(bytes.NewReader(header), &crlf{in: body})
	if m.Size > 0 {
		data = io.LimitReader(io.MultiReader(data, padding{}), max(m.Size, int64(len(header))))
	}
	return data, env, nil
}

// edits are the fields that the question gives.
func (m Message) edits() ([]message.Edit, error) {
	var edits []message.Edit
	set := func(name, value string) {
		edits = append(edits, message.Edit{Op: message.Set, Name: name, Value: value})
	}
	if m.From != "" {
		set("From", m.From)
	}
	if m.Subject != "" {
		set("Subject", m.Subject)
	}
	for _, h := range m.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return nil, fmt.Errorf(`header %.60q is not like "X-Kind: po"`, h)
		}
		set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return edits, nil
}

// recipients are those asked for, else those that the header names.
func (m Message) recipients(h message.Header) ([]envelope.Address, error) {
	var list []envelope.Address
	seen := map[string]bool{}
	add := func(a envelope.Address) {
		if !seen[a.Key()] {
			seen[a.Key()] = true
			list = append(list, a)
		}
	}
	for _, s := range m.To {
		a, err := envelope.ParseAddressIn(s, m.DefaultDomain)
		if err != nil {
			return nil, fmt.Errorf("recipient %.120q: %w", s, err)
		}
		add(a)
	}
	if len(m.To) > 0 {
		return list, nil
	}
	for _, name := range []string{"To", "Cc", "Bcc"} {
		for _, f := range h.All(name) {
			for _, e := range f.Addresses().Entries() {
				if a, err := e.In(m.DefaultDomain); err == nil {
					add(a)
				}
			}
		}
	}
	if len(list) == 0 {
		return nil, errors.New("to whom? give --to, or a file whose header names somebody")
	}
	return list, nil
}

// crlf makes the line ends of a file those that come over SMTP.
type crlf struct {
	in   io.Reader
	last byte
	left []byte
}

// Read implements io.Reader.
func (c *crlf) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		buf := make([]byte, max(len(p)/2, 1))
		n, err := c.in.Read(buf)
		for _, b := range buf[:n] {
			if b == '\n' && c.last != '\r' {
				c.left = append(c.left, '\r')
			}
			c.left, c.last = append(c.left, b), b
		}
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

// padding yields lines without end.
type padding struct{}

// Read implements io.Reader.
func (padding) Read(p []byte) (int, error) { return copy(p, strings.Repeat("x", 62)+"\r\n"), nil }
