package envelope

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	l64, l65 := strings.Repeat("l", 64), strings.Repeat("l", 65)
	for _, tc := range []struct{ name, in, local, domain string }{
		{"a plain address", "a.b+c@example.test", "a.b+c", "example.test"},
		{"case is kept", "Ann@Example.Test", "Ann", "Example.Test"},
		{"a quoted local part is unquoted", `"a b@c,\"\\"@example.test`, `a b@c,"\`, "example.test"},
		{"a local part of 64 octets", l64 + "@example.test", l64, "example.test"},
		{"a host with an underscore", "a@win_host.test", "a", "win_host.test"},
		{"a host without a dot", "a@localhost", "a", "localhost"},
		{"an international domain", "a@b\u00fccher.test", "a", "b\u00fccher.test"},
		{"an international local part", "j\u00fcrgen@example.test", "j\u00fcrgen", "example.test"},
		{"an IPv4 literal", "a@[192.0.2.1]", "a", "[192.0.2.1]"},
		{"an IPv6 literal", "a@[IPv6:2001:db8::1]", "a", "[IPv6:2001:db8::1]"},
		{"a star for a wildcard mailbox", "*@example.test", "*", "example.test"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseAddress(tc.in)
			if err != nil || got.Local != tc.local || got.Domain != tc.domain {
				t.Fatalf("ParseAddress(%q) = %q at %q, %v; want %q at %q", tc.in, got.Local, got.Domain, err, tc.local, tc.domain)
			}
			if again, err := ParseAddress(got.String()); err != nil || again != got {
				t.Errorf("String gives %q, which parses as %+v, %v", got, again, err)
			}
		})
	}
	for _, tc := range []struct{ name, in string }{
		{"nothing", ""},
		{"no local part", "@example.test"},
		{"no domain after the at sign", "a@"},
		{"angle brackets", "<a@example.test>"},
		{"a display name", "Ann <a@example.test>"},
		{"a source route", "@relay.test:a@example.test"},
		{"two at signs", "a@b@example.test"},
		{"a local part of 65 octets", l65 + "@example.test"},
		{"a domain of 256 octets", "a@" + strings.Repeat("abcdefg.", 32)},
		{"a label of 64 octets", "a@" + strings.Repeat("a", 64) + ".test"},
		{"a dot first", ".a@example.test"},
		{"a dot last", "a.@example.test"},
		{"two dots", "a..b@example.test"},
		{"two dots in the domain", "a@example..test"},
		{"a dot at the end of the domain", "a@example.test."},
		{"an ideographic full stop at the end of the domain", "a@example.test\u3002"},
		{"a blank", "a b@example.test"},
		{"a tab in quotes", "\"a\tb\"@example.test"},
		{"a line feed", "a@example.test\nRCPT TO:<b@example.test>"},
		{"a carriage return in quotes", "\"a\rb\"@example.test"},
		{"a NUL", "a\x00@example.test"},
		{"a DEL", "a\x7f@example.test"},
		{"a C1 control", "a\u0085@example.test"},
		{"a byte order mark", "\ufeffa@example.test"},
		{"Latin-1", "j\xfcrgen@example.test"},
		{"an empty quoted string", `""@example.test`},
		{"a quote that does not end", `"a@example.test`},
		{"a backslash that quotes nothing", `"a\`},
		{"text after a quote", `"a"b@example.test`},
		{"an IPv4 literal out of range", "a@[192.0.2.256]"},
		{"an IPv6 literal with a zone", "a@[IPv6:fe80::1%eth0]"},
		{"an IPv6 literal without its tag", "a@[2001:db8::1]"},
		{"a literal that does not end", "a@[192.0.2.1"},
		{"text after a literal", "a@[192.0.2.1]x"},
		{"a fullwidth at sign in the domain", "a@b\uff20example.test"},
		{"a fullwidth bracket in the domain", "a@example.test\uff1e"},
		{"an ideographic blank in the domain", "a@example.test\u3000b"},
		{"a fullwidth comma in the domain", "a@b.test\uff0cc"},
	} {
		t.Run(tc.name+" is refused", func(t *testing.T) {
			if got, err := ParseAddress(tc.in); err == nil || got != (Address{}) {
				t.Errorf("ParseAddress(%q) = %+v, %v; want an error and the zero Address", tc.in, got, err)
			}
		})
	}
}

func TestParseAddressIn(t *testing.T) {
	for _, tc := range []struct{ name, in, domain, want string }{
		{"a local part gets the default domain", "root", "example.test", "root@example.test"},
		{"a quoted one too", `"a b"`, "example.test", `"a b"@example.test`},
		{"a full address keeps its own", "a@other.test", "example.test", "a@other.test"},
		{"nothing stays wrong", "", "example.test", ""},
		{"an at sign without domain stays wrong", "a@", "example.test", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseAddressIn(tc.in, tc.domain)
			if got.String() != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("ParseAddressIn(%q, %q) = %q, %v; want %q", tc.in, tc.domain, got, err, tc.want)
			}
		})
	}
	if _, err := ParseAddressIn("root", ""); !errors.Is(err, ErrNoDomain) {
		t.Errorf("without a default domain: %v, want ErrNoDomain", err)
	}
}

func TestAddressForms(t *testing.T) {
	for _, tc := range []struct {
		name, in, key, wire string
		ascii               bool
	}{
		{"the key is lower case, the wire form as written", "Ann@Example.Test", "ann@example.test", "Ann@example.test", true},
		{"an international domain is IDNA", "a@B\u00dcCHER.test", "a@xn--bcher-kva.test", "a@xn--bcher-kva.test", true},
		{"an international local part cannot be ASCII", "J\u00fcrgen@example.test", "j\u00fcrgen@example.test", "J\u00fcrgen@example.test", false},
		{"a Kelvin sign is no k", "\u212aARL@example.test", "\u212aarl@example.test", "\u212aARL@example.test", false},
		{"quotes stay where they are needed", `"A b"@example.test`, `"a b"@example.test`, `"A b"@example.test`, true},
		{"quotes leave where they are not", `"ab"@example.test`, "ab@example.test", "ab@example.test", true},
		{"fullwidth letters are the same domain", "a@\uff45xample.test", "a@example.test", "a@example.test", true},
		{"an address literal stays", "a@[IPv6:2001:DB8::1]", "a@[ipv6:2001:db8::1]", "a@[IPv6:2001:DB8::1]", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, err := ParseAddress(tc.in)
			if err != nil || a.Key() != tc.key || a.Wire() != tc.wire || a.ASCII() != tc.ascii {
				t.Errorf("Key %q, Wire %q, ASCII %v, %v; want %q, %q, %v", a.Key(), a.Wire(), a.ASCII(), err, tc.key, tc.wire, tc.ascii)
			}
		})
	}
	var null Address
	if !null.IsNull() || null.String() != "" || null.Key() != "" || null.Wire() != "" {
		t.Errorf("the null reverse-path: %q, %q, %q", null.String(), null.Key(), null.Wire())
	}
}

func TestAddressJSON(t *testing.T) {
	in := Envelope{ReversePath: Address{}, Recipients: []Address{{Local: "a b", Domain: "example.test"}}, SMTPUTF8: true}
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"reverse_path":"","recipients":["\"a b\"@example.test"],"smtputf8":true}`; string(data) != want {
		t.Errorf("JSON %s, want %s", data, want)
	}
	out := Envelope{ReversePath: Address{Local: "old", Domain: "old"}}
	if err := json.Unmarshal(data, &out); err != nil || !out.ReversePath.IsNull() || out.Recipients[0] != in.Recipients[0] {
		t.Errorf("back %+v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"reverse_path":"a@b\n"}`), &out); err == nil {
		t.Error("a line feed came through JSON")
	}
}

// TestPlainDomains holds isPlain against the profile: all that it takes for plain is its own IDNA form. A few letters at
// all places of short domains, and the lengths about the limits.
func TestPlainDomains(t *testing.T) {
	check := func(d string) bool {
		plain := isPlain(d)
		if ascii, err := profile.ToASCII(d); plain && (err != nil || ascii != d) {
			t.Errorf("%q is plain, and its IDNA form is %q, %v", d, ascii, err)
		}
		return plain
	}
	const letters = "ax0n9z-._AZ @\xc3\xbc\x00"
	plain := 0
	for length, d := 1, make([]byte, 5); length <= len(d); length++ {
		for n := range pow(len(letters), length) {
			for i := range length {
				d[i] = letters[n%len(letters)]
				n /= len(letters)
			}
			if check(string(d[:length])) {
				plain++
			}
		}
	}
	if plain < 10_000 {
		t.Errorf("only %d domains were plain", plain)
	}
	long := func(n int) string { return strings.Repeat("a", n) }
	for _, tc := range []struct {
		name, domain string
		plain        bool
	}{
		{"an ordinary name", "mail.example.test", true},
		{"a label of 63", long(63) + ".test", true},
		{"a label of 64", long(64) + ".test", false},
		{"a last label of 64", "test." + long(64), false},
		{"a name of 253", strings.Repeat(long(49)+".", 5) + "abc", true},
		{"a name of 254", strings.Repeat(long(49)+".", 5) + "abcd", false},
		{"an international label", "xn--bcher-kva.test", false},
		{"an international label that is none", "xn--a.test", false},
		{"hyphens at the third and fourth place", "ab--cd.test", false},
		{"nothing", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := check(tc.domain); got != tc.plain {
				t.Errorf("isPlain(%q) = %v", tc.domain, got)
			}
		})
	}
}

func pow(a, n int) int {
	all := 1
	for range n {
		all *= a
	}
	return all
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"a@b", `"a b\""@b.test`, "a@[192.0.2.1]", "a@[IPv6:::1]", "j\u00fcrgen@b\u00fccher.test", "a@b\uff20c.test", "a@b\u3002test", "a..b@c", "@", `"`, "a@xn--a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if ascii, err := profile.ToASCII(in); isPlain(in) && (err != nil || ascii != in) {
			t.Fatalf("%q is plain, and its IDNA form is %q, %v", in, ascii, err)
		}
		a, err := ParseAddress(in)
		if err != nil {
			return
		}
		for _, form := range []string{a.String(), a.Wire(), a.Key()} {
			again, err := ParseAddress(form)
			if err != nil {
				t.Fatalf("%q gives %q, which is refused: %v", in, form, err)
			}
			if again.Key() != a.Key() {
				t.Fatalf("%q has key %q, its form %q has %q", in, a.Key(), form, again.Key())
			}
			if strings.ContainsAny(form, "\r\n\x00") {
				t.Fatalf("a control in %q", form)
			}
		}
		if at := strings.LastIndexByte(a.Wire(), '@'); strings.ContainsAny(a.Wire()[at+1:], "<>, ;@\"()") {
			t.Fatalf("%q has wire form %q", in, a.Wire())
		}
	})
}
