package bridge

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"postern/auth"
	"postern/auth/entra"
	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/event"
)

const day = 24 * time.Hour

// warnDays are how many days before an end the administrator is told, and after it (0).
var warnDays = []int{30, 14, 7, 3, 1, 0}

// expiries are what can end by time, by account.
func expiries(cfg *config.Config, states []auth.State, now time.Time) map[string][]control.Expiry {
	byProvider := map[string][]control.Expiry{}
	for _, p := range cfg.Providers {
		if e, ok := credentialExpiry(p); ok {
			byProvider[p.Name] = append(byProvider[p.Name], e)
		}
	}
	all := map[string][]control.Expiry{}
	for _, s := range states {
		list := slices.Clone(byProvider[s.Provider])
		if !s.AppOnly && s.SignedIn && !s.Used.IsZero() {
			list = append(list, control.Expiry{What: "sign-in", Provider: s.Provider, Login: s.Login, At: s.Used.Add(auth.IdleLife),
				Remedy: "run: postern signin " + s.Account})
		}
		for i := range list {
			list[i].Near = list[i].At.Sub(now) <= time.Duration(warnDays[0])*day
		}
		slices.SortStableFunc(list, func(a, b control.Expiry) int { return a.At.Compare(b.At) })
		all[s.Account] = list
	}
	return all
}

// credentialExpiry is the end of what proves the app. Where a certificate file cannot be read the sign-in says so itself.
func credentialExpiry(p config.Provider) (control.Expiry, bool) {
	if !p.ClientSecretExpires.IsZero() && p.ClientSecret.Kind != "" {
		return control.Expiry{What: "client secret", Provider: p.Name, At: p.ClientSecretExpires,
			Remedy: fmt.Sprintf("create a new one under Certificates & secrets of the app registration, then %s, and set "+
				"client_secret_expires of provider %s", auth.SecretRemedy(p.ClientSecret.Kind+":"+p.ClientSecret.Name), p.Name)}, true
	}
	if len(p.Certificates) == 0 {
		return control.Expiry{}, false
	}
	certs, err := appCertificates(p.Certificates)
	if err != nil || len(certs) == 0 {
		return control.Expiry{}, false
	}
	// During a roll-over the last one counts.
	last := slices.MaxFunc(certs, func(a, b entra.Certificate) int { return a.Leaf.NotAfter.Compare(b.Leaf.NotAfter) })
	return control.Expiry{What: "certificate", Provider: p.Name, At: last.Leaf.NotAfter,
		Remedy: fmt.Sprintf("make a new one, upload it under Certificates & secrets of the app registration, and add it to "+
			"certificate of provider %s", p.Name)}, true
}

// expiryWarner tells of what is about to end, once for each of warnDays. A restart tells the latest again.
type expiryWarner struct {
	events *event.Bus
	told   map[expiryKey]int // the days of the last warning
}

type expiryKey struct {
	what, provider, login string
	at                    time.Time
}

// warn is not safe for concurrent use.
func (w *expiryWarner) warn(ctx context.Context, list []control.Expiry, now time.Time) {
	for _, e := range list {
		due, ok := warningDue(e.At.Sub(now))
		key := expiryKey{e.What, e.Provider, e.Login, e.At.UTC().Truncate(day)}
		if last, told := w.told[key]; !ok || told && last <= due {
			continue
		}
		if w.told == nil {
			w.told = map[expiryKey]int{}
		}
		w.told[key] = due
		level := slog.LevelWarn
		if due <= 7 {
			level = slog.LevelError
		}
		attrs := []slog.Attr{slog.String("what", e.What), slog.String("provider", e.Provider)}
		if e.Login != "" {
			attrs = append(attrs, slog.String("login", e.Login))
		}
		left := int(max(0, e.At.Sub(now)) / day)
		w.events.Emit(ctx, level, event.ExpiryNear, append(attrs, slog.Time("expires", e.At), slog.Int("days", left), slog.String("remedy", e.Remedy))...)
	}
}

// warningDue returns which warning stands for so much time left.
func warningDue(left time.Duration) (days int, ok bool) {
	for i := len(warnDays) - 1; i >= 0; i-- {
		if left <= time.Duration(warnDays[i])*day {
			return warnDays[i], true
		}
	}
	return 0, false
}

// eachExpiry returns every expiry once, however many accounts it concerns, the nearest first.
func eachExpiry(byAccount map[string][]control.Expiry) []control.Expiry {
	var all []control.Expiry
	seen := map[expiryKey]bool{}
	for _, list := range byAccount {
		for _, e := range list {
			if key := (expiryKey{e.What, e.Provider, e.Login, e.At}); !seen[key] {
				seen[key] = true
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b control.Expiry) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.What, b.What), cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Login, b.Login))
	})
	return all
}
