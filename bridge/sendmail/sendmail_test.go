package sendmail

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, args string
		want       Command
		wrong      bool
	}{
		{"cron", "-FCronDaemon -i -B8BITMIME -oem root", Command{DotsAreText: true, Name: "CronDaemon", To: []string{"root"}}, false},
		{"PHP", "-t -i -fwww@contoso.test", Command{FromHeader: true, DotsAreText: true, Sender: "www@contoso.test"}, false},
		{"flags together", "-ti", Command{FromHeader: true, DotsAreText: true}, false},
		{"values after a blank", "-f a@contoso.test -F Name -N never -- -odd@example.test",
			Command{Sender: "a@contoso.test", Name: "Name", To: []string{"-odd@example.test"}}, false},
		{"a value that is missing", "-f", Command{}, true},
		{"a daemon", "-bd -q15m", Command{}, true},
		{"the mode that is the default", "-bm a@example.test", Command{To: []string{"a@example.test"}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Parse(strings.Fields(tc.args))
			if (err != nil) != tc.wrong {
				t.Fatalf("Parse(%q): %v; want it refused: %v", tc.args, err, tc.wrong)
			}
			if diff := cmp.Diff(tc.want, got); !tc.wrong && diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", tc.args, diff)
			}
		})
	}
}

func TestRead(t *testing.T) {
	for _, tc := range []struct {
		name     string
		c        Command
		in       string
		to, text string
	}{
		{"a message of cron, who it is from is added", Command{Sender: "root", Name: "Cron Daemon", To: []string{"admin@example.test"}}, "Subject: backup\n\ndone\n",
			"admin@example.test", "From: \"Cron Daemon\" <root>\r\nSubject: backup\r\n\r\ndone\r\n"},
		{"a From that is there stays", Command{Sender: "root", To: []string{"a"}}, "from: x@example.test\n\n", "a", "from: x@example.test\r\n\r\n"},
		{"a text without a header is all body", Command{Sender: "root", To: []string{"a"}}, "disk full: /var is at 100 %\nact now\n", "a",
			"From: root\r\n\r\ndisk full: /var is at 100 %\r\nact now\r\n"},
		{"a dot alone ends it", Command{Sender: "root", To: []string{"a"}}, "Subject: s\n\nx\n.\ny\n", "a", "From: root\r\nSubject: s\r\n\r\nx\r\n"},
		{"a dot alone is text with -i, and the last line needs no end", Command{DotsAreText: true, Sender: "root", To: []string{"a"}}, "Subject: s\r\n\r\n.\r\ny", "a",
			"From: root\r\nSubject: s\r\n\r\n.\r\ny\r\n"},
		{"the line of an mbox is none of the header's", Command{Sender: "root", To: []string{"a"}}, "From root Fri Nov 20\nFrom: x\n folded\n\n", "a", "From: x\r\n folded\r\n\r\n"},
		{"-t sends to whom the header names, hides Bcc, and leaves out the command line's",
			Command{FromHeader: true, To: []string{"no@example.test"}},
			"From: x\nTo: Ann <a@example.test>,\n no@example.test\nCc: root, a@example.test\nBCC: b@example.test\n\n", "a@example.test root b@example.test",
			"From: x\r\nTo: Ann <a@example.test>,\r\n no@example.test\r\nCc: root, a@example.test\r\n\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := tc.c.Read(strings.NewReader(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(m.Text())
			if err != nil {
				t.Fatal(err)
			}
			if to := strings.Join(m.To, " "); to != tc.to || string(text) != tc.text {
				t.Errorf("to %q:\n%q\nwant to %q:\n%q", to, text, tc.to, tc.text)
			}
		})
	}
}

func TestReadFails(t *testing.T) {
	gone := errors.New("the pipe broke")
	for _, tc := range []struct {
		name  string
		c     Command
		in    io.Reader
		usage bool
	}{
		{"nobody is named", Command{}, strings.NewReader("Subject: s\n\n"), true},
		{"the header names nobody", Command{FromHeader: true, To: []string{"a"}}, strings.NewReader("Subject: s\n\n"), true},
		{"what stands there is no address", Command{FromHeader: true}, strings.NewReader("To: a b\n\n"), true},
		{"a recipient of two lines", Command{To: []string{"a", "b\nDATA"}}, strings.NewReader("Subject: s\n\n"), true},
		{"a sender of two lines", Command{Sender: "a\r\nBcc: b", To: []string{"a"}}, strings.NewReader("Subject: s\n\n"), true},
		{"what cannot be read", Command{To: []string{"a"}}, iotest.ErrReader(gone), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tc.c.Read(tc.in)
			var usage *UsageError
			if err == nil || errors.As(err, &usage) != tc.usage || errors.Is(err, gone) == tc.usage {
				t.Errorf("Read = %v; want wrong usage: %v", err, tc.usage)
			}
		})
	}
}
