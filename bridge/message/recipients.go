package message

import (
	"bytes"
	"fmt"
	"strings"

	"postern/bridge/envelope"
)

// MarkerField names the header field that every message of ours carries with its queue ID. Its presence on arrival is a
// loop, and it finds a message in Sent Items.
const MarkerField = "X-Postern-Id"

// ReconcileRecipients makes To, Cc and Bcc of the header block name exactly the recipients, for a next server that has
// no envelope (Microsoft Graph: design.md section 6). What others in To or Cc say leaves, and a field that is empty by
// then; lost counts those. Recipients that neither names are hidden: one Bcc field holds them, in the place of the first
// that was there, or at the end. Addresses are equal when their Keys are. An entry that is no full address names nobody
// and leaves, because the next server might read one into it.
//
// Fields in which nothing changes keep their bytes. Several To or Cc fields become one, and a semicolon between
// mailboxes a comma: a server that reads the first only would lose people. Resent-To and Resent-Cc stay as they are,
// since Exchange routes by To, Cc and Bcc; Resent-Bcc leaves, since it would show who is hidden.
func ReconcileRecipients(header []byte, recipients []envelope.Address) (out []byte, hidden []envelope.Address, lost int, err error) {
	h, err := ParseHeader(header)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("reconcile recipients: %w", err)
	}
	wanted := make(map[string]bool, len(recipients))
	for _, r := range recipients {
		wanted[r.Key()] = true
	}
	named := map[string]bool{}
	keep := func(e Entry) bool {
		key := e.Address.Key()
		if e.Err != nil || !wanted[key] {
			lost++
			return false
		}
		named[key] = true
		return true
	}
	result := reconciled{joined: map[string]*joinedField{}}
	bccAt := -1
	for _, f := range h.Fields {
		switch {
		case f.Is("Bcc"):
			if bccAt < 0 {
				bccAt = len(result.Fields)
			}
		case f.Is("Resent-Bcc"):
		case f.Is("To"), f.Is("Cc"):
			result.merge(f, keep)
		default:
			result.Fields = append(result.Fields, f)
		}
	}
	result.join()
	for _, r := range recipients {
		if key := r.Key(); !named[key] {
			named[key] = true
			hidden = append(hidden, r)
		}
	}
	if bccAt < 0 {
		bccAt = len(result.Fields)
	}
	if err := result.insertBcc(bccAt, hidden); err != nil {
		return nil, nil, 0, fmt.Errorf("reconcile recipients: %w", err)
	}
	return result.Bytes(), hidden, lost, nil
}

// reconciled is the header that leaves, while it is made.
type reconciled struct {
	Header
	joined map[string]*joinedField // To and Cc, by their names in lower case
}

// joinedField is one field of the result with what others of its name say, to be joined to it once: a message may come
// with tens of thousands of them.
type joinedField struct {
	at     int // in the fields of the result
	values [][]byte
}

// merge appends f with the entries for which keep holds, or gives them to the field of that name that is there.
func (r *reconciled) merge(f Field, keep func(Entry) bool) {
	value, _ := f.Addresses().Filter(keep)
	if len(bytes.Trim(value, blank)) == 0 {
		return
	}
	name := strings.ToLower(f.Name)
	if first := r.joined[name]; first != nil {
		first.values = append(first.values, bytes.Trim(value, blank))
		return
	}
	if !f.Plain() || !bytes.Equal(value, f.value()) {
		f = refold(f.Name, string(value))
	}
	r.joined[name] = &joinedField{at: len(r.Fields)}
	r.Fields = append(r.Fields, f)
}

// join writes the fields that others of their name were merged into.
func (r *reconciled) join() {
	for _, j := range r.joined {
		if len(j.values) == 0 {
			continue
		}
		first := r.Fields[j.at]
		all := append([][]byte{bytes.TrimRight(first.value(), blank)}, j.values...)
		r.Fields[j.at] = refold(first.Name, string(bytes.Join(all, []byte(",\r\n "))))
	}
}

// refold makes a field of a value that is folded already. Its folding stays, unless a line has become too long because
// the entries that began new lines have left.
func refold(name, value string) Field {
	for line := range strings.SplitSeq(name+":"+value, "\r\n") {
		if len(line) > maxLine {
			if f, err := newField(name, strings.ReplaceAll(value, "\r\n", "")); err == nil {
				return f
			}
		}
	}
	return Field{Name: name, Raw: []byte(name + ":" + value + "\r\n"), colon: len(name)}
}

func (h *Header) insertBcc(at int, hidden []envelope.Address) error {
	if len(hidden) == 0 {
		return nil
	}
	all := make([]string, len(hidden))
	for i, a := range hidden {
		all[i] = a.Wire()
	}
	f, err := newField("Bcc", strings.Join(all, ", "))
	if err != nil {
		return err
	}
	h.Fields = append(h.Fields[:at], append([]Field{f}, h.Fields[at:]...)...)
	return nil
}

// RemoveBcc returns the header block without its Bcc and Resent-Bcc fields (RFC 5322 section 3.6.3), for a next server
// that has the envelope. It takes any block, also one that ParseHeader refuses: nobody is to be disclosed by a mistake
// elsewhere.
func RemoveBcc(header []byte) []byte {
	out := make([]byte, 0, len(header))
	drop := false
	for _, line := range bytes.SplitAfter(header, []byte("\n")) {
		if lineKind(line) != continuationLine {
			name := line[:fieldNameLen(line)]
			drop = fieldColon(line) > 0 && (bytes.EqualFold(name, []byte("Bcc")) || bytes.EqualFold(name, []byte("Resent-Bcc")))
		}
		if !drop {
			out = append(out, line...)
		}
	}
	return out
}
