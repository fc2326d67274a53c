package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"90s", 90 * time.Second, true},
		{"15m", 15 * time.Minute, true},
		{"4h", 4 * time.Hour, true},
		{"5d", 120 * time.Hour, true},
		{"1d12h", 36 * time.Hour, true},
		{"1d2h3m4s", 26*time.Hour + 3*time.Minute + 4*time.Second, true},
		{"0s", 0, true},
		{"106751d", 106751 * day, true},
		{"106752d", 0, false},
		{"106751d23h59m59s", 0, false},
		{"99999999999999999999s", 0, false},
		{"", 0, false},
		{"5", 0, false},
		{"d", 0, false},
		{"12h1d", 0, false},
		{"1h1h", 0, false},
		{"-1h", 0, false},
		{"+1h", 0, false},
		{"1.5h", 0, false},
		{"1 h", 0, false},
		{"1H", 0, false},
		{"1ms", 0, false},
	} {
		got, err := parseDuration(tc.in)
		if got != tc.want || (err == nil) != tc.ok {
			t.Errorf("parseDuration(%q) = %v, %v; want %v, ok %v", tc.in, got, err, tc.want, tc.ok)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want int64
		ok   bool
	}{
		{"35MB", 35_000_000, true},
		{"35MiB", 35 << 20, true},
		{"1GB", 1_000_000_000, true},
		{"1gib", 1 << 30, true},
		{"7B", 7, true},
		{"8388607TiB", 8388607 << 40, true},
		{"8388608TiB", 0, false},
		{"", 0, false},
		{"35", 0, false},
		{"MB", 0, false},
		{"35M", 0, false},
		{"35 MB", 0, false},
		{"-1MB", 0, false},
		{"1.5GB", 0, false},
	} {
		got, err := parseSize(tc.in)
		if got != tc.want || (err == nil) != tc.ok {
			t.Errorf("parseSize(%q) = %d, %v; want %d, ok %v", tc.in, got, err, tc.want, tc.ok)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"a single address is a network of one", "192.0.2.31", "192.0.2.31/32"},
		{"a single IPv6 address too", "::1", "::1/128"},
		{"host bits are cleared", "192.0.2.31/24", "192.0.2.0/24"},
		{"a mapped address is unmapped", "::ffff:192.0.2.31", "192.0.2.31/32"},
		{"a mapped prefix is unmapped", "::ffff:192.0.2.31/120", "192.0.2.0/24"},
		{"a mapped prefix that holds IPv6 too is refused", "::ffff:192.0.2.31/95", ""},
		{"a zone is refused", "fe80::1%eth0", ""},
		{"a zone with a prefix is refused", "fe80::1%eth0/64", ""},
		{"a name is refused", "localhost", ""},
		{"nothing is refused", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parsePrefix(tc.in)
			if tc.want == "" && err == nil || tc.want != "" && (err != nil || got.String() != tc.want) {
				t.Errorf("parsePrefix(%q) = %v, %v; want %q", tc.in, got, err, tc.want)
			}
		})
	}
}

func TestCheckHash(t *testing.T) {
	salt, hash := "c29tZXNhbHRzb21lc2FsdA", "RdescudvJCsgt3ub+b+dWRJWTmaaJObGRdescudvJCs"
	for _, tc := range []struct {
		name, in string
		ok       bool
	}{
		{"ours is accepted", someHash, true},
		{"a stronger one is accepted", "$argon2id$v=19$m=1048576,t=100,p=8$" + salt + "$" + hash, true},
		{"a plain password is refused", "hunter2", false},
		{"argon2i is refused", "$argon2i$v=19$m=12288,t=3,p=1$" + salt + "$" + hash, false},
		{"another version is refused", "$argon2id$v=16$m=12288,t=3,p=1$" + salt + "$" + hash, false},
		{"memory over 1 GiB is refused", "$argon2id$v=19$m=1048577,t=3,p=1$" + salt + "$" + hash, false},
		{"memory beyond numbers is refused", "$argon2id$v=19$m=99999999999999999999,t=3,p=1$" + salt + "$" + hash, false},
		{"too many passes are refused", "$argon2id$v=19$m=12288,t=101,p=1$" + salt + "$" + hash, false},
		{"no lane is refused", "$argon2id$v=19$m=12288,t=3,p=0$" + salt + "$" + hash, false},
		{"less memory than lanes need is refused", "$argon2id$v=19$m=15,t=3,p=2$" + salt + "$" + hash, false},
		{"parameters in another order are refused", "$argon2id$v=19$t=3,m=12288,p=1$" + salt + "$" + hash, false},
		{"a negative parameter is refused", "$argon2id$v=19$m=-1,t=3,p=1$" + salt + "$" + hash, false},
		{"a short salt is refused", "$argon2id$v=19$m=12288,t=3,p=1$c2Fs$" + hash, false},
		{"a short hash is refused", "$argon2id$v=19$m=12288,t=3,p=1$" + salt + "$c2Fs", false},
		{"a very long hash is refused", "$argon2id$v=19$m=12288,t=3,p=1$" + salt + "$" + strings.Repeat("A", 4000), false},
		{"padding is refused", "$argon2id$v=19$m=12288,t=3,p=1$" + salt + "==$" + hash, false},
		{"a seventh part is refused", someHash + "$", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := checkHash(tc.in)
			if (err == nil) != tc.ok {
				t.Errorf("checkHash = %v, want ok %v", err, tc.ok)
			}
		})
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"address", "tls_cert", "auth", "max_connections"}
	for in, want := range map[string]string{
		"adress": "address", "Address": "address", "addres": "address", "tls-cert": "tls_cert", "tlscert": "tls_cert",
		"auht": "auth", "maxconnections": "max_connections", "colour": "", "x": "", "": "", "1.2": "",
		strings.Repeat("a", maxKey+1): "",
	} {
		if got := suggest(in, known); got != want {
			t.Errorf("suggest(%.20q) = %q, want %q", in, got, want)
		}
	}
}

