package relay

import "postern/bridge/reply"

// Path is where a transport of an account leads, and by what way: a pause that was met on one says nothing of another. The
// zero value is not known.
type Path struct {
	Server string // the next server
	SignIn string // who gives the tokens for it
	By     string // what else a connection to them hangs on, such as the proxy
}

// path is the account's by that transport.
func (a Account) path(transport string) Path {
	if transport == string(ModeGraph) {
		return a.GraphPath
	}
	return a.SMTPPath
}

// whole names all of it.
func (p Path) whole() string { return p.Server + " " + p.SignIn + " " + p.By }

// cause names what a pause hangs on: who asked for it, or all of the path where nobody did; "" where it is not known.
func (p Path) cause(o reply.Outcome) string {
	switch {
	case p == Path{}:
		return ""
	case o.RetryAfter == 0:
		return p.whole()
	case o.Reply.Code == 0: // no other's wish comes without one
		return p.SignIn
	}
	return p.Server
}

// has reports whether a pause that hangs on cause is one of this path.
func (p Path) has(cause string) bool {
	return p == Path{} || cause == "" || cause == p.whole() || cause == p.SignIn || cause == p.Server
}

// ended is a trouble that is over.
type ended struct {
	place
	trouble
}

// moved ends the pauses on paths that their accounts have left: a person has mended the address or the proxy. r.mu is held.
func (r *Relay) moved() (all []ended) {
	if len(r.troubles) == 0 {
		return nil // as nearly always
	}
	for _, name := range r.names {
		a := r.accounts[name]
		for _, w := range a.ways() {
			_, route := a.places(w.name)
			if t := r.troubles[route]; t != nil && !t.parked && !a.path(w.name).has(t.cause) {
				delete(r.troubles, route)
				all = append(all, ended{route, *t})
			}
		}
	}
	return all
}
