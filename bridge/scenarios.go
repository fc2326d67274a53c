package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"postern/bridge/config"
	"postern/bridge/contents"
	"postern/bridge/datadir"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/stationery"
	"postern/bridge/submission"
)

// Folders in data_dir.
func contentsDir(cfg *config.Config) string { return filepath.Join(cfg.Bridge.DataDir, "contents") }
func spoolDir(cfg *config.Config) string    { return filepath.Join(cfg.Bridge.DataDir, "spool") }

// openDesk opens the desk at the start, and forgets files that nothing needs any more. A reload makes a new desk by
// newDesk alone: the old one may still be taking mail whose plan names files.
func (b *Bridge) openDesk(ctx context.Context) (*submission.Desk, error) {
	if err := openSpool(b.cfg); err != nil {
		return nil, err
	}
	b.pacer = &submission.Pacer{}
	// Only a paced user has mail with a time of its own, and to read a long queue takes seconds.
	if slices.ContainsFunc(b.cfg.Users, func(u config.User) bool { return u.RatePerMinute > 0 }) {
		if err := resumePace(ctx, b.pacer, b.store); err != nil {
			return nil, fmt.Errorf("mail that waits for its user's rate: %w", err)
		}
	}
	list, err := scenarios(b.cfg, b.contents.Put)
	if err != nil {
		return nil, err
	}
	if err := sweepContents(ctx, b.contents, list, b.store); err != nil {
		b.events.Emit(ctx, slog.LevelWarn, event.QueueFailed, slog.String("err", err.Error()))
	}
	return b.newDesk(b.cfg)
}

// newDesk makes a desk for a configuration, with the scenarios and their files.
func (b *Bridge) newDesk(cfg *config.Config) (*submission.Desk, error) {
	list, err := scenarios(cfg, b.contents.Put)
	if err != nil {
		return nil, err
	}
	return openDesk(cfg, submission.Options{Scenarios: list, Queue: enqueuer{b.queue, b.mailboxes}, Carrier: carrier{b.relay},
		Events: b.events, Pacer: b.pacer, SpoolDir: spoolDir(cfg), Room: b.queue.Room, Full: datadir.Full})
}

