package sandbox

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"postern/auth/token"
)

// The default world: one tenant, its domain, and two app registrations.
const (
	TenantID   = "5a0b1c2d-3e4f-4a5b-8c6d-7e8f9a0b1c2d"
	TenantName = "contoso.onmicrosoft.com"
	Domain     = "contoso.test"

	PublicClientID       = "11111111-2222-3333-4444-555555555555" // "Mobile and desktop": no secret
	ConfidentialClientID = "66666666-7777-8888-9999-000000000000" // "Web": ConfidentialSecret, delegated and app-only

	// ConfidentialSecret has the characters that a client must URL-encode in a form.
	ConfidentialSecret token.Secret = "Sbx8Q~not+a/real=secret%of&contoso"
)

// The resources whose tokens Entra gives out here. The two Outlook names are one audience (facts A2).
const (
	graphResource   = "https://graph.microsoft.com"
	outlookResource = "https://outlook.office.com"
	outlook365      = "https://outlook.office365.com"
)

// Mailbox is one of the tenant, and the user that owns it.
type Mailbox struct {
	Address      string   // UPN and primary SMTP address; compared without regard to case
	Name         string   // display name
	Aliases      []string // further addresses that are its own
	Shared       bool     // no sign-in of its own
	Disabled     bool     // AADSTS50057
	SMTPDisabled bool     // SmtpClientAuthenticationDisabled: 535 5.7.139
	MaxMessage   int64    // octets; default 35 MiB
	SendAs       []string // logins, and client ids at SMTP app-only, that may send as it
	SendOnBehalf []string // likewise, on behalf of it
	FullAccess   []string // logins that may use /users/{it}/, and client ids that may log in to it over SMTP app-only
}

// App is an app registration with what was consented.
type App struct {
	ClientID      string
	Name          string
	Public        bool
	Secret        token.Secret
	SecretExpired bool                // AADSTS7000222
	Certificates  []*x509.Certificate // verify its assertions; several during a roll-over
	MultiTenant   bool                // may use /common and /organizations
	Scopes        []string            // delegated: OIDC scopes by name, others as resource/Name; consented for everybody. Others a person consents to
	AdminOnly     []string            // delegated scopes that only an administrator can consent to (AADSTS90094)
	RedirectURIs  []string            // default http://localhost and nativeclient
	Roles         []string            // app-only, as resource/Name
	RestrictTo    []string            // application access policy: the only mailboxes it may use at Graph app-only; empty is all
	RBAC          []string            // mailboxes granted by "Application SMTP.SendAsApp"; counts only without that role (facts A2)
}

// DefaultMailboxes returns those of contoso.test: erp, svc and nav sign in; noreply is shared, with Send As for erp, svc
// and the confidential app; buyer can be sent on behalf of by erp and svc; sales lends nothing.
func DefaultMailboxes() []Mailbox {
	at := func(local string) string { return local + "@" + Domain }
	app := []string{ConfidentialClientID}
	return []Mailbox{
		{Address: at("erp"), Name: "Contoso ERP", FullAccess: app},
		{Address: at("svc"), Name: "Contoso Services", FullAccess: app},
		{Address: at("nav"), Name: "Contoso Navision", FullAccess: app},
		{Address: at("noreply"), Name: "Contoso", Shared: true, SendAs: []string{at("erp"), at("svc"), ConfidentialClientID},
			FullAccess: []string{at("svc"), ConfidentialClientID}},
		{Address: at("buyer"), Name: "Berta Buyer", SendOnBehalf: []string{at("erp"), at("svc")}},
		{Address: at("sales"), Name: "Contoso Sales", Aliases: []string{at("vertrieb")}},
	}
}

// DefaultApps returns the public and the confidential registration, with all that Postern asks for consented.
func DefaultApps() []App {
	scopes := []string{"openid", "profile", "email", "offline_access",
		graphResource + "/User.Read", graphResource + "/Mail.Send", graphResource + "/Mail.Send.Shared",
		graphResource + "/Mail.ReadWrite", graphResource + "/Mail.ReadWrite.Shared", outlookResource + "/SMTP.Send"}
	return []App{
		{ClientID: PublicClientID, Name: "Postern", Public: true, Scopes: scopes},
		{ClientID: ConfidentialClientID, Name: "Postern service", Secret: ConfidentialSecret, Scopes: scopes,
			Roles: []string{graphResource + "/Mail.Send", graphResource + "/Mail.ReadWrite", outlookResource + "/SMTP.SendAsApp"}},
	}
}

// world is who exists. It is guarded by Sandbox.mu and hands out copies.
type world struct {
	mailboxes []Mailbox
	apps      []App
}

func newWorld(mailboxes []Mailbox, apps []App) world {
	var w world
	for _, m := range mailboxes {
		w.setMailbox(m)
	}
	for _, a := range apps {
		w.setApp(a)
	}
	return w
}

func (w *world) setMailbox(m Mailbox) {
	if m.MaxMessage == 0 {
		m.MaxMessage = 35 << 20
	}
	i := slices.IndexFunc(w.mailboxes, func(o Mailbox) bool { return strings.EqualFold(o.Address, m.Address) })
	if i >= 0 {
		w.mailboxes[i] = m
		return
	}
	w.mailboxes = append(w.mailboxes, m)
}

func (w *world) setApp(a App) {
	i := slices.IndexFunc(w.apps, func(o App) bool { return strings.EqualFold(o.ClientID, a.ClientID) })
	if i >= 0 {
		w.apps[i] = a
		return
	}
	w.apps = append(w.apps, a)
}

// mailbox finds one by its primary address or its object id.
func (w *world) mailbox(id string) (Mailbox, bool) {
	for _, m := range w.mailboxes {
		if strings.EqualFold(m.Address, id) || strings.EqualFold(m.objectID(), id) {
			return m, true
		}
	}
	return Mailbox{}, false
}

// owner finds the mailbox that an address belongs to, aliases included.
func (w *world) owner(address string) (Mailbox, bool) {
	for _, m := range w.mailboxes {
		if strings.EqualFold(m.Address, address) || has(m.Aliases, address) {
			return m, true
		}
	}
	return Mailbox{}, false
}

func (w *world) app(clientID string) (App, bool) {
	for _, a := range w.apps {
		if strings.EqualFold(a.ClientID, clientID) {
			return a, true
		}
	}
	return App{}, false
}

// right is what somebody may do with a sender address.
type right int

const (
	noRight right = iota
	ownAddress
	sendAs
	onBehalf
)

// rightTo says what may be done with address by who acts in the mailbox own and is listed in rights as id (a login or
// a client id). Send As is the stronger one where both were granted (facts B5).
func (w *world) rightTo(address, id string, own Mailbox) right {
	m, ok := w.owner(address)
	switch {
	case !ok:
		return noRight
	case strings.EqualFold(m.Address, own.Address):
		return ownAddress
	case has(m.SendAs, id):
		return sendAs
	case has(m.SendOnBehalf, id):
		return onBehalf
	}
	return noRight
}

// objectID is the user's GUID: the same for the same address, so that it can stand in a configuration.
func (m Mailbox) objectID() string {
	h := sha256.Sum256([]byte(strings.ToLower(m.Address)))
	return guid(h[:16])
}

// guid writes 16 octets as a version 4 GUID.
func guid(b []byte) string {
	b = slices.Clone(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// has reports whether list holds v, without regard to case.
func has(list []string, v string) bool {
	return slices.ContainsFunc(list, func(o string) bool { return strings.EqualFold(o, v) })
}
