package smtpd

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDialogues plays the transcripts of testdata. Lines of a transcript:
//
//	# comment                        which old application talks so
//	O: key=value ...                 options of the listener, before everything else
//	C: text                          the client sends the text and CR LF
//	B: text                          the client sends the text in base64; \0 is NUL
//	R: "text"                        the client sends the Go string as it is
//	S: text                          the server sends a line that begins so; ~text is a pattern for the whole line
//	T:                               the client brings TLS up
//	X:                               the server has closed
//	M: <a@b> -> <c@d> user=u ...     the desk has taken this message
//
// Each is played twice: the second time the client rests before each command.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialogue")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".dialogue"), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n")
			play(t, f, lines, restAfter)
			play(t, f, lines, time.Nanosecond)
		})
	}
}

// TestOldClientsAreNamed: each transcript of an old client says which device or program is known to talk so, and why it
// matters. They were written by hand from what is known of it; a capture of a real one (real-*) is worth more and replaces
// it.
func TestOldClientsAreNamed(t *testing.T) {
	files, _ := filepath.Glob("testdata/old-*.dialogue")
	if len(files) < 25 {
		t.Errorf("%d transcripts of old clients; want 25 at least", len(files))
	}
	form := regexp.MustCompile(`^# From: .{10,}\n# .{10,}\n`)
	for _, f := range files {
		if b, err := os.ReadFile(f); err != nil || !form.Match(b) {
			t.Errorf("%s does not say which program talks so (%v)", f, err)
		}
	}
}

func play(t *testing.T, file string, lines []string, rest time.Duration) {
	var h *house
	var c *client
	taken := 0
	for i, l := range lines {
		kind, arg, _ := strings.Cut(l, ":")
		arg = strings.TrimPrefix(arg, " ")
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		if h == nil {
			opts := ""
			if kind == "O" {
				opts = arg
			}
			h = open(t, dialogueOptions(t, opts), func(o *Options, _ *house) { o.restAfter = rest })
			c = h.dial()
			if kind == "O" {
				continue
			}
		}
		fail := func(got string) { t.Fatalf("%s:%d: got %q; want %q", file, i+1, got, l) }
		switch kind {
		case "C":
			c.send(arg + "\r\n")
		case "B":
			c.send(base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(arg, `\0`, "\x00"))) + "\r\n")
		case "R":
			s, err := strconv.Unquote(arg)
			if err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
			c.send(s)
		case "S":
			if got := c.line(); !matches(got, arg) {
				fail(got)
			}
		case "T":
			c.secure()
		case "X":
			c.closed()
		case "M":
			m := h.desk.messages()
			if len(m) <= taken {
				fail("no message")
			}
			if got := m[taken].String(); got != arg {
				fail(got)
			}
			taken++
		default:
			t.Fatalf("%s:%d: no such line: %q", file, i+1, l)
		}
	}
	if m := h.desk.messages(); len(m) != taken {
		t.Errorf("%s: the desk has taken %d messages; want %d: %v", file, len(m), taken, m)
	}
}

func matches(got, want string) bool {
	if p, ok := strings.CutPrefix(want, "~"); ok {
		return regexp.MustCompile("^(?:" + p + ")$").MatchString(got)
	}
	return want != "" && strings.HasPrefix(got, want)
}

func dialogueOptions(t *testing.T, opts string) option {
	return func(o *Options, h *house) {
		for _, f := range strings.Fields(opts) {
			k, v, _ := strings.Cut(f, "=")
			switch k {
			case "tls":
				o.TLS = map[string]Mode{"none": None, "starttls": StartTLS, "implicit": Implicit}[v]
				o.TLSConfig = serverTLS()
			case "auth":
				o.Auth = map[string]AuthMode{"required": Required, "optional": Optional, "none": NoAuth}[v]
			case "domain":
				o.DefaultDomain = v
			case "plaintext-auth":
				o.PlaintextAuth = true
			case "bare-cr":
				o.BareCR = true
			case "crcrlf-end":
				o.CRCRLFEnd = true
			case "early-wait":
				o.EarlyWait, _ = time.ParseDuration(v)
			case "networks":
				o.Networks = []netip.Prefix{netip.MustParsePrefix(v)}
			case "at":
				h.users.at = netip.MustParsePrefix(v)
			case "remote":
				h.remote = v
			case "max-message":
				fmt.Sscan(v, &o.MaxMessage)
			case "max-recipients":
				fmt.Sscan(v, &o.MaxRecipients)
			default:
				t.Fatalf("no such option: %q", f)
			}
		}
	}
}