// TestNoTextQuotesAValue gives each key a value that is wrong in many ways, and looks for it in what is reported.
func TestNoTextQuotesAValue(t *testing.T) {
	const canary = "s3cr3t"
	values := []string{
		`"` + canary + ` !"`, `'` + canary + `'`, `["` + canary + ` !", "x"]`, `{ mode = "` + canary + `" }`, `"` + canary + `@@x"`,
		`"*@` + canary + ` "`, `"https://u:` + canary + `@x"`, `"http://` + canary + `"`, `"` + canary + `:99999"`, `"env:` + canary + ` "`,
		`"vault:` + canary + `/"`, `"$argon2id$v=19$m=1,t=1,p=1$` + canary + `$` + canary + `"`, `">` + canary + `"`, `"\u0007` + canary + `"`,
		`"C:\p` + canary + `"`, canary, canary + ` = 1`, `"` + canary, `[` + canary, `{` + canary + `}`, `2027-99-` + canary, `1` + canary,
		"\u201c" + canary + "\u201d", `"""` + canary, `0x` + canary, `-` + canary, `"\x` + canary + `"`,
	}
	for kind, keys := range manual() {
		if strings.Contains(kind, ".") {
			continue
		}
		for _, key := range keys {
			for _, value := range values {
				head := "[" + kind + "]"
				if isArray[kind] {
					head = "[" + head + "]"
				}
				c, err := Load(write(t, fmt.Sprintf("%s\n%s = %s\n", head, key, value)))
				if err == nil {
					t.Fatalf("%s.%s = %s loads: %v", kind, key, value, c.Warnings)
				}
				var m *Mistakes
				if !errors.As(err, &m) {
					t.Fatalf("%s.%s = %s: Load = %v, want *Mistakes", kind, key, value, err)
				}
				// The one value that may be printed is a provider's valid name: the remedy's vault entry.
				if strings.Contains(err.Error(), canary) {
					t.Errorf("%s.%s = %s is quoted:\n%v", kind, key, value, err)
				}
			}
		}
	}
}

func TestEveryCloudHasItsEndpoints(t *testing.T) {
	if len(cloudNames) != len(clouds) {
		t.Errorf("%d names for %d clouds", len(cloudNames), len(clouds))
	}
	for _, name := range cloudNames {
		p := Provider{Cloud: name}
		fillEndpoints(&p)
		for _, u := range []string{p.Authority, p.Graph, p.GraphResource, p.SMTPScopeHost, p.SMTPScopeHostAppOnly} {
			if checkURL(u, false) != nil || strings.HasSuffix(u, "/") {
				t.Errorf("cloud %s: endpoint %q is not an https URL without a final slash", name, u)
			}
		}
		if !strings.HasPrefix(p.Graph, p.GraphResource+"/") {
			t.Errorf("cloud %s: Graph %q is not at its resource %q", name, p.Graph, p.GraphResource)
		}
		if len(p.UploadHosts) == 0 {
			t.Errorf("cloud %s: nowhere to upload to", name)
		}
		if p.SMTP == "" != (name == "usgov-dod") {
			t.Errorf("cloud %s: SMTP = %q", name, p.SMTP)
		}
	}
}

func TestUsersGetTheirDefaultsFromTheAccount(t *testing.T) {
	c, err := Load(write(t, minimal+`
sender = { mode = "send-as", address = "noreply@contoso.test" }
[[user]]
name = "nobody"
may_send_as = []
may_send_to = []
password = '`+someHash+`'
[[user]]
name = "same"
address = "ERP@contoso.test"
password = '`+someHash+`'
`))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]string{{"erp@contoso.test", "nav@contoso.test", "noreply@contoso.test"}, {}, {"erp@contoso.test"}} {
		if got := c.Users[i].MaySendAs; !slices.Equal(got, want) || got == nil {
			t.Errorf("user %q: MaySendAs = %q, want %q", c.Users[i].Name, got, want)
		}
	}
	if got := c.Users[1].MaySendTo; len(got) != 0 {
		t.Errorf("MaySendTo = %q, want none as the file says", got)
	}
}

func TestSocketKey(t *testing.T) {
	for _, tc := range []struct{ name, a, b string }{
		{"a name and its address", "localhost:25", "127.0.0.1:25"},
		{"no host, and every address as the system writes it", ":25", "[::]:25"},
		{"an address of version 4 in one of version 6", "[::ffff:127.0.0.1]:25", "127.0.0.1:25"},
		{"zeros that may be left out", "[0:0::1]:25", "[::1]:25"},
	} {
		if a, b := SocketKey(tc.a), SocketKey(tc.b); a != b || a == "" {
			t.Errorf("%s: %q and %q", tc.name, a, b)
		}
	}
	for _, address := range []string{"127.0.0.1:0", "", "127.0.0.1"} {
		if key := SocketKey(address); key != "" {
			t.Errorf("SocketKey(%q) = %q; want none", address, key)
		}
	}
	if SocketKey("127.0.0.1:25") == SocketKey("127.0.0.1:587") || SocketKey("127.0.0.1:25") == SocketKey("127.0.0.2:25") {
		t.Error("two sockets have one key")
	}
}
