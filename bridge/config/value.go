package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"postern/bridge/envelope"
)

// The errors of this file say what is wrong and how it is written; none of them quotes the value.

// parseDuration reads "90s", "4h", "5d" or "1d12h": whole numbers of d, h, m and s, larger units first.
func parseDuration(s string) (time.Duration, error) {
	bad := errors.New(`not a duration; write it like "90s", "15m", "4h", "5d" or "1d12h"`)
	units := []struct {
		name byte
		size time.Duration
	}{{'d', day}, {'h', time.Hour}, {'m', time.Minute}, {'s', time.Second}}
	var sum time.Duration
	next := 0
	for rest := s; rest != "" || s == ""; {
		n, after, ok := leadingNumber(rest)
		if !ok || after == "" {
			return 0, bad
		}
		for next < len(units) && units[next].name != after[0] {
			next++
		}
		if next == len(units) {
			return 0, bad
		}
		unit := units[next].size
		if n > int64((math.MaxInt64-sum)/unit) {
			return 0, errors.New("longer than 292 years")
		}
		sum += time.Duration(n) * unit
		rest = after[1:]
		next++
	}
	return sum, nil
}

// leadingNumber takes decimal digits off s.
func leadingNumber(s string) (n int64, rest string, ok bool) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	n, err := strconv.ParseInt(s[:i], 10, 64)
	return n, s[i:], err == nil
}

var sizeUnits = map[string]int64{
	"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40,
}

// ParseSize reads a size as the file writes it, "35MB" (10^6) or "35MiB" (2^20), as octets.
func ParseSize(s string) (int64, error) { return parseSize(s) }

// parseSize reads "35MB" (10^6) or "35MiB" (2^20) as bytes.
func parseSize(s string) (int64, error) {
	n, unit, ok := leadingNumber(s)
	size := sizeUnits[strings.ToUpper(unit)]
	if !ok || size == 0 {
		return 0, errors.New(`not a size; write it like "35MB" (35,000,000 bytes), "35MiB" or "1GB"`)
	}
	if n > math.MaxInt64/size {
		return 0, errors.New("larger than any disk")
	}
	return n * size, nil
}

// parsePrefix reads a prefix or a single address. IPv4-mapped ones are unmapped, host bits cleared.
func parsePrefix(s string) (netip.Prefix, error) {
	bad := errors.New(`not a network; write it like "192.0.2.0/24", "192.0.2.31" or "2001:db8::/48"`)
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, bad
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, bad
	}
	if p.Addr().Is4In6() {
		// Clients are compared unmapped, so that a mapped prefix would hold nobody; a wider one mixes both families.
		if p.Bits() < 96 {
			return netip.Prefix{}, errors.New("an IPv4 address in IPv6 form with less than /96; write it as IPv4")
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

var loopback4 = netip.MustParsePrefix("127.0.0.0/8")

// holdsLoopback reports whether a client on this machine may have an address of p.
func holdsLoopback(p netip.Prefix) bool {
	return p.Overlaps(loopback4) || p.Contains(netip.IPv6Loopback())
}

// isLoopbackNetwork reports whether all addresses of p are this machine's own.
func isLoopbackNetwork(p netip.Prefix) bool {
	return p.Addr().IsLoopback() && (p.Addr().Is6() || p.Bits() >= loopback4.Bits())
}

// splitHostPort reads host:port with a port of least to 65535.
func splitHostPort(s string, least int) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, errors.New(`not host:port; write it like "127.0.0.1:25" or "[::1]:25"`)
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < least || port > 65535 || strings.Trim(p, "0123456789") != "" {
		return "", 0, fmt.Errorf("its port is not a number from %d to 65535", least)
	}
	return host, port, nil
}

// checkURL checks an endpoint: https, or http where allowHTTP is set and the host is loopback.
func checkURL(s string, allowHTTP bool) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return errors.New(`not a URL; write it like "https://login.example.com"`)
	case u.User != nil:
		return errors.New("a user name or password does not belong in a URL; remove it")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("an endpoint has no ? and no #; remove them")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return errors.New("must begin with https://")
	case !isLoopbackHost(u.Hostname()):
		return errors.New("http:// is only for endpoints on this machine, because tokens travel there; use https://")
	case !allowHTTP:
		return errors.New("must begin with https://; for the sandbox on this machine set allow_http = true")
	}
	return nil
}

