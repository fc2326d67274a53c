package message

import (
	"bytes"
	"errors"
	"strings"

	"postern/bridge/envelope"
)

// AddressList is the parse of one address field: From, Sender, Reply-To, To, Cc, Bcc (RFC 5322 sections 3.4 and 4.4,
// with the encoded words of RFC 2047 and the UTF-8 of RFC 6532). Every mailbox knows the bytes it stands in.
type AddressList struct {
	raw   []byte
	items []item
	odd   bool // a separator that other parsers may not know
}

// Entry is one mailbox of a list.
type Entry struct {
	Mailbox // the display name decoded; the comment after a bare address is taken for its name

	// Err says why there is no address; the zero Address comes with it. envelope.ErrNoDomain: a local part stands
	// alone, and In completes it. Name is then the text that stood there.
	Err error

	Group bool // it stands in a group
	Plain bool // written as RFC 5322 section 3.4 has it today, so that every server reads the same address

	phrase string // the display name as it was written, where it can be written again
	local  string // the local part that stands alone
}

// item is one element of a list: a mailbox, or a group with its members.
type item struct {
	start, end int // in raw, between the separators
	entry      Entry
	group      bool
	colon      int // of a group
	semicolon  int
	members    []item
}

// parseAddressList parses the value of an address field, as Header holds it, folded or not. It never fails: what is no
// mailbox becomes an Entry with an Err. Empty elements are passed over, and a semicolon between mailboxes counts as a
// comma, as Outlook writes it.
func parseAddressList(value []byte) AddressList {
	p := listParser{raw: value}
	items, _ := p.list(0, false)
	return AddressList{raw: value, items: items, odd: p.odd}
}

// Addresses parses the address list of a field.
func (f Field) Addresses() AddressList { return parseAddressList(f.value()) }

// Entries returns the mailboxes in order, those of groups among them.
func (l AddressList) Entries() []Entry { return entries(nil, l.items) }

func entries(all []Entry, items []item) []Entry {
	for _, it := range items {
		if it.group {
			all = entries(all, it.members)
		} else {
			all = append(all, it.entry)
		}
	}
	return all
}

// HasGroup reports whether a group stands in the list, even an empty one.
func (l AddressList) HasGroup() bool {
	for _, it := range l.items {
		if it.group {
			return true
		}
	}
	return false
}

// Filter returns the list with the mailboxes for which keep holds, and how many left. What stays keeps its bytes; where
// nothing leaves and every separator is a comma, that is the whole value. A group that loses its last member leaves
// with it; one that was empty stays.
func (l AddressList) Filter(keep func(Entry) bool) (value []byte, removed int) {
	kept, removed := l.filter(l.items, keep)
	if removed == 0 && !l.odd {
		return l.raw, 0
	}
	return kept, removed
}

func (l AddressList) filter(items []item, keep func(Entry) bool) (value []byte, removed int) {
	var kept [][]byte
	for _, it := range items {
		text := l.raw[it.start:it.end]
		if it.group {
			members, n := l.filter(it.members, keep)
			removed += n
			if n > 0 && len(members) == 0 {
				continue
			}
			if n > 0 || l.odd {
				text = bytes.Join([][]byte{l.raw[it.start : it.colon+1], members, l.raw[it.semicolon:it.end]}, nil)
			}
		} else if !keep(it.entry) {
			removed++
			continue
		}
		kept = append(kept, text)
	}
	if len(kept) == 0 {
		return nil, removed
	}
	// The first keeps the blanks that stood first, and the last has none after it: a folded line of blanks alone ends
	// the header for some servers.
	first := l.raw[items[0].start:]
	blanks := first[:len(first)-len(bytes.TrimLeft(first, blank))]
	kept[0] = append(bytes.Clone(blanks), bytes.TrimLeft(kept[0], blank)...)
	last := len(kept) - 1
	kept[last] = bytes.TrimRight(kept[last], blank)
	return bytes.Join(kept, []byte(",")), removed
}

// blank is what folding white space is made of (RFC 5322 section 3.2.2).
const blank = " \t\r\n"

// listParser cuts a value into its elements.
type listParser struct {
	raw []byte
	odd bool
}

// list cuts from position i to the end, or in a group to its semicolon, whose position it returns; -1 where it has none.
func (p *listParser) list(i int, inGroup bool) (items []item, semicolon int) {
	start := i
	add := func(end int) {
		if e, ok := parseMailbox(p.raw[start:end]); ok {
			e.Group = inGroup
			items = append(items, item{start: start, end: end, entry: e})
		}
		start = end + 1
	}
	for i < len(p.raw) {
		switch c := p.raw[i]; {
		case c == ';' && inGroup:
			add(i)
			return items, i
		case c == ',' || c == ';':
			p.odd = p.odd || c == ';'
			add(i)
			i++
		case c == ':' && !inGroup:
			group, next := p.group(start, i)
			items = append(items, group)
			i, start = next, next
			if next < len(p.raw) {
				i, start = p.afterGroup(next)
			}
		default:
			i = skipToken(p.raw, i)
		}
	}
	add(len(p.raw))
	return items, -1
}

// group parses the group whose name begins at start and ends in the colon. A group without an end is no group to other
// parsers, so nobody can say whom it names; one that names nobody yet would take in whoever is written behind it.
func (p *listParser) group(start, colon int) (group item, next int) {
	members, semicolon := p.list(colon+1, true)
	end := semicolon + 1
	if semicolon < 0 {
		semicolon, end = len(p.raw), len(p.raw)
		if len(members) == 0 {
			members = []item{{start: end, end: end}}
		}
		for i := range members {
			members[i].entry = Entry{Err: errors.New("its group does not end"), Group: true}
		}
	}
	return item{start: start, end: end, group: true, colon: colon, semicolon: semicolon, members: members}, end
}

// afterGroup steps over the comma after a group that ended at i.
func (p *listParser) afterGroup(i int) (next, start int) {
	j := i
	for j < len(p.raw) && strings.IndexByte(blank, p.raw[j]) >= 0 {
		j++
	}
	switch {
	case j == len(p.raw):
		return j, j
	case p.raw[j] == ',':
		return j + 1, j + 1
	}
	p.odd = true
	return i, i
}

// skipToken returns where the token at i ends. A quoted string, comment, literal or angle that does not end goes on to
// the end of b; parseMailbox refuses it.
func skipToken(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipQuoted(b, i)
	case '(':
		return skipComment(b, i)
	case '[':
		if end := bytes.IndexByte(b[i:], ']'); end >= 0 {
			return i + end + 1
		}
		return len(b)
	case '<':
		for i++; i < len(b) && b[i] != '>'; {
			if b[i] == '<' {
				i++
				continue
			}
			i = skipToken(b, i)
		}
		return min(i+1, len(b))
	}
	return i + 1
}

func skipQuoted(b []byte, i int) int {
	for i++; i < len(b) && b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(b))
}

func skipComment(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(b)
}

// In returns the address of the entry, a local part that stands alone completed with domain.
func (e Entry) In(domain string) (envelope.Address, error) {
	if errors.Is(e.Err, envelope.ErrNoDomain) && domain != "" {
		return envelope.ParseAddress(envelope.Address{Local: e.local, Domain: domain}.String())
	}
	return e.Address, e.Err
}

// With returns the entry as a field value with another address, the display name as it was written where that can be
// written again.
func (e Entry) With(a envelope.Address) string {
	if e.phrase != "" {
		return e.phrase + " <" + a.Wire() + ">"
	}
	return Mailbox{Name: e.Name, Address: a}.String()
}
