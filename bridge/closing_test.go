package bridge

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"postern/auth"
	"postern/auth/token"
	"postern/auth/vault"
	"postern/bridge/config"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/relay"
	"postern/bridge/reply"
)

// silent is how long a transport says goodbye to a server that has stopped answering.
const silent = 5 * time.Second

// silentTransport is one of such a server.
type silentTransport struct{}

func (silentTransport) Send(context.Context, message.Outgoing) reply.Outcome { return reply.Outcome{} }

func (silentTransport) Close() error {
	time.Sleep(silent)
	return errors.New("no goodbye")
}

func silentOutlet() *outlet {
	return &outlet{outletKey{}, relay.NewOutlet(nil, silentTransport{}, silentTransport{}.Close)}
}

// TestAStopWaitsForSilentServersOnce: however many accounts and mailboxes have kept connections, systemd does not kill what
// is closed after them.
func TestAStopWaitsForSilentServersOnce(t *testing.T) {
	of := func(n int) *perMailbox {
		p := &perMailbox{all: map[string]*mailboxTransport{}}
		for i := range n {
			p.all[fmt.Sprint(i)] = &mailboxTransport{closingTransport: silentTransport{}}
		}
		return p
	}
	spare := of(2)
	b := &Bridge{outlets: outlets{}, retired: []*outlet{silentOutlet(), silentOutlet()}}
	for i := range 20 {
		b.outlets[fmt.Sprint(i)] = silentOutlet()
	}
	for _, tc := range []struct {
		name  string
		close func() error
	}{
		{"accounts, and transports that were replaced", b.closeOutlets},
		{"the mailboxes of an account", of(mostTransports).Close},
		{"a mailbox that has just made room for another, beside the others", func() error {
			spare.closing.Go(func() { silentTransport{}.Close() })
			return spare.Close()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				if err := tc.close(); err == nil {
					t.Error("the error of the closing is lost")
				}
				if took := time.Since(began); took != silent {
					t.Errorf("closed within %v; want %v", took, silent)
				}
			})
		})
	}
}

// TestClosingReplacedTransportsHoldsNobodyUp: neither a reload nor a stop waits for a server that says nothing.
func TestClosingReplacedTransportsHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard := &eventLog{}
		b := &Bridge{events: event.NewBus(heard), retired: []*outlet{silentOutlet(), silentOutlet(), silentOutlet()}}
		for _, o := range b.retired[:2] {
			o.Retire(time.Now())
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = b.shutRetired(ctx)
		}()
		time.Sleep(relay.RetireAfter)
		synctest.Wait()
		if b.reloading.TryLock() {
			if left := len(b.retired); left != 1 {
				t.Errorf("%d transports are left; want the one that is in use", left)
			}
			b.reloading.Unlock()
		} else {
			t.Error("a reload has to wait for the closing")
		}
		stop()
		began := time.Now()
		<-ended
		if took := time.Since(began); took != silent {
			t.Errorf("it ended %v after the stop; want %v", took, silent)
		}
		if n := heard.count(event.SmarthostFailed); n != 2 {
			t.Errorf("%d closings were told of; want 2", n)
		}
	})
}

// hangingProvider answers no request.
type hangingProvider struct{ asked chan struct{} }

func (p hangingProvider) Refresh(context.Context, token.Secret, token.Resource) (token.Grant, error) {
	return token.Grant{}, errors.New("nobody signs in here")
}

func (p hangingProvider) ClientCredentials(ctx context.Context, _ token.Resource) (token.Grant, error) {
	close(p.asked)
	<-ctx.Done()
	return token.Grant{}, ctx.Err()
}

// TestAStopEndsWithinWhatWasAnnounced: a refresh that hangs is waited for, and cut off before the service manager kills.
func TestAStopEndsWithinWhatWasAnnounced(t *testing.T) {
	for _, tc := range []struct {
		name       string
		left, want time.Duration // of what was announced
	}{
		{"a start that failed was announced to nobody", 0, time.Minute},
		{"the listeners and the queue have taken little of it", 40 * time.Second, 35 * time.Second},
		{"they have taken all of it", time.Second, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, err := vault.Open(t.TempDir(), vault.Options{})
				if err != nil {
					t.Fatal(err)
				}
				p := hangingProvider{make(chan struct{})}
				b := &Bridge{cfg: &config.Config{}}
				b.cfg.Queue.StopGrace = time.Minute
				if b.accounts, err = auth.New(auth.Options{Providers: map[string]auth.Provider{"p": p}, Vault: v,
					Accounts: []auth.Account{{Name: "a", Provider: "p", AppOnly: true, Resources: []token.Resource{token.Graph}}}}); err != nil {
					t.Fatal(err)
				}
				go b.accounts.Source("a").Token(context.Background(), token.Graph)
				<-p.asked
				began := time.Now()
				if tc.left > 0 {
					b.endBy = began.Add(tc.left)
				}
				if err := b.closeAccounts(); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took != tc.want {
					t.Errorf("closed within %v; want %v", took, tc.want)
				}
			})
		})
	}
}
