package entra

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"postern/auth/token"
)

// Certificate is one of the app registration's certificates with its key.
type Certificate struct {
	Leaf *x509.Certificate
	Key  *rsa.PrivateKey // Entra takes RSA alone
}

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 section 2.2
	// assertionLife is what Microsoft's own library takes ("Microsoft identity platform application authentication
	// certificate credentials", read in November 2026, recommends 5 to 10 minutes).
	assertionLife = 10 * time.Minute
)

// proof is how the app shows in one request that it is the app.
type proof struct {
	value      token.Secret // the client secret or the signed assertion; "" for a public client
	assertion  bool
	thumbprint string // of the certificate, as the portal shows it
}

// proofs returns what to prove the app with, one after the other: a client secret is one, each certificate that is valid
// now is one, and a public client has an empty one.
func (c *Client) proofs() ([]proof, *token.Error) {
	switch {
	case c.config.Certificates != nil:
		return c.assertions()
	case c.config.Secret != nil:
		secret, err := c.config.Secret()
		if err != nil {
			return nil, c.noSecret(err)
		}
		return []proof{{value: secret}}, nil
	}
	return []proof{{}}, nil
}

func (c *Client) assertions() ([]proof, *token.Error) {
	all, err := c.config.Certificates()
	if err == nil && len(all) == 0 {
		err = errors.New("there is none in the file")
	}
	if err != nil {
		e := c.misconfigured("the certificate cannot be used: "+err.Error(), c.config.SecretRemedy)
		e.Err = err
		return nil, e
	}
	now := c.config.Now()
	valid := usable(all, now)
	if len(valid) == 0 {
		return nil, c.outOfTime(all, now)
	}
	var list []proof
	for _, cert := range valid {
		p, err := c.sign(cert, now)
		if err != nil {
			e := c.misconfigured("the certificate cannot sign: "+err.Error(), c.config.SecretRemedy)
			e.Err = err
			return nil, e
		}
		list = append(list, p)
	}
	return list, nil
}

// usable returns the certificates that are valid now, the one that stays so the longest first: during a roll-over that is
// the new one, and the old one is tried where Entra does not know the new one yet.
func usable(all []Certificate, now time.Time) []Certificate {
	valid := slices.DeleteFunc(slices.Clone(all), func(c Certificate) bool {
		return now.Before(c.Leaf.NotBefore) || now.After(c.Leaf.NotAfter)
	})
	slices.SortStableFunc(valid, func(a, b Certificate) int { return b.Leaf.NotAfter.Compare(a.Leaf.NotAfter) })
	return valid
}

// outOfTime says why none of the certificates is valid now.
func (c *Client) outOfTime(all []Certificate, now time.Time) *token.Error {
	last := slices.MaxFunc(all, func(a, b Certificate) int { return a.Leaf.NotAfter.Compare(b.Leaf.NotAfter) }).Leaf
	const day = "2 January 2006"
	if now.Before(last.NotBefore) {
		return c.misconfigured("the certificate is not valid before "+last.NotBefore.UTC().Format(day),
			"set this machine's clock right, or wait until then")
	}
	return c.misconfigured("the certificate expired on "+last.NotAfter.UTC().Format(day),
		"make a new certificate, upload it under Certificates & secrets of the app registration, and put it with its key "+
			"into the file that certificate of provider "+c.config.Provider+" names")
}

// sign makes the assertion of RFC 7523 as Entra wants it: PS256, and the certificate named by its SHA-256 thumbprint.
func (c *Client) sign(cert Certificate, now time.Time) (proof, error) {
	id := make([]byte, 16)
	rand.Read(id) // never fails
	t := jwt.NewWithClaims(jwt.SigningMethodPS256, jwt.MapClaims{
		"aud": c.url, "iss": c.config.ClientID, "sub": c.config.ClientID, "jti": hex.EncodeToString(id),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	sum := sha256.Sum256(cert.Leaf.Raw)
	t.Header["x5t#S256"] = base64.RawURLEncoding.EncodeToString(sum[:])
	signed, err := t.SignedString(cert.Key)
	if err != nil {
		return proof{}, err
	}
	return proof{value: token.Secret(signed), assertion: true, thumbprint: thumbprint(cert.Leaf)}, nil
}

// thumbprint names a certificate as the portal does: its SHA-1 in upper-case hexadecimal.
func thumbprint(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// params adds the assertion to a form.
func (p proof) params(form url.Values) url.Values {
	if !p.assertion {
		return form
	}
	if form == nil {
		form = url.Values{}
	}
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", p.value.Reveal())
	return form
}

// secret is the client secret of the form, "" where an assertion or nothing proves the app.
func (p proof) secret() string {
	if p.assertion {
		return ""
	}
	return p.value.Reveal()
}

// anotherProof reports an answer that another certificate could change: the app was not believed. Such a request used
// nothing up.
func anotherProof(err error) bool {
	var e *token.Error
	return errors.As(err, &e) && e.Code == "invalid_client"
}

// certificateRemedy says what to do where Entra does not take the certificate.
func certificateRemedy(provider string, p proof) string {
	which := ""
	if p.thumbprint != "" {
		which = " (thumbprint " + p.thumbprint + ")"
	}
	return fmt.Sprintf("upload the certificate of provider %s%s under Certificates & secrets of the app registration", provider, which)
}
