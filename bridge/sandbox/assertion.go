package sandbox

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// assertionType is the only client_assertion_type there is (RFC 7523 section 2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// clockSkew is how far a client's clock may be off.
const clockSkew = 5 * time.Minute

// assertion is a client assertion as it came.
type assertion struct {
	header struct {
		Alg  string `json:"alg"`
		S256 string `json:"x5t#S256"`
		SHA1 string `json:"x5t"`
	}
	claims struct {
		Aud string `json:"aud"`
		Iss string `json:"iss"`
		Sub string `json:"sub"`
		Jti string `json:"jti"`
		Nbf int64  `json:"nbf"`
		Exp int64  `json:"exp"`
	}
	signed    string // what the signature is over
	signature []byte
}

// checkAssertion verifies the app's signed assertion by a certificate registered on it: PS256 with x5t#S256, or RS256
// with x5t as older clients sign (facts A3).
func (q *tokenRequest) checkAssertion() *stsError {
	if q.form.Get("client_assertion_type") != assertionType {
		return &stsError{900144, "client_assertion_type"}
	}
	a, ok := readAssertion(q.form.Get("client_assertion"))
	if !ok {
		return &stsError{50027, ""}
	}
	cert := a.certificate(q.app.Certificates)
	if cert == nil {
		return &stsError{700027, fmt.Sprintf(" [Reason - The key was not found., Thumbprint of key used by client: '%s']", a.thumbprint())}
	}
	if !a.verify(cert) {
		return &stsError{700027, " [Reason - The key was found, but use of the key to verify the signature failed.]"}
	}
	if q.at.After(cert.NotAfter) || q.at.Before(cert.NotBefore) {
		return &stsError{700027, " [Reason - The key used is expired.]"}
	}
	c := a.claims
	switch {
	case c.Iss != c.Sub || !strings.EqualFold(c.Sub, q.app.ClientID):
		return &stsError{50048, ""}
	case !q.isAudience(c.Aud):
		return &stsError{700023, c.Aud}
	case c.Exp == 0, q.at.After(time.Unix(c.Exp, 0).Add(clockSkew)), q.at.Before(time.Unix(c.Nbf, 0).Add(-clockSkew)):
		return &stsError{700024, fmt.Sprintf(" Current time: %s, assertion valid from %s, expiry time of assertion %s.",
			stsTime(q.at), stsTime(time.Unix(c.Nbf, 0)), stsTime(time.Unix(c.Exp, 0)))}
	}
	return nil
}

// isAudience accepts what Entra does: the token endpoint, or the issuer of the tenant.
func (q *tokenRequest) isAudience(aud string) bool {
	for _, tenant := range []string{q.tenant, TenantID} {
		base := q.s.Authority() + "/" + tenant
		if aud == base+"/oauth2/v2.0/token" || aud == base+"/v2.0" {
			return true
		}
	}
	return false
}

func readAssertion(text string) (a assertion, ok bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return a, false
	}
	var decoded [3][]byte
	for i, p := range parts {
		b, ok := fromBase64(p)
		if !ok {
			return a, false
		}
		decoded[i] = b
	}
	if json.Unmarshal(decoded[0], &a.header) != nil || json.Unmarshal(decoded[1], &a.claims) != nil {
		return a, false
	}
	a.signed, a.signature = parts[0]+"."+parts[1], decoded[2]
	return a, true
}

// fromBase64 takes base64url and the standard alphabet, padded or not: Microsoft's own library for Go writes x5t#S256 in
// the standard one, and Entra accepts it (facts A3).
func fromBase64(s string) ([]byte, bool) {
	s = strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "=")
	b, err := base64.RawURLEncoding.DecodeString(s)
	return b, err == nil
}

// certificate finds the one that the header names. x5t goes with RS256 alone: for PS256 it must be x5t#S256.
func (a assertion) certificate(registered []*x509.Certificate) *x509.Certificate {
	i := slices.IndexFunc(registered, func(c *x509.Certificate) bool {
		if a.header.S256 != "" {
			want, ok := fromBase64(a.header.S256)
			sum := sha256.Sum256(c.Raw)
			return ok && string(want) == string(sum[:])
		}
		want, ok := fromBase64(a.header.SHA1)
		sum := sha1.Sum(c.Raw)
		return ok && a.header.Alg == "RS256" && string(want) == string(sum[:])
	})
	if i < 0 {
		return nil
	}
	return registered[i]
}

// thumbprint is what the refusal names, in upper-case hexadecimal.
func (a assertion) thumbprint() string {
	text := a.header.SHA1
	if a.header.S256 != "" {
		text = a.header.S256
	}
	b, _ := fromBase64(text)
	return fmt.Sprintf("%X", b)
}

func (a assertion) verify(c *x509.Certificate) bool {
	key, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok {
		return false
	}
	sum := sha256.Sum256([]byte(a.signed))
	switch a.header.Alg {
	case "PS256": // RFC 7518 section 3.5: the salt is as long as the hash
		return rsa.VerifyPSS(key, crypto.SHA256, sum[:], a.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case "RS256":
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], a.signature) == nil
	}
	return false
}
