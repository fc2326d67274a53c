// Package sendmail does what sendmail(8) does with its command line and its standard input: it finds the sender and the
// recipients, and makes a whole message of what cron and scripts write. It reads the flags that programs use, and takes the
// others without effect. It must not know who the mail is handed in as, or where. `postern sendmail` calls it. A command
// line that is not understood, and recipients that are none, are errors for whoever wrote it.
package sendmail

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"slices"
	"strings"
)

// maxText bounds what is read from standard input in octets; the listener's own limit is smaller.
const maxText = 200 << 20

// UsageError says that nobody can be sent to: no recipient is named, or what is named is no address.
type UsageError struct{ Err error }

// Error says what is wrong.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns it.
func (e *UsageError) Unwrap() error { return e.Err }

// Command is a command line of sendmail's.
type Command struct {
	FromHeader  bool     // -t: recipients stand in To, Cc and Bcc; those of the command line are not sent to
	DotsAreText bool     // -i: a line with a dot alone ends nothing
	Sender      string   // -f: the reverse-path, and From where that is missing
	Name        string   // -F: the name in such a From
	To          []string // addresses, perhaps without a domain
}

// takesValue are flags of sendmail(8) whose value may follow after a blank, and that change nothing here.
const takesValue = "BCDdhLMNOopRVXA"

// Parse reads a command line of sendmail's, without the program's name.
func Parse(args []string) (c Command, err error) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		value := func() (string, error) {
			if len(a) > 2 {
				return a[2:], nil
			}
			if i++; i == len(args) {
				return "", fmt.Errorf("%s needs a value", a)
			}
			return args[i], nil
		}
		switch {
		case a == "--":
			c.To = append(c.To, args[i+1:]...)
			return c, nil
		case !strings.HasPrefix(a, "-") || a == "-":
			c.To = append(c.To, a)
		case a == "-i" || a == "-oi":
			c.DotsAreText = true
		case a == "-t" || a == "-ti" || a == "-it":
			c.FromHeader, c.DotsAreText = true, c.DotsAreText || a != "-t"
		case a[1] == 'f' || a[1] == 'r':
			c.Sender, err = value()
		case a[1] == 'F':
			c.Name, err = value()
		case a == "-bm": // take a message, which is all that is done here
		case a[1] == 'b':
			return c, fmt.Errorf("%s is a mode of sendmail's that postern has not", a)
		case strings.ContainsRune(takesValue, rune(a[1])) && len(a) == 2:
			_, err = value()
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// Message is one to be handed in. Its lines end with CR LF.
type Message struct {
	To     []string
	Header []byte // without the empty line
	Body   []byte
}

// Text is the whole message.
func (m Message) Text() io.Reader {
	return io.MultiReader(bytes.NewReader(m.Header), strings.NewReader("\r\n"), bytes.NewReader(m.Body))
}

// Read reads standard input and makes the message of it. c.Sender must be known by now.
func (c Command) Read(in io.Reader) (Message, error) {
	m := Message{To: c.To}
	var err error
	if m.Header, m.Body, err = read(in, c.DotsAreText); err != nil {
		return m, err
	}
	if c.FromHeader {
		if m.Header, m.To, err = recipientsOf(m.Header, c.To); err != nil {
			return m, err
		}
	}
	if len(m.To) == 0 {
		return m, &UsageError{errors.New("no recipients; name them, or -t")}
	}
	for _, a := range append([]string{c.Sender}, m.To...) {
		if strings.ContainsAny(a, "\r\n") { // it would be a command, or a field, of its own
			return m, &UsageError{fmt.Errorf("%.60q is no address", a)}
		}
	}
	if !hasField(m.Header, "From") {
		m.Header = append([]byte(fromField(c.Sender, c.Name)), m.Header...)
	}
	return m, nil
}

// fromField is a From. An address without a domain stays so, for the listener's default_domain: mail.Address would write
// root as root@.
func fromField(address, name string) string {
	if name == "" {
		return "From: " + address + "\r\n"
	}
	phrase := strings.TrimSuffix((&mail.Address{Name: name, Address: "x@x"}).String(), "<x@x>")
	return "From: " + phrase + "<" + address + ">\r\n"
}

// read reads the message: the header block with CRLF and without the empty line, and the body. A text without a
// header is all body.
func read(in io.Reader, dotsAreText bool) (header, body []byte, err error) {
	r := bufio.NewReader(io.LimitReader(in, maxText+1))
	inHeader, size := true, 0
	for {
		line, err := r.ReadString('\n')
		if line == "" && err != nil {
			if err == io.EOF {
				return header, body, nil
			}
			return nil, nil, fmt.Errorf("read the message: %w", err)
		}
		if size += len(line); size > maxText {
			return nil, nil, fmt.Errorf("the message is larger than %d octets", maxText)
		}
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "." && !dotsAreText:
			return header, body, nil
		case inHeader && line == "":
			inHeader = false
		case inHeader && len(header) == 0 && strings.HasPrefix(line, "From "): // of an mbox
		case inHeader && isField(line, len(header) > 0):
			header = append(header, line+"\r\n"...)
		case inHeader: // a text without an empty line before it
			inHeader = false
			fallthrough
		default:
			body = append(body, line+"\r\n"...)
		}
	}
}

