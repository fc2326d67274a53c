// Package graphtest is a small Microsoft Graph for tests: a server on loopback that answers as it was told and keeps
// what it was asked. It knows sendMail with MIME only, judges nothing and needs no token. Tests of package graph use it;
// the sandbox is the faithful one.
package graphtest

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Answer is what the server does with one request. The zero value is 202 without a body.
type Answer struct {
	Status int               // 0 is 202
	Header map[string]string // added to the answer's
	Body   string
	Fill   int64 // so many octets of nothing in particular after Body

	Early bool // answers without reading the request's body
	Drop  bool // reads the request's body and closes the connection without an answer; with Early, without reading
	Cut   bool // announces more body than it sends, then closes the connection
	Hang  bool // reads the request's body and never answers
}

// Fault is an answer with Graph's error body.
func Fault(status int, code, message string) Answer {
	body, err := json.Marshal(map[string]any{"error": map[string]any{
		"code": code, "message": message,
		"innerError": map[string]any{"date": "2026-11-20T10:00:00", "request-id": "11111111-2222-3333-4444-555555555555"},
	}})
	if err != nil {
		panic(err) // strings always encode
	}
	return Answer{Status: status, Body: string(body), Header: map[string]string{"Content-Type": "application/json"}}
}

// Request is what one request brought.
type Request struct {
	Method        string
	Path          string // as it was written in the request, escapes and all
	Header        http.Header
	Host          string
	ContentLength int64
	Encoded       int64  // octets of the body that were read
	MIME          []byte // the body, decoded
	Err           error  // reading or decoding the body
}

// Server is the fake. Safe for concurrent use.
type Server struct {
	URL string // the base with the version, as Options.BaseURL wants it

	mu       sync.Mutex // guards the two below
	answers  []Answer
	requests []Request
	done     chan struct{}
}

// New starts a server that gives these answers in order and repeats the last one; without any it says 202. It stops
// with the test.
func New(tb testing.TB, answers ...Answer) *Server {
	tb.Helper()
	s := &Server{answers: answers, done: make(chan struct{})}
	h := httptest.NewServer(s)
	s.URL = h.URL + "/v1.0"
	tb.Cleanup(func() {
		close(s.done)
		h.Close()
	})
	return s
}

// Requests returns what came so far, in the order in which the requests were read.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// next takes the answer that is due.
func (s *Server) next() Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) == 0 {
		return Answer{}
	}
	a := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	return a
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := s.next()
	q := Request{Method: r.Method, Path: r.URL.EscapedPath(), Header: r.Header.Clone(), Host: r.Host, ContentLength: r.ContentLength}
	if !a.Early {
		counted := &counter{r: r.Body}
		q.MIME, q.Err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, counted))
		q.Encoded = counted.n
	}
	s.mu.Lock()
	s.requests = append(s.requests, q)
	s.mu.Unlock()
	if a.Hang {
		select {
		case <-s.done:
		case <-r.Context().Done():
		}
	}
	if a.Hang || a.Drop {
		panic(http.ErrAbortHandler) // net/http's way to close the connection
	}
	s.answer(w, a)
}

func (s *Server) answer(w http.ResponseWriter, a Answer) {
	for k, v := range a.Header {
		w.Header().Set(k, v)
	}
	if a.Cut {
		w.Header().Set("Content-Length", "100000")
	}
	if a.Status == 0 {
		a.Status = http.StatusAccepted
	}
	w.WriteHeader(a.Status)
	io.WriteString(w, a.Body)
	for filler := make([]byte, 32<<10); a.Fill > 0; a.Fill -= int64(len(filler)) {
		if _, err := w.Write(filler); err != nil {
			break
		}
	}
	if a.Cut {
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
