package config

import (
	"errors"
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the .expected files")

// goldenCases returns what stands in a folder of testdata: NAME.toml, or NAME/postern.toml with its includes.
func goldenCases(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.toml"))
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := filepath.Glob(filepath.Join("testdata", folder, "*", "postern.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if files = append(files, dirs...); len(files) == 0 {
		t.Fatalf("testdata/%s has no cases", folder)
	}
	return files
}

// compareGolden holds got equal to the .expected file beside the case.
func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	golden := strings.TrimSuffix(strings.TrimSuffix(path, ".toml"), string(filepath.Separator)+"postern") + ".expected"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestMistakes(t *testing.T) {
	for _, path := range goldenCases(t, "mistakes") {
		t.Run(filepath.ToSlash(strings.TrimPrefix(path, "testdata")), func(t *testing.T) {
			_, err := Load(path)
			var m *Mistakes
			if !errors.As(err, &m) {
				t.Fatalf("Load = %v, want *Mistakes", err)
			}
			compareGolden(t, path, m.Error()+"\n")
		})
	}
}

func TestGood(t *testing.T) {
	for _, path := range goldenCases(t, "good") {
		t.Run(filepath.ToSlash(strings.TrimPrefix(path, "testdata")), func(t *testing.T) {
			c, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, w := range c.Warnings {
				b.WriteString(w.String() + "\n")
			}
			compareGolden(t, path, b.String())
		})
	}
}

// write makes a configuration of one file in a folder of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postern.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const someHash = "$argon2id$v=19$m=12288,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b+dWRJWTmaaJObGRdescudvJCs"

const minimal = `
[[listener]]
address = "127.0.0.1:25"
[[provider]]
name = "contoso"
tenant = "contoso.onmicrosoft.com"
client_id = "11111111-2222-3333-4444-555555555555"
[[account]]
name = "erp"
provider = "contoso"
mailbox = "erp@contoso.test"
[[user]]
name = "nav"
password = '` + someHash + `'
address = "nav@contoso.test"
`

func TestLoadFillsInWhatTheFileLeavesOpen(t *testing.T) {
	path := write(t, minimal)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Path = path
	want.Bridge.Hostname = machineName()
	want.Log.File = filepath.Join(want.Bridge.DataDir, "postern.log")
	l := defaultListener()
	l.Address, l.At = "127.0.0.1:25", Mistake{"postern.toml", 2, "listener[0]", ""}
	want.Listeners = []Listener{l}
	want.Providers = []Provider{{
		Name: "contoso", Type: "microsoft", Cloud: "global", Tenant: "contoso.onmicrosoft.com",
		ClientID:  "11111111-2222-3333-4444-555555555555",
		Authority: "https://login.microsoftonline.com", Graph: "https://graph.microsoft.com/v1.0",
		SMTP: "smtp.office365.com:587", SMTPTLS: "starttls", GraphResource: "https://graph.microsoft.com",
		SMTPScopeHost: "https://outlook.office.com", SMTPScopeHostAppOnly: "https://outlook.office365.com",
		UploadHosts: []string{"outlook.office.com", "outlook.office365.com"},
	}}
	a := defaultAccount()
	a.Name, a.Provider, a.Mailbox, a.Login, a.Default = "erp", "contoso", "erp@contoso.test", "erp@contoso.test", true
	want.Accounts = []Account{a}
	want.Users = []User{{
		Name: "nav", Passwords: []string{someHash}, Account: "erp", Address: "nav@contoso.test",
		MaySendAs: []string{"erp@contoso.test", "nav@contoso.test"}, DefaultSenders: true, MaySendTo: []string{"*"},
	}}
	if diff := cmp.Diff(&want, c, prefixes()); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
}

func prefixes() cmp.Option { return cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }) }

