package peers

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func hashOf(string) (string, error) {
	return "$argon2id$v=19$m=12288,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b+dWRJWTmaaJObGRdescudvJCs", nil
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestConvert: the result is what the golden file says, it is without mistakes, and no secret stands in it.
func TestConvert(t *testing.T) {
	for _, tc := range []struct {
		name, file, peer, golden string
		passwd, sender           string
	}{
		{"email-oauth2-proxy", "emailproxy.config", "email-oauth2-proxy", "emailproxy.toml", "", ""},
		{"SMTP2Graph", "config.yml", "SMTP2Graph", "smtp2graph.toml", "", ""},
		{"sasl-xoauth2 with Postfix's maps", "sasl-xoauth2.json", "sasl-xoauth2", "sasl-xoauth2.toml", "sasl_passwd", "sender_relay"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := Source{Name: tc.file, Text: read(t, tc.file), HashOf: hashOf}
			if tc.passwd != "" {
				s.SASLPasswd, s.SenderMaps = read(t, tc.passwd), [][]byte{read(t, tc.sender)}
			}
			got, peer, err := Convert(s)
			if err != nil || peer != tc.peer {
				t.Fatalf("Convert = %q, %v; want %s", peer, err, tc.peer)
			}
			golden := filepath.Join("testdata", tc.golden)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(read(t, tc.golden)), got); diff != "" {
				t.Errorf("Convert (-want +got):\n%s", diff)
			}
			if strings.Contains(got, "canary") {
				t.Errorf("a secret stands in the result:\n%s", got)
			}
			path := filepath.Join(t.TempDir(), "postern.toml")
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(path); err != nil {
				t.Errorf("the result has mistakes: %v\n%s", err, got)
			}
		})
	}
}

func TestConvertRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", "", "none of"},
		{"another program's file", "[server]\nport = 25\n", "none of"},
		{"JSON of somebody else", `{"a": 1}`, "none of"},
		{"sasl-xoauth2 without the map", `{"client_id": "x", "token_endpoint": "https://login.microsoftonline.com/t/oauth2/v2.0/token"}`, "--sasl-passwd"},
		{"another provider", `{"client_id": "x", "token_endpoint": "https://oauth2.googleapis.com/token"}`, "not Microsoft's"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := Convert(Source{Name: "f", Text: []byte(tc.text), HashOf: hashOf})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Convert = %v; want %q", err, tc.want)
			}
		})
	}
}

// line is what may stand on a line of the result.
var line = regexp.MustCompile(`^(|#.*|\[\[[a-z]+\]\]|[a-z_]+ = ("([^"\\]|\\["\\]|\\u[0-9A-F]{4})*"|'[^']*'|true|\[.*\]|\{ from = ".*" \}))$`)

// FuzzConvert: whatever the file has, every line of the result is a comment, a table or a key with one value.
func FuzzConvert(f *testing.F) {
	for _, name := range []string{"emailproxy.config", "config.yml", "sasl-xoauth2.json"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, []byte("[smtp.office365.com] a@b:c"))
	}
	f.Fuzz(func(t *testing.T, text, passwd []byte) {
		got, _, err := Convert(Source{Name: "f", Text: text, SASLPasswd: passwd, SenderMaps: [][]byte{passwd}, HashOf: hashOf})
		if err != nil {
			return
		}
		for _, l := range strings.Split(got, "\n") {
			if !line.MatchString(l) {
				t.Errorf("%q is no line of a configuration, in\n%s", l, got)
			}
		}
	})
}
