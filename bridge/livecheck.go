package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/auth"
	"postern/auth/entra"
	"postern/auth/token"
	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/relay"
	"postern/bridge/reply"
	"postern/bridge/transport/graph"
	"postern/bridge/transport/smarthost"
)

const (
	checkTime   = 2 * time.Minute // for one provider or one account
	checkAtOnce = 4

	// Entra takes an assertion whose times are off by five minutes, no more.
	clockYellow = time.Minute
	clockRed    = 5 * time.Minute
)

// liveCheck asks everything that is far away whether it works.
type liveCheck struct {
	cfg      *config.Config
	accounts *auth.Accounts
	ways     map[string]relay.Account // by account
	sendTo   envelope.Address         // null: nothing is sent
	freed    func(account string)
}

// CheckLive implements control.Service.
func (a *admin) CheckLive(ctx context.Context, sendTo string) ([]control.Check, error) {
	c := liveCheck{cfg: a.cfg, accounts: a.accounts, ways: map[string]relay.Account{}, freed: a.freed}
	if sendTo != "" {
		to, err := envelope.ParseAddress(sendTo)
		if err != nil {
			return nil, fmt.Errorf("%.200q is not an address to send to: %w", sendTo, err)
		}
		c.sendTo = to
	}
	// Transports of its own: those of the daemon are busy with mail, and a stopped one has none.
	routes, done, err := openTransports(a.cfg, a.accounts, nil)
	if err != nil {
		return nil, err
	}
	defer done()
	for _, r := range routes {
		c.ways[r.Name] = r
	}
	return c.run(ctx), nil
}

// run checks the providers first, because an account's trouble is often theirs.
func (c *liveCheck) run(ctx context.Context) []control.Check {
	lists := make([][]control.Check, len(c.cfg.Providers)+len(c.cfg.Accounts))
	each := func(n, from int, check func(ctx context.Context, i int) []control.Check) {
		var all sync.WaitGroup
		room := make(chan struct{}, checkAtOnce) // bounds what is under way
		for i := range n {
			room <- struct{}{}
			all.Go(func() {
				defer func() { <-room }()
				ctx, cancel := context.WithTimeout(ctx, checkTime)
				defer cancel()
				lists[from+i] = check(ctx, i)
			})
		}
		all.Wait()
	}
	each(len(c.cfg.Providers), 0, func(ctx context.Context, i int) []control.Check { return c.provider(ctx, c.cfg.Providers[i]) })
	each(len(c.cfg.Accounts), len(c.cfg.Providers), func(ctx context.Context, i int) []control.Check { return c.account(ctx, c.cfg.Accounts[i]) })
	return slices.Concat(lists...)
}

// provider verifies an app registration, and this machine's clock by the Date of its answers.
func (c *liveCheck) provider(ctx context.Context, p config.Provider) []control.Check {
	line := control.Check{Subject: "provider " + p.Name, Provider: p.Name}
	dates := &dateWatch{}
	client, err := openEntra(c.cfg, p, c.accounts.Secrets(), dates)
	if err != nil {
		return []control.Check{red(line, err.Error(), "correct the provider in the file")}
	}
	found, err := client.Verify(ctx)
	var list []control.Check
	var e *token.Error
	switch {
	case errors.As(err, &e):
		list = append(list, red(line, strings.TrimPrefix(e.Text, "provider "+p.Name+": "), e.For("ACCOUNT").Remedy))
	case err != nil:
		list = append(list, red(line, err.Error(), ""))
	case found.Credential != "":
		list = append(list, green(line, fmt.Sprintf("tenant, client_id and %s are right", found.Credential)))
	default:
		list = append(list, green(line, "tenant and client_id are right"))
	}
	if err == nil && c.appOnly(p.Name) {
		list = append(list, reach(line, p, found)...)
	}
	return append(list, clock(line, dates)...)
}

// appOnly reports whether an account uses the app's own permissions at Graph.
func (c *liveCheck) appOnly(provider string) bool {
	return slices.ContainsFunc(c.cfg.Accounts, func(a config.Account) bool {
		return a.Provider == provider && a.SignIn == "app-only" && usesGraph(a)
	})
}

