package smtpd

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// internal is what no client may read: places, other hosts, the library's or Go's own words.
var internal = regexp.MustCompile(`(?i)/var/|\.db\b|\.go:|disk i/o|ldap:|secret|panic|broke\b|goroutine|go-smtp|guard\.|<nil>|\bEOF\b|\btcp\b|0x[0-9a-f]{4}`)

// checkReply holds what is true of every line that a client reads: it is a reply with an enhanced status of its class,
// but for the greeting, HELO, EHLO, 334 and 354 (RFC 2034), and says nothing internal.
func checkReply(t testing.TB, line string) {
	t.Helper()
	code := replyForm.FindStringSubmatch(line)
	status := statusForm.FindStringSubmatch(line)
	switch {
	case code == nil:
		t.Errorf("no reply: %q", line)
	case !withoutCode.MatchString(line) && (status == nil || status[1] != code[1]):
		t.Errorf("no enhanced status: %q", line)
	case internal.MatchString(line):
		t.Errorf("something internal reaches the client: %q", line)
	}
}

// TestEveryReplyInTheSourceHasAStatus reads the replies out of the source, so that one that no dialogue brings about is
// not forgotten. Those that a client does read are checked wherever a test reads them (client.line).
func TestEveryReplyInTheSourceHasAStatus(t *testing.T) {
	begin := regexp.MustCompile(`^[2-5][0-9][0-9]([ -]|$)`)
	status := regexp.MustCompile(`^([245])[0-9][0-9] ([245])\.[0-9]\.[0-9]{1,2} `)
	bare := map[string]bool{ // HELO, EHLO and the greeting, what RFC 2034 leaves out, and a command of no name
		"220 ": true, "250 ": true, "250-": true, "334 ": true, "354 End data with <CR><LF>.<CR><LF>": true, "501 Syntax: ": true,
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			s, err := strconv.Unquote(lit.Value)
			if err != nil || !begin.MatchString(s) || bare[s] {
				return true
			}
			found++
			if m := status.FindStringSubmatch(s + " "); m == nil || m[1] != m[2] {
				t.Errorf("%s: a reply without its enhanced status: %q", name, s)
			}
			return true
		})
	}
	if found < 60 {
		t.Errorf("%d replies were found; the test sees too little", found)
	}
}
