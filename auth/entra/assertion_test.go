package entra

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"postern/auth/token"
)

var testKeys = sync.OnceValue(func() (keys [2]*rsa.PrivateKey) {
	for i := range keys {
		keys[i], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return keys
})

// certificate is valid from and to so many days before and after noon.
func certificate(t *testing.T, key *rsa.PrivateKey, from, to int) Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postern"},
		NotBefore: noon.AddDate(0, 0, from), NotAfter: noon.AddDate(0, 0, to)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return Certificate{Leaf: leaf, Key: key}
}

func withCertificates(list ...Certificate) func(*Config) {
	return func(c *Config) {
		c.Secret, c.Certificates = nil, func() ([]Certificate, error) { return list, nil }
		c.SecretRemedy = "put the file there"
	}
}

func TestAssertion(t *testing.T) {
	cert := certificate(t, testKeys()[0], -1, 100)
	server := newEndpoint(t, answer(200, tokenReply(nil)))
	client := newClient(t, server.URL, withCertificates(cert))
	if _, err := client.ClientCredentials(context.Background(), token.Graph); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Refresh(context.Background(), refreshCanary, token.SMTP); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, form := range server.forms() {
		if form.Has("client_secret") || form.Get("client_assertion_type") != assertionType || form.Get("client_id") != "1111-2222" {
			t.Errorf("the form has %v", form)
		}
		claims := jwt.MapClaims{}
		// Another reader than ours: it checks signature, exp, nbf, audience, issuer and subject.
		parsed, err := jwt.ParseWithClaims(form.Get("client_assertion"), claims, func(*jwt.Token) (any, error) { return cert.Leaf.PublicKey, nil },
			jwt.WithValidMethods([]string{"PS256"}), jwt.WithAudience(server.URL+"/contoso.test/oauth2/v2.0/token"),
			jwt.WithIssuer("1111-2222"), jwt.WithSubject("1111-2222"), jwt.WithExpirationRequired(),
			jwt.WithTimeFunc(func() time.Time { return noon }))
		if err != nil {
			t.Fatal(err)
		}
		if s, _ := parsed.Header["x5t#S256"].(string); len(s) != 43 || parsed.Header["typ"] != "JWT" {
			t.Errorf("header %v; want typ JWT, and x5t#S256 as 43 characters of base64url", parsed.Header)
		}
		exp, _ := claims.GetExpirationTime()
		if life := exp.Sub(noon); life != 10*time.Minute {
			t.Errorf("it lives %v; want 10m", life)
		}
		id, _ := claims["jti"].(string)
		if id == "" || seen[id] {
			t.Errorf("jti %q is empty or used before", id)
		}
		seen[id] = true
	}
	if len(seen) != 2 {
		t.Errorf("%d assertions; want one for each request", len(seen))
	}
}

func TestRollOver(t *testing.T) {
	keys := testKeys()
	old, fresh := certificate(t, keys[0], -300, 10), certificate(t, keys[1], -1, 300)
	ended, early := certificate(t, keys[0], -300, -1), certificate(t, keys[1], 1, 300)
	const refused = `{"error":"invalid_client","error_description":"AADSTS700027: x","error_codes":[700027]}`
	for _, tc := range []struct {
		name   string
		have   []Certificate
		known  []Certificate // what Entra takes
		asked  int
		remedy string // "" means that it works
	}{
		{"the one that is valid longest goes first", []Certificate{old, fresh}, []Certificate{old, fresh}, 1, ""},
		{"the old one while Entra does not know the new one", []Certificate{fresh, old}, []Certificate{old}, 2, ""},
		{"only the new one is left at Entra", []Certificate{old, fresh}, []Certificate{fresh}, 1, ""},
		{"none is known: the new one is to be uploaded", []Certificate{old, fresh}, nil, 2, thumbprint(fresh.Leaf)},
		{"an expired one is not tried", []Certificate{ended, fresh}, []Certificate{ended, fresh}, 1, ""},
		{"all have expired", []Certificate{ended}, []Certificate{ended}, 0, "make a new certificate"},
		{"not valid yet", []Certificate{early}, []Certificate{early}, 0, "clock"},
		{"no certificate at all", nil, nil, 0, "put the file there"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
				for _, c := range tc.known {
					_, err := jwt.Parse(r.PostForm.Get("client_assertion"), func(*jwt.Token) (any, error) { return c.Leaf.PublicKey, nil }, jwt.WithoutClaimsValidation())
					if err == nil {
						answer(200, tokenReply(nil))(w, r)
						return
					}
				}
				answer(401, refused)(w, r)
			})
			_, err := newClient(t, server.URL, withCertificates(tc.have...)).ClientCredentials(context.Background(), token.Graph)
			if asked := len(server.forms()); asked != tc.asked {
				t.Errorf("%d requests; want %d", asked, tc.asked)
			}
			switch {
			case tc.remedy == "" && err != nil:
				t.Errorf("error %v; want a token", err)
			case tc.remedy != "":
				if e := fault(t, err); !e.Person || !strings.Contains(e.Remedy, tc.remedy) {
					t.Errorf("error %+v; want a person's, with %q", e, tc.remedy)
				}
			}
		})
	}
}

// TestOnlyInvalidClientTriesAnotherCertificate: a dead refresh token is not the certificate's fault.
func TestOnlyInvalidClientTriesAnotherCertificate(t *testing.T) {
	keys := testKeys()
	pair := withCertificates(certificate(t, keys[0], -1, 10), certificate(t, keys[1], -1, 300))
	server := newEndpoint(t, answer(400, `{"error":"invalid_grant","error_codes":[700082]}`))
	if _, err := newClient(t, server.URL, pair).Refresh(context.Background(), refreshCanary, token.SMTP); err == nil {
		t.Fatal("a dead refresh token gave a token")
	}
	if n := len(server.forms()); n != 1 {
		t.Errorf("%d requests; want 1", n)
	}
}

// TestAssertionIsHidden: a server that quotes the request does not put the assertion into an error.
func TestAssertionIsHidden(t *testing.T) {
	server := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		answer(400, `{"error":"odd","error_description":"you sent `+r.PostForm.Get("client_assertion")+`"}`)(w, r)
	})
	_, err := newClient(t, server.URL, withCertificates(certificate(t, testKeys()[0], -1, 10))).ClientCredentials(context.Background(), token.Graph)
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), "eyJ") {
			t.Errorf("the error holds the assertion: %v", e)
		}
	}
	if !strings.Contains(err.Error(), "[redacted]") {
		t.Errorf("error %v; want the quotation redacted", err)
	}
}

func TestUnreadableCertificate(t *testing.T) {
	c := newClient(t, "https://login.test", func(c *Config) {
		c.Secret, c.Certificates = nil, func() ([]Certificate, error) { return nil, errors.New("file cert.pem cannot be read") }
		c.SecretRemedy = "put the file there"
	})
	_, err := c.ClientCredentials(context.Background(), token.Graph)
	if e := fault(t, err); !e.Person || !strings.Contains(e.Text, "cert.pem") || e.Remedy != "put the file there" {
		t.Errorf("error %+v", e)
	}
}
