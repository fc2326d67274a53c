package bridge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"postern/bridge/sandbox"
)

// appKeys are made once: an RSA key costs up to a second.
var appKeys = sync.OnceValue(func() (keys [2]*rsa.PrivateKey) {
	for i := range keys {
		keys[i], _ = rsa.GenerateKey(rand.Reader, 2048) // fails only where the machine has no randomness
	}
	return keys
})

// appCert makes a self-signed certificate for a key.
func appCert(t *testing.T, key any, days int) *x509.Certificate {
	t.Helper()
	var public any
	switch k := key.(type) {
	case *rsa.PrivateKey:
		public = &k.PublicKey
	case *ecdsa.PrivateKey:
		public = &k.PublicKey
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(int64(days)), Subject: pkix.Name{CommonName: "postern"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Duration(days) * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func certPEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func keyPEM(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestAppCertificates(t *testing.T) {
	keys := appKeys()
	one, two := appCert(t, keys[0], 100), appCert(t, keys[1], 400)
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
		{"certificate, then key", "c.pem", certPEM(one) + keyPEM(t, keys[0]), 1, ""},
		{"key of the old form, then certificate", "c.pem", pkcs1 + certPEM(one), 1, ""},
		{"two pairs in any order, for a roll-over", "c.pem", keyPEM(t, keys[1]) + certPEM(one) + certPEM(two) + keyPEM(t, keys[0]), 2, ""},
		{"a chain beside the pair", "c.pem", certPEM(two) + certPEM(one) + keyPEM(t, keys[0]), 1, ""},
		{"PFX with a chain", "c.PFX", pfx(""), 1, ""},
		{"PFX with a password", "c.pfx", pfx("secret"), 0, "has a password"},
		{"PFX that is none", "c.pfx", "no", 0, "is not a PFX file"},
		{"no key", "c.pem", certPEM(one), 0, "it has no key"},
		{"no certificate", "c.pem", "no", 0, "no certificate in PEM"},
		{"another's key", "c.pem", certPEM(one) + keyPEM(t, keys[1]), 0, "belongs to no certificate"},
		{"a key with a password", "c.pem", certPEM(one) + "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", 0, "has a password"},
		{"an elliptic curve, which Entra does not take", "c.pem", certPEM(appCert(t, curve, 9)) + keyPEM(t, curve), 0, "not RSA"},
		{"a key cut short", "c.pem", certPEM(one) + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0, "cannot be read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), tc.file)
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := appCertificates([]string{file})
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
	if _, err := appCertificates([]string{filepath.Join(t.TempDir(), "none.pem")}); err == nil {
		t.Error("a missing file was taken")
	}
}

const certificateConfig = `
[bridge]
hostname = "bridge.contoso.test"
data_dir = "data"

[[listener]]
address = "127.0.0.1:0"

{CONFIDENTIAL}
[[account]]
name = "app"
provider = "contoso"
mailbox = "erp@contoso.test"
signin = "app-only"
transport = "graph"

[[account]]
name = "person"
provider = "contoso"
mailbox = "svc@contoso.test"
transport = "smtp"

[[user]]
name = "graph"
password = '{HASH}'
account = "app"
sender = { mode = "account" }

[[user]]
name = "smtp"
password = '{HASH}'
account = "person"
sender = { mode = "account" }
`

// TestCertificateWalk sends by an app that has a certificate alone: app-only, and as a confidential client for a person.
// The newer certificate is not registered yet, as in the middle of a roll-over.
func TestCertificateWalk(t *testing.T) {
	keys := appKeys()
	registered, coming := appCert(t, keys[0], 10), appCert(t, keys[1], 400)
	w := newWorld(t, worldOptions{config: certificateConfig, unsigned: true, prepare: func(w *world) {
		app := sandbox.DefaultApps()[1]
		app.Secret, app.Certificates = "", []*x509.Certificate{registered}
		w.box.SetApp(app)
		file := filepath.Join(filepath.Dir(w.file), "roll-over.pem")
		text := certPEM(registered) + keyPEM(t, keys[0]) + certPEM(coming) + keyPEM(t, keys[1])
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := os.ReadFile(w.file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(config), "\n")
		for i, l := range lines {
			if strings.HasPrefix(l, "client_secret = ") {
				lines[i] = "certificate = 'roll-over.pem'"
			}
		}
		if err := os.WriteFile(w.file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}})
	if _, err := w.b.SignIn(t.Context(), "person", w.box.RefreshTokenFor(sandbox.ConfidentialClientID, "svc@contoso.test")); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"graph", "smtp"} {
		if err := w.submit(user, []string{"customer@example.test"}, invoice); err != nil {
			t.Fatal(err)
		}
	}
	got := w.wait(2)
	if by := got[0].Via + " " + got[1].Via; by != "graph smtp" && by != "smtp graph" {
		t.Errorf("mail went by %s; want each transport once", by)
	}
}
