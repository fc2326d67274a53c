package entra

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/oauth2"

	"postern/auth/token"
)

// maxLife caps what a server may claim for an access token; Entra's own policy ends at a day ("Configurable token
// lifetimes", read in November 2026).
const maxLife = 24 * time.Hour

// readGrant takes what we need from a success. A reply without a lifetime is refused: x/oauth2 would call its token good
// for ever. Errors never quote the reply.
func readGrant(got *oauth2.Token, sent token.Secret, asked time.Time) (token.Grant, error) {
	if !strings.EqualFold(got.TokenType, "Bearer") {
		return token.Grant{}, errors.New("its token_type is not Bearer")
	}
	if strings.ContainsFunc(got.AccessToken, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return token.Grant{}, errors.New("its access_token has characters that no header can carry")
	}
	life, ok := seconds(got.Extra("expires_in"))
	if !ok {
		if on, absolute := seconds(got.Extra("expires_on")); absolute {
			life, ok = on-time.Duration(asked.Unix())*time.Second, true
		}
	}
	if !ok || life <= 0 {
		return token.Grant{}, errors.New("it has no usable lifetime (expires_in)")
	}
	life = min(life, maxLife)
	g := token.Grant{Token: token.Token{
		Access:  token.Secret(got.AccessToken),
		Expiry:  asked.Add(life),
		Fetched: asked,
	}}
	if scope, ok := got.Extra("scope").(string); ok {
		g.Scopes = strings.Fields(scope)
	}
	if in, ok := seconds(got.Extra("refresh_in")); ok && in > 0 && in < life {
		g.RefreshIn = in
	}
	// The library answers the token that was sent where the reply had none.
	if got.RefreshToken != sent.Reveal() {
		g.Refresh = token.Secret(got.RefreshToken)
	}
	if id, ok := got.Extra("id_token").(string); ok {
		g.User = signedIn(id)
	}
	return g, nil
}

// seconds reads a number of seconds that may be written as a string. Anything else is not ok.
func seconds(v any) (time.Duration, bool) {
	f, ok := v.(float64)
	if s, isText := v.(string); isText {
		var err error
		f, err = strconv.ParseFloat(strings.TrimSpace(s), 64)
		ok = err == nil
	}
	if !ok || math.IsNaN(f) {
		return 0, false
	}
	const most = 4e9 // beyond any date we meet, and within a time.Duration
	f = max(min(f, most), -most)
	return time.Duration(f * float64(time.Second)), true
}

// signedIn returns the preferred_username of an id token, "" where it cannot be had. The signature is not checked: the
// token came from the endpoint itself over TLS (OpenID Connect Core section 3.1.3.7, 6), and the name is only shown.
func signedIn(idToken string) string {
	parts := strings.Split(idToken, ".")
	if len(parts) != 3 {
		return ""
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return ""
	}
	var c struct {
		Name string `json:"preferred_username"`
	}
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	if json.Unmarshal(claims, &c) != nil || len(c.Name) > 320 || strings.ContainsFunc(c.Name, odd) {
		return ""
	}
	return c.Name
}