func isLoopbackHost(h string) bool {
	if strings.EqualFold(h, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(h)
	return err == nil && a.Unmap().IsLoopback()
}

// checkProxy checks the URL of an HTTP proxy.
func checkProxy(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New(`not the URL of an HTTP proxy; write it like "http://proxy.example.com:3128"`)
	case u.User != nil:
		return errors.New("a password must not stand in this file; remove proxy and set the variable HTTPS_PROXY for the service")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("a proxy is a host and a port; remove what stands behind them")
	}
	return nil
}

// checkAddress checks a mail address, which needs its domain.
func checkAddress(s string) error {
	switch _, err := envelope.ParseAddress(s); {
	case errors.Is(err, envelope.ErrNoDomain):
		return errors.New(`not a mail address: it has no domain; write it like "name@example.com"`)
	case err != nil:
		// The parser names the character it stumbled over and no more; we do not even print that.
		return errors.New(`not a mail address; write it like "name@example.com", without a display name and angle brackets`)
	}
	return nil
}

// checkPattern checks an address, "*@domain" or "*".
func checkPattern(s string) error {
	domain, ok := strings.CutPrefix(s, "*@")
	switch {
	case s == "*":
		return nil
	case ok && checkDomain(domain) == nil:
		return nil
	case strings.Contains(s, "*"):
		return errors.New(`not a pattern; it is an address, "*@example.com" (without its sub-domains) or "*"`)
	}
	return checkAddress(s)
}

// checkDomain checks a domain or host name.
func checkDomain(s string) error {
	if _, err := envelope.ParseAddress("postmaster@" + s); err != nil || strings.HasPrefix(s, "[") {
		return errors.New(`not a domain name; write it like "mail.example.com"`)
	}
	return nil
}

// maxName is the length of a name in octets.
const maxName = 64

// checkName checks a name that is typed in commands and stands in logs.
func checkName(s string) error {
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r) {
			return errors.New(`a name has letters, digits, ".", "_" and "-" only`)
		}
	}
	if len(s) > maxName || strings.HasPrefix(s, "-") {
		return fmt.Errorf(`a name is not longer than %d octets and does not begin with "-"`, maxName)
	}
	return nil
}

// checkLogin checks the name that an application logs in with.
func checkLogin(s string) error {
	if strings.TrimSpace(s) != s || len(s) > 4*maxName {
		return fmt.Errorf("a user name has no blank at its ends and is not longer than %d octets", 4*maxName)
	}
	return nil
}

// checkGUID checks the form of 11111111-2222-3333-4444-555555555555.
func checkGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (s[i] == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
			return false
		}
	}
	return true
}

// Bounds of a hash. Beyond them it would stop the machine at every login, below them it protects nothing. RFC 9106
// section 3.1 has the lower ones of memory, passes and lanes.
const (
	maxHashMemory = 1 << 20 // KiB: 1 GiB
	maxHashPasses = 100
	minSalt       = 8
	minHash       = 16
	maxHash       = 1024
)

// checkHash checks an argon2id hash in PHC form: $argon2id$v=19$m=12288,t=3,p=1$salt$hash.
func checkHash(s string) error {
	bad := errors.New(`not an argon2id hash, and a password itself must not stand in this file; ` +
		`run: postern passwd, and write what it prints in single quotes`)
	part := strings.Split(s, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != "v=19" {
		return bad
	}
	params := strings.Split(part[3], ",")
	if len(params) != 3 {
		return bad
	}
	var n [3]int64
	for i, letter := range []string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(params[i], letter)
		v, rest, isNumber := leadingNumber(digits)
		if !ok || !isNumber || rest != "" {
			return bad
		}
		n[i] = v
	}
	strict := base64.RawStdEncoding.Strict()
	salt, err1 := strict.DecodeString(part[4])
	hash, err2 := strict.DecodeString(part[5])
	if err1 != nil || err2 != nil {
		return bad
	}
	const again = "; make a new one: postern passwd"
	switch m, t, p := n[0], n[1], n[2]; {
	case m > maxHashMemory:
		return errors.New("its hash asks for more than 1 GiB of memory at every login" + again)
	case t > maxHashPasses:
		return fmt.Errorf("its hash asks for more than %d passes at every login"+again, maxHashPasses)
	case t < 1 || p < 1 || p > 255 || m < 8*p:
		return errors.New("its hash has parameters that argon2id does not know" + again)
	case len(salt) < minSalt || len(hash) < minHash || len(salt) > maxHash || len(hash) > maxHash:
		return errors.New("its salt or hash is too short or too long" + again)
	}
	return nil
}
