package certificate

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// Listener is the TLS of a listener.
type Listener struct {
	Cert, Key string // paths; Key is "" where Cert is a PFX file
	MinTLS    string // 1.0 to 1.3; "": 1.2
	OldTLS    bool   // takes the ciphers of TLS 1.0's time too
}

// Open reads the key pair and returns what a server needs; the pair is read again when its files change. A file that cannot
// be used is a *FileError.
func (l Listener) Open() (*tls.Config, error) {
	c, err := openListener(l.Cert, l.Key, time.Now)
	if err != nil {
		return nil, err
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
	if l.OldTLS {
		// Devices of the TLS 1.0 time know RSA key exchange and AES-CBC with SHA-1 alone, and Windows before 2016 has no
		// AES-GCM for a certificate with an RSA key. 3DES and RC4 stay out.
		t.CipherSuites = append(t.CipherSuites,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
			tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA)
	}
	return t, nil
}

// FileError is what is wrong with one file of a listener, and the remedy.
type FileError struct {
	Key bool // it is the one of the key
	Err error
}

// Error says what.
func (e *FileError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// listener is a listener's key pair, read again when its files change, so that a renewal needs no restart.
type listener struct {
	cert, key string // paths; key is "" for PFX
	now       func() time.Time

	mu      sync.Mutex // guards what follows
	current *tls.Certificate
	read    [2]time.Time // the files' times when current was read
	checked time.Time
}

// recheck is how often the files are looked at, at most.
const recheck = 10 * time.Second

func openListener(cert, key string, now func() time.Time) (*listener, error) {
	c := &listener{cert: cert, key: key, now: now}
	times, err := c.times()
	if err != nil {
		return nil, err
	}
	if c.current, err = c.load(); err != nil {
		return nil, err
	}
	c.read, c.checked = times, now()
	return c, nil
}

// get is tls.Config.GetCertificate. Files that cannot be read, or are being written, leave the old pair in use.
func (c *listener) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if now.Sub(c.checked) < recheck {
		return c.current, nil
	}
	c.checked = now
	if times, err := c.times(); err == nil && times != c.read {
		if fresh, err := c.load(); err == nil {
			c.current, c.read = fresh, times
		}
	}
	return c.current, nil
}

func (c *listener) times() (times [2]time.Time, err error) {
	for i, path := range []string{c.cert, c.key} {
		if path == "" {
			continue
		}
		fi, err := os.Stat(path)
		if err != nil {
			return times, &FileError{i == 1, fmt.Errorf("%s cannot be read: %w; %s", path, reason(err), mendFile)}
		}
		times[i] = fi.ModTime()
	}
	return times, nil
}

func (c *listener) load() (*tls.Certificate, error) {
	if c.key == "" && isPFX(c.cert) {
		pair, err := loadPFX(c.cert)
		if err != nil {
			return nil, &FileError{false, err}
		}
		return pair, nil
	}
	var text [2][]byte
	for i, path := range []string{c.cert, c.key} {
		var err error
		if text[i], err = os.ReadFile(path); err != nil {
			return nil, &FileError{i == 1, fmt.Errorf("%s cannot be read: %w; %s", path, reason(err), mendFile)}
		}
	}
	pair, err := tls.X509KeyPair(text[0], text[1])
	switch {
	case err == nil:
		return &pair, nil
	case !bytes.Contains(text[0], []byte("-----BEGIN CERTIFICATE-----")):
		return nil, &FileError{false, fmt.Errorf("%s: %w", c.cert, err)}
	}
	return nil, &FileError{true, fmt.Errorf("%s: %w", c.key, err)}
}
