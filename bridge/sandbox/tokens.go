package sandbox

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// inactivity is how long a refresh token lives unused. A used one is not revoked and keeps its own clock (facts A4).
const inactivity = 90 * 24 * time.Hour

// tokens are those given out, found by their text. Guarded by Sandbox.mu.
type tokens struct {
	access  map[string]*accessToken
	refresh map[string]*refreshToken
}

type accessToken struct {
	audience string // graphResource or outlookResource
	clientID string
	login    string   // the user's primary address; "" for app-only
	scopes   []string // delegated, without the resource
	roles    []string // app-only, without the resource
	expires  time.Time
}

// may reports whether the token carries a delegated scope or, app-only, a role of that name.
func (t *accessToken) may(name string) bool { return has(t.scopes, name) || has(t.roles, name) }

type refreshToken struct {
	clientID, login string
	scopes          []string // what the sign-in asked for; used when a refresh names none
	issued          time.Time
	revoked         time.Time // zero: not
	used            bool      // with RevokeOnUse it is dead then
}

func newTokens() tokens {
	return tokens{access: map[string]*accessToken{}, refresh: map[string]*refreshToken{}}
}

// newRefresh makes one with the look of Entra's: a version, a dot, and some 1,000 characters.
func (t *tokens) newRefresh(clientID, login string, scopes []string, now time.Time) string {
	rt := "1.AXsbx" + random(24) + "." + random(700)
	t.refresh[rt] = &refreshToken{clientID: clientID, login: login, scopes: scopes, issued: now}
	return rt
}

// newAccess makes a JWT-like one. Real ones have 1.5 to 3 KB, which matters for AUTH lines (facts C2).
func (t *tokens) newAccess(at accessToken, user Mailbox, now time.Time) string {
	claims := map[string]any{
		"aud": at.audience, "iss": "https://sts.windows.net/" + TenantID + "/", "tid": TenantID,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": at.expires.Unix(), "appid": at.clientID, "ver": "1.0",
		"uti": random(16), "rh": random(300), "xms_st": random(300),
	}
	if at.login != "" {
		claims["scp"], claims["upn"], claims["oid"] = strings.Join(at.scopes, " "), user.Address, user.objectID()
	} else if len(at.roles) > 0 { // without roles the claim is missing and the resource refuses later (facts A2)
		claims["roles"] = at.roles
	}
	text := jwt(claims)
	t.access[text] = &at
	return text
}

// idToken is what openid asks for. Its signature verifies nowhere.
func idToken(issuer, clientID string, user Mailbox, now time.Time) string {
	return jwt(map[string]any{
		"aud": clientID, "iss": issuer, "tid": TenantID, "iat": now.Unix(), "nbf": now.Unix(),
		"exp": now.Add(time.Hour).Unix(), "oid": user.objectID(), "sub": user.objectID(), "ver": "2.0",
		"preferred_username": user.Address, "name": user.Name, "email": user.Address,
	})
}

func jwt(claims map[string]any) string {
	body, _ := json.Marshal(claims) // strings and numbers only
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(`{"typ":"JWT","alg":"RS256","kid":"sandbox"}`)) + "." + enc.EncodeToString(body) + "." + random(256)
}

// random returns n random octets in base64url.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

func newGUID() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return guid(b)
}