func isField(line string, continued bool) bool {
	if line[0] == ' ' || line[0] == '\t' {
		return continued
	}
	name, _, ok := strings.Cut(line, ":")
	return ok && name != "" && !strings.ContainsAny(name, " \t")
}

// fields splits a header block into fields with their continuation lines.
func fields(header []byte) []string {
	var list []string
	for _, line := range strings.SplitAfter(string(header), "\r\n") {
		switch {
		case line == "":
		case (line[0] == ' ' || line[0] == '\t') && len(list) > 0:
			list[len(list)-1] += line
		default:
			list = append(list, line)
		}
	}
	return list
}

func hasField(header []byte, name string) bool {
	return slices.ContainsFunc(fields(header), func(f string) bool { return strings.EqualFold(fieldName(f), name) })
}

func fieldName(f string) string {
	name, _, _ := strings.Cut(f, ":")
	return name
}

// recipientsOf takes the recipients out of To, Cc and Bcc, and Bcc out of the header. Addresses of the command line are
// not sent to then, as with sendmail.
func recipientsOf(header []byte, not []string) (rest []byte, to []string, err error) {
	for _, f := range fields(header) {
		name, value, _ := strings.Cut(f, ":")
		if !slices.ContainsFunc([]string{"To", "Cc", "Bcc"}, func(n string) bool { return strings.EqualFold(n, name) }) {
			rest = append(rest, f...)
			continue
		}
		if !strings.EqualFold(name, "Bcc") {
			rest = append(rest, f...)
		}
		addresses, err := addressesOf(value)
		if err != nil {
			return nil, nil, &UsageError{fmt.Errorf("%s: %w", name, err)}
		}
		for _, a := range addresses {
			if !slices.Contains(to, a) && !slices.Contains(not, a) {
				to = append(to, a)
			}
		}
	}
	return rest, to, nil
}

// addressesOf reads an address list, in which cron's bare "root" may stand.
func addressesOf(value string) ([]string, error) {
	value = strings.TrimSpace(strings.NewReplacer("\r\n", " ").Replace(value))
	if value == "" {
		return nil, nil
	}
	if list, err := mail.ParseAddressList(value); err == nil {
		var all []string
		for _, a := range list {
			all = append(all, a.Address)
		}
		return all, nil
	}
	var all []string
	for _, one := range strings.Split(value, ",") {
		one = strings.TrimSpace(one)
		if a, err := mail.ParseAddress(one); err == nil {
			one = a.Address
		} else if one == "" || strings.ContainsAny(one, " <>\"()@") {
			return nil, fmt.Errorf("%.60q is no address", one)
		}
		all = append(all, one)
	}
	return all, nil
}
