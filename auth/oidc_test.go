package auth

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/auth/entra"
	"postern/auth/signin"
	"postern/auth/token"
	"postern/auth/vault"
)

// oidcProvider is npm's oidc-provider in a process of its own: a server that is not ours, rotates refresh tokens, and
// revokes the whole family when one is used twice.
type oidcProvider struct {
	authority string
	cert      entra.Certificate
}

// nodeModules is where .ci/install puts what npm brings.
func nodeModules(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("POSTERN_NODE_MODULES")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "postern-node")
	}
	dir = filepath.Join(dir, "node_modules")
	for _, need := range []string{"oidc-provider", "node/bin/node"} {
		if _, err := os.Stat(filepath.Join(dir, need)); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing; .ci/install installs it", need)
			}
			t.Skipf("%s is missing; .ci/install installs it", need)
		}
	}
	return dir
}

func startOIDCProvider(t *testing.T) *oidcProvider {
	t.Helper()
	modules := nodeModules(t)
	p := &oidcProvider{}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postern"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	p.cert = entra.Certificate{Leaf: c, Key: key}
	sum := sha256.Sum256(der)
	enc := base64.RawURLEncoding
	jwk, err := json.Marshal(map[string]string{"kty": "RSA", "alg": "PS256", "use": "sig", "x5t#S256": enc.EncodeToString(sum[:]),
		"n": enc.EncodeToString(key.N.Bytes()), "e": enc.EncodeToString(big.NewInt(int64(key.E)).Bytes())})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	p.authority = "http://127.0.0.1:" + port

	cmd := exec.Command(filepath.Join(modules, "node", "bin", "node"), "testdata/oidc-provider.mjs", modules, port, string(jwk))
	stdin, err := cmd.StdinPipe() // its end is the server's
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
		if t.Failed() {
			t.Logf("oidc-provider said:\n%s", said.String())
		}
	})
	for s := bufio.NewScanner(stdout); s.Scan(); {
		if s.Text() == "ready" {
			go io.Copy(io.Discard, stdout) // ends with the process
			return p
		}
	}
	cmd.Wait()
	t.Fatalf("oidc-provider did not start:\n%s", said.String())
	return nil
}

