package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/datadir"
	"postern/bridge/event"
	"postern/bridge/queue"
)

// Health implements control.Healths.
func (a *admin) Health(ctx context.Context) (control.Health, error) {
	h := control.Health{Queue: map[string]int{}, LeastDisk: a.cfg.Queue.MinFreeDisk, Errors: []control.Incident{}}
	counts, err := a.counts(ctx)
	damage := err
	if err != nil && !errors.Is(err, queue.ErrDamaged) {
		return h, fmt.Errorf("count the queue: %w", err)
	}
	for _, c := range counts {
		if c.State != queue.Relayed {
			h.Queue[string(c.State)] += c.N
			h.Kept += c.Kept
		}
	}
	if h.Accounts, err = a.Accounts(ctx); err != nil {
		return h, err
	}
	if h.FreeDisk, err = datadir.Free(a.cfg.Bridge.DataDir); err != nil {
		return h, fmt.Errorf("room on the disk of data_dir: %w", err)
	}
	if a.describe != nil {
		a.describe(&h)
	}
	if damage != nil && a.describe == nil { // else it is described
		h.Errors = append(h.Errors, damageNow(damage))
	}
	return h, nil
}

// damageNow is damage of the queue as an incident: it lasts until the next start, however many others come after it.
func damageNow(err error) control.Incident {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return control.Incident{At: time.Now(), Number: event.NumberOf(event.QueueFailed), Event: string(event.QueueFailed), Text: text, Remedy: remedyOfDamage}
}

// describe adds what only a running daemon knows.
func (b *Bridge) describe(h *control.Health) {
	h.Running, h.Version, h.Since = true, b.release, b.since
	if err := b.store.Damage(); err != nil {
		h.Errors = append(h.Errors, damageNow(err))
	}
	for _, i := range b.incidents.Latest() {
		if i.Remedy == remedyOfDamage {
			continue // it stands there
		}
		h.Errors = append(h.Errors, control.Incident(i))
	}
	for _, a := range b.Addrs() {
		h.Listeners = append(h.Listeners, a.String())
	}
}

// Pass implements control.Healths. Whoever may talk to control is root, an administrator, or of group postern.
func (a *admin) Pass(_ context.Context, user string) (control.Pass, error) {
	if a.pass == nil {
		return control.Pass{}, errors.New("postern is not running; start it first")
	}
	return a.pass(a.cfg, user)
}

// pass makes a password for a user of the file. The listener is the first that offers a login to this machine.
func (b *Bridge) pass(cfg *config.Config, name string) (control.Pass, error) {
	if name == "" {
		name = cfg.Bridge.SendmailUser
	}
	if name == "" {
		return control.Pass{}, errors.New("sendmail_user of [bridge] is not set; it names the [[user]] whose mail postern sendmail hands in")
	}
	i := slices.IndexFunc(cfg.Users, func(u config.User) bool { return strings.EqualFold(u.Name, name) })
	if i < 0 {
		var names []string
		for _, u := range cfg.Users {
			names = append(names, u.Name)
		}
		return control.Pass{}, &control.Error{Text: fmt.Sprintf("there is no user %.60q; users: %s", name, strings.Join(names, ", ")) + notYet, Usage: true}
	}
	p := control.Pass{User: cfg.Users[i].Name, Hostname: cfg.Bridge.Hostname}
	for _, a := range cfg.Accounts {
		if a.Name == cfg.Users[i].Account || cfg.Users[i].Account == "" && (a.Default || len(cfg.Accounts) == 1) {
			p.Mailbox = a.Mailbox
		}
	}
	addrs := b.Addrs()
	for i, l := range cfg.Listeners {
		if l.Auth == "none" || i >= len(addrs) {
			continue
		}
		bound, err := netip.ParseAddrPort(addrs[i].String())
		if err != nil {
			continue
		}
		host, ok := localHost(bound.Addr(), l.Networks)
		if !ok || !host.IsLoopback() && l.TLS == "none" && !slices.Contains(l.Tolerate, "plaintext-auth") {
			continue
		}
		p.Address, p.TLS = net.JoinHostPort(host.String(), fmt.Sprint(bound.Port())), l.TLS
		p.Password = b.front.passes.Make(p.User, time.Now())
		return p, nil
	}
	return control.Pass{}, errors.New("no listener offers a login on this machine: give one an address of 127.0.0.1, and auth = \"required\" or \"optional\"")
}

// localHost is the address at which this machine reaches a listener, where the listener lets it in.
func localHost(bound netip.Addr, networks []netip.Prefix) (netip.Addr, bool) {
	candidates := []netip.Addr{bound.Unmap()}
	if bound.IsUnspecified() {
		candidates = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	}
	for _, c := range candidates {
		for _, n := range networks {
			if n.Contains(c) {
				return c, true
			}
		}
	}
	return netip.Addr{}, false
}
