package bridge

import (
	"slices"
	"time"

	"postern/auth"
	"postern/auth/entra"
	"postern/bridge/config"
	"postern/bridge/expiry"
)

// expiries are what can end by time, by account.
func expiries(cfg *config.Config, states []auth.State, now time.Time) map[string][]expiry.End {
	var credentials []expiry.End
	for _, p := range cfg.Providers {
		if e, ok := credentialExpiry(p); ok {
			credentials = append(credentials, e)
		}
	}
	var accounts []expiry.Account
	for _, s := range states {
		a := expiry.Account{Name: s.Account, Provider: s.Provider, Login: s.Login}
		if !s.AppOnly && s.SignedIn && !s.Used.IsZero() {
			a.SignInEnds = s.Used.Add(auth.IdleLife)
		}
		accounts = append(accounts, a)
	}
	return expiry.ByAccount(accounts, credentials, now)
}

// credentialExpiry is the end of what proves the app. Where a certificate file cannot be read the sign-in says so itself.
func credentialExpiry(p config.Provider) (expiry.End, bool) {
	if !p.ClientSecretExpires.IsZero() && p.ClientSecret.Kind != "" {
		return expiry.Secret(p.Name, p.ClientSecretExpires, auth.SecretRemedy(p.ClientSecret.Kind+":"+p.ClientSecret.Name)), true
	}
	if len(p.Certificates) == 0 {
		return expiry.End{}, false
	}
	certs, err := appCertificates(p.Certificates)
	if err != nil || len(certs) == 0 {
		return expiry.End{}, false
	}
	// During a roll-over the last one counts.
	last := slices.MaxFunc(certs, func(a, b entra.Certificate) int { return a.Leaf.NotAfter.Compare(b.Leaf.NotAfter) })
	return expiry.Certificate(p.Name, last.Leaf.NotAfter), true
}