// reach says through which mailboxes an app-only token may send. A restriction (application access policy) cannot be seen
// from here, so that the warning stands until somebody has looked.
func reach(line control.Check, p config.Provider, found entra.Verified) []control.Check {
	line.Subject += ", reach"
	switch {
	case !found.RolesKnown:
		line.State, line.Text = control.Yellow, "whether the app may send as every mailbox of the tenant cannot be seen from here"
	case !slices.Contains(found.Roles, "Mail.Send"):
		return []control.Check{green(line, "the app has no Mail.Send for the whole tenant; it can send where RBAC for Applications lets it")}
	default:
		line.State = control.Yellow
		line.Text = "the app has Mail.Send, and may send as EVERY mailbox of the tenant unless a policy that cannot be seen from here restricts it"
	}
	line.Remedy = fmt.Sprintf("in Exchange Online PowerShell: Test-ApplicationAccessPolicy -AppId %s -Identity (a mailbox that it must not use); "+
		"if that says Granted, restrict it with RBAC for Applications or New-ApplicationAccessPolicy", p.ClientID)
	return []control.Check{line}
}

// clock compares this machine's clock with the one of whoever answered last.
func clock(line control.Check, dates *dateWatch) []control.Check {
	off, ok := dates.offset()
	if !ok {
		return nil
	}
	line.Subject += ", clock"
	word := "ahead of"
	if off < 0 {
		off, word = -off, "behind"
	}
	text := fmt.Sprintf("this machine's clock is %v %s Microsoft's", off.Round(time.Second), word)
	const remedy = "set this machine's clock right, and keep it so by NTP"
	switch {
	case off >= clockRed:
		return []control.Check{red(line, text, remedy)}
	case off >= clockYellow:
		line.State, line.Text, line.Remedy = control.Yellow, text, remedy
		return []control.Check{line}
	}
	return []control.Check{green(line, "this machine's clock is right")}
}

// account opens every transport of an account. One of an auto account that does not work is yellow as long as another
// does: mail leaves.
func (c *liveCheck) account(ctx context.Context, a config.Account) []control.Check {
	c.accounts.Recheck(a.Name)
	var list []control.Check
	works := ""
	for _, w := range []struct {
		name string
		by   relay.Transport
	}{{"graph", c.ways[a.Name].Graph}, {"smtp", c.ways[a.Name].SMTP}} {
		if w.by == nil {
			continue
		}
		line := control.Check{Subject: "account " + a.Name + ", " + w.name, Account: a.Name, Transport: w.name}
		opened := c.open(ctx, line, w.by, a)
		list = append(list, opened)
		if opened.State == control.Red {
			continue
		}
		works = cmp.Or(works, w.name)
		if !c.sendTo.IsNull() {
			list = append(list, c.send(ctx, line, w.by, a)...)
		}
	}
	if works == "" {
		return list
	}
	for i := range list {
		if list[i].State == control.Red && a.Transport == "auto" && list[i].Transport != works {
			list[i].State = control.Yellow
			list[i].Text += "; mail goes by " + works
		}
	}
	c.freed(a.Name)
	return list
}

// open asks a transport whether it would take mail.
func (c *liveCheck) open(ctx context.Context, line control.Check, by relay.Transport, a config.Account) control.Check {
	p, ok := by.(interface{ Probe(context.Context) error })
	if !ok {
		return green(line, "not tried")
	}
	if strings.HasPrefix(a.Mailbox, "*@") {
		r := token.Graph
		if line.Transport == "smtp" {
			r = token.SMTP
		}
		if _, err := c.accounts.Source(a.Name).Token(ctx, r); err != nil {
			return red(line, err.Error(), "")
		}
		return green(line, "has a token; a mailbox of the domain shows itself with its first message")
	}
	err := p.Probe(ctx)
	var byGraph *graph.ProbeError
	var bySMTP *smarthost.ProbeError
	switch {
	case err == nil && line.Transport == "graph":
		return green(line, "Microsoft Graph takes mail for "+a.Mailbox)
	case err == nil:
		return green(line, "the smarthost lets "+cmp.Or(a.Login, a.Mailbox)+" in")
	case errors.As(err, &byGraph):
		return failed(line, byGraph.Outcome)
	case errors.As(err, &bySMTP):
		return failed(line, bySMTP.Outcome)
	}
	return red(line, err.Error(), "")
}

// failed puts an outcome into a red line.
func failed(line control.Check, o reply.Outcome) control.Check {
	said := o.Reply.String()
	var e *token.Error
	switch {
	case o.Means != "" && said != "":
		return red(line, o.Means+" ("+said+")", o.Remedy)
	case errors.As(o.Err, &e): // no token: the reply only says so
		return red(line, e.Text, cmp.Or(o.Remedy, e.Remedy))
	case o.Err != nil && (said == "" || o.Reply.Code == 0):
		return red(line, strings.Trim(said+": "+o.Err.Error(), ": "), o.Remedy)
	}
	return red(line, said, o.Remedy)
}

