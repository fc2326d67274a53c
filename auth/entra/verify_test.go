package entra

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestVerify(t *testing.T) {
	jwtWith := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".sig"
	}
	public := func(c *Config) { c.Secret = nil }
	shared := func(c *Config) { c.Tenant = "organizations" }
	found := answer(200, `{"issuer":"x"}`)
	sts := func(status int, oauth string, number string) http.HandlerFunc {
		return answer(status, `{"error":"`+oauth+`","error_description":"AADSTS`+number+`: x","error_codes":[`+number+`]}`)
	}
	for _, tc := range []struct {
		name     string
		change   func(*Config)
		metadata http.HandlerFunc
		token    http.HandlerFunc
		want     Verified
		err      string // a part of text or remedy; "": none
	}{
		{"a secret that is right, and the app's permissions", nil, found, answer(200, tokenReply(map[string]any{"access_token": jwtWith(`{"roles":["Mail.Send"]}`)})),
			Verified{Credential: "client secret", Roles: []string{"Mail.Send"}, RolesKnown: true}, ""},
		{"a token without roles", nil, found, answer(200, tokenReply(map[string]any{"access_token": jwtWith(`{}`)})), Verified{Credential: "client secret", RolesKnown: true}, ""},
		{"a token that cannot be read", nil, found, answer(200, tokenReply(map[string]any{"access_token": "EwBopaque"})), Verified{Credential: "client secret"}, ""},
		{"a secret that has expired", nil, found, sts(401, "invalid_client", "7000222"), Verified{}, "expired"},
		{"a tenant that is none", nil, sts(400, "invalid_request", "90002"), found, Verified{}, "does not exist in this cloud"},
		{"metadata that is a page", nil, answer(200, "<html>", "Content-Type", "text/html"), found, Verified{}, "not JSON"},
		{"a public app that is there", public, found, sts(400, "invalid_grant", "9002313"), Verified{}, ""},
		{"a public app, and the endpoint calls the token malformed", public, found, sts(400, "invalid_request", "9002313"), Verified{}, ""},
		{"a public app that is not there", public, found, sts(400, "unauthorized_client", "700016"), Verified{}, "does not know the app"},
		{"a public app that is not public", public, found, sts(401, "invalid_client", "7000218"), Verified{}, "Allow public client flows"},
		{"an endpoint that gives tokens for nothing", public, found, answer(200, tokenReply(nil)), Verified{}, "not Entra"},
		{"every tenant: the secret is tried with a refresh", shared, found, sts(400, "invalid_grant", "70000"), Verified{}, ""},
		{"every tenant, and the secret is wrong", shared, found, sts(401, "invalid_client", "7000215"), Verified{}, "secret is wrong"},
		{"trouble of Entra's", public, found, answer(503, `{"error":"temporarily_unavailable"}`), Verified{}, "503"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/v2.0/.well-known/openid-configuration") {
					tc.metadata(w, r)
					return
				}
				tc.token(w, r)
			})
			got, err := newClient(t, server.URL, tc.change).Verify(context.Background())
			if tc.err == "" {
				if err != nil || got.Credential != tc.want.Credential || got.RolesKnown != tc.want.RolesKnown || !slices.Equal(got.Roles, tc.want.Roles) {
					t.Errorf("Verify = %+v, %v; want %+v", got, err, tc.want)
				}
				return
			}
			if err == nil || !strings.Contains(fault(t, err).Error(), tc.err) {
				t.Errorf("error %v; want %q in it", err, tc.err)
			}
			wantClean(t, err)
		})
	}
	server := newEndpoint(t, found)
	server.Close()
	if _, err := newClient(t, server.URL, nil).Verify(context.Background()); err == nil || fault(t, err).Person {
		t.Errorf("error %v; want one that passes", err)
	}
}

func TestVerifyKeepsToItsSecret(t *testing.T) {
	server := newEndpoint(t, answer(400, `{"error":"invalid_grant"}`))
	c := newClient(t, server.URL, func(c *Config) { c.Tenant = "common" })
	_ = c.findApp(context.Background())
	if f := server.forms(); len(f) == 0 || f[0].Get("refresh_token") != noToken.Reveal() || f[0].Get("client_secret") == "" {
		t.Errorf("forms %v; want the token that is none, and the secret", f)
	}
}
