// Package peers turns the configuration of a program that does a like job into a postern.toml: email-oauth2-proxy,
// SMTP2Graph, and sasl-xoauth2 with Postfix's maps. It reads text and writes text; it must not know the rooms or what
// the keys of the result mean to them. `postern import` calls it. What cannot be carried becomes a comment, never
// silence; a secret never stands in the result: a password becomes a hash, a client secret a name in the vault, and a
// token is named by its file. A text that is none of these is an error.
package peers

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Source is what is turned into a postern.toml.
type Source struct {
	Name        string // the file's, for the comment at the top
	Text        []byte
	SASLPasswd  []byte   // Postfix's smtp_sasl_password_maps, for sasl-xoauth2
	SenderMaps  [][]byte // Postfix's sender_dependent_relayhost_maps and sender_dependent_default_transport_maps
	HashOf      func(password string) (string, error)
	DefaultMail string // a domain, where the peer names none
}

// Convert returns the postern.toml, and which peer the text is of.
func Convert(s Source) (toml, peer string, err error) {
	text := strings.TrimPrefix(string(s.Text), "\ufeff")
	w := &writer{}
	switch first := strings.TrimSpace(text); {
	case strings.HasPrefix(first, "{"):
		peer, err = "sasl-xoauth2", w.saslXOAUTH2(s, first)
	case strings.Contains(text, "token_url") || strings.Contains(text, "[SMTP-") || strings.Contains(text, "[IMAP-"):
		peer, err = "email-oauth2-proxy", w.emailProxy(text)
	default:
		peer, err = "SMTP2Graph", w.smtp2graph(s, text)
	}
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", s.Name, err)
	}
	return w.toml(s.Name, peer), peer, nil
}

// errUnknown says that the text is of no peer that is known.
var errUnknown = errors.New("this is none of email-oauth2-proxy's emailproxy.config, SMTP2Graph's config.yml and sasl-xoauth2's JSON")

// writer gathers the result.
type writer struct {
	listeners, accounts, users, scenarios strings.Builder
	providers                             []provider
	notes                                 []string // what could not be carried
	todo                                  []string // what a person must do
	names                                 map[string]bool
}

// provider is an app registration; accounts with the same one share it.
type provider struct {
	name, tenant, clientID string
	secret                 bool   // it has a client secret
	certificate            string // path
}

func (w *writer) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}
func (w *writer) do(format string, args ...any) {
	w.todo = append(w.todo, fmt.Sprintf(format, args...))
}

// unique returns the wish as a name that no other table has.
func (w *writer) unique(wish string) string {
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("-_.", r) {
			return r
		}
		return '-'
	}, wish)
	if w.names == nil {
		w.names = map[string]bool{}
	}
	for n := 2; w.names[name]; n++ {
		name = fmt.Sprintf("%s-%d", strings.TrimSuffix(name, fmt.Sprintf("-%d", n-1)), n)
	}
	w.names[name] = true
	return name
}

// provider returns the name of the provider for that app.
func (w *writer) provider(p provider) string {
	for _, has := range w.providers {
		if has.tenant == p.tenant && has.clientID == p.clientID && has.secret == p.secret {
			return has.name
		}
	}
	p.name = "microsoft"
	if n := len(w.providers); n > 0 {
		p.name = fmt.Sprintf("microsoft-%d", n+1)
	}
	w.providers = append(w.providers, p)
	if p.secret {
		w.do("store the client secret: postern secret set %s", p.name)
	}
	return p.name
}

// toml puts the file together.
func (w *writer) toml(file, peer string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made by `postern import` from %s of %s. Read it, then: postern check\n", comment(file), peer)
	for _, s := range w.todo {
		fmt.Fprintf(&b, "# To do: %s\n", comment(s))
	}
	for _, s := range w.notes {
		fmt.Fprintf(&b, "# Not carried: %s\n", comment(s))
	}
	b.WriteString(w.listeners.String())
	for _, p := range w.providers {
		fmt.Fprintf(&b, "\n[[provider]]\nname = %s\ntenant = %s\nclient_id = %s\n", quote(p.name), quote(p.tenant), quote(p.clientID))
		if p.secret {
			fmt.Fprintf(&b, "client_secret = %s\n", quote("vault:"+p.name))
		}
		if p.certificate != "" {
			fmt.Fprintf(&b, "certificate = %s\n", quote(p.certificate))
		}
	}
	b.WriteString(w.accounts.String() + w.users.String() + w.scenarios.String())
	return b.String()
}

// comment keeps a text on its line.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func quoteAll(list []string) string {
	var all []string
	for _, s := range list {
		all = append(all, quote(s))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// tenantOf takes the tenant out of a token endpoint of Microsoft's; false for another provider's.
func tenantOf(endpoint string) (tenant string, ok bool) {
	u, err := url.Parse(endpoint)
	if err != nil || !slices.Contains([]string{"login.microsoftonline.com", "login.microsoft.com", "login.windows.net"}, strings.ToLower(u.Hostname())) {
		return "", false
	}
	tenant, _, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return tenant, tenant != ""
}

// transportOf is what the scopes allow.
func transportOf(scope string) string {
	smtp, graph := strings.Contains(scope, "SMTP.Send") || strings.Contains(scope, "outlook.office365.com/.default"), strings.Contains(scope, "Mail.Send")
	switch {
	case graph && !smtp:
		return "graph"
	case smtp && !graph:
		return "smtp"
	}
	return "auto"
}

// localOf is an address without its domain.
func localOf(address string) string {
	local, _, _ := strings.Cut(address, "@")
	return local
}

// domainOf is the domain of an address.
func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }
