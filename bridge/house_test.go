package bridge

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// words may be imported by everybody; tools by rooms and the hall.
var (
	words = []string{"bridge/envelope", "bridge/reply", "bridge/event", "auth/token", "auth/diagnosis"}
	tools = []string{"bridge/message", "bridge/dsn"}
)

// household says, beyond words and tools, which packages of ours each package may import. A package that is not here
// may import words (and, if it is a room, tools) alone.
var household = map[string][]string{
	"bridge/envelope": {"-"}, "bridge/reply": {"-"}, "bridge/event": {"-"}, "auth/token": {"-"}, "auth/diagnosis": {"-"},

	"bridge": {"auth", "auth/entra", "auth/vault", "bridge/backup", "bridge/certificate", "bridge/check", "bridge/config",
		"bridge/contents", "bridge/control", "bridge/datadir", "bridge/expiry", "bridge/incident", "bridge/leftover",
		"bridge/logbook", "bridge/mailboxes", "bridge/notice", "bridge/origin", "bridge/queue", "bridge/queue/sqlite", "bridge/queueadmin", "bridge/quota",
		"bridge/relay", "bridge/sample", "bridge/service", "bridge/smtpd", "bridge/stationery", "bridge/submission",
		"bridge/transport/graph", "bridge/transport/smarthost", "bridge/users", "bridge/webclient"},
	// The door opens the hall, and reads the words of the file and of the socket to say what is wrong.
	// The person who signs in is at the door, and so is the application that `send` and `sendmail` are.
	"cmd/postern": {"auth/signin", "bridge", "bridge/config", "bridge/control", "bridge/demo", "bridge/handin", "bridge/peers", "bridge/sample",
		"bridge/sandbox", "bridge/sendmail", "bridge/service", "bridge/users"},
	// So does the demo, beside a Microsoft 365 of our own.
	"bridge/demo": {"bridge", "bridge/config", "bridge/sandbox", "bridge/users"},

	// The command line asks in control's words and the queue answers in its own: whoever puts these into those knows both.
	"bridge/queueadmin": {"bridge/control", "bridge/queue"},

	// The store has a file in front of its tables.
	"bridge/queue/sqlite": {"bridge/queue", "bridge/queue/intake"},
	"bridge/queue/intake": {"-"},
	"bridge/service":      {"packaging"},

	// The key cabinet knows no mail.
	"auth":        {"auth/entra", "auth/vault"},
	"auth/entra":  {},
	"auth/signin": {},
	"auth/vault":  {},
}

// guests says which third-party modules may be imported, and where. Each library lives in one room.
var guests = map[string][]string{
	"github.com/emersion/go-smtp":           {"bridge/smtpd", "bridge/transport/smarthost"},
	"github.com/emersion/go-sasl":           {"bridge/smtpd", "bridge/transport/smarthost"},
	"golang.org/x/oauth2":                   {"auth/entra"},
	"github.com/golang-jwt/jwt":             {"auth/entra"},
	"github.com/microsoftgraph/msgraph-sdk": {"bridge/transport/graph"},
	"github.com/microsoft/kiota":            {"bridge/transport/graph"},
	"github.com/google/uuid":                {"bridge/transport/graph"},
	"github.com/BurntSushi/toml":            {"bridge/config"},
	"modernc.org/sqlite":                    {"bridge/queue/sqlite"},
	"github.com/alexedwards/argon2id":       {"bridge/users"},
	"github.com/spf13/cobra":                {"cmd/postern"},
	"github.com/spf13/pflag":                {"cmd/postern"},
	"gopkg.in/natefinch/lumberjack.v2":      {"bridge/logbook"},
	"github.com/kardianos/service":          {"bridge/service"},
	"go.yaml.in/yaml/v3":                    {"bridge/peers"},
	"software.sslmate.com/src/go-pkcs12":    {"bridge/certificate"},
	"golang.org/x/crypto/argon2":            {"bridge/users"}, // argon2id cannot check a hash without it
	"golang.org/x/term":                     {"cmd/postern"},
	"golang.org/x/sys":                      {"auth/vault", "bridge/control", "bridge/datadir", "bridge/origin", "cmd/postern", "bridge/service"},
	"golang.org/x/sync":                     {"auth"},
	"golang.org/x/text":                     {"bridge/message"},
	"golang.org/x/net/idna":                 {"bridge/envelope"},
}

