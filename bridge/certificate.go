package bridge

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"path/filepath"
	"slices"

	"postern/auth/entra"
	"postern/bridge/certificate"
	"postern/bridge/config"
)

// serverTLS is the listener's TLS. A file that cannot be used is a mistake of the configuration: another start does not
// mend it.
func serverTLS(l config.Listener) (*tls.Config, error) {
	t, err := certificate.Listener{Cert: l.TLSCert, Key: l.TLSKey, MinTLS: l.MinTLS, OldTLS: slices.Contains(l.Tolerate, "old-tls")}.Open()
	var wrong *certificate.FileError
	if !errors.As(err, &wrong) {
		return t, err
	}
	key := "tls_cert"
	if wrong.Key {
		key = "tls_key"
	}
	m := l.At
	m.Key, m.Text = m.Key+"."+key, wrong.Error()
	return nil, &config.Mistakes{List: []config.Mistake{m}}
}

// rootCAs is the system's pool with the authorities of a provider's ca_file added; nil where there is none.
func rootCAs(cfg *config.Config, p config.Provider) (*x509.CertPool, error) {
	if p.CAFile == "" {
		return nil, nil
	}
	pool, err := certificate.Roots(p.CAFile)
	if err != nil { // a mistake of the configuration too
		return nil, &config.Mistakes{List: []config.Mistake{{File: filepath.Base(cfg.Path), Key: "provider " + p.Name + ".ca_file", Text: err.Error()}}}
	}
	return pool, nil
}

// appCertificates reads the certificates of an app registration.
func appCertificates(files []string) ([]entra.Certificate, error) {
	pairs, err := certificate.App(files)
	if err != nil {
		return nil, err
	}
	var all []entra.Certificate
	for _, p := range pairs {
		all = append(all, entra.Certificate(p))
	}
	return all, nil
}
