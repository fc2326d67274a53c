package message

import (
	"errors"
	"net/mail"
	"strings"
	"testing"

	"postern/bridge/envelope"
)

// show writes entries as `name|address`, `name|!` where there is no address, with * for plain and + for in a group.
func show(l AddressList) string {
	var all []string
	for _, e := range l.Entries() {
		s := e.Name + "|" + e.Address.String()
		if e.Err != nil {
			s = e.Name + "|!"
		}
		if e.Plain {
			s += "*"
		}
		if e.Group {
			s += "+"
		}
		all = append(all, s)
	}
	return strings.Join(all, " / ")
}

func TestParseAddressList(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"an empty list", "", ""},
		{"blanks and a comment alone", " (nobody) ", ""},
		{"a bare address", "a@example.test", "|a@example.test*"},
		{"a name and an address", "Ann Other <a@example.test>", "Ann Other|a@example.test*"},
		{"a quoted name with comma and quotes", `"Other, \"Ann\"" <a@example.test>`, `Other, "Ann"|a@example.test*`},
		{"a comment for a name", "a@example.test (Ann (old) Other)", "Ann (old) Other|a@example.test*"},
		{"a dot in the name", "Ann B. Other <a@example.test>", "Ann B. Other|a@example.test*"},
		{"encoded words", "=?utf-8?q?J=C3=BCrgen?=\r\n =?iso-8859-1?B?TfxsbGVy?= <a@example.test>", "J\u00fcrgenM\u00fcller|a@example.test*"},
		{"an encoded word in Japanese", "=?iso-2022-jp?B?GyRCRnxLXBsoQg==?= <a@example.test>", "\u65e5\u672c|a@example.test*"},
		{"an encoded word in an unknown charset", "=?klingon?Q?Worf?= <a@example.test>", "=?klingon?Q?Worf?=|a@example.test*"},
		{"a raw Latin-1 name", "J\xfcrgen <a@example.test>", "J\u00fcrgen|a@example.test*"},
		{"a raw UTF-8 name", "J\u00fcrgen <a@example.test>", "J\u00fcrgen|a@example.test*"},
		{"a name that turns the text around", "=?utf-8?q?a=E2=80=AEb?= <a@example.test>", "a b|a@example.test*"},
		{"several, folded", "a@example.test,\r\n\tB <b@example.test>, c@example.test", "|a@example.test* / B|b@example.test* / |c@example.test*"},
		{"empty elements", ", a@example.test,, b@example.test,", "|a@example.test* / |b@example.test*"},
		{"semicolons as Outlook writes them", "a@example.test; b@example.test;", "|a@example.test* / |b@example.test*"},
		{"a group", "Team: a@example.test, B <b@example.test>;", "|a@example.test*+ / B|b@example.test*+"},
		{"an empty group", "undisclosed-recipients:;", ""},
		{"a group between mailboxes", "a@example.test, T: b@example.test;, c@example.test", "|a@example.test* / |b@example.test*+ / |c@example.test*"},
		{"a mailbox after a group without comma", "T: b@example.test; c@example.test", "|b@example.test*+ / |c@example.test*"},
		{"a group that does not end", "T: b@example.test", "|!+"},
		{"a group in a group", "T: U: b@example.test;;", "U: b@example.test|!+"},
		{"a quoted local part", `"a b"@example.test`, `|"a b"@example.test*`},
		{"a quoted local part that hides another address", `"x@evil.test,"@example.test`, `|"x@evil.test,"@example.test*`},
		{"quotes that are not needed", `"a"@example.test`, "|a@example.test*"},
		{"an IDN", "a@b\u00fccher.test", "|a@b\u00fccher.test*"},
		{"an address literal", "a@[192.0.2.1]", "|a@[192.0.2.1]*"},
		{"blanks around the at sign", "a @ example.test", "|a@example.test"},
		{"a comment within the address", "a(x)@example.test", "x|a@example.test"},
		{"a source route", "<@relay.test,@other.test:a@example.test>", "|a@example.test"},
		{"brackets in the name", "[Info] <a@example.test>", "[Info]|a@example.test"},
		{"the address as its own name", "a@example.test <a@example.test>", "a@example.test|a@example.test"},
		{"another address as a name", "ceo@example.test <a@example.test>", "ceo@example.test|!"},
		{"another address as a quoted name", `"ceo@example.test" <a@example.test>`, "ceo@example.test|a@example.test*"},
		{"a local part alone", "root", "root|!"},
		{"a local part alone with a comment", "root (Cron Daemon)", "Cron Daemon|!"},
		{"a local part alone in brackets", "Cron <root>", "Cron|!"},
		{"two words", "Office Scanner", "Office Scanner|!"},
		{"nothing in brackets", "Scanner <>", "Scanner|!"},
		{"two pairs of brackets", "<a@example.test> <b@example.test>", "a@example.test> <b@example.test|!"},
		{"text after the address", "<a@example.test> b", "a@example.test> b|!"},
		{"two at signs", "a@b@example.test", "a@b@example.test|!"},
		{"two dots", "a..b@example.test", "a..b@example.test|!"},
		{"a dot at the end of the domain", "a@example.test.", "a@example.test.|!"},
		{"an encoded word as an address", "=?utf-8?q?ceo?=@example.test", "ceo@example.test|!"},
		{"an encoded word that splits the address", "=?utf-8?q?ceo=40evil.test=3e?=@example.test", "ceo@evil.test>@example.test|!"},
		{"a quote that does not end", `"a <a@example.test>, b@example.test`, "a <a@example.test>, b@example.test|!"},
		{"a quote whose end is escaped", `"a\"`, `a\|!`},
		{"a comment that does not end", "(a <a@example.test>", "(a <a@example.test|!"},
		{"a bracket that does not end", "<a@example.test", "a@example.test|!"},
		{"a bracket that does not begin", "a@example.test>", "a@example.test|!"},
		{"a fullwidth at sign in the domain", "a@b\uff20example.test", "a@b\uff20example.test|!"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := show(parseAddressList([]byte(tc.in))); got != tc.want {
				t.Errorf("parseAddressList(%q) = %s; want %s", tc.in, got, tc.want)
			}
		})
	}
}

