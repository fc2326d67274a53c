// Package expiry knows what ends by time unless a person acts, a client secret, a certificate or a sign-in that nobody
// uses, and when to say so: it warns once 30, 14, 7, 3 and 1 days before an end and when it has come. It must not know
// where a secret or a certificate is kept: the hall says when they end. A restart tells the latest warning again.
package expiry

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"postern/bridge/event"
)

const day = 24 * time.Hour

// warnDays are how many days before an end the administrator is told, and after it (0). The first is what near means.
var warnDays = []int{30, 14, 7, 3, 1, 0}

// urgentDays are how many days before an end somebody must act, and not only may need to.
const urgentDays = 7

// End is something that ends by time.
type End struct {
	What     string // client secret | certificate | sign-in
	Provider string
	Login    string // of a sign-in
	At       time.Time
	Near     bool // within 30 days, or past
	Remedy   string
}

// Secret is the end of a client secret; store says how to put a new one where this one lies.
func Secret(provider string, at time.Time, store string) End {
	return End{What: "client secret", Provider: provider, At: at,
		Remedy: fmt.Sprintf("create a new one under Certificates & secrets of the app registration, then %s, and set client_secret_expires of provider %s", store, provider)}
}

// Certificate is the end of a certificate of the app.
func Certificate(provider string, at time.Time) End {
	return End{What: "certificate", Provider: provider, At: at,
		Remedy: fmt.Sprintf("make a new one, upload it under Certificates & secrets of the app registration, and add it to certificate of provider %s", provider)}
}

// Account is who suffers an end.
type Account struct {
	Name, Provider, Login string
	SignInEnds            time.Time // unless it is used before; zero where it has none
}

// ByAccount returns what of each account ends, the nearest first. credentials are what the providers' apps prove
// themselves by.
func ByAccount(accounts []Account, credentials []End, now time.Time) map[string][]End {
	all := map[string][]End{}
	for _, a := range accounts {
		var list []End
		for _, c := range credentials {
			if c.Provider == a.Provider {
				list = append(list, c)
			}
		}
		if !a.SignInEnds.IsZero() {
			list = append(list, End{What: "sign-in", Provider: a.Provider, Login: a.Login, At: a.SignInEnds, Remedy: "run: postern signin " + a.Name})
		}
		for i := range list {
			list[i].Near = list[i].At.Sub(now) <= time.Duration(warnDays[0])*day
		}
		slices.SortStableFunc(list, func(a, b End) int { return a.At.Compare(b.At) })
		all[a.Name] = list
	}
	return all
}

// Once returns every end once, however many accounts it concerns, the nearest first.
func Once(byAccount map[string][]End) []End {
	var all []End
	seen := map[key]bool{}
	for _, list := range byAccount {
		for _, e := range list {
			if k := (key{e.What, e.Provider, e.Login, e.At}); !seen[k] {
				seen[k] = true
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b End) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.What, b.What), cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Login, b.Login))
	})
	return all
}

type key struct {
	what, provider, login string
	at                    time.Time
}

// Warner tells of what is about to end, once for each of the days. Not safe for concurrent use.
type Warner struct {
	Events *event.Bus

	told map[key]int // the days of the last warning
}

// Warn tells what of the list is due now.
func (w *Warner) Warn(ctx context.Context, list []End, now time.Time) {
	for _, e := range list {
		due, ok := warningDue(e.At.Sub(now))
		k := key{e.What, e.Provider, e.Login, e.At.UTC().Truncate(day)}
		if last, told := w.told[k]; !ok || told && last <= due {
			continue
		}
		if w.told == nil {
			w.told = map[key]int{}
		}
		w.told[k] = due
		level := slog.LevelWarn
		if due <= urgentDays {
			level = slog.LevelError
		}
		attrs := []slog.Attr{slog.String("what", e.What), slog.String("provider", e.Provider)}
		if e.Login != "" {
			attrs = append(attrs, slog.String("login", e.Login))
		}
		left := int(max(0, e.At.Sub(now)) / day)
		w.Events.Emit(ctx, level, event.ExpiryNear, append(attrs, slog.Time("expires", e.At), slog.Int("days", left), slog.String("remedy", e.Remedy))...)
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
