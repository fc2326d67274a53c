package bridge

import (
	"bytes"
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
	"postern/bridge/submission"
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
	data, env, err := q.message(cfg)
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

// message makes the data and its envelope.
func (q RouteQuery) message(cfg *config.Config) (io.Reader, envelope.Envelope, error) {
	var env envelope.Envelope
	file := q.File
	if file == nil { // an application writes to whom it writes
		to := ""
		if len(q.To) > 0 {
			to = "To: " + strings.Join(q.To, ",\r\n ") + "\r\n"
		}
		file = strings.NewReader(to + "\r\n")
	}
	header, body, err := message.SplitHeader(file, 0)
	if err != nil {
		return nil, env, fmt.Errorf("the file: %w", err)
	}
	edits, err := q.edits()
	if err != nil {
		return nil, env, err
	}
	if header, err = message.Apply(header, edits); err != nil {
		return nil, env, fmt.Errorf("the message asked about: %w", err)
	}
	h, err := message.ParseHeader(header)
	if err != nil {
		return nil, env, err
	}
	if env.Recipients, err = q.recipients(cfg, h); err != nil {
		return nil, env, err
	}
	if from := h.All("From"); len(from) == 1 {
		if all := from[0].Addresses().Entries(); len(all) == 1 && all[0].Err == nil {
			env.ReversePath = all[0].Address
		}
	}
	data := io.MultiReader(bytes.NewReader(header), &crlf{in: body})
	if q.Size > 0 {
		data = io.LimitReader(io.MultiReader(data, padding{}), max(q.Size, int64(len(header))))
	}
	return data, env, nil
}

// edits are the fields that the question gives.
func (q RouteQuery) edits() ([]message.Edit, error) {
	var edits []message.Edit
	set := func(name, value string) {
		edits = append(edits, message.Edit{Op: message.Set, Name: name, Value: value})
	}
	if q.From != "" {
		set("From", q.From)
	}
	if q.Subject != "" {
		set("Subject", q.Subject)
	}
	for _, h := range q.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return nil, fmt.Errorf(`header %.60q is not like "X-Kind: po"`, h)
		}
		set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return edits, nil
}

// recipients are those asked for, else those that the header names.
func (q RouteQuery) recipients(cfg *config.Config, h message.Header) ([]envelope.Address, error) {
	var list []envelope.Address
	seen := map[string]bool{}
	add := func(a envelope.Address) {
		if !seen[a.Key()] {
			seen[a.Key()] = true
			list = append(list, a)
		}
	}
	for _, s := range q.To {
		a, err := envelope.ParseAddressIn(s, cfg.Bridge.DefaultDomain)
		if err != nil {
			return nil, fmt.Errorf("recipient %.120q: %w", s, err)
		}
		add(a)
	}
	if len(q.To) > 0 {
		return list, nil
	}
	for _, name := range []string{"To", "Cc", "Bcc"} {
		for _, f := range h.All(name) {
			for _, e := range f.Addresses().Entries() {
				if a, err := e.In(cfg.Bridge.DefaultDomain); err == nil {
					add(a)
				}
			}
		}
	}
	if len(list) == 0 {
		return nil, errors.New("to whom? give --to, or a file whose header names somebody")
	}
	return list, nil
}

// crlf makes the line ends of a file those that come over SMTP.
type crlf struct {
	in   io.Reader
	last byte
	left []byte
}

// Read implements io.Reader.
func (c *crlf) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		buf := make([]byte, max(len(p)/2, 1))
		n, err := c.in.Read(buf)
		for _, b := range buf[:n] {
			if b == '\n' && c.last != '\r' {
				c.left = append(c.left, '\r')
			}
			c.left, c.last = append(c.left, b), b
		}
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

// padding yields lines without end.
type padding struct{}

// Read implements io.Reader.
func (padding) Read(p []byte) (int, error) { return copy(p, strings.Repeat("x", 62)+"\r\n"), nil }

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
	room, err := relay.New(relay.Options{Accounts: routesNowhere(cfg)})
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
