package bridge

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tlsConfig has a listener with TLS as it is by default, one with old-tls, one with old ciphers alone, and one that
// speaks STARTTLS with old-tls.
const tlsConfig = `
[bridge]
hostname = "bridge.contoso.test"
data_dir = "data"

[[listener]]
address = "127.0.0.1:0"
tls = "implicit"
tls_cert = "{DIR}/cert.pem"
tls_key = "{DIR}/key.pem"

[[listener]]
address = "127.0.0.1:0"
tls = "implicit"
tls_cert = "{DIR}/cert.pem"
tls_key = "{DIR}/key.pem"
tolerate = ["old-tls"]

[[listener]]
address = "127.0.0.1:0"
tls = "implicit"
tls_cert = "{DIR}/cert.pem"
tls_key = "{DIR}/key.pem"
tolerate = ["old-tls"]
min_tls = "1.2"

[[listener]]
address = "127.0.0.1:0"
tls = "starttls"
tls_cert = "{DIR}/cert.pem"
tls_key = "{DIR}/key.pem"
tolerate = ["old-tls"]

{PROVIDER}
[[account]]
name = "by-graph"
provider = "contoso"
mailbox = "erp@contoso.test"

[[user]]
name = "nav"
password = '{HASH}'
`

// tlsWorld returns the addresses of the listeners of tlsConfig.
func tlsWorld(t *testing.T) (standard, old, oldCiphers, oldStartTLS string) {
	dir := t.TempDir()
	writeCertificate(t, dir)
	w := newWorld(t, worldOptions{unsigned: true, config: strings.ReplaceAll(tlsConfig, "{DIR}", filepath.ToSlash(dir))})
	var addrs []string
	for _, a := range w.b.Addrs() {
		addrs = append(addrs, a.String())
	}
	return addrs[0], addrs[1], addrs[2], addrs[3]
}

// writeCertificate writes cert.pem and key.pem for bridge.contoso.test, with an RSA key as old clients need one.
func writeCertificate(t *testing.T, dir string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bridge.contoso.test"},
		DNSNames: []string{"bridge.contoso.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWhatTLSIsSpoken asks for every cipher suite there is, at every version, and lists what the listener takes: by hand,
// because no library offers what is broken any more.
func TestWhatTLSIsSpoken(t *testing.T) {
	standard, old, oldCiphers, _ := tlsWorld(t)
	strong := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256}
	cbc := []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA}
	both := slices.Concat(strong, cbc)
	for _, tc := range []struct {
		name, addr string
		want       map[uint16][]uint16 // by version
	}{
		{"by default TLS 1.2 with forward secrecy and authenticated encryption", standard, map[uint16][]uint16{tls.VersionTLS12: strong}},
		{"with old-tls from 1.0 on, and AES-CBC, never 3DES or RC4", old,
			map[uint16][]uint16{tls.VersionTLS10: cbc, tls.VersionTLS11: cbc, tls.VersionTLS12: both}},
		{"with old-tls and min_tls 1.2 the ciphers alone", oldCiphers, map[uint16][]uint16{tls.VersionTLS12: both}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, version := range []uint16{0x0300, tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12} {
				got, want := suitesOf(t, tc.addr, version), slices.Clone(tc.want[version])
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("%s: %s; want %s", tls.VersionName(version), suiteNames(got), suiteNames(want))
				}
			}
			c, err := tls.Dial("tcp", tc.addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
			if err != nil {
				t.Fatalf("TLS 1.3: %v", err)
			}
			c.Close()
		})
	}
}

func suiteNames(ids []uint16) string {
	var names []string
	for _, id := range ids {
		names = append(names, tls.CipherSuiteName(id))
	}
	return fmt.Sprint(names)
}

// suitesOf lists what a server takes at one version: each answer is taken off the next offer, until none is answered.
func suitesOf(t *testing.T, addr string, version uint16) (taken []uint16) {
	t.Helper()
	var offer []uint16
	for id := 1; id <= 0xff; id++ {
		offer = append(offer, uint16(id), 0xc000|uint16(id))
	}
	for id := 0xcc13; id <= 0xccae; id++ {
		offer = append(offer, uint16(id))
	}
	offer = slices.DeleteFunc(offer, func(id uint16) bool { return id == 0xff }) // says that renegotiation is secure; no cipher
	for {
		suite, ok := serverHello(t, addr, version, offer)
		if !ok {
			return taken
		}
		if taken = append(taken, suite); len(taken) > len(offer) {
			t.Fatalf("the server takes %#x again", suite)
		}
		offer = slices.DeleteFunc(offer, func(id uint16) bool { return id == suite })
	}
}

// serverHello sends a ClientHello of exactly that version and returns the suite that the server chose; false where it
// refused.
func serverHello(t *testing.T, addr string, version uint16, suites []uint16) (suite uint16, ok bool) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(clientHello(version, suites)); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 5)
	if _, err := io.ReadFull(c, head); err != nil || head[0] != 22 { // an alert, or closed
		return 0, false
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(c, body); err != nil || len(body) < 44 || body[0] != 2 {
		t.Fatalf("no ServerHello: %x (%v)", body, err)
	}
	if got := binary.BigEndian.Uint16(body[4:]); got != version {
		return 0, false // a newer version than asked for is none of ours
	}
	id := 38 + 1 + int(body[38])
	return binary.BigEndian.Uint16(body[id:]), true
}

