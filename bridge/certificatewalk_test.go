package bridge

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/bridge/certificate/certificatetest"
	"postern/bridge/sandbox"
)

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
	keys := certificatetest.Keys()
	registered, coming := certificatetest.Certificate(t, keys[0], 10), certificatetest.Certificate(t, keys[1], 400)
	w := newWorld(t, worldOptions{config: certificateConfig, unsigned: true, prepare: func(w *world) {
		app := sandbox.DefaultApps()[1]
		app.Secret, app.Certificates = "", []*x509.Certificate{registered}
		w.box.SetApp(app)
		file := filepath.Join(filepath.Dir(w.file), "roll-over.pem")
		text := certificatetest.PEM(registered) + certificatetest.KeyPEM(t, keys[0]) + certificatetest.PEM(coming) + certificatetest.KeyPEM(t, keys[1])
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
