package smarthost

import (
	"encoding/json"
	"errors"
	"net"
	"strings"

	"postern/auth/token"
	"postern/bridge/reply"
)

// The mechanisms we speak, in the order in which we choose.
const (
	xoauth2     = "XOAUTH2"
	oauthBearer = "OAUTHBEARER" // RFC 7628
)

// bearer is a sasl.Client in two steps: the token goes after the server's empty challenge, because an initial response
// of 2 KB exceeds the command line that RFC 4954 section 4 allows. A refusal may come as a challenge of its own (Gmail);
// it is answered so that the 535 follows.
type bearer struct {
	mechanism string
	response  []byte // carries the token
	dismissal []byte // answers the error challenge; never nil, which the library would take for success
	steps     int
	status    string // what the error challenge said
}

// newBearer checks what it joins: a control character in it could end one field and begin another.
func newBearer(mechanism, login, address string, access token.Secret) (*bearer, error) {
	if strings.ContainsFunc(login, isControl) {
		return nil, errors.New("login has a control character")
	}
	if access == "" || strings.ContainsFunc(access.Reveal(), notInSecret) {
		return nil, errors.New("access token has characters that no bearer token has")
	}
	auth := "\x01auth=Bearer " + access.Reveal() + "\x01\x01"
	if mechanism == xoauth2 {
		return &bearer{mechanism: mechanism, response: []byte("user=" + login + auth), dismissal: []byte{}}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(login) // saslname, RFC 5801 section 4
	head := "n,a=" + name + ",\x01host=" + host + "\x01port=" + port
	return &bearer{mechanism: mechanism, response: []byte(head + auth), dismissal: []byte{1}}, nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// Start begins without an initial response.
func (b *bearer) Start() (mechanism string, initial []byte, err error) { return b.mechanism, nil, nil }

// Next answers the empty challenge with the token, and an error challenge with the dismissal.
func (b *bearer) Next(challenge []byte) ([]byte, error) {
	b.steps++
	switch b.steps {
	case 1:
		return b.response, nil
	case 2:
		var e struct {
			Status string `json:"status"`
		}
		if json.Unmarshal(challenge, &e) == nil && len(e.Status) <= 40 {
			b.status = reply.OneLine(e.Status)
		}
		return b.dismissal, nil
	}
	return nil, errors.New("smarthost challenges a third time")
}
