package config

import (
	"errors"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// check looks at what no table can know of itself: required keys, pairs, and names that point to other tables. Every
// file has been read; keys that have a mistake of their own are left alone.
func (l *loader) check() {
	for _, e := range l.listeners {
		checkListener(e.t, e.v)
	}
	l.checkListeners()
	for _, e := range l.providers {
		checkProvider(e.t, e.v)
	}
	for _, e := range l.accounts {
		l.checkAccount(e.t, e.v)
	}
	for _, e := range l.users {
		l.checkUser(e.t, e.v)
	}
	for i := range l.scenarios {
		l.checkScenario(i)
	}
	l.checkSets()
	if t := l.plain["bridge"]; t != nil {
		pointer(t, "sendmail_user", l.c.Bridge.SendmailUser, "user", names(l.users, userName))
		l.checkDataDir(t)
	}
	if t := l.plain["log"]; t != nil && l.c.Log.To == "eventlog" && runtime.GOOS != "windows" {
		t.warn("to", "the event log is there on Windows alone; the log goes to stderr")
	}
}

// checkDataDir refuses a folder that is closed to others with what is theirs in it. That of the file itself is the default on
// Windows, and good for a trial.
func (l *loader) checkDataDir(t *table) {
	dir := l.c.Bridge.DataDir
	if !t.set("data_dir") || !t.good("data_dir") {
		return
	}
	below, err := filepath.Rel(dir, l.dir)
	above := err == nil && below != "." && below != ".." && !strings.HasPrefix(below, ".."+string(filepath.Separator))
	if above || filepath.Dir(dir) == dir {
		t.mistake("data_dir", "is a folder above this file's; it is closed to all others, so name one of its own, such as %s", Default().Bridge.DataDir)
	}
}

func providerName(p Provider) string { return p.Name }
func accountName(a Account) string   { return a.Name }
func userName(u User) string         { return u.Name }

func names[T any](list []entry[T], name func(T) string) []string {
	var out []string
	for _, e := range list {
		if n := name(e.v); n != "" {
			out = append(out, n)
		}
	}
	return out
}

// missing reports that the file lacks a whole table.
func (l *loader) missing(table, text string) {
	l.main.mistake(0, table, text)
}

// pointer checks that a name points to a table of that kind.
func pointer(t *table, key, name, kind string, known []string) {
	if name == "" || !t.good(key) || slices.Contains(known, name) {
		return
	}
	t.mistake(key, "no [[%s]] has this name%s", kind, didYouMean(name, known))
}

// unique reports the second of two tables whose key has the same value; same gives the value compared, "" for none.
func unique[T any](list []entry[T], key, text string, same func(T) string) {
	first := map[string]*table{}
	for _, e := range list {
		v := same(e.v)
		if v == "" || !e.t.good(key) {
			continue
		}
		if f := first[v]; f != nil {
			e.t.mistake(key, "%s %s", text, f.place(key))
			continue
		}
		first[v] = e.t
	}
}

// checkSets checks what must not be there twice, and what must be there at all.
func (l *loader) checkSets() {
	const sameName = "the same name (upper and lower case do not differ) as"
	unique(l.listeners, "address", "the same address as", func(l Listener) string { return SocketKey(l.Address) })
	unique(l.providers, "name", sameName, func(p Provider) string { return strings.ToLower(p.Name) })
	unique(l.accounts, "name", sameName, func(a Account) string { return strings.ToLower(a.Name) })
	unique(l.users, "name", sameName, func(u User) string { return strings.ToLower(u.Name) })
	unique(l.scenarios, "name", sameName, func(s Scenario) string { return strings.ToLower(s.Name) })
	unique(l.accounts, "default", "only one account can be the default; another is", func(a Account) string {
		if a.Default {
			return "default"
		}
		return ""
	})
	l.checkUserNetworks()
	if len(l.listeners) == 0 {
		l.missing("listener", `there is none, and applications could not hand in mail; `+
			`add [[listener]] with address = "127.0.0.1:25"`)
	}
	if len(l.accounts) == 0 {
		l.missing("account", "there is none, and mail could go nowhere; add [[provider]] and [[account]]")
	}
	if len(l.users) == 0 && len(l.listeners) > 0 {
		l.main.warn(0, "user", "there is none, and nobody can hand in mail; add a [[user]] for each application")
	}
}

// checkListenAddress checks host:port where the host is something to bind to. Port 0 is for tests.
func checkListenAddress(s string) error {
	host, _, err := splitHostPort(s, 0)
	if err != nil {
		return err
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !strings.EqualFold(host, "localhost") {
		return errors.New(`its host must be an IP address of this machine, "localhost", or empty for all addresses: a name may change what it means`)
	}
	return nil
}

// SocketKey is equal for addresses of listeners that are one socket, as configured or as a bound socket has it; "" where
// the system chooses the port, and for what is no address.
func SocketKey(address string) string {
	host, port, err := splitHostPort(address, 0)
	if err != nil || port == 0 {
		return ""
	}
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		a = netip.IPv6Unspecified() // an empty host
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(port)).String()
}

func checkListener(t *table, l Listener) {
	t.require("address", l.Address, `write host:port, such as "127.0.0.1:25"`)
	if t.good("tls", "tls_cert", "tls_key") {
		checkListenerTLS(t, l)
	}
	old := l.MinTLS == "1.0" || l.MinTLS == "1.1"
	if old && t.good("min_tls", "tolerate") && !slices.Contains(l.Tolerate, "old-tls") {
		t.mistake("min_tls", `TLS before 1.2 is broken; for devices that know no other write tolerate = ["old-tls"]`)
	}
	if l.Address == "" || !t.good("address", "tls", "auth", "networks", "tolerate") {
		return
	}
	host, port, _ := splitHostPort(l.Address, 0)
	if port == 0 {
		t.warn("address", "port 0: the system chooses another port at every start")
	}
	if isLoopbackHost(host) {
		return
	}
	// The guard of the open relay. Auth alone is not enough: without TLS it is not offered off loopback.
	safe := l.TLS != "none" && l.Auth == "required"
	switch {
	case !safe && !t.set("networks"):
		t.mistake("address", `other machines can reach this address; write tls = "starttls" or "implicit" and `+
			`auth = "required", or name in networks who may connect, or listen on 127.0.0.1`)
	case !t.set("networks"):
		t.warn("address", "only this machine can connect, because networks is not set; name there who may connect")
	case !slices.ContainsFunc(l.Networks, func(p netip.Prefix) bool { return !isLoopbackNetwork(p) }):
		t.warn("networks", "only this machine can connect, though others can reach the address; name who may connect, or listen on 127.0.0.1")
	case l.TLS == "none" && l.Auth == "required" && !slices.Contains(l.Tolerate, "plaintext-auth"):
		t.warn("auth", `other machines cannot log in, because that is not offered without TLS; `+
			`set tls, or write tolerate = ["plaintext-auth"]`)
	}
}

func checkListenerTLS(t *table, l Listener) {
	if l.TLS == "none" {
		for _, key := range []string{"tls_cert", "tls_key", "min_tls"} {
			if t.set(key) {
				t.mistake(key, `has no meaning with tls = "none"; remove it, or write tls = "starttls" or "implicit"`)
			}
		}
		return
	}
	t.require("tls_cert", l.TLSCert, `with TLS the listener needs a certificate; write its PEM or PFX file here`)
	switch strings.ToLower(filepath.Ext(l.TLSCert)) {
	case "": // none, or a file that tells nothing by its name
	case ".pfx", ".p12":
		return // has the key in it
	}
	if l.TLSCert != "" {
		t.require("tls_key", l.TLSKey, "write the PEM file of the certificate's key here (the same file when it has both)")
	}
}

// checkListeners checks listeners and users together: who could hand in mail at all.
func (l *loader) checkListeners() {
	login, anonymous := len(l.listeners) == 0, len(l.listeners) == 0
	for _, e := range l.listeners {
		if !e.t.good("auth") {
			return
		}
		login = login || e.v.Auth != "none"
		anonymous = anonymous || e.v.Auth != "required"
	}
	for _, e := range l.users {
		hasPassword, hasNetwork := len(e.v.Passwords) > 0, len(e.v.Networks) > 0
		switch {
		case !e.t.good("password", "networks"):
		case !hasPassword && !hasNetwork && e.v.Name == l.c.Bridge.SendmailUser:
			// postern sendmail asks the daemon for a password of a minute.
		case !hasPassword && !hasNetwork:
			e.t.warn("", "no application can log in as it: it has neither password nor networks; run: postern passwd, and write what it prints as password")
		case hasNetwork && !anonymous:
			e.t.warn("networks", `no listener takes mail without a login; write auth = "optional" at one`)
		case !hasNetwork && !login:
			e.t.warn("password", `no listener lets clients log in; write auth = "required" or "optional" at one`)
		}
	}
}

func checkProvider(t *table, p Provider) {
	t.require("name", p.Name, "give the provider a name that accounts can refer to")
	t.require("tenant", p.Tenant, "write the tenant's GUID or domain, from the app registration's overview in Entra")
	t.require("client_id", p.ClientID, "write the application (client) ID, from the app registration's overview in Entra")
	switch {
	case p.ClientID == "":
	case !checkGUID(p.ClientID):
		t.mistake("client_id", `not a GUID; copy the application (client) ID from the app registration's overview in Entra`)
	case strings.Trim(p.ClientID, "0-") == "":
		t.warn("client_id", "still the placeholder; copy the application (client) ID from the app registration's overview in Entra")
	}
	if p.ClientSecret.Kind != "" && len(p.Certificates) > 0 {
		t.mistake("certificate", "stands beside client_secret; an app proves itself by one of them")
	}
	if !p.ClientSecretExpires.IsZero() && p.ClientSecret.Kind == "" && t.good("client_secret") {
		t.warn("client_secret_expires", "there is no client_secret; a certificate says itself when it ends")
	}
	for _, e := range []struct{ key, url string }{{"authority", p.Authority}, {"graph", p.Graph}} {
		if e.url != "" && t.good(e.key, "allow_http") {
			if err := checkURL(e.url, p.AllowHTTP); err != nil {
				t.mistake(e.key, "%s", err)
			}
		}
	}
}

// checkSmarthost checks the host:port of the smarthost.
func checkSmarthost(s string) error {
	host, _, err := splitHostPort(s, 1)
	if err != nil {
		return errors.New(`not host:port; write it like "smtp.office365.com:587"`)
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return checkDomain(host)
	}
	return nil
}

// everyTenant are the tenants that are none in particular, which only a person can sign in to.
var everyTenant = []string{"organizations", "common", "consumers"}

// checkTenant checks a GUID, a domain or one of the words.
func checkTenant(s string) error {
	if checkGUID(s) || slices.Contains(everyTenant, s) {
		return nil
	}
	if !strings.Contains(s, ".") || checkDomain(s) != nil {
		return errors.New("must be the tenant's GUID, one of its domains, or organizations, common or consumers")
	}
	return nil
}

func (l *loader) checkAccount(t *table, a Account) {
	t.require("name", a.Name, "give the account a name that users can refer to")
	t.require("provider", a.Provider, "name the [[provider]] that the account signs in with")
	t.require("mailbox", a.Mailbox, "write the address of the mailbox that mail leaves through")
	pointer(t, "provider", a.Provider, "provider", names(l.providers, providerName))
	i := slices.IndexFunc(l.providers, func(e entry[Provider]) bool { return e.v.Name == a.Provider })
	if strings.HasPrefix(a.Mailbox, "*@") && t.good("mailbox", "signin") {
		if a.SignIn != "app-only" {
			t.mistake("mailbox", `"*@domain" needs signin = "app-only": a person signs in for one mailbox`)
		}
	}
	if i < 0 || a.Provider == "" || !t.good("signin", "transport") {
		return
	}
	p := l.providers[i]
	if a.SignIn == "app-only" {
		checkAppOnly(t, p)
	}
	if a.Transport == "smtp" && p.v.SMTP == "" && clouds[p.v.Cloud].smtp == "" && p.t.good("cloud", "smtp") {
		t.mistake("transport", "its provider's cloud has no SMTP host that is known; set smtp at %s, or use graph", p.t.place(""))
	}
}

// checkAppOnly checks what signing in without a person needs.
func checkAppOnly(t *table, p entry[Provider]) {
	if p.t.good("tenant") && slices.Contains(everyTenant, p.v.Tenant) {
		t.mistake("signin", "app-only needs one tenant; write its GUID or domain as tenant of %s", p.t.place(""))
	}
	if p.t.good("client_secret", "certificate") && p.v.ClientSecret.Kind == "" && len(p.v.Certificates) == 0 {
		t.mistake("signin", `app-only needs a client_secret or a certificate at %s; run: postern secret set %s, `+
			`and write there client_secret = "vault:%s"`, p.t.place(""), p.v.Name, p.v.Name)
	}
	if t.set("login") {
		t.warn("login", "nobody signs in with app-only; remove it")
	}
}

func (l *loader) checkUser(t *table, u User) {
	t.require("name", u.Name, "give the user the name that the application logs in with")
	accounts := names(l.accounts, accountName)
	pointer(t, "account", u.Account, "account", accounts)
	hasDefault := slices.ContainsFunc(l.accounts, func(e entry[Account]) bool { return e.v.Default })
	if u.Account == "" && t.good("account") && len(l.accounts) > 1 && !hasDefault {
		t.mistake("account", "is missing, and no account is the default; name one here, or write default = true at one")
	}
	if len(u.Passwords) > 2 {
		t.mistake("password", "has more than two hashes; the second is for the time while the password is being changed")
	}
	if t.set("password") && t.good("password") && len(u.Passwords) == 0 {
		t.mistake("password", "is an empty list; remove it, or run: postern passwd")
	}
	if len(u.Passwords) == 0 && len(u.Networks) > 0 && !t.set("may_send_to") {
		t.warn("", "sends to anybody without a password; write in may_send_to whom it needs to reach")
	}
	for i, p := range u.Networks {
		checkUserNetwork(t, elemPath("networks", i), p)
	}
}

// checkUserNetwork is the other half of the guard of the open relay: who sends without a login.
func checkUserNetwork(t *table, key string, p netip.Prefix) {
	switch least := map[bool]int{true: 16, false: 48}[p.Addr().Is4()]; {
	case p.Bits() < least:
		t.mistake(key, "wider than /%d: everybody there could send without a password; name the machines that need it", least)
	case holdsLoopback(p):
		t.warn(key, "every program and every person on this machine is this user, without a password")
	}
}

// checkUserNetworks reports a network that two users have: nobody could say whose mail it is.
func (l *loader) checkUserNetworks() {
	first := map[netip.Prefix]string{}
	for _, e := range l.users {
		for i, p := range e.v.Networks {
			key := elemPath("networks", i)
			if at, ok := first[p]; ok {
				e.t.mistake(key, "the same network as %s; the longest prefix decides, and these are equal", at)
				continue
			}
			first[p] = e.t.place(key)
		}
	}
}