// client is the app registration of that name.
func (p *oidcProvider) client(t *testing.T, id string) *entra.Client {
	t.Helper()
	c := entra.Config{Provider: "oidc", Cloud: globalCloud, Authority: p.authority, Tenant: "tenant", ClientID: id, HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	switch id {
	case "secret":
		c.Secret = func() (token.Secret, error) { return "a~secret+with/odd=characters&", nil }
	case "signed":
		c.Certificates = func() ([]entra.Certificate, error) { return []entra.Certificate{p.cert}, nil }
	}
	client, err := entra.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// cabinet opens a cabinet on dir, with a person's account and, unless the app is public, an app-only one.
func (p *oidcProvider) cabinet(t *testing.T, id, dir string) *Accounts {
	t.Helper()
	v, err := vault.Open(dir, vault.Options{Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Options{Providers: map[string]Provider{"oidc": p.client(t, id)}, Vault: v, Accounts: []Account{
		{Name: "person", Provider: "oidc", Login: "erp@contoso.test", Resources: both},
		{Name: "app", Provider: "oidc", AppOnly: true, Resources: both}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(context.Background()) })
	return a
}

// browse follows the sign-in as a browser would, and returns the code that comes to the redirect URI.
func browse(t *testing.T, authorize string) token.Secret {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var code string
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if r.URL.Hostname() == "localhost" || len(via) > 10 {
			code = r.URL.Query().Get("code")
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := browser.Get(authorize)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if code == "" {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("no code came: %s %s\n%.600s", resp.Status, resp.Header.Get("Location"), b)
	}
	return token.Secret(code)
}

// oidcSignIn signs the person in by authorization code and PKCE.
func oidcSignIn(t *testing.T, a *Accounts) {
	t.Helper()
	offer, _, err := a.Offer("person")
	if err != nil {
		t.Fatal(err)
	}
	try := signin.NewAttempt("http://localhost:54321/")
	authorize, err := try.URL(offer.Authorize)
	if err != nil {
		t.Fatal(err)
	}
	result, err := a.Redeem(t.Context(), "person", token.Proof{Code: browse(t, authorize), Verifier: try.Verifier, RedirectURI: try.RedirectURI})
	if err != nil || len(result.Works) != 2 || result.User != "erp@contoso.test" {
		t.Fatalf("Redeem = %+v, %v; want both resources, as erp@contoso.test", result, err)
	}
}

func wantToken(t *testing.T, a *Accounts, account string, r token.Resource) token.Secret {
	t.Helper()
	access, err := a.Source(account).Token(t.Context(), r)
	if err != nil {
		t.Fatalf("token of %s for %s: %v", account, r, err)
	}
	return access
}

// TestOIDCProvider runs the token manager against a server that is not ours.
func TestOIDCProvider(t *testing.T) {
	p := startOIDCProvider(t)
	for _, id := range []string{"public", "secret", "signed"} {
		t.Run("authorization code, PKCE and rotation as client "+id, func(t *testing.T) {
			dir := t.TempDir()
			a := p.cabinet(t, id, dir)
			oidcSignIn(t, a)
			seen := map[string]bool{}
			for range 3 {
				for _, r := range both {
					a.Source("person").Refused(r, wantToken(t, a, "person", r)) // so that the next one is fetched
					wantToken(t, a, "person", r)
					s, err := a.set.Load().logins["person"].load()
					if err != nil || seen[s.Refresh.Reveal()] {
						t.Fatalf("the refresh token was used before (%v); this server would have revoked it", err)
					}
					seen[s.Refresh.Reveal()] = true
				}
			}
			// Another process goes on where this one ended.
			a.Close(t.Context())
			wantToken(t, p.cabinet(t, id, dir), "person", token.Graph)
		})
	}
	for _, id := range []string{"secret", "signed"} {
		t.Run("client credentials as client "+id, func(t *testing.T) {
			a := p.cabinet(t, id, t.TempDir())
			wantToken(t, a, "app", token.Graph)
			wantToken(t, a, "app", token.SMTP)
		})
	}
	t.Run("a replayed refresh token revokes its family, and that parks", p.replay)
	t.Run("a wrong PKCE verifier is refused", p.wrongVerifier)
	t.Run("a wrong secret parks", func(t *testing.T) {
		c, err := entra.New(entra.Config{Provider: "oidc", Cloud: globalCloud, Authority: p.authority, Tenant: "tenant", ClientID: "secret",
			Secret: func() (token.Secret, error) { return "wrong", nil }, SecretRemedy: "run: postern secret set oidc"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.ClientCredentials(t.Context(), token.Graph)
		if e := asError(err); e == nil || !e.Person || e.Code != "invalid_client" || e.Remedy != "run: postern secret set oidc" {
			t.Errorf("error %+v; want invalid_client, for a person", e)
		}
	})
	t.Run("device code", p.device)
}

func (p *oidcProvider) replay(t *testing.T) {
	a := p.cabinet(t, "public", t.TempDir())
	oidcSignIn(t, a)
	old, err := a.set.Load().logins["person"].load()
	if err != nil {
		t.Fatal(err)
	}
	a.Source("person").Refused(token.Graph, wantToken(t, a, "person", token.Graph))
	access := wantToken(t, a, "person", token.Graph) // uses old up
	if _, err := p.client(t, "public").Refresh(t.Context(), old.Refresh, token.Graph); err == nil {
		t.Fatal("a used refresh token was taken; the server is not the one that this is about")
	}
	a.Source("person").Refused(token.Graph, access)
	_, failed := a.Source("person").Token(t.Context(), token.Graph)
	e := asError(failed)
	if e == nil || !e.Person || e.Code != "invalid_grant" || e.Remedy != "run: postern signin person" {
		t.Errorf("error %+v; want a person's, who must sign in", e)
	}
	if _, err := a.set.Load().logins["person"].load(); err != nil {
		t.Errorf("the refresh token was deleted: %v", err)
	}
	oidcSignIn(t, a)
	wantToken(t, a, "person", token.Graph)
}

func (p *oidcProvider) wrongVerifier(t *testing.T) {
	a := p.cabinet(t, "public", t.TempDir())
	offer, _, err := a.Offer("person")
	if err != nil {
		t.Fatal(err)
	}
	try := signin.NewAttempt("http://localhost:54321/")
	authorize, err := try.URL(offer.Authorize)
	if err != nil {
		t.Fatal(err)
	}
	other := signin.NewAttempt(try.RedirectURI)
	_, err = a.Redeem(t.Context(), "person", token.Proof{Code: browse(t, authorize), Verifier: other.Verifier, RedirectURI: try.RedirectURI})
	if e := asError(err); e == nil || !e.Person || e.Code != "invalid_grant" {
		t.Errorf("error %+v; want invalid_grant", e)
	}
}

func (p *oidcProvider) device(t *testing.T) {
	a := p.cabinet(t, "public", t.TempDir())
	d, err := a.DeviceCode(t.Context(), "person")
	if err != nil {
		t.Fatal(err)
	}
	if d.Interval != 5*time.Second { // this server sends none
		t.Errorf("interval %v; want RFC 8628's 5s", d.Interval)
	}
	_, err = a.Redeem(t.Context(), "person", token.Proof{Device: d.Device})
	if e := asError(err); e == nil || e.Person || e.Code != "authorization_pending" {
		t.Errorf("error %+v; want authorization_pending", e)
	}
	resp, err := http.Get(p.authority + "/approve?user_code=" + url.QueryEscape(strings.ReplaceAll(d.UserCode, "-", "")))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "approved" {
		t.Fatalf("approve: %s %s", resp.Status, b)
	}
	result, err := a.Redeem(t.Context(), "person", token.Proof{Device: d.Device})
	if err != nil || len(result.Works) != 2 {
		t.Fatalf("Redeem = %+v, %v; want both resources", fmt.Sprint(result.Works), err)
	}
	wantToken(t, a, "person", token.SMTP)
}
