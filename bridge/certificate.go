package bridge

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"postern/bridge/config"
)

// certificate is a listener's key pair, read again when its files change, so that a renewal needs no restart.
type certificate struct {
	cert, key string // paths; key is "" for PFX

	mu      sync.Mutex // guards what follows
	current *tls.Certificate
	read    [2]time.Time // the files' times when current was read
	checked time.Time
}

// recheck is how often the files are looked at, at most.
const recheck = 10 * time.Second

func openCertificate(cert, key string) (*certificate, error) {
	c := &certificate{cert: cert, key: key}
	times, err := c.times()
	if err != nil {
		return nil, err
	}
	if c.current, err = c.load(); err != nil {
		return nil, err
	}
	c.read, c.checked = times, time.Now()
	return c, nil
}

// get is tls.Config.GetCertificate. Files that cannot be read, or are being written, leave the old pair in use.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < recheck {
		return c.current, nil
	}
	c.checked = time.Now()
	if times, err := c.times(); err == nil && times != c.read {
		if fresh, err := c.load(); err == nil {
			c.current, c.read = fresh, times
		}
	}
	return c.current, nil
}

func (c *certificate) times() (times [2]time.Time, err error) {
	for i, path := range []string{c.cert, c.key} {
		if path == "" {
			continue
		}
		fi, err := os.Stat(path)
		if err != nil {
			return times, certificateError{i, fmt.Errorf("%s cannot be read: %w; %s", path, reason(err), mendFile)}
		}
		times[i] = fi.ModTime()
	}
	return times, nil
}

func (c *certificate) load() (*tls.Certificate, error) {
	if c.key == "" && slices.Contains([]string{".pfx", ".p12"}, strings.ToLower(filepath.Ext(c.cert))) {
		pair, err := loadPFX(c.cert)
		if err != nil {
			return nil, certificateError{0, err}
		}
		return pair, nil
	}
	var text [2][]byte
	for i, path := range []string{c.cert, c.key} {
		var err error
		if text[i], err = os.ReadFile(path); err != nil {
			return nil, certificateError{i, fmt.Errorf("%s cannot be read: %w; %s", path, reason(err), mendFile)}
		}
	}
	pair, err := tls.X509KeyPair(text[0], text[1])
	switch {
	case err == nil:
		return &pair, nil
	case !bytes.Contains(text[0], []byte("-----BEGIN CERTIFICATE-----")):
		return nil, certificateError{0, fmt.Errorf("%s: %w", c.cert, err)}
	}
	return nil, certificateError{1, fmt.Errorf("%s: %w", c.key, err)}
}

// mendFile is what to do about a file that cannot be read.
const mendFile = "mend the path, or let the service's user read the file"

// certificateError is what is wrong with the file of tls_cert (0) or of tls_key (1).
type certificateError struct {
	file int
	error
}

// Unwrap implements the chain of errors.
func (e certificateError) Unwrap() error { return e.error }

// certificateMistake makes of it a mistake of the configuration: another start does not mend it.
func certificateMistake(l config.Listener, err error) error {
	var c certificateError
	if !errors.As(err, &c) {
		return err
	}
	m := l.At
	m.Key, m.Text = m.Key+"."+[]string{"tls_cert", "tls_key"}[c.file], c.Error()
	return &config.Mistakes{List: []config.Mistake{m}}
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

// serverTLS is the listener's TLS.
func serverTLS(l config.Listener) (*tls.Config, error) {
	c, err := openCertificate(l.TLSCert, l.TLSKey)
	if err != nil {
		return nil, certificateMistake(l, err)
	}
	t := &tls.Config{GetCertificate: c.get, MinVersion: map[string]uint16{
		"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[l.MinTLS]}
	if t.MinVersion == 0 {
		t.MinVersion = tls.VersionTLS12
	}
	// A ticket is good for a week here, and a key that opens all of them would undo forward secrecy.
	t.SessionTicketsDisabled = true
	// TLS 1.2 with forward secrecy and authenticated encryption; that of TLS 1.3 cannot be chosen.
	t.CipherSuites = []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	if slices.Contains(l.Tolerate, "old-tls") {
		// Devices of the TLS 1.0 time know RSA key exchange and AES-CBC with SHA-1 alone, and Windows before 2016 has no
		// AES-GCM for a certificate with an RSA key. 3DES and RC4 stay out.
		t.CipherSuites = append(t.CipherSuites,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
			tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA)
	}
	return t, nil
}

// rootCAs is the system's pool with the authorities of a provider's ca_file added; nil where there is none.
// That it cannot be read is a mistake of the configuration: another start does not mend it.
func rootCAs(cfg *config.Config, p config.Provider) (*x509.CertPool, error) {
	if p.CAFile == "" {
		return nil, nil
	}
	mistake := func(text string) error {
		return &config.Mistakes{List: []config.Mistake{{File: filepath.Base(cfg.Path), Key: "provider " + p.Name + ".ca_file", Text: text}}}
	}
	b, err := os.ReadFile(p.CAFile)
	if err != nil {
		return nil, mistake(fmt.Sprintf("%s cannot be read: %v; mend the path, or let the service's user read the file", p.CAFile, reason(err)))
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(b) {
		return nil, mistake(p.CAFile + " has no certificate in PEM")
	}
	return pool, nil
}
