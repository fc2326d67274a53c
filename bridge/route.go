package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"postern/bridge/config"
	"postern/bridge/contents"
	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/relay"
	"postern/bridge/reply"
	"postern/bridge/sample"
	"postern/bridge/submission"
	"postern/bridge/transport/graph"
)

// RouteQuery is a message that is only asked about.
type RouteQuery struct {
	User     string    // "" where there is one
	Listener string    // its address; "" is the first
	From     string    // the header From; "" leaves that of File
	To       []string  // RCPT TO; none: those that File's To, Cc and Bcc name
	Subject  string    // "" leaves that of File
	Header   []string  // "Name: value", set in File's header
	Size     int64     // octets that the message is made to have; 0: as it is
	File     io.Reader // a message; nil: one of the header alone
}

// Route is what would become of it. In JSON as the command line prints it.
type Route struct {
	User        string        `json:"user"`
	Scenario    string        `json:"scenario"`
	Passed      []RoutePassed `json:"passed_over"` // scenarios before that one
	Account     string        `json:"account"`
	Mailbox     string        `json:"mailbox"`
	Transports  []string      `json:"transports"` // the preferred one first
	From        string        `json:"from"`       // the fields as they leave
	Sender      string        `json:"sender"`
	ReplyTo     string        `json:"reply_to"`
	ReversePath string        `json:"reverse_path"`
	Recipients  []string      `json:"recipients"`
	Bcc         []string      `json:"bcc"` // those of them that the scenario adds
	Attach      []string      `json:"attach"`
	Footer      bool          `json:"footer"`
	LeftOut     bool          `json:"left_out"` // both, because the message is signed or encrypted
	Hold        bool          `json:"hold"`
	Size        int64         `json:"size"`
	Reply       string        `json:"reply"` // a refusal, "" where it would be taken
}

// RoutePassed is a scenario that does not hold.
type RoutePassed struct {
	Scenario string `json:"scenario"`
	Why      string `json:"why"`
}

// FindRoute says what would become of a message. It reads the configuration's files and nothing else, and changes
// nothing. The error is a question that cannot be answered; a refusal is an answer.
func FindRoute(ctx context.Context, cfg *config.Config, q RouteQuery) (Route, error) {
	list, err := scenarios(cfg, contents.Hash)
	if err != nil {
		return Route{}, err
	}
	desk, err := openDesk(cfg, submission.Options{Scenarios: list, Queue: discardBody{}})
	if err != nil {
		return Route{}, err
	}
	s, err := q.session(cfg)
	if err != nil {
		return Route{}, err
	}
	data, env, err := sample.Message{From: q.From, To: q.To, Subject: q.Subject, Header: q.Header, Size: q.Size, File: q.File,
		DefaultDomain: cfg.Bridge.DefaultDomain}.Make()
	if err != nil {
		return Route{}, err
	}
	e, err := desk.Explain(ctx, s, env, data)
	r := newRoute(s.User, e)
	for _, a := range cfg.Accounts {
		if a.Name == r.Account {
			r.Mailbox = a.Mailbox
		}
	}
	var refusal *reply.Error
	if errors.As(err, &refusal) {
		r.Reply = fmt.Sprintf("%d %s %s", refusal.Code, refusal.Enhanced, refusal.Text)
		return r, nil
	}
	r.Transports, err = waysOf(cfg, e)
	return r, err
}

// session is the one in which the message would come.
func (q RouteQuery) session(cfg *config.Config) (envelope.Session, error) {
	s := envelope.Session{User: q.User, Listener: q.Listener, Remote: netip.IPv4Unspecified(), Helo: "localhost", Protocol: "ESMTPA"}
	var names []string
	for _, u := range cfg.Users {
		names = append(names, u.Name)
	}
	if s.User == "" && len(names) == 1 {
		s.User = names[0]
	}
	i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, s.User) })
	if i < 0 {
		return s, fmt.Errorf("which user? there is no %.60q; users: %s", s.User, strings.Join(names, ", "))
	}
	s.User = names[i]
	if s.Listener == "" {
		s.Listener = cfg.Listeners[0].Address
	}
	if !slices.ContainsFunc(cfg.Listeners, func(l config.Listener) bool { return l.Address == s.Listener }) {
		return s, fmt.Errorf("there is no listener %.60q", s.Listener)
	}
	return s, nil
}

func newRoute(user string, e submission.Explanation) Route {
	r := Route{User: user, Scenario: e.Scenario, Passed: []RoutePassed{}, Account: e.Account, From: e.From, Sender: e.Sender, ReplyTo: e.ReplyTo,
		ReversePath: e.ReversePath.String(), Recipients: texts(e.Recipients), Bcc: texts(e.Bcc), Attach: []string{}, Transports: []string{},
		Footer: e.Additions.FooterText != nil || e.Additions.FooterHTML != nil, LeftOut: e.LeftOut, Hold: e.Hold, Size: e.Size}
	for _, p := range e.Passed {
		r.Passed = append(r.Passed, RoutePassed(p))
	}
	for _, p := range e.Additions.Attach {
		r.Attach = append(r.Attach, p.Name)
	}
	return r
}

func texts(list []envelope.Address) []string {
	all := []string{}
	for _, a := range list {
		all = append(all, a.String())
	}
	return all
}

// waysOf asks a relay whose transports send nothing.
func waysOf(cfg *config.Config, e submission.Explanation) ([]string, error) {
	room, err := relay.New(relay.Options{Accounts: routesNowhere(cfg), GraphMaxMIME: graph.MaxMIME})
	if err != nil {
		return nil, err
	}
	out := message.Outgoing{Recipients: e.Recipients, Final: e.Final, BodySize: e.Size + e.Grows}
	return room.Ways(e.Account, out), nil
}

// routesNowhere are the accounts of a relay that is only asked.
func routesNowhere(cfg *config.Config) []relay.Account {
	var all []relay.Account
	for _, a := range cfg.Accounts {
		r := routeOf(a)
		if usesGraph(a) {
			r.Graph = nowhere{}
		}
		if usesSMTP(a, providerOf(cfg, a)) {
			r.SMTP = nowhere{}
		}
		all = append(all, r)
	}
	return all
}

// nowhere is a transport of a relay that is only asked.
type nowhere struct{}

// Send implements relay.Transport.
func (nowhere) Send(context.Context, message.Outgoing) reply.Outcome { return reply.Outcome{} }
