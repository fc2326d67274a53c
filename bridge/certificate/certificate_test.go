package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"postern/bridge/certificate/certificatetest"
)

func TestApp(t *testing.T) {
	keys := certificatetest.Keys()
	one, two := certificatetest.Certificate(t, keys[0], 100), certificatetest.Certificate(t, keys[1], 400)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(keys[0])}))
	pfx := func(password string) string {
		b, err := pkcs12.Modern.Encode(keys[0], one, []*x509.Certificate{two}, password)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, tc := range []struct {
		name, file, text string
		want             int    // pairs
		err              string // ...or what the error says
	}{
		{"certificate, then key", "c.pem", certificatetest.PEM(one) + certificatetest.KeyPEM(t, keys[0]), 1, ""},
		{"key of the old form, then certificate", "c.pem", pkcs1 + certificatetest.PEM(one), 1, ""},
		{"two pairs in any order, for a roll-over", "c.pem", certificatetest.KeyPEM(t, keys[1]) + certificatetest.PEM(one) + certificatetest.PEM(two) + certificatetest.KeyPEM(t, keys[0]), 2, ""},
		{"a chain beside the pair", "c.pem", certificatetest.PEM(two) + certificatetest.PEM(one) + certificatetest.KeyPEM(t, keys[0]), 1, ""},
		{"PFX with a chain", "c.PFX", pfx(""), 1, ""},
		{"PFX with a password", "c.pfx", pfx("secret"), 0, "has a password"},
		{"PFX that is none", "c.pfx", "no", 0, "is not a PFX file"},
		{"no key", "c.pem", certificatetest.PEM(one), 0, "it has no key"},
		{"no certificate", "c.pem", "no", 0, "no certificate in PEM"},
		{"another's key", "c.pem", certificatetest.PEM(one) + certificatetest.KeyPEM(t, keys[1]), 0, "belongs to no certificate"},
		{"a key with a password", "c.pem", certificatetest.PEM(one) + "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", 0, "has a password"},
		{"an elliptic curve, which Entra does not take", "c.pem", certificatetest.PEM(certificatetest.Certificate(t, curve, 9)) + certificatetest.KeyPEM(t, curve), 0, "not RSA"},
		{"a key cut short", "c.pem", certificatetest.PEM(one) + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0, "cannot be read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), tc.file)
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := App([]string{file})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || !strings.Contains(err.Error(), file) {
					t.Fatalf("error %v; want one that says %q and names the file", err, tc.err)
				}
				return
			}
			if err != nil || len(got) != tc.want {
				t.Fatalf("%d pairs, error %v; want %d", len(got), err, tc.want)
			}
			for _, p := range got {
				if !p.Key.PublicKey.Equal(p.Leaf.PublicKey) {
					t.Error("a key stands with another's certificate")
				}
			}
		})
	}
	if _, err := App([]string{filepath.Join(t.TempDir(), "none.pem")}); err == nil {
		t.Error("a missing file was taken")
	}
}

// writeFile writes a file as it was at a time.
func writeFile(t *testing.T, path, text string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// TestRenewal: new files are taken without a restart, and half of them is not.
func TestRenewal(t *testing.T) {
	keys := certificatetest.Keys()
	old, fresh := certificatetest.Certificate(t, keys[0], 10), certificatetest.Certificate(t, keys[1], 90)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	now := time.Now()
	writeFile(t, cert, certificatetest.PEM(old), now)
	writeFile(t, key, certificatetest.KeyPEM(t, keys[0]), now)
	l, err := openListener(cert, key, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	want := func(what string, c *x509.Certificate) {
		t.Helper()
		got, err := l.get(nil)
		if err != nil || !bytes.Equal(got.Certificate[0], c.Raw) {
			t.Errorf("%s: another certificate, %v", what, err)
		}
	}
	want("as it was opened", old)
	writeFile(t, cert, certificatetest.PEM(fresh), now.Add(time.Second))
	now = now.Add(recheck)
	want("while the key is still the old one", old)
	writeFile(t, key, certificatetest.KeyPEM(t, keys[1]), now.Add(time.Second))
	want("before the files are looked at again", old)
	now = now.Add(recheck)
	want("when both are there", fresh)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	now = now.Add(recheck)
	want("when a file is gone", fresh)
}

func TestListenerFilesThatCannotBeUsed(t *testing.T) {
	keys := certificatetest.Keys()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		writeFile(t, path, text, time.Now())
		return path
	}
	cert := file("cert.pem", certificatetest.PEM(certificatetest.Certificate(t, keys[0], 10)))
	for _, tc := range []struct {
		name      string
		cert, key string
		wrongKey  bool
	}{
		{"no certificate file", cert + ".none", cert, false},
		{"no key file", cert, cert + ".none", true},
		{"a certificate that is none", file("no.pem", "no"), cert, false},
		{"a key of another certificate", cert, file("other.pem", certificatetest.KeyPEM(t, keys[1])), true},
		{"a PFX file that is none", file("no.pfx", "no"), "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Listener{Cert: tc.cert, Key: tc.key}.Open()
			var wrong *FileError
			if !errors.As(err, &wrong) || wrong.Key != tc.wrongKey || !strings.Contains(err.Error(), dir) {
				t.Errorf("Open = %v; want one that names the file, of the key: %v", err, tc.wrongKey)
			}
		})
	}
}

func TestListenerSpeaks(t *testing.T) {
	keys := certificatetest.Keys()
	file := filepath.Join(t.TempDir(), "both.pem")
	writeFile(t, file, certificatetest.PEM(certificatetest.Certificate(t, keys[0], 10))+certificatetest.KeyPEM(t, keys[0]), time.Now())
	for _, tc := range []struct {
		name    string
		l       Listener
		version uint16
		rsa     bool // key exchange without forward secrecy
	}{
		{"by default TLS 1.2 and what is strong", Listener{}, tls.VersionTLS12, false},
		{"old versions with what is strong", Listener{MinTLS: "1.0"}, tls.VersionTLS10, false},
		{"old ciphers where they are tolerated", Listener{OldTLS: true}, tls.VersionTLS12, true},
		{"TLS 1.3 alone", Listener{MinTLS: "1.3"}, tls.VersionTLS13, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.l.Cert, tc.l.Key = file, file
			c, err := tc.l.Open()
			if err != nil {
				t.Fatal(err)
			}
			rsa := false
			for _, suite := range c.CipherSuites {
				rsa = rsa || suite == tls.TLS_RSA_WITH_AES_128_CBC_SHA
			}
			if c.MinVersion != tc.version || rsa != tc.rsa || !c.SessionTicketsDisabled {
				t.Errorf("version %x, RSA key exchange %v, no tickets %v; want %x, %v, true", c.MinVersion, rsa, c.SessionTicketsDisabled, tc.version, tc.rsa)
			}
		})
	}
}
