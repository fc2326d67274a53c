package dsn

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"postern/bridge/envelope"
)

// Notice is a mail to administrators: plain text, not about one message.
type Notice struct {
	ID       envelope.ID // its Message-ID is made of it
	Hostname string
	From     envelope.Address
	To       []envelope.Address
	Date     time.Time
	Subject  string
	Sections []Section
}

// Section is a titled list.
type Section struct {
	Title string
	Items []Item
	More  int // how many were left away
}

// Item is one thing that an administrator should know.
type Item struct {
	Text   string
	Why    string // "" where there is nothing to say
	Remedy string // likewise
}

// MessageID returns the notice's Message-ID, with angle brackets.
func (n *Notice) MessageID() string { return fmt.Sprintf("<notice.%s@%s>", n.ID, n.Hostname) }

// Build returns the notice as Report.Build does.
func (n *Notice) Build() (header, body []byte) {
	var b strings.Builder
	fmt.Fprintf(&b, "This is Postern on %s.\r\n", oneLine(n.Hostname))
	for _, s := range n.Sections {
		fmt.Fprintf(&b, "\r\n%s\r\n", oneLine(s.Title))
		for _, it := range s.Items {
			b.WriteString("\r\n" + wrap("", cut(oneLine(it.Text), 500)))
			if it.Why != "" {
				b.WriteString(wrap("because: ", cut(oneLine(it.Why), 1000)))
			}
			if it.Remedy != "" {
				b.WriteString(wrap("what to do: ", cut(oneLine(it.Remedy), 1000)))
			}
		}
		if s.More > 0 {
			fmt.Fprintf(&b, "\r\n  and %d more; see: postern queue list\r\n", s.More)
		}
	}
	encoding, text := transferEncode(b.String())
	var to []string
	for _, a := range n.To {
		to = append(to, a.Wire())
	}
	var h bytes.Buffer
	for _, f := range [][2]string{{"From", "Postern <" + n.From.Wire() + ">"}, {"To", strings.Join(to, ", ")},
		{"Subject", encodeText(oneLine(n.Subject))}, {"Date", formatDate(n.Date)}, {"Message-ID", n.MessageID()},
		{"Auto-Submitted", "auto-generated"}, {"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", encoding}} {
		h.WriteString(fold(f[0], f[1]))
	}
	h.WriteString("\r\n")
	return h.Bytes(), []byte(text)
}