// TestHouse reads every import of every file, for every platform: a violation cannot hide behind a build tag or the
// test cache. Test files may import more (a sandbox, another room's fake), but a room's code may not.
func TestHouse(t *testing.T) {
	root := ".."
	seen := 0
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && p != root || d.Name() == "testdata" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		rel, _ := filepath.Rel(root, p)
		room := path.Dir(filepath.ToSlash(rel))
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		seen++
		for _, im := range f.Imports {
			name, _ := strconv.Unquote(im.Path.Value)
			if why := refuse(room, name); why != "" {
				t.Errorf("%s imports %s: %s", filepath.ToSlash(rel), name, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Fatalf("read %d files only; is the house elsewhere?", seen)
	}
}

// refuse says why room may not import name, or "".
func refuse(room, name string) string {
	if ours, ok := strings.CutPrefix(name, "postern/"); ok {
		return refuseOurs(room, ours)
	}
	if !strings.Contains(strings.SplitN(name, "/", 2)[0], ".") {
		return "" // the standard library
	}
	for prefix, rooms := range guests {
		if strings.HasPrefix(name, prefix) {
			if slices.Contains(rooms, room) || strings.HasSuffix(room, "test") {
				return ""
			}
			return "that library lives in " + strings.Join(rooms, ", ")
		}
	}
	if strings.HasSuffix(room, "test") {
		return ""
	}
	return "that library has no room in the house; add it to guests with its one room"
}

func refuseOurs(room, ours string) string {
	may := household[room]
	if slices.Equal(may, []string{"-"}) {
		return "a word imports nothing of ours"
	}
	if slices.Contains(words, ours) && (!strings.HasPrefix(room, "auth") || strings.HasPrefix(ours, "auth/")) {
		return ""
	}
	if slices.Contains(may, ours) || strings.HasSuffix(room, "test") {
		return ""
	}
	if strings.HasPrefix(room, "auth") {
		return "the key cabinet knows no mail"
	}
	if slices.Contains(tools, ours) && !slices.Contains(tools, room) {
		return ""
	}
	return "rooms do not import rooms: declare an interface and let the hall hand it over"
}

// mapped are the hall's rooms that design.md section 3 has.
var mapped = []string{"bridge/config", "bridge/control", "bridge/queue", "bridge/queue/sqlite", "bridge/relay", "bridge/service", "bridge/smtpd",
	"bridge/submission", "bridge/transport/graph", "bridge/transport/smarthost", "bridge/users"}

// TestTheCardNamesEveryRoom: a room that the map lacks stands in the hall's card, and one that is gone does not.
func TestTheCardNamesEveryRoom(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "bridge.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for line := range strings.Lines(f.Doc.Text()) {
		if room, ok := strings.CutPrefix(line, "\t"); ok {
			named = append(named, "bridge/"+strings.Fields(room)[0])
		}
	}
	for _, room := range household["bridge"] {
		if strings.HasPrefix(room, "bridge/") && !slices.Contains(mapped, room) && !slices.Contains(named, room) {
			t.Errorf("the card of bridge.go does not name %s", room)
		}
	}
	for _, room := range named {
		if _, err := os.Stat(path.Join("..", room)); err != nil {
			t.Errorf("the card of bridge.go names %s: %v", room, err)
		}
	}
}

// TestHouseRefuses proves that TestHouse can fail.
func TestHouseRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, room, imports string
		refused             bool
	}{
		{"a room may use a word", "bridge/smtpd", "postern/bridge/envelope", false},
		{"a room may use a tool", "bridge/relay", "postern/bridge/message", false},
		{"a room may not use a room", "bridge/smtpd", "postern/bridge/queue", true},
		{"a word may not use a word", "bridge/reply", "postern/bridge/envelope", true},
		{"the key cabinet may not use a mail word", "auth/entra", "postern/bridge/reply", true},
		{"everybody may ask what a refusal means", "bridge/transport/graph", "postern/auth/diagnosis", false},
		{"the key cabinet may use its own word", "auth/entra", "postern/auth/token", false},
		{"a library stays in its room", "bridge/relay", "modernc.org/sqlite", true},
		{"an unknown library is refused", "bridge/smtpd", "github.com/unknown/thing", true},
		{"the standard library is free", "bridge/smtpd", "net/http", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if why := refuse(tc.room, tc.imports); (why != "") != tc.refused {
				t.Errorf("refuse(%q, %q) = %q; want refused %v", tc.room, tc.imports, why, tc.refused)
			}
		})
	}
}
