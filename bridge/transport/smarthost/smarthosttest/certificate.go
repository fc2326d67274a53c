package smarthosttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"
)

// certificate makes an authority and a certificate for Host. Nothing of them outlives the test.
func certificate(c Certificate) (*tls.Config, *x509.CertPool, error) {
	ca, caKey, err := issue("Throw-away test authority", true, nil, nil, Good)
	if err != nil {
		return nil, nil, err
	}
	leaf, key, err := issue(Host, false, ca, caKey, c)
	if err != nil {
		return nil, nil, err
	}
	trusted := ca
	if c == UnknownCA {
		if trusted, _, err = issue("Another authority", true, nil, nil, Good); err != nil {
			return nil, nil, err
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(trusted)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}},
		// A ticket would be written while the client writes, which a pipe cannot take.
		SessionTicketsDisabled: true,
	}, roots, nil
}

func issue(name string, authority bool, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, c Certificate) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-48 * time.Hour),
		NotAfter:              now.Add(48 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	switch {
	case authority:
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	case c == WrongName:
		template.DNSNames = []string{"another.test"}
	default:
		template.DNSNames = []string{name}
	}
	if c == Expired {
		template.NotAfter = now.Add(-24 * time.Hour)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}
