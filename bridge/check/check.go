// Package check asks everything that is far away whether it works: each provider whether it knows the app, each account's
// transports whether they would take mail, and, where somebody is to get it, sends a test message as each sender. It
// compares this machine's clock with theirs on the way. It must not know how a provider is asked or a transport opened:
// the hall hands them in. It cannot fail: what does not work is a red line, with what to do about it.
package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/auth/token"
	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

const (
	within = 2 * time.Minute // for one provider or one account
	atOnce = 4
)

// The states of a Line.
const (
	Green  = "green"
	Yellow = "yellow" // it works, and something should be known
	Red    = "red"
)

// Line is one thing that was found.
type Line struct {
	Subject   string // "provider contoso", "account erp, graph"
	Provider  string
	Account   string
	Transport string // graph | smtp
	State     string
	Text      string // what was found
	Remedy    string // what to do
}

// Options say what is asked.
type Options struct {
	Hostname  string
	Providers []Provider
	Accounts  []Account
	SendTo    envelope.Address     // null: nothing is sent
	Works     func(account string) // hears of each account that has a transport which would take mail
}

// Provider is an app registration.
type Provider struct {
	Name, ClientID string
	ByRole         bool // an account uses the app's own permissions at Graph
	// Open makes a client of it. Its answers come through what watch makes of its transport.
	Open func(watch func(http.RoundTripper) http.RoundTripper) (Verifier, error)
}

// Verifier is a provider's client.
type Verifier interface {
	// Verify finds out whether tenant, app and credential are right. A *token.Error says what to do.
	Verify(ctx context.Context) (Verified, error)
}

// Verified is what a provider says of an app.
type Verified struct {
	Credential string   // what the app was believed by; "" where it has none or the answer does not tell
	Roles      []string // its permissions for Graph
	RolesKnown bool
}

// Account is a mailbox, or every mailbox of a domain, and the ways out of it.
type Account struct {
	Name, Mailbox, Login string
	Domain               bool // every mailbox of one
	Auto                 bool // one of its ways is enough
	Ways                 []Way
	Senders              []Sender
}

// Way is one of an account's transports.
type Way struct {
	Name string // graph | smtp
	By   Transport
}

// Transport takes mail.
type Transport interface {
	// Probe asks whether it would take mail, and for a Domain whether there is a token. It sends nothing. A *Refusal says
	// what to do.
	Probe(ctx context.Context) error
	Send(ctx context.Context, out message.Outgoing) reply.Outcome
}

// Refusal is what a transport answers to a probe.
type Refusal struct{ Outcome reply.Outcome }

// Error is the reply.
func (r *Refusal) Error() string { return r.Outcome.Reply.String() }

// Sender is one that mail of an account leaves under.
type Sender struct {
	From     envelope.Address
	OnBehalf bool // Sender names who sends
}

// Run checks the providers first, because an account's trouble is often theirs. The lines come in the order of o.
func Run(ctx context.Context, o Options) []Line {
	lists := make([][]Line, len(o.Providers)+len(o.Accounts))
	each := func(n, from int, check func(ctx context.Context, i int) []Line) {
		var all sync.WaitGroup
		room := make(chan struct{}, atOnce) // bounds what is under way
		for i := range n {
			room <- struct{}{}
			all.Go(func() {
				defer func() { <-room }()
				ctx, cancel := context.WithTimeout(ctx, within)
				defer cancel()
				lists[from+i] = check(ctx, i)
			})
		}
		all.Wait()
	}
	each(len(o.Providers), 0, func(ctx context.Context, i int) []Line { return o.provider(ctx, o.Providers[i]) })
	each(len(o.Accounts), len(o.Providers), func(ctx context.Context, i int) []Line { return o.account(ctx, o.Accounts[i]) })
	return slices.Concat(lists...)
}

