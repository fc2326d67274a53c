package smtpd

import "net"

// spare is the connection under TLS. crypto/tls keeps a buffer for the largest record that it has seen, up to 40 KB after one
// of 16 KB, for as long as the connection lives. It offers the whole of it to Read, which may use all of it as scratch space (see
// io.Reader); so a client that rests gives its pages back, and gets empty ones when it speaks.
type spare struct {
	net.Conn
	resting bool // the next Read may wait for long
}

func (s *spare) Read(b []byte) (int, error) {
	if s.resting {
		s.resting = false
		discard(b)
	}
	return s.Conn.Read(b)
}
