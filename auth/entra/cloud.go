package entra

import "postern/auth/token"

// Cloud is where one of Microsoft's clouds has its token endpoint, and what its resources are called in scopes. "" stands
// for what is not known. Sources: "National cloud authentication" and "Microsoft Graph national cloud deployments", read
// in November 2026; the SMTP names of usgov and china are seen in use, not documented.
type Cloud struct {
	Authority    string // https://login.microsoftonline.com
	Graph        string // prefix of Graph's scopes, https://graph.microsoft.com
	SMTP         string // prefix of SMTP.Send, https://outlook.office.com
	ExchangeApps string // prefix of Exchange Online's app-only scope, https://outlook.office365.com
}

// CloudNamed returns the cloud for global, usgov, usgov-dod or china.
func CloudNamed(name string) (Cloud, bool) {
	switch name {
	case "global": // and GCC
		return Cloud{"https://login.microsoftonline.com", "https://graph.microsoft.com",
			"https://outlook.office.com", "https://outlook.office365.com"}, true
	case "usgov": // GCC High
		return Cloud{"https://login.microsoftonline.us", "https://graph.microsoft.us",
			"https://outlook.office365.us", "https://outlook.office365.us"}, true
	case "usgov-dod":
		return Cloud{"https://login.microsoftonline.us", "https://dod-graph.microsoft.us", "", ""}, true
	case "china": // operated by 21Vianet
		return Cloud{"https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn",
			"https://partner.outlook.cn", "https://partner.outlook.cn"}, true
	}
	return Cloud{}, false
}

// delegated returns the scopes of a refresh, or nil.
//
// Only the one scope that every account needs is asked for: a refresh that names a scope nobody consented to is refused
// whole (invalid_grant, AADSTS65001), and Mail.ReadWrite and Mail.Send.Shared are optional; scopes of two resources in one
// request are refused too (AADSTS70011); and .default, which would mean "whatever was consented", may not stand beside
// named ones. offline_access keeps the refresh token coming, openid the name of who signed in.
func (c Cloud) delegated(r token.Resource) []string {
	switch {
	case r == token.Graph && c.Graph != "":
		return []string{c.Graph + "/Mail.Send", "offline_access", "openid", "profile"}
	case r == token.SMTP && c.SMTP != "":
		return []string{c.SMTP + "/SMTP.Send", "offline_access", "openid", "profile"}
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
