package envelope

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of RFC 5321 section 4.5.3.1, in octets.
const (
	maxLocal  = 64
	maxDomain = 255
)

// ErrNoDomain is returned by ParseAddress for an address without "@".
var ErrNoDomain = errors.New("it has no domain")

// Address is one mailbox, checked when it was parsed. The zero value is the null reverse-path. Compare by Key, never by
// the struct: case and IDNA form differ between equal addresses.
type Address struct {
	Local  string // without quotes and backslashes: `a b`, not `"a b"`
	Domain string // as written; may be UTF-8, or an address literal in brackets
}

// ParseAddress parses a Mailbox (RFC 5321 section 4.1.2, RFC 6531 section 3.3): no angle brackets, no display name, no
// source route. A quoted local part is unquoted; NUL, CR, LF and other controls are refused everywhere. The error names
// what is wrong and never the whole input.
func ParseAddress(s string) (Address, error) {
	if !utf8.ValidString(s) {
		return Address{}, errors.New("it is not UTF-8")
	}
	if i := strings.IndexFunc(s, isControl); i >= 0 {
		return Address{}, fmt.Errorf("control character %#02x at position %d", s[i], i+1)
	}
	local, rest, err := cutLocal(s)
	if err != nil {
		return Address{}, err
	}
	if rest == "" {
		return Address{}, ErrNoDomain
	}
	domain := rest[1:]
	if err := checkDomain(domain); err != nil {
		return Address{}, err
	}
	return Address{Local: local, Domain: domain}, nil
}

// ParseAddressIn is ParseAddress for old applications that leave the domain away: an address without one gets
// defaultDomain. With an empty defaultDomain it returns ErrNoDomain.
func ParseAddressIn(s, defaultDomain string) (Address, error) {
	a, err := ParseAddress(s)
	if !errors.Is(err, ErrNoDomain) || defaultDomain == "" {
		return a, err
	}
	return ParseAddress(s + "@" + defaultDomain)
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0xfeff }

// cutLocal takes the local part off s; rest begins with "@", or is empty.
func cutLocal(s string) (local, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return cutQuoted(s)
	}
	at := strings.IndexByte(s, '@')
	if at < 0 {
		at = len(s)
	}
	local = s[:at]
	switch {
	case local == "":
		return "", "", errors.New("it has no local part")
	case len(local) > maxLocal:
		return "", "", fmt.Errorf("its local part is longer than %d octets", maxLocal)
	case local[0] == '.' || local[at-1] == '.' || strings.Contains(local, ".."):
		return "", "", errors.New("a dot stands at an end of its local part, or twice")
	}
	for _, r := range local {
		if r != '.' && !isAtext(r) {
			return "", "", fmt.Errorf("character %q in its local part", r)
		}
	}
	return local, s[at:], nil
}

// cutQuoted takes a Quoted-string off s and unquotes it (RFC 5321 section 4.1.2: qtextSMTP and quoted-pairSMTP).
func cutQuoted(s string) (local, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			rest = s[i+1:]
			if rest != "" && rest[0] != '@' {
				return "", "", errors.New("text between its quoted local part and the @")
			}
			if b.Len() == 0 || b.Len() > maxLocal {
				return "", "", fmt.Errorf("its local part is empty or longer than %d octets", maxLocal)
			}
			return b.String(), rest, nil
		case '\\':
			if i++; i == len(s) {
				return "", "", errors.New("its quoted local part does not end")
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", errors.New("its quoted local part does not end")
}

// isAtext is RFC 5321's atext with RFC 6531's UTF-8.
func isAtext(r rune) bool {
	if r >= 0x80 {
		return !isControl(r)
	}
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
		strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}

func checkDomain(d string) error {
	if len(d) == 0 || len(d) > maxDomain {
		return fmt.Errorf("its domain is empty or longer than %d octets", maxDomain)
	}
	if d[0] == '[' {
		return checkLiteral(d)
	}
	ascii, err := asciiDomain(d)
	if err != nil || strings.HasSuffix(ascii, ".") {
		return errors.New("its domain is not a domain name")
	}
	// The IDNA form is looked at too: mapping makes an at sign, a bracket or a blank of its fullwidth form, and a
	// command or header field written with that would name somebody else.
	for _, r := range d + ascii {
		// The underscore is no host name character (RFC 1123), but Windows hosts have it.
		if r < 0x80 && r != '.' && r != '-' && r != '_' && !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') {
			return fmt.Errorf("character %q in its domain", r)
		}
	}
	return nil
}

