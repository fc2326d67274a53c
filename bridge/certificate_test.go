package bridge

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"postern/bridge/certificate/certificatetest"
	"postern/bridge/config"
)

// TestWrongCertificates: a certificate or key that cannot be used is a mistake of the configuration, with its place; check
// finds it as the start does.
func TestWrongCertificates(t *testing.T) {
	keys := certificatetest.Keys()
	leaf := certificatetest.Certificate(t, keys[0], 100)
	good, key := certificatetest.PEM(leaf), certificatetest.KeyPEM(t, keys[0])
	pfx, err := pkcs12.Modern.Encode(keys[0], leaf, []*x509.Certificate{}, "secret")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		files map[string]string
		keys  string // of the listener
		want  string
	}{
		{"no certificate file", nil, "tls_cert = \"c.pem\"\ntls_key = \"c.pem\"", "tls_cert: {DIR}/c.pem cannot be read: "},
		{"no key file", map[string]string{"c.pem": good}, "tls_cert = \"c.pem\"\ntls_key = \"k.pem\"", "tls_key: {DIR}/k.pem cannot be read: "},
		{"a folder for a key", map[string]string{"c.pem": good}, "tls_cert = \"c.pem\"\ntls_key = \".\"", "tls_key: {DIR} cannot be read: "},
		{"a key of another certificate", map[string]string{"c.pem": good, "k.pem": certificatetest.KeyPEM(t, keys[1])}, "tls_cert = \"c.pem\"\ntls_key = \"k.pem\"", "tls_key: {DIR}/k.pem: "},
		{"a certificate that is none", map[string]string{"c.pem": "no", "k.pem": key}, "tls_cert = \"c.pem\"\ntls_key = \"k.pem\"", "tls_cert: {DIR}/c.pem: "},
		{"a key that is none", map[string]string{"c.pem": good, "k.pem": "no"}, "tls_cert = \"c.pem\"\ntls_key = \"k.pem\"", "tls_key: {DIR}/k.pem: "},
		{"one file without the key", map[string]string{"c.pem": good}, "tls_cert = \"c.pem\"\ntls_key = \"c.pem\"", "tls_key: {DIR}/c.pem: "},
		{"a PFX file with a password", map[string]string{"c.pfx": string(pfx)}, `tls_cert = "c.pfx"`, "tls_cert: certificate file {DIR}/c.pfx has a password"},
		{"a PFX file that is none", map[string]string{"c.pfx": "no"}, `tls_cert = "c.pfx"`, "tls_cert: certificate file {DIR}/c.pfx is not a PFX file"},
		{"one file with both", map[string]string{"c.pem": good + key}, "tls_cert = \"c.pem\"\ntls_key = \"c.pem\"", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tc.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			file := filepath.Join(dir, "postern.toml")
			text := "[bridge]\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"starttls\"\n" + tc.keys +
				"\n[[provider]]\nname = \"contoso\"\ntenant = \"contoso.test\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n" +
				"[[account]]\nname = \"erp\"\nprovider = \"contoso\"\nmailbox = \"erp@contoso.test\"\n[[user]]\nname = \"nav\"\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			want := "postern.toml:5: listener[1]." + strings.ReplaceAll(tc.want, "{DIR}", dir)
			for what, err := range map[string]error{"check": CheckFiles(cfg), "the start": start(t, cfg)} {
				var wrong *config.Mistakes
				if tc.want == "" && err == nil {
					continue
				}
				if !errors.As(err, &wrong) || len(wrong.List) != 1 || tc.want == "" || !strings.HasPrefix(err.Error(), want) {
					t.Errorf("%s says %v; want a mistake that begins with %q", what, err, want)
				}
			}
		})
	}
}

// start opens a bridge and closes it.
func start(t *testing.T, cfg *config.Config) error {
	b, err := New(t.Context(), cfg, Options{})
	if err != nil {
		return err
	}
	return b.close()
}
