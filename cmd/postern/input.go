package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"postern/auth/token"
)

// maxSecret bounds what is read from standard input, in octets: a refresh token is 1 to 4 KB.
const maxSecret = 64 << 10

// terminal reports whether a person types.
func (c *cli) terminal() bool {
	f, ok := c.in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// readSecret reads a secret: on a terminal one line without echo, else all of standard input less one line end. A blank
// at the end is kept, and warned of: it is nearly always a mistake of copying.
func (c *cli) readSecret(prompt string) (token.Secret, error) {
	var s string
	var err error
	if c.terminal() {
		s, err = c.readTyped(prompt)
	} else {
		s, err = c.readPiped()
	}
	if err != nil {
		return "", err
	}
	if s == "" {
		return "", errors.New("nothing was read from standard input; pipe it in, or type it at a terminal")
	}
	if strings.ContainsAny(s, "\r\n\x00") {
		return "", errors.New("what was read has more than one line")
	}
	if strings.TrimRight(s, " \t") != s {
		fmt.Fprintln(c.err, "postern: warning: it ends in a blank, which was kept")
	}
	return token.Secret(s), nil
}

// typedYes reads the answer to a question; anything but yes is an error that says otherwise.
func (c *cli) typedYes(otherwise string) error {
	answer, err := bufio.NewReader(c.in).ReadString('\n')
	if err != nil || !strings.EqualFold(strings.TrimSpace(answer), "yes") {
		return errors.New(otherwise)
	}
	return nil
}

func (c *cli) readPiped() (string, error) {
	b, err := io.ReadAll(io.LimitReader(c.in, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	if len(b) > maxSecret {
		return "", fmt.Errorf("standard input has more than %d bytes", maxSecret)
	}
	s := strings.TrimSuffix(string(b), "\n")
	return strings.TrimSuffix(s, "\r"), nil
}

// readTyped reads one line from the terminal in raw mode, because the terminal's own line editing cuts a line at 4,095
// bytes, and a pasted refresh token can be longer.
func (c *cli) readTyped(prompt string) (string, error) {
	f := c.in.(*os.File)
	// Before the prompt: what is pasted as soon as it shows must not meet the line editing any more.
	old, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return "", fmt.Errorf("switch the echo off: %w", err)
	}
	fmt.Fprint(c.err, prompt)
	defer fmt.Fprintln(c.err)
	defer term.Restore(int(f.Fd()), old)
	return readLine(bufio.NewReader(f))
}

// readLine takes keys up to Enter; Backspace and Ctrl-U edit, Ctrl-C and Ctrl-D give up.
func readLine(keys io.ByteReader) (string, error) {
	const ctrlC, ctrlD, backspace, ctrlU, del = 3, 4, 8, 21, 127
	var line []byte
	for len(line) <= maxSecret {
		k, err := keys.ReadByte()
		if err != nil {
			return "", err
		}
		switch k {
		case '\r', '\n':
			return string(line), nil
		case ctrlC, ctrlD:
			return "", errors.New("given up")
		case backspace, del:
			line = line[:max(0, len(line)-1)]
		case ctrlU:
			line = line[:0]
		default:
			line = append(line, k)
		}
	}
	return "", fmt.Errorf("the line has more than %d bytes", maxSecret)
}