func checkLiteral(d string) error {
	lit, ok := strings.CutSuffix(d[1:], "]")
	if !ok {
		return errors.New("its address literal does not end in ]")
	}
	if v6, ok := strings.CutPrefix(strings.ToLower(lit), "ipv6:"); ok {
		if a, err := netip.ParseAddr(v6); err != nil || !a.Is6() || a.Zone() != "" {
			return errors.New("its address literal is not an IPv6 address")
		}
		return nil
	}
	if a, err := netip.ParseAddr(lit); err != nil || !a.Is4() {
		return errors.New("its address literal is not an IP address")
	}
	return nil
}

// profile allows underscores and refuses empty and over-long labels; idna.Lookup does neither.
var profile = idna.New(idna.MapForLookup(), idna.StrictDomainName(false), idna.Transitional(false), idna.VerifyDNSLength(true))

// asciiDomain returns the IDNA form of a domain. Almost every one is in it already, which can be seen without the tables.
func asciiDomain(d string) (string, error) {
	if isPlain(d) {
		return d, nil
	}
	return profile.ToASCII(d)
}

// isPlain reports whether a domain is of labels of lower-case letters, digits and single hyphens between them: no "xn--",
// nothing to be mapped, and no length that the profile refuses.
func isPlain(d string) bool {
	label, last := 0, byte('.')
	for i := range len(d) {
		c := d[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
		case (c == '-' || c == '.') && last != '-' && last != '.':
		default:
			return false
		}
		if label++; c == '.' {
			label = 0
		}
		if label > 63 {
			return false
		}
		last = c
	}
	return last != '-' && last != '.' && len(d) <= 253
}

// IsNull reports whether a is the null reverse-path "<>" (RFC 5321 section 4.5.5).
func (a Address) IsNull() bool { return a == Address{} }

// String returns the address as it is written in a path, the local part quoted where it must be; "" for null.
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	return quoteLocal(a.Local) + "@" + a.Domain
}

func quoteLocal(l string) string {
	plain := l != "" && l[0] != '.' && l[len(l)-1] != '.' && !strings.Contains(l, "..")
	for _, r := range l {
		plain = plain && (r == '.' || isAtext(r))
	}
	if plain {
		return l
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(l) + `"`
}

// Key returns the form that equal addresses share: lower case, the domain in IDNA ASCII. Exchange compares local parts
// without regard to case, and so do we. "" for null.
func (a Address) Key() string {
	if a.IsNull() {
		return ""
	}
	d, err := asciiDomain(a.Domain)
	if err != nil { // an address literal
		d = a.Domain
	}
	return quoteLocal(strings.Map(lower, a.Local)) + "@" + strings.ToLower(d)
}

// lower is unicode.ToLower but for what would turn into US-ASCII: the Kelvin sign is another local part than a "k".
func lower(r rune) rune {
	if l := unicode.ToLower(r); l >= 0x80 || r < 0x80 {
		return l
	}
	return r
}

// ASCII reports whether the address can go to a server without SMTPUTF8, given as Wire gives it.
func (a Address) ASCII() bool {
	for i := range len(a.Local) {
		if a.Local[i] >= 0x80 {
			return false
		}
	}
	return true
}

// Wire returns the address for an SMTP command: like String, with an international domain in IDNA ASCII.
func (a Address) Wire() string {
	if a.IsNull() {
		return ""
	}
	d, err := asciiDomain(a.Domain)
	if err != nil || a.Domain[0] == '[' {
		d = a.Domain
	}
	return quoteLocal(a.Local) + "@" + d
}

// MarshalText encodes the address as String does.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText decodes what MarshalText wrote; an empty text is the null reverse-path.
func (a *Address) UnmarshalText(text []byte) (err error) {
	*a = Address{}
	if len(text) == 0 {
		return nil
	}
	*a, err = ParseAddress(string(text))
	return err
}