// openSpool makes an empty folder for messages whose scenario depends on their size; what a process left there was
// accepted by nobody.
func openSpool(cfg *config.Config) error {
	dir := spoolDir(cfg)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// CheckFiles reads the listeners' certificates, and the files that scenarios attach and put as footers, and returns all
// that is wrong with them, as the start would find it. It writes nothing.
func CheckFiles(cfg *config.Config) error {
	all := &config.Mistakes{}
	note := func(err error) error {
		var wrong *config.Mistakes
		if !errors.As(err, &wrong) {
			return err
		}
		all.List = append(all.List, wrong.List...)
		return nil
	}
	for _, l := range cfg.Listeners {
		if l.TLS == "none" {
			continue
		}
		if _, err := serverTLS(l); note(err) != nil {
			return err
		}
	}
	if _, err := scenarios(cfg, contents.Hash); note(err) != nil {
		return err
	}
	if len(all.List) > 0 {
		return all
	}
	return nil
}

// scenarios turns the tables into what the desk needs, and keeps their files. All mistakes come at once.
func scenarios(cfg *config.Config, put stationery.Putter) ([]submission.Scenario, error) {
	wrong := &config.Mistakes{}
	var list []submission.Scenario
	for _, c := range cfg.Scenarios {
		mistake := func(key string, err error) {
			m := c.At
			m.Key, m.Text = m.Key+"."+key, fmt.Sprintf("%v (scenario %q)", err, c.Name)
			wrong.List = append(wrong.List, m)
		}
		s := submission.Scenario{Name: c.Name, Account: c.Account, Hold: c.Hold, Match: submission.Match{User: c.Match.User,
			Listener: c.Match.Listener, From: c.Match.From, To: c.Match.To, Subject: c.Match.Subject, Header: c.Match.Header,
			Larger: c.Match.Larger, Smaller: c.Match.Smaller}}
		var err error
		if s.Sender, err = senderOf(c.Sender); err != nil {
			mistake("sender", err)
		}
		if c.ReplyTo != "" {
			if s.ReplyTo, err = envelope.ParseAddress(c.ReplyTo); err != nil {
				mistake("reply_to", err)
			}
		}
		for _, b := range c.Bcc {
			a, err := envelope.ParseAddress(b)
			if err != nil {
				mistake("bcc", err)
			}
			s.Bcc = append(s.Bcc, a)
		}
		if s.Additions.FooterText, s.Additions.FooterHTML, err = stationery.Footers(c.FooterText, c.FooterHTML, put); err != nil {
			mistake("footer", err)
		}
		for _, path := range c.Attach {
			p, err := stationery.Attach(path, put)
			if err != nil {
				mistake("attach", err)
				continue
			}
			s.Additions.Attach = append(s.Additions.Attach, p)
		}
		if err := checkSize(cfg, c, s.Additions.Octets()); err != nil {
			mistake("attach", err)
		}
		list = append(list, s)
	}
	if len(wrong.List) > 0 {
		return nil, wrong
	}
	return list, nil
}

func senderOf(s *config.Sender) (*submission.Sender, error) {
	if s == nil {
		return nil, nil
	}
	var a envelope.Address
	var err error
	if s.Address != "" {
		a, err = envelope.ParseAddress(s.Address)
	}
	return &submission.Sender{Mode: submission.Mode(s.Mode), Address: a, Name: s.Name, ReplyTo: s.ReplyTo,
		Otherwise: submission.Otherwise(s.Otherwise)}, err
}

// checkSize refuses attachments that leave an account no room for a message.
func checkSize(cfg *config.Config, c config.Scenario, added int64) error {
	const least = 16 << 10 // a short message
	for _, a := range cfg.Accounts {
		if c.Account != "" && c.Account != a.Name {
			continue
		}
		if a.MaxMessage > 0 && added+least > a.MaxMessage {
			return fmt.Errorf("the files have %d octets as encoded, and account %q takes messages of %d (max_message)", added, a.Name, a.MaxMessage)
		}
	}
	return nil
}

// sweepContents removes what neither the configuration nor a message that could still be sent needs.
func sweepContents(ctx context.Context, store *contents.Store, list []submission.Scenario, q queue.Store) error {
	current := map[string]bool{}
	for _, s := range list {
		addHashes(current, s.Additions)
	}
	return store.Sweep(current, func() (map[string]bool, error) {
		needed := map[string]bool{}
		f := queue.Filter{Limit: 500}
		for {
			entries, err := q.List(ctx, f)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if e.Damage != nil {
					return nil, fmt.Errorf("message %s: %w", e.Item.ID, e.Damage)
				}
				if e.HasBody { // else it can never be sent again
					addHashes(needed, e.Message.Plan.Additions)
				}
				f.After = e.Item.ID
			}
			if len(entries) < f.Limit {
				return needed, nil
			}
		}
	})
}

func addHashes(set map[string]bool, a message.Additions) {
	for _, p := range a.Attach {
		set[p.Hash] = true
	}
	for _, p := range []*message.Part{a.FooterText, a.FooterHTML} {
		if p != nil {
			set[p.Hash] = true
		}
	}
}

// resumePace tells the pacer what was accepted before and must still wait for its user's rate.
func resumePace(ctx context.Context, p *submission.Pacer, q queue.Store) error {
	f := queue.Filter{State: queue.Queued, Limit: 500}
	for {
		entries, err := q.List(ctx, f)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if at := e.Message.Plan.NotBefore; !at.IsZero() {
				p.Resume(e.Message.Session.User, at)
			}
			f.After = e.Item.ID
		}
		if len(entries) < f.Limit {
			return nil
		}
	}
}

// discardBody is an Enqueuer for a desk that only explains.
type discardBody struct{}

var errOnlyExplains = errors.New("this desk takes no mail")

// Enqueue implements submission.Enqueuer.
func (discardBody) Enqueue(context.Context, message.Message, io.Reader) error { return errOnlyExplains }
