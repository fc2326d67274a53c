package sandbox

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// serveHTTP is the one door of Entra, Graph, admin and page: they share a port and are told apart by path.
func (s *Sandbox) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		return
	}
	defer s.wg.Done()
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case first == "v1.0" || first == "beta":
		s.serveGraph(w, r, first, rest)
	case first == "devicelogin" && rest == "":
		s.serveDeviceLogin(w, r)
	case first == "" || first == "mail" || first == "admin":
		if !local(r) {
			// Another name in Host is a web page of someone else's that had its name point here (DNS rebinding).
			http.Error(w, "only for 127.0.0.1 and localhost", http.StatusForbidden)
			return
		}
		s.serveLocal(w, r, first, rest)
	default:
		s.serveEntra(w, r, first, rest)
	}
}

// local reports whether a request comes from this machine and was meant for it.
func local(r *http.Request) bool {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !remote.Addr().Unmap().IsLoopback() {
		return false
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	return host == "127.0.0.1" || host == "::1" || host == "[::1]" || strings.EqualFold(host, "localhost")
}

func (s *Sandbox) serveLocal(w http.ResponseWriter, r *http.Request, first, rest string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch {
	case first == "admin":
		s.serveAdmin(w, r, rest)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	case first == "" && rest == "":
		s.servePage(w, r)
	case first == "mail":
		s.serveSource(w, r, rest)
	default:
		http.NotFound(w, r)
	}
}

// serveAdmin changes the sandbox from outside. Bodies are JSON, and their type is demanded, because a foreign web page
// cannot send it without asking first (CORS), which is refused.
//
//	POST /admin/fault          a Fault
//	POST /admin/clear          takes all faults back
//	GET, POST /admin/switches  Switches; a POST changes those it names
//	POST /admin/refresh-token  {"login": "...", "client_id": "..."} gives the token as text
//	POST /admin/expire         ends all access tokens
//	POST /admin/revoke         {"login": "..."} ends its refresh tokens
func (s *Sandbox) serveAdmin(w http.ResponseWriter, r *http.Request, what string) {
	if what == "switches" && r.Method == http.MethodGet {
		writeJSON(w, http.StatusOK, s.settings())
		return
	}
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if r.Method != http.MethodPost || !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
		http.Error(w, "POST with Content-Type: application/json", http.StatusUnsupportedMediaType)
		return
	}
	if err := s.admin(w, r, what); err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
	}
}

// admin does one POST; it answers itself unless it returns an error.
func (s *Sandbox) admin(w http.ResponseWriter, r *http.Request, what string) error {
	var who struct {
		Login    string `json:"login"`
		ClientID string `json:"client_id"`
	}
	switch what {
	case "fault":
		var f Fault
		if err := readJSON(w, r, &f); err != nil {
			return err
		}
		if err := s.Fault(f); err != nil {
			return err
		}
	case "clear":
		s.ClearFaults()
	case "switches":
		next := s.settings()
		if err := readJSON(w, r, &next); err != nil {
			return err
		}
		s.Switch(func(now *Switches) { *now = next })
	case "refresh-token":
		if err := readJSON(w, r, &who); err != nil {
			return err
		}
		if who.ClientID == "" {
			who.ClientID = PublicClientID
		}
		rt := s.RefreshTokenFor(who.ClientID, who.Login)
		if rt == "" {
			return fmt.Errorf("nobody called %q can sign in to that app", who.Login)
		}
		w.Header().Set("Content-Type", "text/plain; charset=us-ascii")
		fmt.Fprintln(w, rt.Reveal()) // as postern signin --refresh-token - reads it
		return nil
	case "expire":
		s.ExpireAccessTokens()
	case "revoke":
		if err := readJSON(w, r, &who); err != nil {
			return err
		}
		s.Revoke(who.Login)
	default:
		http.NotFound(w, r)
		return nil
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that left is its own affair
}

// writeHTML is what a proxy or a front end in trouble answers.
func writeHTML(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/html; charset=us-ascii")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<!DOCTYPE html><html><head><title>%d</title></head><body><h2>%s</h2></body></html>\r\n", status, http.StatusText(status))
}