func TestLoadReadsEveryKey(t *testing.T) {
	c, err := Load(filepath.Join("testdata", "good", "full.toml"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs(filepath.Join("testdata", "good"))
	if err != nil {
		t.Fatal(err)
	}
	c.Warnings = nil
	want := &Config{
		Path: filepath.Join("testdata", "good", "full.toml"),
		Bridge: Bridge{Hostname: "bridge.contoso.test", DataDir: filepath.Join(dir, "data"), DefaultDomain: "contoso.test",
			Proxy: "http://proxy.contoso.test:3128", SendmailUser: "cron"},
		Log: Log{Level: -4, Format: "json", To: "file", File: filepath.Join(dir, "logs", "p.log"), MaxSize: 1 << 20, Keep: 3},
		Listeners: []Listener{
			{Address: "127.0.0.1:25", TLS: "none", MinTLS: "1.2", Auth: "optional", Networks: defaultListener().Networks,
				Tolerate: []string{}, MaxConnections: 200, MaxConnectionsPerAddress: 50, At: Mistake{"full.toml", 16, "listener[0]", ""}},
			{Address: ":587", TLS: "starttls", TLSCert: filepath.Join(dir, "cert.pem"), TLSKey: filepath.Join(dir, "key.pem"),
				MinTLS: "1.0", Auth: "required", Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
				Tolerate: []string{"old-tls", "plaintext-auth"}, MaxConnections: 20, MaxConnectionsPerAddress: 5,
				At: Mistake{"full.toml", 20, "listener[1]", ""}},
		},
		Providers: []Provider{{
			Name: "contoso", Type: "microsoft", Cloud: "usgov", Tenant: "99999999-2222-3333-4444-555555555555",
			ClientID: "11111111-2222-3333-4444-555555555555", ClientSecret: SecretRef{"file", filepath.Join(dir, "secret.txt")},
			ClientSecretExpires: time.Date(2027, 11, 3, 0, 0, 0, 0, time.UTC),
			Authority:           "http://127.0.0.1:8080", Graph: "https://graph.contoso.test/v1.0", SMTP: "[::1]:465",
			SMTPTLS: "implicit", CAFile: filepath.Join(dir, "ca.pem"), AllowHTTP: true,
			GraphResource: "https://graph.microsoft.us", SMTPScopeHost: "https://outlook.office365.us",
			SMTPScopeHostAppOnly: "https://outlook.office365.us", UploadHosts: []string{"outlook.office365.us"},
		}},
		Accounts: []Account{
			{Name: "erp", Provider: "contoso", Mailbox: "erp@contoso.test", Login: "svc@contoso.test", SignIn: "delegated",
				Transport: "graph", Drafts: "never", Default: true, MaxMessage: 150_000_000, Concurrency: 1,
				RecipientsPerDay: 5, OnDoubt: "hold", DoubtWait: 90 * time.Second},
			{Name: "app", Provider: "contoso", Mailbox: "app@contoso.test", Login: "app@contoso.test", SignIn: "app-only",
				Transport: "smtp", Drafts: "auto", MaxMessage: 35_000_000, RatePerMinute: 30, Concurrency: 3,
				RecipientsPerDay: 10_000, OnDoubt: "resend", DoubtWait: 10 * time.Minute},
		},
		Users: []User{
			{Name: "nav", Passwords: []string{someHash, someHash}, Networks: []netip.Prefix{
				netip.MustParsePrefix("192.0.2.31/32"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8::/48")},
				Account: "app", Address: "nav@contoso.test", MaySendAs: []string{"*@contoso.test"}, MaySendTo: []string{"*@contoso.test"},
				Sender: &Sender{Mode: "send-as", Address: "noreply@contoso.test", Name: "Contoso", ReplyTo: "original",
					Otherwise: "account"}, RatePerMinute: 10, MaxQueued: 20, MaxQueuedSize: 2_000_000_000, MaxRecipients: 30, MaxMessage: 1_000_000},
			{Name: "cron", Passwords: []string{someHash}, Account: "erp", MaySendTo: []string{"*"},
				MaySendAs: []string{"erp@contoso.test", "buyer@contoso.test"}, DefaultSenders: true,
				Sender: &Sender{Mode: "on-behalf", Address: "buyer@contoso.test", Otherwise: "refuse"}},
		},
		Queue: Queue{GiveUpAfter: 36 * time.Hour, WarnAfter: time.Hour, ParkLimit: 31 * day, KeepHistory: 7 * day,
			KeepFailed: time.Minute, KeepBodies: true, MinFreeDisk: 1 << 30, StopGrace: 5 * time.Second},
		Notify: Notify{To: []string{"it@contoso.test"}},
	}
	if diff := cmp.Diff(want, c, prefixes()); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
}

func TestLoadIncludesMainFirstThenSorted(t *testing.T) {
	c, err := Load(filepath.Join("testdata", "good", "includes", "postern.toml"))
	if err != nil {
		t.Fatal(err)
	}
	var users []string
	for _, u := range c.Users {
		users = append(users, u.Name)
	}
	if diff := cmp.Diff([]string{"main", "a", "b", "plain"}, users); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if want := 3 * time.Minute; c.Queue.StopGrace != want {
		t.Errorf("Queue.StopGrace = %v, want %v from the included file", c.Queue.StopGrace, want)
	}
	if want := filepath.Join("conf.d", "secret.txt"); !strings.HasSuffix(c.Providers[0].ClientSecret.Name, want) {
		t.Errorf("ClientSecret.Name = %q, want it relative to the file it stands in: .../%s", c.Providers[0].ClientSecret.Name, want)
	}
}

func TestLoadReadsTheSameFromEveryEncodingOfLineEnds(t *testing.T) {
	want, err := Load(write(t, minimal))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a BOM is accepted":                 "\xef\xbb\xbf" + minimal,
		"CRLF is accepted":                  strings.ReplaceAll(minimal, "\n", "\r\n"),
		"a last line without end is a line": strings.TrimRight(minimal, "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Load(write(t, text))
			if err != nil {
				t.Fatal(err)
			}
			got.Path = want.Path
			if diff := cmp.Diff(want, got, prefixes()); diff != "" {
				t.Errorf("Load (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadTellsTheSystemsRefusalFromAMistake(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "postern.toml"))
	var m *Mistakes
	if errors.As(err, &m) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of a missing file = %v, want fs.ErrNotExist and no *Mistakes", err)
	}
	if _, err = Load(t.TempDir()); err == nil || errors.As(err, &m) {
		t.Errorf("Load of a folder = %v, want an error that is no *Mistakes", err)
	}
}

// TestBombsAreRefusedBeforeTheDecoder would take gigabytes, or minutes, if the decoder saw these.
func TestBombsAreRefusedBeforeTheDecoder(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"a million open lists":            {"a = " + strings.Repeat("[", maxFile-10), "postern.toml:1: nested too deeply"},
		"a hundred thousand open tables":  {"a = " + strings.Repeat("{a=", 100_000), "postern.toml:1: nested too deeply"},
		"a key of half a million parts":   {"\n" + strings.Repeat("a.", maxFile/2-10) + "a = 1", "postern.toml:2: nested too deeply"},
		"a header of very many parts":     {"[" + strings.Repeat("a.", maxFile/2-10) + "a]", "postern.toml:1: nested too deeply"},
		"a very long key with many below": {"[" + strings.Repeat("a", maxFile/2) + "]\n" + strings.Repeat("a=1\n", 1000), "postern.toml:1: a key is longer"},
		"a file over 1 MiB":               {strings.Repeat("#", maxFile+1), "postern.toml:1: larger than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(write(t, tc.text))
			var m *Mistakes
			if !errors.As(err, &m) || len(m.List) != 1 || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("Load = %.200v, want one mistake: %s ...", err, tc.want)
			}
		})
	}
}
