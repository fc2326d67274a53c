package certificate

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Pair is a certificate of an app registration with its key.
type Pair struct {
	Leaf *x509.Certificate
	Key  *rsa.PrivateKey
}

// App reads the certificates of an app registration from their files, each with its key.
func App(files []string) ([]Pair, error) {
	var all []Pair
	for _, file := range files {
		list, err := appFile(file)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func appFile(file string) ([]Pair, error) {
	if isPFX(file) {
		pair, err := loadPFX(file)
		if err != nil {
			return nil, err
		}
		key, ok := pair.PrivateKey.(*rsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("certificate file %s: %w", file, errNotRSA)
		}
		return []Pair{{Leaf: pair.Leaf, Key: key}}, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certificate file %s cannot be read: %w", file, reason(err))
	}
	list, err := pemPairs(b)
	if err != nil {
		return nil, fmt.Errorf("certificate file %s: %w", file, err)
	}
	return list, nil
}

var errNotRSA = errors.New("its key is not RSA, and Entra takes no other; make one with an RSA key")

// pemPairs pairs every key of a PEM file with its certificate, in whatever order they stand; certificates without a key
// are those of the chain, which Entra does not want. Errors never quote the file.
func pemPairs(b []byte) ([]Pair, error) {
	var keys []*rsa.PrivateKey
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		switch {
		case block.Type == "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, errors.New("a certificate in it cannot be read")
			}
			certs = append(certs, c)
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return nil, errors.New("its key has a password; store the key without one (openssl pkey -in OLD -out NEW) and guard the file")
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			k, err := pemKey(block)
			if err != nil {
				return nil, err
			}
			keys = append(keys, k)
		}
	}
	var pairs []Pair
	for _, k := range keys {
		i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return k.PublicKey.Equal(c.PublicKey) })
		if i < 0 {
			return nil, errors.New("a key in it belongs to no certificate in it")
		}
		pairs = append(pairs, Pair{Leaf: certs[i], Key: k})
	}
	switch {
	case len(certs) == 0:
		return nil, errors.New("it has no certificate in PEM")
	case len(keys) == 0:
		return nil, errors.New("it has no key; put the certificate and its key into one PEM file, or give a PFX file")
	}
	return pairs, nil
}

func pemKey(block *pem.Block) (*rsa.PrivateKey, error) {
	if block.Type == "RSA PRIVATE KEY" {
		if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return k, nil
		}
		return nil, errors.New("the key in it cannot be read")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if rsaKey, ok := k.(*rsa.PrivateKey); ok {
		return rsaKey, nil
	}
	if err != nil && block.Type != "EC PRIVATE KEY" {
		return nil, errors.New("the key in it cannot be read")
	}
	return nil, errNotRSA
}