// provider verifies an app registration, and this machine's clock by the Date of its answers.
func (o Options) provider(ctx context.Context, p Provider) []Line {
	line := Line{Subject: "provider " + p.Name, Provider: p.Name}
	dates := &dateWatch{}
	client, err := p.Open(dates.watch)
	if err != nil {
		return []Line{red(line, err.Error(), "correct the provider in the file")}
	}
	found, err := client.Verify(ctx)
	var list []Line
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
	if err == nil && p.ByRole {
		list = append(list, reach(line, p, found))
	}
	return append(list, clock(line, dates)...)
}

// reach says through which mailboxes an app-only token may send. A restriction (application access policy) cannot be seen
// from here, so that the warning stands until somebody has looked.
func reach(line Line, p Provider, found Verified) Line {
	line.Subject += ", reach"
	switch {
	case !found.RolesKnown:
		line.State, line.Text = Yellow, "whether the app may send as every mailbox of the tenant cannot be seen from here"
	case !slices.Contains(found.Roles, "Mail.Send"):
		return green(line, "the app has no Mail.Send for the whole tenant; it can send where RBAC for Applications lets it")
	default:
		line.State = Yellow
		line.Text = "the app has Mail.Send, and may send as EVERY mailbox of the tenant unless a policy that cannot be seen from here restricts it"
	}
	line.Remedy = fmt.Sprintf("in Exchange Online PowerShell: Test-ApplicationAccessPolicy -AppId %s -Identity (a mailbox that it must not use); "+
		"if that says Granted, restrict it with RBAC for Applications or New-ApplicationAccessPolicy", p.ClientID)
	return line
}

// account opens every way out of an account. One of an auto account that does not work is yellow as long as another does:
// mail leaves.
func (o Options) account(ctx context.Context, a Account) []Line {
	var list []Line
	works := ""
	for _, w := range a.Ways {
		line := Line{Subject: "account " + a.Name + ", " + w.Name, Account: a.Name, Transport: w.Name}
		opened := probe(ctx, line, w, a)
		list = append(list, opened)
		if opened.State == Red {
			continue
		}
		works = cmp.Or(works, w.Name)
		if !o.SendTo.IsNull() {
			list = append(list, o.send(ctx, line, w, a)...)
		}
	}
	if works == "" {
		return list
	}
	for i := range list {
		if list[i].State == Red && a.Auto && list[i].Transport != works {
			list[i].State = Yellow
			list[i].Text += "; mail goes by " + works
		}
	}
	o.Works(a.Name)
	return list
}

// probe asks a transport whether it would take mail.
func probe(ctx context.Context, line Line, w Way, a Account) Line {
	err := w.By.Probe(ctx)
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return failed(line, refusal.Outcome)
	case err != nil:
		return red(line, err.Error(), "")
	case a.Domain:
		return green(line, "has a token; a mailbox of the domain shows itself with its first message")
	case w.Name == "graph":
		return green(line, "Microsoft Graph takes mail for "+a.Mailbox)
	}
	return green(line, "the smarthost lets "+cmp.Or(a.Login, a.Mailbox)+" in")
}

// failed puts an outcome into a red line.
func failed(line Line, o reply.Outcome) Line {
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
func (o Options) send(ctx context.Context, line Line, w Way, a Account) []Line {
	var list []Line
	for _, s := range a.Senders {
		one := line
		one.Subject += ", as " + s.From.String()
		outcome := w.By.Send(ctx, o.testMessage(a, w.Name, s))
		if r, ok := outcome.Recipients[o.SendTo.Key()]; ok {
			outcome = r
		}
		if outcome.Verdict == reply.Relayed {
			list = append(list, green(one, fmt.Sprintf("sent to %s: %s", o.SendTo, outcome.Reply)))
			continue
		}
		list = append(list, failed(one, outcome))
	}
	return list
}

func green(c Line, text string) Line {
	c.State, c.Text = Green, text
	return c
}

func red(c Line, text, remedy string) Line {
	c.State, c.Text, c.Remedy = Red, text, remedy
	return c
}
