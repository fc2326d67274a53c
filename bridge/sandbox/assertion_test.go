package sandbox

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/url"
	"sync"
	"testing"
	"time"
)

var assertionKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func testCertificate(t *testing.T, from, to time.Time) *x509.Certificate {
	t.Helper()
	key, err := assertionKey()
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(from.Unix()), NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

// signAssertion signs as a client would; enc is how everything is encoded.
func signAssertion(t *testing.T, header, claims map[string]any, enc *base64.Encoding) string {
	t.Helper()
	key, err := assertionKey()
	if err != nil {
		t.Fatal(err)
	}
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	signed := enc.EncodeToString(h) + "." + enc.EncodeToString(c)
	sum := sha256.Sum256([]byte(signed))
	var sig []byte
	if header["alg"] == "PS256" {
		sig, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		sig, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	}
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + enc.EncodeToString(sig)
}

func TestAssertions(t *testing.T) {
	now := newClock().now()
	cert := testCertificate(t, now.AddDate(0, 0, -1), now.AddDate(0, 0, 100))
	ended := testCertificate(t, now.AddDate(0, 0, -100), now.AddDate(0, 0, -1))
	s256, s1 := sha256.Sum256(cert.Raw), sha1.Sum(cert.Raw)
	endedSum := sha256.Sum256(ended.Raw)
	raw, padded := base64.RawURLEncoding, base64.StdEncoding
	for _, tc := range []struct {
		name   string
		header map[string]any
		claims map[string]any // nil removes
		enc    *base64.Encoding
		change map[string]string
		status int
		code   float64
		oauth  string
	}{
		{"PS256 with x5t#S256 is taken", nil, nil, raw, nil, 200, 0, ""},
		{"its thumbprint may be padded and of the standard alphabet", map[string]any{"x5t#S256": padded.EncodeToString(s256[:])}, nil, raw, nil, 200, 0, ""},
		{"all of it may be padded", nil, nil, base64.URLEncoding, nil, 200, 0, ""},
		{"RS256 with x5t is taken", map[string]any{"alg": "RS256", "x5t#S256": nil, "x5t": raw.EncodeToString(s1[:])}, nil, raw, nil, 200, 0, ""},
		{"RS256 with x5t#S256 is taken", map[string]any{"alg": "RS256"}, nil, raw, nil, 200, 0, ""},
		{"the issuer is an audience too", nil, map[string]any{"aud": "ISSUER"}, raw, nil, 200, 0, ""},
		{"PS256 with x5t alone names no key", map[string]any{"x5t#S256": nil, "x5t": raw.EncodeToString(s1[:])}, nil, raw, nil, 401, 700027, "invalid_client"},
		{"an unknown thumbprint is no key of the app", map[string]any{"x5t#S256": raw.EncodeToString(make([]byte, 32))}, nil, raw, nil, 401, 700027, "invalid_client"},
		{"an expired certificate is none", map[string]any{"x5t#S256": raw.EncodeToString(endedSum[:])}, nil, raw, nil, 401, 700027, "invalid_client"},
		{"alg none is no signature", map[string]any{"alg": "none"}, nil, raw, nil, 401, 700027, "invalid_client"},
		{"issuer and subject differ", nil, map[string]any{"iss": PublicClientID}, raw, nil, 401, 50048, "invalid_client"},
		{"another app's", nil, map[string]any{"iss": PublicClientID, "sub": PublicClientID}, raw, nil, 401, 50048, "invalid_client"},
		{"another audience", nil, map[string]any{"aud": "https://login.microsoftonline.com/x/oauth2/v2.0/token"}, raw, nil, 401, 700023, "invalid_client"},
		{"it has expired", nil, map[string]any{"exp": now.Add(-6 * time.Minute).Unix()}, raw, nil, 401, 700024, "invalid_client"},
		{"it is not valid yet", nil, map[string]any{"nbf": now.Add(6 * time.Minute).Unix()}, raw, nil, 401, 700024, "invalid_client"},
		{"it has no end", nil, map[string]any{"exp": nil}, raw, nil, 401, 700024, "invalid_client"},
		{"its type is missing", nil, nil, raw, map[string]string{"client_assertion_type": "x"}, 400, 900144, "invalid_request"},
		{"it is no JWT", nil, nil, raw, map[string]string{"client_assertion": "a.b"}, 400, 50027, "invalid_request"},
		{"it is not signed over what it says", nil, nil, raw, map[string]string{"client_assertion": "SPOILT"}, 401, 700027, "invalid_client"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clk := newClock()
			s := start(t, Options{Now: clk.now})
			s.SetApp(App{ClientID: ConfidentialClientID, Certificates: []*x509.Certificate{ended, cert}, Roles: []string{graphResource + "/Mail.Send"}})
			header := map[string]any{"alg": "PS256", "typ": "JWT", "x5t#S256": raw.EncodeToString(s256[:])}
			claims := map[string]any{"aud": s.Authority() + "/" + TenantName + "/oauth2/v2.0/token", "iss": ConfidentialClientID,
				"sub": ConfidentialClientID, "jti": "1", "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix()}
			change(header, tc.header)
			change(claims, tc.claims)
			if claims["aud"] == "ISSUER" {
				claims["aud"] = s.Authority() + "/" + TenantID + "/v2.0"
			}
			signed := signAssertion(t, header, claims, tc.enc)
			form := url.Values{"grant_type": {"client_credentials"}, "client_id": {ConfidentialClientID}, "client_assertion": {signed},
				"client_assertion_type": {assertionType}, "scope": {"https://graph.microsoft.com/.default"}}
			for k, v := range tc.change {
				if v == "SPOILT" {
					v = signed[:len(signed)-6] + "AAAAAA"
				}
				form.Set(k, v)
			}
			a := tokenCall(t, s, TenantName, form)
			if tc.status == 200 {
				if a.status != 200 || a.json(t)["access_token"] == nil {
					t.Fatalf("%d %s; want a token", a.status, a.body)
				}
				return
			}
			wantSTS(t, a, tc.status, tc.code, tc.oauth)
		})
	}
}

// change puts values over those of m; nil removes.
func change(m, over map[string]any) {
	for k, v := range over {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
}

// TestAssertionOnRefresh: a confidential client for a person proves itself the same way, and an app that has certificates
// alone takes no secret.
func TestAssertionOnRefresh(t *testing.T) {
	clk := newClock()
	s := start(t, Options{Now: clk.now})
	cert := testCertificate(t, clk.now().AddDate(0, 0, -1), clk.now().AddDate(0, 0, 100))
	app := DefaultApps()[1]
	app.Secret, app.Certificates = "", []*x509.Certificate{cert}
	s.SetApp(app)
	sum := sha256.Sum256(cert.Raw)
	signed := signAssertion(t, map[string]any{"alg": "PS256", "x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])},
		map[string]any{"aud": s.Authority() + "/" + TenantID + "/oauth2/v2.0/token", "iss": app.ClientID, "sub": app.ClientID,
			"nbf": clk.now().Unix(), "exp": clk.now().Add(time.Minute).Unix()}, base64.RawURLEncoding)
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {app.ClientID}, "scope": {askGraph},
		"refresh_token":    {s.RefreshTokenFor(app.ClientID, "erp@contoso.test").Reveal()},
		"client_assertion": {signed}, "client_assertion_type": {assertionType}}
	if a := tokenCall(t, s, TenantID, form); a.status != 200 {
		t.Errorf("%d %s; want a token", a.status, a.body)
	}
	form.Del("client_assertion")
	form.Set("client_secret", "guess")
	wantSTS(t, tokenCall(t, s, TenantID, form), 401, 7000215, "invalid_client")
}
