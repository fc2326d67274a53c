package sandbox

import (
	"net/http"
	"net/url"
	"slices"
)

// serveAdminConsent answers both forms of the admin consent page (facts A1): what the app registration lists is consented
// for everybody, whatever scope was asked for.
func (s *Sandbox) serveAdminConsent(w http.ResponseWriter, r *http.Request, tenant string) {
	_, p := s.askedForPage(w, r, tenant)
	if p == nil {
		return
	}
	p.admin, p.mode = true, "query"
	p.scopes = slices.Concat(p.app.Scopes, p.app.AdminOnly, p.app.Roles)
	s.show(w, s.openPage(p))
}

// adminAnswered gives the consent, or not, and sends the browser back.
func (q *tokenRequest) adminAnswered(p *loginPage, accept bool) {
	if !accept {
		q.redirect(p, url.Values{"error": {"permission_denied"}, "error_description": {"The admin canceled the request"}})
		return
	}
	q.s.mu.Lock()
	if app, ok := q.s.world.app(p.app.ClientID); ok {
		app.Scopes, app.AdminOnly = slices.Concat(app.Scopes, app.AdminOnly), nil
		q.s.world.setApp(app)
	}
	q.s.mu.Unlock()
	q.s.logf("entra: admin consent for %s", p.app.Name)
	q.redirect(p, url.Values{"tenant": {TenantID}, "admin_consent": {"True"}})
}
