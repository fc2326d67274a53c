package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const examplePath = "../../config.example.toml"

// needsValue are the keys that have no default, or one that depends on the machine or on other keys: the example shows
// a value of its own for them.
var needsValue = []string{
	"include",
	"bridge.hostname", "bridge.default_domain", "bridge.proxy", "bridge.sendmail_user",
	"listener.address", "listener.tls_cert", "listener.tls_key",
	"provider.name", "provider.tenant", "provider.client_id", "provider.client_secret", "provider.client_secret_expires",
	"provider.certificate", "provider.ca_file",
	"account.name", "account.provider", "account.mailbox", "account.login",
	"user.name", "user.password", "user.networks", "user.account", "user.address", "user.may_send_as", "user.sender",
	"user.max_message", "user.max_queued_size",
	"user.sender.mode", "user.sender.address", "user.sender.name",
	"scenario.name", "scenario.match", "scenario.account", "scenario.sender", "scenario.attach", "scenario.bcc",
	"scenario.footer", "scenario.reply_to",
	"scenario.match.user", "scenario.match.listener", "scenario.match.from", "scenario.match.to", "scenario.match.subject",
	"scenario.match.header", "scenario.match.size", "scenario.footer.text", "scenario.footer.html",
	"notify.to",
}

// exampleKey is one key of the example, set or not.
type exampleKey struct {
	name   string // "queue.stop_grace"
	text   string // "stop_grace = \"30s\""
	active bool
	line   int
}

var (
	keyLine    = regexp.MustCompile(`^(#?)([a-z_]+) = `)
	headerLine = regexp.MustCompile(`^#?\[\[?([a-z]+)\]\]?$`)
)

func readExample(t *testing.T) []exampleKey {
	t.Helper()
	data, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	var keys []exampleKey
	kind := ""
	for i, line := range strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n") {
		if h := headerLine.FindStringSubmatch(line); h != nil {
			kind = h[1]
			continue
		}
		k := keyLine.FindStringSubmatch(line)
		if k == nil {
			if line != "" && !strings.HasPrefix(line, "# ") && line != "#" {
				t.Errorf("line %d is neither key nor table nor comment", i+1)
			}
			continue
		}
		keys = append(keys, exampleKey{joinKey(kind, k[2]), strings.TrimPrefix(line, "#"), k[1] == "", i + 1})
	}
	return keys
}

// oneKey reads a table that has that key alone and returns what came of it, and its mistakes.
func oneKey(t *testing.T, kind, text string) (any, []Mistake) {
	t.Helper()
	tree, err := decodeTOML(text + "\n")
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var out report
	f := &file{name: "example", path: filepath.Join(t.TempDir(), "postern.toml"), x: scan(text + "\n"), out: &out}
	tab := newTable(f, kind, "", tree)
	switch kind {
	case "bridge":
		return readBridge(tab), out.mistakes
	case "log":
		return readLog(tab), out.mistakes
	case "listener":
		return readListener(tab), out.mistakes
	case "provider":
		p := readProvider(tab)
		fillEndpoints(&p)
		return p, out.mistakes
	case "account":
		return readAccount(tab), out.mistakes
	case "user":
		return readUser(tab), out.mistakes
	case "scenario":
		s := readScenario(tab)
		return s, slices.DeleteFunc(out.mistakes, func(m Mistake) bool { return strings.HasPrefix(m.Text, "is missing") })
	case "queue":
		return readQueue(tab), out.mistakes
	case "notify":
		return readNotify(tab), out.mistakes
	}
	t.Fatalf("%s: no such table", kind)
	return nil, nil
}

func TestExampleHasTheDefaults(t *testing.T) {
	for _, k := range readExample(t) {
		kind, key, _ := strings.Cut(k.name, ".")
		if k.name == "include" {
			continue
		}
		place := fmt.Sprintf("line %d: %s", k.line, k.name)
		got, mistakes := oneKey(t, kind, k.text)
		if len(mistakes) > 0 {
			t.Errorf("%s: the value is a mistake: %v", place, mistakes)
			continue
		}
		if slices.Contains(needsValue, k.name) {
			continue
		}
		want, _ := oneKey(t, kind, "")
		switch k.name {
		case "bridge.data_dir": // absolute on one system only
			if k.text != `data_dir = "/var/lib/postern"` {
				t.Errorf("%s: %s is not the default on Linux", place, k.text)
			}
			continue
		case "log.file": // relative to data_dir where it is a default
			if l := got.(Log); filepath.Base(l.File) != want.(Log).File {
				t.Errorf("%s: %s is not the default", place, key)
			}
			continue
		}
		if diff := cmp.Diff(want, got, prefixes()); diff != "" {
			t.Errorf("%s is not the default (-default +example):\n%s", place, diff)
		}
	}
}

func TestExampleHasEveryKeyAndNoOther(t *testing.T) {
	want := map[string]bool{"include": true}
	for kind, keys := range manual() {
		for _, k := range keys {
			want[joinKey(kind, k)] = true
		}
	}
	seen := map[string]bool{}
	for _, k := range readExample(t) {
		if seen[k.name] {
			t.Errorf("line %d: %s stands twice", k.line, k.name)
		}
		seen[k.name] = true
		// The keys of inline tables stand in their lines.
		tree, err := decodeTOML(k.text + "\n")
		if err != nil {
			t.Fatalf("line %d: %v", k.line, err)
		}
		for _, v := range tree {
			if sub, ok := v.(map[string]any); ok {
				for s := range sub {
					seen[k.name+"."+s] = true
				}
			}
		}
	}
	for name := range want {
		if !seen[name] {
			t.Errorf("the example lacks %s", name)
		}
	}
	for name := range seen {
		if !want[name] && !strings.HasPrefix(name, "scenario.sender.") {
			t.Errorf("the example has %s, which the code does not know", name)
		}
	}
	for _, name := range needsValue {
		if !want[name] {
			t.Errorf("needsValue has %s, which the code does not know", name)
		}
	}
}

func TestExampleLoads(t *testing.T) {
	c, err := Load(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	if l, p, a, u := len(c.Listeners), len(c.Providers), len(c.Accounts), len(c.Users); l != 1 || p != 1 || a != 1 || u != 1 {
		t.Errorf("the example has %d listeners, %d providers, %d accounts, %d users; want one of each", l, p, a, u)
	}
	var keys []string
	for _, w := range c.Warnings {
		keys = append(keys, w.Key)
	}
	if diff := cmp.Diff([]string{"provider[0].client_id", "user[0]"}, keys); diff != "" {
		t.Errorf("warnings: want those of the placeholders alone (-want +got):\n%s", diff)
	}
}
