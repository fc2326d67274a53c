package sandbox

import (
	"slices"
	"strings"
)

// grant is what a list of asked scopes comes to.
type grant struct {
	resource string   // the audience
	names    []string // without the resource
	shown    []string // for the answer's scope: as they were asked, without offline_access
	offline  bool     // offline_access was asked for
}

// knownScopes are the delegated ones that the resources define. Another name is an invalid scope, one of these that was
// not consented a consent error.
var knownScopes = map[string][]string{
	graphResource: {"User.Read", "Mail.Send", "Mail.Send.Shared", "Mail.Read", "Mail.Read.Shared", "Mail.ReadWrite",
		"Mail.ReadWrite.Shared", "MailboxSettings.Read", "MailboxSettings.ReadWrite"},
	outlookResource: {"SMTP.Send", "IMAP.AccessAsUser.All", "POP.AccessAsUser.All", "EWS.AccessAsUser.All", "Mail.Send"},
}

// resourceOf names the resource that a scope's base means. Both Outlook names are one (facts A2).
func resourceOf(base string) (string, bool) {
	switch strings.TrimSuffix(strings.ToLower(base), "/") {
	case graphResource, "00000003-0000-0000-c000-000000000000":
		return graphResource, true
	case outlookResource, outlook365, "00000002-0000-0ff1-ce00-000000000000":
		return outlookResource, true
	}
	return "", false
}

// splitScope cuts a scope into resource and name; a short name means Graph (facts A2). The OIDC ones have no resource.
func splitScope(scope string) (resource, name string, e *stsError) {
	if has([]string{"openid", "profile", "email", "offline_access"}, scope) {
		return "", scope, nil
	}
	i := strings.LastIndexByte(scope, '/')
	if i < 0 {
		return graphResource, scope, nil
	}
	resource, ok := resourceOf(scope[:i])
	if !ok {
		return "", "", &stsError{500011, scope[:i]}
	}
	return resource, scope[i+1:], nil
}

// firstResource keeps the OIDC scopes and those of the first resource: what a refresh without scope is for.
func firstResource(scopes []string) (kept []string) {
	first := ""
	for _, scope := range scopes {
		resource, _, e := splitScope(scope)
		if first == "" {
			first = resource
		}
		if e == nil && (resource == "" || resource == first) {
			kept = append(kept, scope)
		}
	}
	return kept
}

// grantScopes checks what was asked against the resources and the app's consent.
func (q *tokenRequest) grantScopes(want []string) (grant, *stsError) {
	var g grant
	mixed := false // .default beside named scopes
	for _, scope := range want {
		resource, name, e := splitScope(scope)
		if e != nil {
			return grant{}, e
		}
		if resource == "" {
			if !q.hasConsent(name) {
				return grant{}, &stsError{65001, q.app.ClientID}
			}
			if strings.EqualFold(name, "offline_access") {
				g.offline = true
				continue
			}
			g.names, g.shown = append(g.names, name), append(g.shown, name)
			continue
		}
		if g.resource == "" {
			g.resource = resource
		}
		if resource != g.resource {
			if q.set.FirstScopeWins {
				continue
			}
			return grant{}, &stsError{28000, strings.Join(want, " ")}
		}
		names, e := q.consented(scope, resource, name)
		if e != nil {
			return grant{}, e
		}
		mixed = mixed || name == ".default"
		g.names = append(g.names, names...)
		g.shown = append(g.shown, shownScopes(scope, name, names)...)
	}
	if named := len(want) > 1 && mixed && hasNamed(want); named {
		return grant{}, &stsError{70011, strings.Join(want, " ")}
	}
	if g.resource == "" {
		g.resource = graphResource // OIDC scopes alone give a token for Graph's userinfo
	}
	return g, nil
}

// hasNamed reports a scope that is neither OIDC's nor .default.
func hasNamed(want []string) bool {
	for _, scope := range want {
		if resource, name, _ := splitScope(scope); resource != "" && name != ".default" {
			return true
		}
	}
	return false
}

// hasConsent reports whether the tenant's administrator or this person has consented.
func (q *tokenRequest) hasConsent(scope string) bool {
	return has(q.app.Scopes, scope) || has(q.granted, scope)
}

// consented returns the names that a scope stands for.
func (q *tokenRequest) consented(scope, resource, name string) ([]string, *stsError) {
	if name == ".default" {
		var all []string
		for _, c := range append(slices.Clone(q.app.Scopes), q.granted...) {
			if n, ok := strings.CutPrefix(c, resource+"/"); ok {
				all = append(all, n)
			}
		}
		return all, nil
	}
	if !has(knownScopes[resource], name) {
		return nil, &stsError{70011, scope}
	}
	if !q.hasConsent(resource + "/" + name) {
		return nil, &stsError{65001, q.app.ClientID}
	}
	return []string{name}, nil
}

// shownScopes spells the answer's scopes like the request's.
func shownScopes(scope, name string, names []string) []string {
	prefix := strings.TrimSuffix(scope, name)
	var shown []string
	for _, n := range names {
		shown = append(shown, prefix+n)
	}
	return shown
}
