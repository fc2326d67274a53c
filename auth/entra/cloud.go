package entra

import "postern/auth/token"

// Cloud is what the resources of one of Microsoft's clouds are called in scopes. "" stands for what is not known.
type Cloud struct {
	Graph        string // prefix of Graph's scopes, https://graph.microsoft.com
	SMTP         string // prefix of SMTP.Send, https://outlook.office.com
	ExchangeApps string // prefix of Exchange Online's app-only scope, https://outlook.office365.com
}

// delegated returns the scopes of a refresh, the widest set first, or nil.
//
// A refresh that names a scope nobody consented to is refused whole (invalid_grant, AADSTS65001), and Mail.Send.Shared is
// optional (and unknown to personal accounts), so the caller goes on to smaller sets, down to the one that every account needs. Scopes of two
// resources in one request are refused (AADSTS70011), and .default, which would mean "whatever was consented", may not
// stand beside named ones. Whether a token carries consented scopes that were not asked for is in no fact, so nothing
// relies on it. offline_access keeps the refresh token coming, openid the name of who signed in.
//
// Mail.ReadWrite is for drafts; without it mail leaves by sendMail. noDrafts: nobody wants it.
func (c Cloud) delegated(r token.Resource, noDrafts bool) [][]string {
	oidc := []string{"offline_access", "openid", "profile"}
	switch {
	case r == token.Graph && c.Graph != "":
		send, shared, drafts := c.Graph+"/Mail.Send", c.Graph+"/Mail.Send.Shared", c.Graph+"/Mail.ReadWrite"
		less := [][]string{append([]string{send, shared}, oidc...), append([]string{send}, oidc...)}
		if noDrafts {
			return less
		}
		return append([][]string{append([]string{send, shared, drafts}, oidc...), append([]string{send, drafts}, oidc...)}, less...)
	case r == token.SMTP && c.SMTP != "":
		return [][]string{append([]string{c.SMTP + "/SMTP.Send"}, oidc...)}
	}
	return nil
}

// appOnly returns the scope of client credentials, which must be .default (AADSTS1002012), or "".
func (c Cloud) appOnly(r token.Resource) string {
	switch {
	case r == token.Graph && c.Graph != "":
		return c.Graph + "/.default"
	case r == token.SMTP && c.ExchangeApps != "":
		return c.ExchangeApps + "/.default"
	}
	return ""
}