// clientHello is RFC 5246 section 7.4.1.2 with the extensions that elliptic curves and signatures need.
func clientHello(version uint16, suites []uint16) []byte {
	u16 := binary.BigEndian.AppendUint16
	list := func(b []byte) []byte { return append(u16(nil, uint16(len(b))), b...) }
	extension := func(id uint16, b []byte) []byte { return append(u16(nil, id), list(b)...) }
	var ciphers, algorithms []byte
	for _, s := range suites {
		ciphers = u16(ciphers, s)
	}
	for _, a := range []uint16{0x0804, 0x0401, 0x0501, 0x0601, 0x0201, 0x0403, 0x0203} {
		algorithms = u16(algorithms, a)
	}
	body := u16(nil, version)
	body = append(body, bytes.Repeat([]byte{7}, 32)...)
	body = append(body, 0) // no session
	body = append(body, list(ciphers)...)
	body = append(body, 1, 0) // no compression
	body = append(body, list(slices.Concat(
		extension(10, list([]byte{0, 29, 0, 23})), extension(11, []byte{1, 0}), extension(13, list(algorithms)), extension(0xff01, []byte{0})))...)
	message := append([]byte{1, 0}, list(body)...)
	return append(u16([]byte{22, 3, 1}, uint16(len(message))), message...)
}

// TestOldTLSWithOpenSSL: a client of that time, as near as today's openssl comes to one.
func TestOldTLSWithOpenSSL(t *testing.T) {
	needs(t, "openssl")
	standard, old, _, oldStartTLS := tlsWorld(t)
	for _, tc := range []struct {
		name string
		args []string
		want string // in what it prints; "" where it must fail
	}{
		{"TLS 1.0 with RSA key exchange", []string{"-connect", old, "-tls1", "-cipher", "AES128-SHA@SECLEVEL=0"}, "AES128-SHA"},
		{"TLS 1.0 after STARTTLS", []string{"-connect", oldStartTLS, "-starttls", "smtp", "-tls1", "-cipher", "AES256-SHA@SECLEVEL=0"}, "AES256-SHA"},
		{"TLS 1.1", []string{"-connect", old, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"}, "ECDHE-RSA-AES"},
		{"TLS 1.0 without old-tls", []string{"-connect", standard, "-tls1", "-cipher", "ALL@SECLEVEL=0"}, ""},
		{"RSA key exchange without old-tls", []string{"-connect", standard, "-tls1_2", "-cipher", "kRSA@SECLEVEL=0"}, ""},
		{"AES-CBC without old-tls", []string{"-connect", standard, "-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA@SECLEVEL=0"}, ""},
		{"TLS 1.3", []string{"-connect", standard, "-tls1_3"}, "TLS_AES_128_GCM_SHA256"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "openssl", append([]string{"s_client", "-brief", "-crlf"}, tc.args...)...)
			cmd.Stdin = strings.NewReader("QUIT\n")
			out, err := cmd.CombinedOutput()
			if tc.want == "" && err == nil || !strings.Contains(string(out), tc.want) {
				t.Errorf("openssl ended with %v and printed:\n%s", err, out)
			}
		})
	}
}

// TestTestSSL runs testssl.sh, which takes a minute, against the standard listener: nothing that it calls weak, but what a
// certificate that we made ourselves lacks. POSTERN_TESTSSL=1 runs it; it prints every finding.
func TestTestSSL(t *testing.T) {
	if os.Getenv("POSTERN_TESTSSL") == "" {
		t.Skip("set POSTERN_TESTSSL=1")
	}
	needs(t, "testssl")
	standard, old, _, _ := tlsWorld(t)
	for _, tc := range []struct{ name, addr string }{{"standard", standard}, {"old-tls", old}} {
		file := filepath.Join(t.TempDir(), "findings.csv")
		out, _ := exec.CommandContext(t.Context(), "testssl", "--quiet", "--color", "0", "--warnings", "off", "--severity", "LOW",
			"--csvfile", file, tc.addr).CombinedOutput() // its status counts findings
		found, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("testssl wrote nothing: %v\n%s", err, out)
		}
		for _, l := range strings.Split(strings.TrimSpace(string(found)), "\n")[1:] {
			field := strings.Split(l, `","`) // id, host, port, severity, finding
			if len(field) < 5 || !slices.Contains([]string{"LOW", "MEDIUM", "HIGH", "CRITICAL"}, field[3]) {
				continue
			}
			t.Logf("%s: %s %s: %s", tc.name, field[3], field[0][1:], field[4])
			if tc.name == "standard" && !strings.HasPrefix(field[0], `"cert`) && !strings.HasPrefix(field[0], `"DNS`) {
				t.Errorf("weak: %s", l)
			}
		}
	}
}