func TestEntryIn(t *testing.T) {
	for _, tc := range []struct{ name, in, domain, want string }{
		{"a full address keeps its domain", "a@example.test", "other.test", "a@example.test"},
		{"a local part gets the default domain", "Cron <root>", "example.test", "root@example.test"},
		{"without a default domain it stays alone", "root", "", ""},
		{"a quote whose end is escaped gets none", `"a\"`, "example.test", ""},
		{"two words get none", "Office Scanner", "example.test", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseAddressList([]byte(tc.in)).Entries()[0].In(tc.domain)
			if got.String() != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("In(%q) = %q, %v; want %q", tc.domain, got, err, tc.want)
			}
		})
	}
	if e := parseAddressList([]byte("root")).Entries()[0]; !errors.Is(e.Err, envelope.ErrNoDomain) {
		t.Errorf("Err = %v, want ErrNoDomain", e.Err)
	}
}

func TestEntryWith(t *testing.T) {
	a := envelope.Address{Local: "new", Domain: "example.test"}
	for _, tc := range []struct{ name, in, want string }{
		{"no name", "a@x.test", "new@example.test"},
		{"a plain name stays as written", "Ann  Other <a@x.test>", "Ann  Other <new@example.test>"},
		{"a quoted name stays as written", "\"Other,\r\n Ann\" <a@x.test>", `"Other, Ann" <new@example.test>`},
		{"encoded words stay as written", "=?iso-8859-1?Q?M=FCller?= <a@x.test>", "=?iso-8859-1?Q?M=FCller?= <new@example.test>"},
		{"a comment becomes the name", "a@x.test (Ann)", "Ann <new@example.test>"},
		{"a raw Latin-1 name is encoded", "M\xfcller <a@x.test>", "=?utf-8?q?M=C3=BCller?= <new@example.test>"},
		{"a name with a dot is quoted", "A. Other <a@x.test>", `"A. Other" <new@example.test>`},
		{"a name in brackets is quoted", "[Info] <a@x.test>", `"[Info]" <new@example.test>`},
		{"what is no address becomes the name", "Office Scanner", "Office Scanner <new@example.test>"},
		{"what is no address and no text becomes nothing", "<>", "new@example.test"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := parseAddressList([]byte(tc.in)).Entries()[0].With(a); got != tc.want {
				t.Errorf("With = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestMailboxString(t *testing.T) {
	a := envelope.Address{Local: "a", Domain: "b\u00fccher.test"}
	for _, tc := range []struct{ name, in, want string }{
		{"no name gives the address in IDNA form", "", "a@xn--bcher-kva.test"},
		{"atoms stay bare", "Ann Other", "Ann Other <a@xn--bcher-kva.test>"},
		{"specials are quoted", `Other, "Ann"`, `"Other, \"Ann\"" <a@xn--bcher-kva.test>`},
		{"what looks like an encoded word is quoted", "=?utf-8?q?x?=", `"=?utf-8?q?x?=" <a@xn--bcher-kva.test>`},
		{"other scripts are encoded words", "M\u00fcller", "=?utf-8?q?M=C3=BCller?= <a@xn--bcher-kva.test>"},
		{"other scripts with specials are base64", "M\u00fcller, A", "=?utf-8?b?TcO8bGxlciwgQQ==?= <a@xn--bcher-kva.test>"},
		{"controls leave", "a\r\nBcc: b\x00", `"a Bcc: b" <a@xn--bcher-kva.test>`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := (Mailbox{tc.in, a}).String(); got != tc.want {
				t.Errorf("String = %q, want %q", got, tc.want)
			}
		})
	}
	if got := (Mailbox{strings.Repeat("\u00fc", 500), a}).String(); len(got) > 1000 {
		t.Errorf("a long name gives %d octets", len(got))
	}
}

func FuzzAddressList(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	for _, s := range []string{`a@x.test, "b, c" <d@x.test>`, "G: a@x.test, b@x.test;, c@x.test", "a@x.test; b@x.test", "a..b@x.test", "=?utf-8?q?a?= <b@x.test>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		header, _, err := SplitHeader(strings.NewReader("To: "+in), 0)
		if err != nil {
			return
		}
		h, err := ParseHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		l := h.Fields[0].Addresses()
		if same, n := l.Filter(func(Entry) bool { return true }); n != 0 || !l.odd && string(same) != string(h.Fields[0].value()) {
			t.Fatalf("keeping all changed %q to %q", h.Fields[0].value(), same)
		}
		for _, e := range l.Entries() {
			checkEntry(t, e)
		}
		checkAgainstNetMail(t, h.Fields[0].Value(), l)
		// Every second leaves; the others stand in what is left, and nobody else.
		i, want := 0, ""
		rest, _ := l.Filter(func(e Entry) bool {
			i++
			if i%2 == 0 && e.Err == nil {
				want += e.Address.Key() + " "
				return true
			}
			return false
		})
		got := ""
		for _, e := range parseAddressList(rest).Entries() {
			got += e.Address.Key() + " "
		}
		if got != want {
			t.Fatalf("of %q stayed %q: %s, want %s", in, rest, got, want)
		}
	})
}

func checkEntry(t *testing.T, e Entry) {
	a := envelope.Address{Local: "new", Domain: "example.test"}
	with := e.With(a)
	if strings.ContainsAny(with, "\r\n\x00") || !isPrintable(with) {
		t.Fatalf("With gives %q", with)
	}
	again := parseAddressList([]byte(with)).Entries()
	if len(again) != 1 || again[0].Err != nil || again[0].Address != a || !again[0].Plain {
		t.Fatalf("With gives %q, which reads %+v", with, again)
	}
	if e.Err != nil && !e.Address.IsNull() {
		t.Fatalf("an error with an address: %+v", e)
	}
}

// checkAgainstNetMail compares with the standard library where both can read the list.
func checkAgainstNetMail(t *testing.T, value string, l AddressList) {
	theirs, err := mail.ParseAddressList(value)
	if err != nil || l.odd {
		return
	}
	var want, got []string
	for _, a := range theirs {
		parsed, err := envelope.ParseAddress(a.Address)
		if err != nil {
			return
		}
		want = append(want, parsed.Key())
	}
	for _, e := range l.Entries() {
		if e.Err != nil {
			return
		}
		got = append(got, e.Address.Key())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Fatalf("%q names %q; net/mail says %q", value, got, want)
	}
}
