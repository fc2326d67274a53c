// Package certificate reads certificates and keys from their files, in PEM and PFX: the pair of a listener, which is read
// again when its files change, those by which an app proves itself to Entra, and the authorities of a ca_file. It says
// which TLS a listener speaks. It must not know the configuration or who signs in; the hall tells it the files. A file that
// cannot be used is an error that names it, with the remedy, and never quotes it.
package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// mendFile is what to do about a file that cannot be read.
const mendFile = "mend the path, or let the service's user read the file"

// Roots returns the system's authorities with those of a PEM file added.
func Roots(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w; %s", file, reason(err), mendFile)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return pool, nil
}

func isPFX(file string) bool {
	return slices.Contains([]string{".pfx", ".p12"}, strings.ToLower(filepath.Ext(file)))
}

// loadPFX reads a PKCS #12 file without a password: the file's permissions guard the key, as they do for PEM.
func loadPFX(path string) (*tls.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("certificate file %s cannot be read: %w", path, reason(err))
	}
	key, leaf, chain, err := pkcs12.DecodeChain(b, "")
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return nil, fmt.Errorf("certificate file %s has a password; export it without one and guard the file instead", path)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate file %s is not a PFX file: %w", path, err)
	}
	pair := &tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair, nil
}

// reason takes the path off an error that names it already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
