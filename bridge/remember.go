package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"postern/bridge/config"
	"postern/bridge/datadir"
	"postern/bridge/event"
	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
	"postern/bridge/relay"
	"postern/bridge/transport/graph"
)

// ErrNewer is wrapped by New's error where a later version of Postern wrote the queue. A person must run that one.
var ErrNewer = queue.ErrNewer

// troubleNote is the beginning of the keys under which the store keeps what relay has learnt.
const troubleNote = "trouble/"

// memory keeps relay's troubles among the store's notes, because rooms do not know each other.
type memory struct{ store queue.Store }

// Save implements relay.Memory.
func (m memory) Save(ctx context.Context, key, value string) error {
	return m.store.SetNote(ctx, troubleNote+key, value)
}

// forgetParks ends in the store what Unpark ends in a relay that runs: the account's login waits for nobody any more.
func forgetParks(ctx context.Context, cfg *config.Config, store queue.Store, account string) error {
	o := relay.Options{Accounts: routesNowhere(cfg), Events: event.NewBus(), Memory: memory{store}}
	var err error
	if o.Remembered, err = remembered(ctx, store); err != nil || len(o.Remembered) == 0 {
		return err
	}
	room, err := relay.New(o)
	if err != nil {
		return err
	}
	room.Unpark(account)
	return nil
}

// remembered is what relay has learnt.
func remembered(ctx context.Context, store queue.Store) (map[string]string, error) {
	notes, err := store.Notes(ctx, troubleNote)
	all := map[string]string{}
	for key, value := range notes {
		all[strings.TrimPrefix(key, troubleNote)] = value
	}
	return all, err
}

// freeForQueue is the room that the queue may still take: what its write-ahead log holds may need as much again in the
// file when it is copied there, and owed octets are needed for what it has accepted already.
func freeForQueue(cfg *config.Config, owed int64) (int64, error) {
	free, err := datadir.Free(cfg.Bridge.DataDir)
	if err != nil {
		return 0, err
	}
	if log, err := os.Stat(storeFile(cfg) + "-wal"); err == nil {
		free -= log.Size()
	}
	return max(free-owed, 0), nil
}

// tellOnce says what became of a damaged store, to be told again by the next start where this one dies before.
func tellOnce(ctx context.Context, events *event.Bus, store *sqlite.Store) error {
	tellSalvage(ctx, events, store.Salvaged())
	return store.SalvageTold(ctx)
}

// remedyOfDamage ends damage that was found while the daemon runs, or by a command that leaves it to the start.
const remedyOfDamage = "restart postern: until then mail is refused with 451 and none is sent; what can be read goes on afterwards, and the log names the rest; check the disk"

// tellDamage tells of damage that is found while the store is open. It then takes and sends nothing more, and a person chooses
// when the salvage begins: that needs room on the disk.
func tellDamage(ctx context.Context, events *event.Bus, found <-chan error) error {
	for {
		select {
		case err := <-found:
			remedy := remedyOfDamage
			switch {
			case errors.Is(err, sqlite.ErrRefused):
				remedy = "look into the file, and hand the message in again"
			case !errors.Is(err, queue.ErrDamaged):
				remedy = "check the disk of data_dir; what was accepted is safe and goes on when the disk does"
			}
			events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.Any("err", err), slog.String("remedy", remedy))
		case <-ctx.Done():
			return nil
		}
	}
}

// tellSalvage says what became of a damaged store: one line for the whole, and one for each message that is not whole.
func tellSalvage(ctx context.Context, events *event.Bus, r *sqlite.Salvage) {
	if r == nil {
		return
	}
	remedy := "check the disk; the damaged file is kept beside the queue, delete it when it is not needed"
	if r.Aside == "" {
		remedy = "see whether the held messages were sent meanwhile (postern queue list --state held); then release them, or drop them"
	}
	events.Emit(ctx, slog.LevelError, event.QueueSalvaged, slog.Int("saved", r.Saved), slog.Int("held", len(r.Held)), slog.Int("lost", len(r.Lost)),
		slog.String("file", r.Aside), slog.Any("err", r.Why), slog.String("remedy", remedy))
	tell := func(l sqlite.Loss, state, remedy string) {
		events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.String("queue_id", l.ID), slog.Int64("number", l.Number), slog.String("user", l.User),
			slog.String("account", l.Account), slog.String("state", state), slog.Any("err", l.Err), slog.String("remedy", remedy))
	}
	for _, l := range r.Held {
		tell(l, "held", fmt.Sprintf("see what is left of it: postern queue show %s; then release it, or drop it", l.ID))
	}
	for _, l := range r.Lost {
		tell(l, "lost", "its sender has to send it again")
	}
}

// relayOptions hands relay what it remembers, and wakes the queue when a trouble is over: accounts that share a mailbox
// share its troubles.
func (b *Bridge) relayOptions(ctx context.Context, routes []relay.Account) (relay.Options, error) {
	all, err := remembered(ctx, b.store)
	return relay.Options{Accounts: routes, Events: b.events, Memory: memory{b.store}, Remembered: all, GraphMaxMIME: graph.MaxMIME,
		Resumed: func() { b.queue.Wake("") }}, err
}
