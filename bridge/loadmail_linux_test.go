package bridge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// hostileClient is one that wants memory. run returns the last reply that it read.
type hostileClient struct {
	name string
	want []string // how that reply may begin
	run  func() string
}

func (l *load) hostile(size loadSize) []hostileClient {
	// data sends a message and returns the reply to its end.
	data := func(write func(w io.Writer)) func() string {
		return func() string {
			c := l.open("127.0.0.1")
			if c == nil {
				return ""
			}
			defer c.Close()
			if c.say("RCPT TO:<customer@example.test>", "DATA") == "" {
				return ""
			}
			write(c)
			reply := c.say("\r\n.")
			if strings.HasPrefix(reply, "250") {
				l.sent.Add(1)
			}
			return reply
		}
	}
	const head = "From: a@erp.local\r\nTo: customer@example.test\r\nSubject: load\r\n"
	return []hostileClient{
		{"a command line without end", []string{"500 5.5.2"}, func() string {
			c, err := l.dial(1, "127.0.0.1")
			if err != nil {
				return err.Error()
			}
			defer c.Close()
			c.say("")
			go io.CopyN(c, endless{'A'}, int64(size.line))
			return c.say("")
		}},
		{"one line of text", []string{"550 5.6.0", "552 5.3.4"}, data(func(w io.Writer) {
			io.WriteString(w, head+"\r\n")
			io.CopyN(w, endless{'x'}, int64(size.line))
		})},
		{"a header of 1 MB", []string{"250", "55"}, data(func(w io.Writer) {
			io.WriteString(w, head)
			line := []byte("X-Filler: " + strings.Repeat("y", 68) + "\r\n")
			w.Write(bytes.Repeat(line, size.header/len(line)))
			io.WriteString(w, "\r\nx")
		})},
		{"one header field of 1 MB, folded", []string{"250", "55"}, data(func(w io.Writer) {
			io.WriteString(w, head+"X-Long: a\r\n")
			line := []byte(" " + strings.Repeat("z", 77) + "\r\n")
			w.Write(bytes.Repeat(line, size.header/len(line)))
			io.WriteString(w, "\r\nx")
		})},
		{"MIME nested deeply", []string{"250", "55"}, data(func(w io.Writer) {
			var b bytes.Buffer
			b.WriteString(head + "MIME-Version: 1.0\r\n")
			for i := range size.depth {
				fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
			}
			w.Write(b.Bytes())
			io.WriteString(w, "\r\nx")
		})},
		{"recipients", []string{"452 4.5.3", "221"}, func() string {
			c := l.open("127.0.0.1")
			if c == nil {
				return ""
			}
			defer c.Close()
			go func() {
				var b bytes.Buffer
				for i := range size.recipients {
					fmt.Fprintf(&b, "RCPT TO:<r%d@example.test>\r\n", i)
					if b.Len() > 32<<10 || i == size.recipients-1 {
						c.Write(b.Bytes())
						b.Reset()
					}
				}
			}()
			reply := ""
			for range size.recipients {
				if reply = c.say(""); reply == "" {
					return "closed"
				}
			}
			return reply
		}},
	}
}

// endless is one octet for ever.
type endless struct{ b byte }

func (e endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = e.b
	}
	return len(b), nil
}

// deliver is what an application does for one message: connect, log in, send, quit.
func (l *load) deliver(listener int, from string) (string, time.Duration) {
	start := time.Now()
	c, err := l.dial(listener, from)
	if err != nil {
		return err.Error(), 0
	}
	defer c.Close()
	reply := c.say("", "EHLO x", authPlain("nav", worldPassword), "MAIL FROM:<a@erp.local>", "RCPT TO:<customer@example.test>", "DATA",
		"From: a@erp.local\r\nTo: customer@example.test\r\nSubject: load\r\n\r\n"+strings.Repeat("a line of an invoice\r\n", 100)+".")
	took := time.Since(start)
	if strings.HasPrefix(reply, "250") {
		l.sent.Add(1)
		c.say("QUIT")
	}
	return reply, took
}

// invoice logs in and sends a message of 43 KB in a session that goes on.
func (l *load) invoice(c *talk) {
	l.t.Helper()
	if got := c.say(authPlain("nav", worldPassword), "MAIL FROM:<a@erp.local>", "RCPT TO:<customer@example.test>", "DATA",
		"From: a@erp.local\r\nTo: customer@example.test\r\nSubject: load\r\n\r\n"+strings.Repeat("a line of an invoice\r\n", 1950)+"."); !strings.HasPrefix(got, "250") {
		l.t.Fatalf("an invoice is answered %q", got)
	}
	l.sent.Add(1)
}

// goodClient sends messages one after the other and returns how long they took.
func (l *load) goodClient(listener, messages int) (p50, p99 time.Duration) {
	l.t.Helper()
	var all []time.Duration
	for range messages {
		reply, took := l.deliver(listener, "127.0.0.9")
		if !strings.HasPrefix(reply, "250") {
			l.t.Errorf("a good client is answered %q", reply)
		}
		all = append(all, took)
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100]
}

// warmUp sends some messages by every listener that takes clear text, and opens some connections to the other, so that
// what is allocated once is, and the address of the good client is known.
func (l *load) warmUp() {
	l.t.Helper()
	l.goodClient(0, 5)
	l.goodClient(1, 5)
	for _, c := range l.fillTLS(10) {
		c.Close()
	}
}

// flood opens connections to the listener with the default limits and keeps them, while the good client sends.
func (l *load) flood(n int) (served, refused int) {
	l.t.Helper()
	for range n {
		c, err := l.dial(0, "127.0.0.66")
		if err != nil {
			l.t.Fatal(err)
		}
		switch reply := c.say(""); {
		case strings.HasPrefix(reply, "220"):
			served++
			defer c.Close()
		default: // 421, or closed without a word where too many are being told
			refused++
			c.Close()
		}
	}
	l.goodClient(0, 5)
	return served, refused
}

// waitForMail waits until everything that was taken has arrived.
func (l *load) waitForMail() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 5*time.Minute)
	defer cancel()
	if got, err := l.box.Wait(ctx, int(l.sent.Load())); err != nil {
		l.t.Errorf("%d of %d messages arrived: %v", len(got), l.sent.Load(), err)
	}
}
