package submission

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/bridge/message"
)

// spoofRules are the ways in which the corpus is handed in. The user may send as erp@c.test, his account's mailbox, and
// as anybody in own.test; nobody here may be boss@c.test.
var spoofRules = []struct {
	name   string
	sender Sender
}{
	{"keep", Sender{}},
	{"keep or account", Sender{Otherwise: UseAccount}},
	{"current-user", Sender{Mode: CurrentUser}},
	{"on-behalf", Sender{Mode: OnBehalf}},
	{"on-behalf or account", Sender{Mode: OnBehalf, Otherwise: UseAccount, Name: "ERP"}},
	{"account", Sender{Mode: AsAccount, ReplyTo: "none"}},
	{"send-as", Sender{Mode: SendAs}},
}

// maySpoof is the judge's own list, compared as text: what leaves must be one of these.
func maySpoof(address string) bool {
	a := strings.ToLower(address)
	return a == "erp@c.test" || a == "noreply@c.test" || strings.HasSuffix(a, "@own.test") && strings.Count(a, "@") == 1
}

// TestSpoof hands in every message of testdata/spoof under every rule, and lets parsers that are not ours judge what
// leaves: there is one From, and it is one that the user may send as. Likewise Sender, where there is one.
func TestSpoof(t *testing.T) {
	files, err := filepath.Glob("testdata/spoof/*.eml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 200 {
		t.Fatalf("%d messages, want 200", len(files))
	}
	left := t.TempDir()
	passed, refused := 0, 0
	for _, file := range files {
		for _, rule := range spoofRules {
			name := strings.TrimSuffix(filepath.Base(file), ".eml") + " " + rule.name
			t.Run(name, func(t *testing.T) {
				out := spoof(t, file, rule.sender)
				if out == nil {
					refused++
					return
				}
				passed++
				judge(t, out)
				if err := os.WriteFile(filepath.Join(left, name+".eml"), out, 0o600); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	t.Logf("%d messages under %d rules: %d were refused, %d left", len(files), len(spoofRules), refused, passed)
	if passed < 200 || refused < 200 {
		t.Errorf("refused %d, passed %d: a rule that lets all or none through proves nothing", refused, passed)
	}
	judgeByPython(t, left)
}

// spoof returns the message that leaves, nil where it is refused.
func spoof(t *testing.T, file string, sender Sender) []byte {
	t.Helper()
	eml, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	q := &queue{}
	if sender.Mode == SendAs {
		sender.Address = address(t, "noreply@c.test")
	}
	d := newDesk(t, q, User{Address: address(t, "nav@own.test"), MaySendAs: []string{"erp@c.test", "*@own.test"}, Sender: &sender})
	// What the listener makes of it: CRLF lines.
	_, err = d.Submit(t.Context(), session, envelopeTo(t, "to@d.test"), bytes.NewReader(bytes.ReplaceAll(eml, []byte("\n"), []byte("\r\n"))))
	if err != nil {
		if code := asReply(err).Code; code < 550 {
			t.Errorf("the reply is %v, and the application will try again", err)
		}
		return nil
	}
	m := q.messages[0]
	final, err := message.Apply(m.Header, m.Plan.Edits)
	if err != nil {
		t.Fatal(err)
	}
	return append(final, q.bodies[0]...)
}

// judge reads with net/mail.
func judge(t *testing.T, out []byte) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(out))
	if err != nil {
		// net/mail refuses field names that RFC 5322 allows; the other judge reads those.
		t.Logf("net/mail: %v", err)
		return
	}
	if n := len(m.Header["From"]); n != 1 {
		t.Fatalf("%d From fields leave:\n%s", n, out)
	}
	// A name in a charset that this parser lacks is no reason to look away from its address.
	parser := mail.AddressParser{WordDecoder: &mime.WordDecoder{CharsetReader: func(string, io.Reader) (io.Reader, error) {
		return strings.NewReader("name"), nil
	}}}
	list, err := parser.ParseList(m.Header.Get("From"))
	if err != nil || len(list) != 1 || !maySpoof(list[0].Address) {
		t.Errorf("From %q leaves: %v, %v", m.Header.Get("From"), list, err)
	}
	for _, s := range m.Header["Sender"] {
		a, err := mail.ParseAddress(s)
		if err != nil || !maySpoof(a.Address) {
			t.Errorf("Sender %q leaves: %v, %v", s, a, err)
		}
	}
}

// pythonJudge reads with Python's email package, old policy and new, and prints for each file what it sees.
const pythonJudge = `
import email, email.policy, email.utils, json, os, sys
for name in sorted(os.listdir(sys.argv[1])):
    raw = open(os.path.join(sys.argv[1], name), "rb").read()
    seen = {"file": name, "froms": [], "addresses": []}
    for policy in (email.policy.compat32, email.policy.default):
        m = email.message_from_bytes(raw, policy=policy)
        seen["froms"].append(len(m.get_all("From", [])))
        for field in ("From", "Sender"):
            values = [str(v) for v in m.get_all(field, [])]
            seen["addresses"] += [a for _, a in email.utils.getaddresses(values)]
    for field in ("From", "Sender"):
        for v in m.get_all(field, []):
            parsed = v.addresses if hasattr(v, "addresses") else ([v.address] if v.address else [])
            seen["addresses"] += [a.addr_spec for a in parsed]
    print(json.dumps(seen))
`

func judgeByPython(t *testing.T, dir string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3 is missing; run .ci/install")
		}
		t.Log("python3 is missing, and only net/mail has judged")
		return
	}
	out, err := exec.CommandContext(t.Context(), python, "-c", pythonJudge, dir).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Logf("%s", exit.Stderr)
		}
		t.Fatalf("python3: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(out))
	n := 0
	for ; d.More(); n++ {
		var seen struct {
			File      string
			Froms     []int
			Addresses []string
		}
		if err := d.Decode(&seen); err != nil {
			t.Fatal(err)
		}
		for _, count := range seen.Froms {
			if count != 1 {
				t.Errorf("%s: Python sees %d From fields", seen.File, count)
			}
		}
		for _, a := range seen.Addresses {
			if !maySpoof(a) {
				t.Errorf("%s: Python sees %q", seen.File, a)
			}
		}
	}
	if files, _ := os.ReadDir(dir); n == 0 || n != len(files) {
		t.Errorf("Python judged %d of %d messages", n, len(files))
	}
}