// send sends one message for each sender that the file lets this account have: only that shows the right to send as it.
func (c *liveCheck) send(ctx context.Context, line control.Check, by relay.Transport, a config.Account) []control.Check {
	var list []control.Check
	for _, s := range sendersOf(c.cfg, a) {
		one := line
		one.Subject += ", as " + s.from.String()
		out := testMessage(c.cfg, a, line.Transport, s, c.sendTo)
		o := by.Send(ctx, out)
		if r, ok := o.Recipients[c.sendTo.Key()]; ok {
			o = r
		}
		if o.Verdict == reply.Relayed {
			list = append(list, green(one, fmt.Sprintf("sent to %s: %s", c.sendTo, o.Reply)))
			continue
		}
		list = append(list, failed(one, o))
	}
	return list
}

// checkSender is a sender that mail of an account leaves under.
type checkSender struct {
	from     envelope.Address
	onBehalf bool // Sender names who sends
}

// sendersOf lists the account's mailbox and the senders of the users that use it, each once.
func sendersOf(cfg *config.Config, a config.Account) []checkSender {
	var list []checkSender
	add := func(address string, onBehalf bool) {
		from, err := envelope.ParseAddress(address)
		if err != nil || slices.ContainsFunc(list, func(s checkSender) bool { return s.from.Key() == from.Key() }) {
			return
		}
		list = append(list, checkSender{from, onBehalf})
	}
	if !strings.HasPrefix(a.Mailbox, "*@") {
		add(a.Mailbox, false)
	}
	for _, u := range cfg.Users {
		if u.Account == a.Name && u.Sender != nil && u.Sender.Address != "" {
			add(u.Sender.Address, u.Sender.Mode == "on-behalf")
		}
	}
	return list
}

// testMessage is a short message that says what it is.
func testMessage(cfg *config.Config, a config.Account, transport string, s checkSender, to envelope.Address) message.Outgoing {
	now := time.Now()
	id := envelope.NewID(now)
	messageID := fmt.Sprintf("<check.%s@%s>", id, cfg.Bridge.Hostname)
	var h strings.Builder
	fmt.Fprintf(&h, "From: <%s>\r\nTo: <%s>\r\nSubject: Postern test: account %s by %s\r\nDate: %s\r\nMessage-ID: %s\r\n",
		s.from, to, a.Name, transport, now.Format(time.RFC1123Z), messageID)
	reversePath := s.from
	if s.onBehalf {
		sender := cmp.Or(a.Login, a.Mailbox)
		fmt.Fprintf(&h, "Sender: <%s>\r\n", sender)
	}
	h.WriteString("Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n")
	body := fmt.Sprintf("This message was sent by: postern check --live --send-to\r\n\r\nAccount: %s\r\nTransport: %s\r\n", a.Name, transport)
	return message.Outgoing{
		Message: message.Message{ID: id, Accepted: now.UTC(), Header: []byte(h.String()),
			Envelope: envelope.Envelope{ReversePath: reversePath, Recipients: []envelope.Address{to}},
			Plan:     message.Plan{Account: a.Name, HeaderFrom: s.from, ReversePath: reversePath, MessageID: messageID}},
		Recipients: []envelope.Address{to}, Final: []byte(h.String()), Attempt: 1, BodySize: int64(len(body)),
		Open:   func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil },
		Intent: func(context.Context) error { return nil }, // nothing is kept of it
	}
}

func green(c control.Check, text string) control.Check {
	c.State, c.Text = control.Green, text
	return c
}

func red(c control.Check, text, remedy string) control.Check {
	c.State, c.Text, c.Remedy = control.Red, text, remedy
	return c
}

// dateWatch notes how far this machine's clock is from the Date of an answer.
type dateWatch struct {
	next http.RoundTripper
	mu   sync.Mutex // guards what follows
	off  time.Duration
	seen bool
}

// RoundTrip implements http.RoundTripper.
func (d *dateWatch) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := d.next.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	ended := time.Now()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.off, d.seen = clockOffset(date, began, ended), true
	}
	return resp, nil
}

// clockOffset returns how far this clock is ahead of a server that wrote date, a whole second, between two moments here;
// 0 where it may be right.
func clockOffset(date, began, ended time.Time) time.Duration {
	switch first, last := date, date.Add(time.Second); {
	case ended.Before(first):
		return ended.Sub(first)
	case began.After(last):
		return began.Sub(last)
	}
	return 0
}

func (d *dateWatch) offset() (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.off, d.seen
}
