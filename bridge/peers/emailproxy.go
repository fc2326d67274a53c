package peers

import (
	"bufio"
	"fmt"
	"net"
	"strings"
)

// section is one of an INI file as Python's configparser reads it.
type section struct {
	name string
	keys map[string]string // in lower case
}

// ini reads sections; an indented line goes on with the value before it.
func ini(text string) []section {
	var list []section
	last := ""
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		line := s.Text()
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
		case (line[0] == ' ' || line[0] == '\t') && len(list) > 0 && last != "":
			list[len(list)-1].keys[last] += " " + trimmed
		case trimmed[0] == '[' && strings.HasSuffix(trimmed, "]"):
			list, last = append(list, section{trimmed[1 : len(trimmed)-1], map[string]string{}}), ""
		case len(list) > 0:
			i := strings.IndexAny(trimmed, "=:")
			if i < 0 {
				continue
			}
			last = strings.ToLower(strings.TrimSpace(trimmed[:i]))
			list[len(list)-1].keys[last] = strings.TrimSpace(trimmed[i+1:])
		}
	}
	return list
}

// emailProxy reads emailproxy.config: [SMTP-port] sections are listeners, sections with an address are accounts. Its
// local password is the key of a token, and any password makes an account there, so that nothing of it can be carried.
func (w *writer) emailProxy(text string) error {
	sections := ini(text)
	listeners := 0
	for _, s := range sections {
		kind, port, ok := strings.Cut(s.name, "-")
		switch {
		case ok && kind == "SMTP":
			if w.proxyListener(s, port) {
				listeners++
			}
		case ok && (kind == "IMAP" || kind == "POP"):
			w.note("[%s]: Postern sends mail and does not fetch it", s.name)
		}
	}
	accounts := 0
	for _, s := range sections {
		if strings.Contains(s.name, "@") && w.proxyAccount(s, sections) {
			accounts++
		}
	}
	switch {
	case listeners+accounts == 0:
		return errUnknown
	case listeners == 0:
		w.listeners.WriteString("\n[[listener]]\naddress = \"127.0.0.1:2525\"\n")
		w.note("there was no SMTP section: the listener is a suggestion")
	}
	return nil
}

func (w *writer) proxyListener(s section, port string) bool {
	host := strings.ToLower(s.keys["server_address"])
	if host != "" && !strings.HasSuffix(host, "office365.com") && !strings.HasSuffix(host, "outlook.com") {
		w.note("[%s]: its server is %s, and this version sends through Microsoft 365 alone", s.name, host)
		return false
	}
	address := s.keys["local_address"]
	if address == "" {
		address = "127.0.0.1"
		w.note("[%s]: without local_address it listened on every address; Postern listens on 127.0.0.1 until networks and a certificate are given", s.name)
	}
	fmt.Fprintf(&w.listeners, "\n[[listener]]\naddress = %s\n", quote(net.JoinHostPort(strings.Trim(address, "[]"), port)))
	cert, key := s.keys["local_certificate_path"], s.keys["local_key_path"]
	if cert != "" {
		mode := "implicit"
		if strings.EqualFold(s.keys["local_starttls"], "true") {
			mode = "starttls"
		}
		fmt.Fprintf(&w.listeners, "tls = %s\ntls_cert = %s\n", quote(mode), quote(cert))
		if key != "" {
			fmt.Fprintf(&w.listeners, "tls_key = %s\n", quote(key))
		}
	}
	return true
}

func (w *writer) proxyAccount(s section, all []section) bool {
	get := func(key string) string {
		if v := s.keys[key]; v != "" {
			return v
		}
		for _, other := range all { // [@domain] is the default of its accounts, [emailproxy] of all
			if other.name == "@"+domainOf(s.name) && other.keys[key] != "" {
				return other.keys[key]
			}
		}
		return ""
	}
	if strings.HasPrefix(s.name, "@") {
		w.note("[%s]: it served every address of its domain; each needs an [[account]] of its own, or one with mailbox = %q and app-only", s.name, "*"+s.name)
		return false
	}
	tenant, ok := tenantOf(get("token_url"))
	if !ok {
		w.note("[%s]: its token_url is not Microsoft's", s.name)
		return false
	}
	p := provider{tenant: tenant, clientID: get("client_id"), secret: get("client_secret") != "" || get("client_secret_encrypted") != ""}
	flow := get("oauth2_flow")
	name := w.unique(localOf(s.name))
	fmt.Fprintf(&w.accounts, "\n[[account]]\nname = %s\nprovider = %s\nmailbox = %s\n", quote(name), quote(w.provider(p)), quote(s.name))
	switch flow {
	case "client_credentials":
		w.accounts.WriteString("signin = \"app-only\"\n")
	case "", "authorization_code", "device":
		w.do("sign in: postern signin %s (its stored token is encrypted with a password that only the application knows)", name)
	default:
		w.note("[%s]: oauth2_flow %q; the account is signed in by a person instead", s.name, flow)
		w.do("sign in: postern signin %s", name)
	}
	if t := transportOf(get("oauth2_scope")); t != "auto" {
		fmt.Fprintf(&w.accounts, "transport = %s\n", quote(t))
	}
	fmt.Fprintf(&w.users, "\n[[user]]\nname = %s\naccount = %s\n# password = \"\"   # write here what `postern passwd` prints\n", quote(s.name), quote(name))
	w.do("give user %s a password: postern passwd", s.name)
	return true
}
