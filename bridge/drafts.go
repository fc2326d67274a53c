package bridge

import (
	"slices"
	"strings"

	"postern/bridge/config"
	"postern/bridge/relay"
	"postern/bridge/submission"
)

// mayDraft reports whether Mail.ReadWrite is among the granted scopes, with or without its resource before it; also where
// no token has said yet what was granted.
func mayDraft(scopes []string) bool {
	return len(scopes) == 0 || slices.ContainsFunc(scopes, func(s string) bool {
		return strings.EqualFold(s[strings.LastIndexByte(s, '/')+1:], "Mail.ReadWrite")
	})
}

// nobodyDrafts reports whether no account of the provider makes drafts, so that their permission need not be asked for.
func nobodyDrafts(cfg *config.Config, provider string) bool {
	return !slices.ContainsFunc(cfg.Accounts, func(a config.Account) bool { return a.Provider == provider && a.Drafts != "never" })
}

// carrier tells the desk what relay can carry, because rooms do not import rooms.
type carrier struct{ room *relay.Relay }

// Capacity implements submission.Carrier.
func (c carrier) Capacity(account string) submission.Capacity {
	return submission.Capacity(c.room.Capacity(account))
}
