// Package demo runs a bridge beside a Microsoft 365 of our own, on a throw-away configuration, and sends mail through it, so
// that somebody without a tenant sees it work. It stands before the hall as cmd/postern does, which calls it, and must use
// nothing of the hall that an administrator's daemon would not. A failure to start is an error, and then nothing runs.
package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern/bridge"
	"postern/bridge/config"
	"postern/bridge/sandbox"
	"postern/bridge/users"
)

// User is one local application of the demo, and the account and transport that serve it.
type User struct {
	Name, Transport string
}

// Users are the two applications of the demo: one goes out by Graph, one by SMTP.
var Users = []User{{"erp", "graph"}, {"scanner", "smtp"}}

// writtenFrom is what the demo's applications write, and leavesFrom what policy makes of it.
const (
	writtenFrom = "Accounting <accounting@erp.local>"
	leavesFrom  = "noreply@contoso.test"
	recipient   = "customer@example.test"
)

// Demo is a bridge beside a Microsoft 365 of our own, on a throw-away configuration.
type Demo struct {
	Sandbox  *sandbox.Sandbox
	Config   string // path of the configuration file
	Address  string // host:port of the listener
	Password string // of every demo user

	bridge *bridge.Bridge
	ended  chan struct{} // closed when the bridge has ended; then err says how
	err    error
	stop   context.CancelFunc
}

// Start starts both in dir, which must exist, with the listener on address (host:port; port 0 for any). Call Close.
func Start(ctx context.Context, dir, address string, log *slog.Logger) (d *Demo, err error) {
	ctx, stop := context.WithCancel(ctx)
	d = &Demo{Password: rand.Text()[:12], Config: filepath.Join(dir, "postern.toml"), ended: make(chan struct{}), stop: stop}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.Sandbox, err = sandbox.Start(sandbox.Options{Dir: filepath.Join(dir, "mail")}); err != nil {
		return d, err
	}
	if err = d.writeConfig(address); err != nil {
		return d, err
	}
	cfg, err := config.Load(d.Config)
	if err != nil {
		return d, err
	}
	b, err := bridge.New(ctx, cfg, bridge.Options{Log: log})
	if err != nil {
		return d, err
	}
	d.bridge, d.Address = b, b.Addrs()[0].String()
	go func() {
		defer close(d.ended)
		d.err = b.Run(ctx)
	}()
	for _, a := range cfg.Accounts {
		if _, err := b.SignIn(ctx, a.Name, d.Sandbox.RefreshToken(a.Mailbox)); err != nil {
			return d, err
		}
	}
	return d, nil
}

func (d *Demo) writeConfig(address string) error {
	hash, err := users.Hash(d.Password)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[bridge]\nhostname = \"demo.contoso.test\"\ndata_dir = \"data\"\n\n[[listener]]\naddress = %q\n\n%s\n",
		address, d.Sandbox.ConfigTOML("contoso", sandbox.PublicClientID))
	mailboxes := map[string]string{"graph": "erp@contoso.test", "smtp": "svc@contoso.test"}
	for _, u := range Users {
		fmt.Fprintf(&b, "[[account]]\nname = \"by-%s\"\nprovider = \"contoso\"\nmailbox = %q\ntransport = %q\n\n",
			u.Transport, mailboxes[u.Transport], u.Transport)
		fmt.Fprintf(&b, "[[user]]\nname = %q\npassword = '%s'\naccount = \"by-%s\"\n"+
			"sender = { mode = \"send-as\", address = %q, name = \"Contoso\", reply_to = \"original\" }\n\n",
			u.Name, hash, u.Transport, leavesFrom)
	}
	return os.WriteFile(d.Config, []byte(b.String()), 0o600)
}

// Send submits one message for each demo user over SMTP, as an application would, and waits until all have arrived.
func (d *Demo) Send(ctx context.Context) ([]sandbox.Received, error) {
	before := len(d.Sandbox.Received())
	host, _, _ := net.SplitHostPort(d.Address)
	for _, u := range Users {
		text := "From: " + writtenFrom + "\r\nTo: A customer <" + recipient + ">\r\nSubject: Invoice 4711, by " + u.Transport + "\r\n" +
			"Date: " + time.Now().Format(time.RFC1123Z) + "\r\n\r\nDear customer, here is your invoice.\r\n"
		auth := smtp.PlainAuth("", u.Name, d.Password, host)
		if err := smtp.SendMail(d.Address, auth, "accounting@erp.local", []string{recipient}, []byte(text)); err != nil {
			return nil, fmt.Errorf("user %q: %w", u.Name, err)
		}
	}
	got, err := d.Sandbox.Wait(ctx, before+len(Users))
	if err != nil {
		return nil, fmt.Errorf("the messages were accepted and did not arrive: %w", err)
	}
	return got[before:], nil
}

// Check says what is wrong with what arrived, or nil: one message by each transport, from the substituted sender,
// for the one recipient.
func Check(got []sandbox.Received) error {
	var errs []error
	seen := map[string]int{}
	for _, r := range got {
		seen[r.Via]++
		if !strings.Contains(r.From, leavesFrom) {
			errs = append(errs, fmt.Errorf("the message by %s came from %s; want %s", r.Via, r.From, leavesFrom))
		}
		if len(r.Recipients) != 1 || r.Recipients[0] != recipient {
			errs = append(errs, fmt.Errorf("the message by %s went to %v; want %s alone", r.Via, r.Recipients, recipient))
		}
	}
	for _, u := range Users {
		if seen[u.Transport] != 1 {
			errs = append(errs, fmt.Errorf("%d messages came by %s; want 1", seen[u.Transport], u.Transport))
		}
	}
	return errors.Join(errs...)
}

// Ended is closed when the bridge has ended, by Close or by itself.
func (d *Demo) Ended() <-chan struct{} { return d.ended }

// Close stops the bridge and the sandbox and waits for both. It returns how the bridge ended.
func (d *Demo) Close() error {
	d.stop()
	var err error
	if d.bridge != nil {
		<-d.ended
		err = d.err
	}
	if d.Sandbox != nil {
		err = errors.Join(err, d.Sandbox.Close())
	}
	return err
}
