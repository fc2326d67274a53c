package control

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"postern/auth/token"
)

// maxRequest bounds a request's body in octets: a refresh token is 1 to 4 KB.
const maxRequest = 64 << 10

// Server answers the command line.
type Server struct {
	http *http.Server
	mux  atomic.Pointer[http.ServeMux] // of the service
}

// NewServer returns a server for svc. key is the shared secret that a TCP client must show; "" on a Unix socket, where
// the socket's mode is the guard.
func NewServer(svc Service, key token.Secret) *Server {
	srv := &Server{}
	srv.SetService(svc)
	s := &http.Server{
		Handler:           guard(key, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { srv.mux.Load().ServeHTTP(w, r) })),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       10 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
	nameCallers(s)
	srv.http = s
	return srv
}

// SetService has svc answer from now on; requests under way end with the one that they began with.
func (s *Server) SetService(svc Service) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /accounts", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(svc.Accounts(r.Context()))
	})
	mux.HandleFunc("POST /signin", func(w http.ResponseWriter, r *http.Request) {
		var q signinRequest
		if ask(w, r, &q) {
			answer(w)(svc.SignIn(r.Context(), q.Account, token.Secret(q.RefreshToken)))
		}
	})
	mux.HandleFunc("GET /secrets", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(svc.Secrets(r.Context()))
	})
	mux.HandleFunc("POST /secrets", func(w http.ResponseWriter, r *http.Request) {
		var q secretRequest
		if ask(w, r, &q) {
			answer(w)(struct{}{}, svc.SetSecret(r.Context(), q.Name, token.Secret(q.Value)))
		}
	})
	mux.HandleFunc("DELETE /secrets/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(struct{}{}, svc.RemoveSecret(r.Context(), r.PathValue("name")))
	})
	handleSignIns(mux, svc)
	handleQueue(mux, svc)
	handleChecks(mux, svc)
	handleVault(mux, svc)
	handleReload(mux, svc)
	handleHealth(mux, svc)
	s.mux.Store(mux)
}

// signinRequest and secretRequest carry plain strings, because a token.Secret encodes as "[redacted]".
type (
	signinRequest struct {
		Account      string `json:"account"`
		RefreshToken string `json:"refresh_token"`
	}
	secretRequest struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
)

// guard keeps out who does not know the key, and a browser that was tricked into talking to the loopback port.
func guard(key token.Secret, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown := []byte(r.Header.Get("X-Postern-Key"))
		if subtle.ConstantTimeCompare(shown, []byte(key.Reveal())) != 1 || r.Host != hostName {
			http.Error(w, "forbidden", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Serve answers on l until Shutdown; it returns nil then.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown ends Serve, lets running requests finish until ctx ends, and removes the socket.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

func ask(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if d.Decode(into) != nil {
		refuse(w, http.StatusBadRequest, errors.New("the request could not be read; is the command line of the daemon's version?"))
		return false
	}
	return true
}

func answer(w http.ResponseWriter) func(value any, err error) {
	return func(value any, err error) {
		if err != nil {
			refuse(w, http.StatusUnprocessableEntity, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(value)
	}
}

func refuse(w http.ResponseWriter, status int, err error) {
	e := Error{Text: err.Error()}
	if told := (*Error)(nil); errors.As(err, &told) {
		e.Usage = told.Usage
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(&e)
}
