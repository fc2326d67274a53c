package auth

import (
	"slices"

	"postern/auth/token"
)

// Scopes returns what was granted with the current access token for the resource, as the issuer spelled it; nil while
// there is none, and where the issuer does not say it (app-only).
func (s *Source) Scopes(r token.Resource) []string {
	if s.login == nil {
		return nil
	}
	s.login.mu.Lock()
	defer s.login.mu.Unlock()
	return slices.Clone(s.login.cell(r).grant.Scopes)
}
