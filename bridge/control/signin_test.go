package control

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/auth/token"
)

// fakeSignIns remembers what it was told.
type fakeSignIns struct {
	only  []string
	proof token.Proof
	turn  Turn
	out   string
}

func (f *fakeSignIns) Offer(_ context.Context, account string) (Offer, error) {
	if account != "erp" {
		return Offer{}, errors.New("there is no account " + account)
	}
	return Offer{Account: account, Login: "svc@contoso.test", Shares: []string{"erp"}, Scopes: []token.Scope{{Name: "Mail.Send", Why: "sends"}},
		Authorize: "https://login.test/authorize?scope=a+b&x=<>"}, nil
}

func (f *fakeSignIns) DeviceCode(_ context.Context, _ string, only []string) (DeviceCode, error) {
	f.only = only
	return DeviceCode{Device: "secret", UserCode: "FRWQDE7YL", Interval: 5 * time.Second, Expires: 15 * time.Minute, Transports: only}, nil
}

func (f *fakeSignIns) Redeem(_ context.Context, _ string, p token.Proof) (Turn, error) {
	f.proof = p
	return f.turn, nil
}

func (f *fakeSignIns) SignOut(_ context.Context, account string) ([]string, error) {
	f.out = account
	return []string{account, "scan"}, nil
}

func TestClientSignsIn(t *testing.T) {
	svc := &fakeSignIns{}
	c, err := Dial(t.Context(), serve(t, &fakeService{SignIns: svc}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want, _ := svc.Offer(t.Context(), "erp")
	if o, err := c.Offer(t.Context(), "erp"); err != nil || !cmp.Equal(o, want) {
		t.Errorf("Offer = %+v, %v; want %+v", o, err, want)
	}
	var refused *Error
	if _, err := c.Offer(t.Context(), "nav"); !errors.As(err, &refused) {
		t.Errorf("Offer of an unknown account = %v; want the service's own words", err)
	}
	if d, err := c.DeviceCode(t.Context(), "erp", []string{"smtp"}); err != nil || d.Device != "secret" || d.Interval != 5*time.Second || len(svc.only) != 1 {
		t.Errorf("DeviceCode = %+v, %v", d, err)
	}
	for _, p := range []token.Proof{
		{Code: "code", Verifier: "verifier", RedirectURI: "http://localhost:1"}, {Device: "device"}, {Refresh: "refresh"},
	} {
		for _, turn := range []Turn{{State: Pending}, {State: Trouble, Text: "down", RetryAfter: time.Minute}, {State: Done, SignedIn: SignedIn{As: "svc@contoso.test", Works: []string{"graph"}}}} {
			svc.turn = turn
			if got, err := c.Redeem(t.Context(), "erp", p); err != nil || !cmp.Equal(got, turn) || svc.proof != p {
				t.Errorf("Redeem = %+v, %v; want %+v, and the proof as it was given", got, err, turn)
			}
		}
	}
	if names, err := c.SignOut(t.Context(), "erp"); err != nil || svc.out != "erp" || len(names) != 2 {
		t.Errorf("SignOut = %v, %v", names, err)
	}
}
