package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// sink is a smarthost that takes any token and any message, as fast as it can, and forgets the text.
type sink struct {
	listener net.Listener
	tls      *tls.Config
	caFile   string

	mu          sync.Mutex // guards what follows
	n, auth     int
	first, last time.Time
	arrived     chan struct{} // holds one
}

func newSink(dir string) (*sink, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	s := &sink{caFile: filepath.Join(dir, "ca.pem"), arrived: make(chan struct{}, 1),
		tls: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}}
	if err := os.WriteFile(s.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return nil, err
	}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s, nil
}

func (s *sink) close() { s.listener.Close() }

func (s *sink) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n, s.auth, s.first, s.last = 0, 0, time.Time{}, time.Time{}
}

func (s *sink) count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = time.Now()
	if s.n++; s.n == 1 {
		s.first = s.last
	}
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// rate waits until n messages have arrived and returns how many did so a second, from the first to the last.
func (s *sink) rate(ctx context.Context, n int) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		s.mu.Lock()
		got, took, auth := s.n, s.last.Sub(s.first), s.auth
		s.mu.Unlock()
		if got >= n {
			fmt.Fprintf(os.Stderr, "  %d messages, %d logins\n", got, auth)
			return float64(n-1) / took.Seconds(), nil
		}
		select {
		case <-s.arrived:
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d messages arrived: %w", got, n, ctx.Err())
		}
	}
}

func (s *sink) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	conn.SetDeadline(time.Now().Add(10 * time.Minute))
	r := bufio.NewReader(conn)
	answer := func(t string) bool { _, err := conn.Write([]byte(t)); return err == nil }
	answer("220 sink.test ESMTP\r\n")
	secure := false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		switch verb {
		case "EHLO":
			if secure {
				answer("250-sink.test\r\n250-8BITMIME\r\n250-SIZE 200000000\r\n250 AUTH XOAUTH2 PLAIN\r\n")
			} else {
				answer("250-sink.test\r\n250-8BITMIME\r\n250 STARTTLS\r\n")
			}
		case "STARTTLS":
			answer("220 2.0.0 go\r\n")
			t := tls.Server(conn, s.tls)
			if t.Handshake() != nil {
				return
			}
			conn, secure = t, true
			r = bufio.NewReader(conn)
		case "AUTH":
			if len(strings.Fields(line)) < 3 { // the token comes in a line of its own
				answer("334 \r\n")
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
			}
			s.mu.Lock()
			s.auth++
			s.mu.Unlock()
			answer("235 2.7.0 ok\r\n")
		case "DATA":
			answer("354 go\r\n")
			for {
				l, err := r.ReadSlice('\n')
				if err != nil && err != bufio.ErrBufferFull {
					return
				}
				if string(l) == ".\r\n" {
					break
				}
			}
			s.count()
			answer("250 2.0.0 ok\r\n")
		case "QUIT":
			answer("221 2.0.0 bye\r\n")
			return
		default:
			answer("250 2.0.0 ok\r\n")
		}
	}
}
