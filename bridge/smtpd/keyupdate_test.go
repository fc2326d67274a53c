package smtpd

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// updater is the client's side of TLS 1.3 (RFC 8446) whose records are written here, because crypto/tls answers a KeyUpdate but
// sends none.
type updater struct {
	net.Conn // TLS, for reading
	t        testing.TB
	raw      net.Conn
	suite    uint16
	secret   []byte
	sent     uint64 // records with this secret
}

// secureUpdating brings TLS up as secure does, and returns what can change the client's key.
func (c *client) secureUpdating() *updater {
	c.t.Helper()
	var log bytes.Buffer
	conn := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, KeyLogWriter: &log})
	if err := conn.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	u := &updater{Conn: conn, t: c.t, raw: c.conn, suite: conn.ConnectionState().CipherSuite}
	for line := range bytes.Lines(log.Bytes()) {
		if f := bytes.Fields(line); string(f[0]) == "CLIENT_TRAFFIC_SECRET_0" {
			u.secret, _ = hex.DecodeString(string(f[2]))
		}
	}
	c.conn = u
	c.in.Reset(u)
	return u
}

// expand is HKDF-Expand-Label without a context (section 7.1).
func (u *updater) expand(label string, length int) []byte {
	u.t.Helper()
	info := append([]byte{0, byte(length), byte(len("tls13 " + label))}, "tls13 "+label+"\x00"...)
	key, err := hkdf.Expand(sha256.New, u.secret, string(info), length)
	if err != nil {
		u.t.Fatal(err)
	}
	return key
}

func (u *updater) aead() cipher.AEAD {
	u.t.Helper()
	var a cipher.AEAD
	var err error
	switch u.suite {
	case tls.TLS_AES_128_GCM_SHA256:
		var block cipher.Block
		if block, err = aes.NewCipher(u.expand("key", 16)); err == nil {
			a, err = cipher.NewGCM(block)
		}
	case tls.TLS_CHACHA20_POLY1305_SHA256: // where the processor has no AES
		a, err = chacha20poly1305.New(u.expand("key", chacha20poly1305.KeySize))
	default:
		u.t.Fatalf("the server chose %s", tls.CipherSuiteName(u.suite))
	}
	if err != nil {
		u.t.Fatal(err)
	}
	return a
}

// record seals one record of the content type (section 5.2).
func (u *updater) record(kind byte, content string) []byte {
	u.t.Helper()
	a := u.aead()
	nonce := u.expand("iv", a.NonceSize())
	last := nonce[len(nonce)-8:]
	binary.BigEndian.PutUint64(last, binary.BigEndian.Uint64(last)^u.sent)
	u.sent++
	n := len(content) + 1 + a.Overhead()
	head := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	return append(head, a.Seal(nil, nonce, append([]byte(content), kind), head)...)
}

func (u *updater) Write(b []byte) (int, error) {
	_, err := u.raw.Write(u.record(23, string(b)))
	return len(b), err
}

func (u *updater) Close() error { return u.raw.Close() }

// update seals a KeyUpdate that asks for one in return (section 4.6.3); the records after it have the new key.
func (u *updater) update() []byte {
	u.t.Helper()
	r := u.record(22, "\x18\x00\x00\x01\x01")
	u.secret, u.sent = u.expand("traffic upd", sha256.Size), 0
	return r
}

// crypto/tls answers from inside Read, long after the last reply.
func TestAClientMayChangeItsKeyAtAnyTime(t *testing.T) {
	for _, tc := range []struct {
		name  string
		steps []string // command, reply
		last  string   // sent after the new key
		want  string
	}{
		{"while it rests", nil, "NOOP\r\n", "250 2.0.0"},
		{"inside a transaction", []string{"MAIL FROM:<a@b.test>", "250"}, "RCPT TO:<c@d.test>\r\n", "250 2.1.5"},
		{"inside DATA", []string{"MAIL FROM:<a@b.test>", "250", "RCPT TO:<c@d.test>", "250", "DATA", "354"}, "x\r\n.\r\n", "250 2.0.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(o *Options, _ *house) { o.TLS, o.TLSConfig = Implicit, serverTLS() }, func(t *testing.T, b *bubble) {
				c := b.connect()
				u := c.secureUpdating()
				c.want("", "220")
				c.want("EHLO x", "250")
				c.want("AUTH PLAIN AG5hdgBzZWNyZXQ=", "235")
				for i := 0; i < len(tc.steps); i += 2 {
					c.want(tc.steps[i], tc.steps[i+1])
				}
				time.Sleep(b.s.o.Load().WriteTimeout + time.Second)
				both := append(u.update(), u.record(23, tc.last)...)
				go u.raw.Write(both) // the server answers the first before it reads the second
				c.want("", tc.want)
				c.conn.Close()
			})
		})
	}
}
