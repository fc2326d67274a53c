package bridge

import (
	"context"
	"errors"
	"slices"

	"postern/auth/token"
	"postern/bridge/config"
	"postern/bridge/control"
)

// Offer implements control.SignIns.
func (a *admin) Offer(_ context.Context, account string) (control.Offer, error) {
	acc, err := a.accountNamed(account)
	if err != nil {
		return control.Offer{}, err
	}
	o, shares, err := a.accounts.Offer(account)
	if err != nil {
		return control.Offer{}, err
	}
	p := providerOf(a.cfg, acc)
	return control.Offer{Account: account, Login: acc.Login, Provider: p.Name, Tenant: p.Tenant, ClientID: p.ClientID,
		Shares: shares, Scopes: o.Scopes, Authorize: o.Authorize, Native: o.Native}, nil
}

// DeviceCode implements control.SignIns.
func (a *admin) DeviceCode(ctx context.Context, account string, only []string) (control.DeviceCode, error) {
	if err := a.known(account); err != nil {
		return control.DeviceCode{}, err
	}
	var resources []token.Resource
	for _, name := range only {
		resources = append(resources, token.Resource(name))
	}
	d, err := a.accounts.DeviceCode(ctx, account, resources...)
	if err != nil {
		return control.DeviceCode{}, err
	}
	c := control.DeviceCode{Device: d.Device.Reveal(), UserCode: d.UserCode, URI: d.URI, Interval: d.Interval, Expires: d.Expires}
	for _, r := range d.Resources {
		c.Transports = append(c.Transports, string(r))
	}
	return c, nil
}

// Redeem implements control.SignIns.
func (a *admin) Redeem(ctx context.Context, account string, p token.Proof) (control.Turn, error) {
	if err := a.known(account); err != nil {
		return control.Turn{}, err
	}
	result, err := a.accounts.Redeem(ctx, account, p)
	var e *token.Error
	switch {
	case err == nil:
		return control.Turn{State: control.Done, SignedIn: a.signedIn(account, result)}, nil
	case !errors.As(err, &e) || e.Person:
		return control.Turn{}, err
	case e.Code == "authorization_pending":
		return control.Turn{State: control.Pending}, nil
	case e.Code == "slow_down":
		return control.Turn{State: control.Slower}, nil
	}
	return control.Turn{State: control.Trouble, Text: e.Error(), RetryAfter: e.RetryAfter}, nil
}

// SignOut implements control.SignIns.
func (a *admin) SignOut(ctx context.Context, account string) ([]string, error) {
	if err := a.known(account); err != nil {
		return nil, err
	}
	return a.accounts.SignOut(ctx, account)
}

// accountNamed finds the account, or says which there are.
func (a *admin) accountNamed(name string) (config.Account, error) {
	if err := a.known(name); err != nil {
		return config.Account{}, err
	}
	i := slices.IndexFunc(a.cfg.Accounts, func(c config.Account) bool { return c.Name == name })
	return a.cfg.Accounts[i], nil
}
