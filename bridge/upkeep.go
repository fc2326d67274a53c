package bridge

import (
	"context"
	"time"

	"postern/auth"
	"postern/bridge/config"
	"postern/bridge/event"
	"postern/bridge/expiry"
)

const (
	// keepEvery is how often a refresh token that the vault could not take is written again.
	keepEvery = 30 * time.Second
	// upkeepEvery is how often idle sign-ins and what is about to end are looked at.
	upkeepEvery = time.Hour
)

// upkeep does what keeps sign-ins alive without anybody's asking.
type upkeep struct {
	cfg      func() *config.Config // the one in force
	accounts *auth.Accounts
	warner   expiry.Warner
	expiring func([]expiry.End) // hears all ends at each look; may be nil
}

func newUpkeep(cfg func() *config.Config, accounts *auth.Accounts, events *event.Bus) *upkeep {
	return &upkeep{cfg: cfg, accounts: accounts, warner: expiry.Warner{Events: events}}
}

// run writes again what the vault could not take, uses idle refresh tokens, and warns of ends ahead, until ctx ends.
func (u *upkeep) run(ctx context.Context) error {
	u.look(ctx)
	keep, look := time.NewTicker(keepEvery), time.NewTicker(upkeepEvery)
	defer keep.Stop()
	defer look.Stop()
	for {
		select {
		case <-keep.C:
			// The failure was told when the token came; accounts shows it until it is over.
			_ = u.accounts.Keep(ctx)
		case <-look.C:
			u.look(ctx)
		case <-ctx.Done():
			return u.accounts.Keep(context.WithoutCancel(ctx))
		}
	}
}

func (u *upkeep) look(ctx context.Context) {
	u.accounts.Renew(ctx)
	now := time.Now()
	all := expiry.Once(expiries(u.cfg(), u.accounts.States(ctx), now))
	u.warner.Warn(ctx, all, now)
	if u.expiring != nil {
		u.expiring(all)
	}
}
