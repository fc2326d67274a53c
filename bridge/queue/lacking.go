package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/reply"
)

// lackNote is the beginning of the keys under which the store keeps the pairs that wait for a right.
const lackNote = "sender/"

// maxLacks are told of at once, each by itself: whoever may send as anybody may bring a pair with each message. One beyond
// them is told of when another is over.
const maxLacks = 100

// lackRests is how long after its time a pair that nothing waits for any more is over: its last message may have met a
// trouble of its account's when it probed, and come back. What needs the certainty at once is in Lacks.
const lackRests = time.Hour

// Lack is a pair of account and header From whose mail waits for a right that a person must grant.
type Lack struct {
	Account string    `json:"account"`
	Sender  string    `json:"sender"` // the key of From
	From    string    `json:"from"`
	Since   time.Time `json:"since"`
	Why     string    `json:"why,omitempty"`
	Remedy  string    `json:"remedy,omitempty"`

	loaded time.Time // when it was taken up from a former process
}

// lacks knows the pairs that people were told of. It outlives the process, so that each wait is told of once however many
// messages share it, and that its end is.
type lacks struct {
	q      *Queue
	saving sync.Mutex // orders what is told and written down; taken before mu
	mu     sync.Mutex // guards of
	of     map[pairKey]Lack
}

// load takes up what the former process knew.
func (k *lacks) load(ctx context.Context) error {
	notes, err := k.q.store.Notes(ctx, lackNote)
	if err != nil {
		return fmt.Errorf("senders that wait for a right: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, text := range notes {
		lack := Lack{loaded: k.q.now()}
		if json.Unmarshal([]byte(text), &lack) == nil { // else it is told again
			k.of[pairKey{lack.Account, lack.Sender}] = lack
		}
	}
	return nil
}

// begin tells that mail of e's pair waits from now on, where that is new.
func (k *lacks) begin(ctx context.Context, e Entry, o *reply.Outcome) {
	lack := Lack{Account: e.Item.Account, Sender: e.Item.Sender, From: e.Message.Plan.HeaderFrom.String(), Since: k.q.now(), Remedy: o.Remedy,
		Why: o.Reply.String()}
	if lack.Why == "" && o.Err != nil {
		lack.Why = o.Err.Error()
	}
	k.saving.Lock()
	defer k.saving.Unlock()
	if !k.add(lack) {
		return
	}
	attrs := []slog.Attr{slog.String("account", lack.Account), slog.String("header_from", lack.From), slog.String("transport", o.Transport),
		slog.String("reply", lack.Why), slog.String("means", o.Means), slog.String("remedy", lack.Remedy)}
	k.q.events.Emit(ctx, slog.LevelError, event.SenderParked, slices.DeleteFunc(attrs, func(a slog.Attr) bool { return a.Value.String() == "" })...)
	text, err := json.Marshal(lack)
	k.keep(ctx, lack, string(text), err)
}

// add reports whether lack is news, and may be told.
func (k *lacks) add(lack Lack) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := pairKey{lack.Account, lack.Sender}
	if _, known := k.of[key]; known || len(k.of) >= maxLacks {
		return false
	}
	k.of[key] = lack
	return true
}

// end tells that mail of the pair goes on, or is no more, and reports whether it was known to wait.
func (k *lacks) end(ctx context.Context, key pairKey) bool {
	if !k.known(key) { // as nearly always
		return false
	}
	k.saving.Lock()
	defer k.saving.Unlock()
	k.mu.Lock()
	lack, known := k.of[key]
	delete(k.of, key)
	k.mu.Unlock()
	if known {
		k.q.events.Emit(ctx, slog.LevelInfo, event.SenderResumed, slog.String("account", lack.Account), slog.String("header_from", lack.From))
		k.keep(ctx, lack, "", nil)
	}
	return known
}

// keep writes down what is known of a pair. A store that does not take it only has the next process tell once more.
func (k *lacks) keep(ctx context.Context, lack Lack, text string, err error) {
	if err == nil {
		err = k.q.store.SetNote(context.WithoutCancel(ctx), lackNote+lack.Account+"/"+lack.Sender, text)
	}
	if err != nil {
		k.q.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.String("account", lack.Account), slog.Any("err", err))
	}
}

func (k *lacks) known(key pairKey) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, known := k.of[key]
	return known
}

func (k *lacks) all() []Lack {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := make([]Lack, 0, len(k.of))
	for _, lack := range k.of {
		list = append(list, lack)
	}
	slices.SortFunc(list, func(a, b Lack) int { return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Sender, b.Sender)) })
	return list
}

// tellRight tells what an attempt has shown of its pair, and reports whether mail of it waits that may go now.
func (q *Queue) tellRight(ctx context.Context, e Entry, o reply.Outcome) (freed bool) {
	if lacks := lacksRight(&e.Item, o); lacks != nil {
		q.lacks.begin(ctx, e, lacks)
		return false
	}
	return o.Verdict == reply.Relayed && q.lacks.end(ctx, pairKey{e.Item.Account, e.Item.Sender})
}

// Lacks lists the pairs with mail that waits for a right, at most maxLacks.
func (q *Queue) Lacks(ctx context.Context) []Lack {
	return slices.DeleteFunc(q.lacks.all(), func(lack Lack) bool {
		waits, err := q.waitsFor(ctx, pairKey{lack.Account, lack.Sender})
		return err == nil && !waits
	})
}

// MaySend reports whether nothing is known against the account sending as that From. It does not block.
func (q *Queue) MaySend(account string, from envelope.Address) bool {
	return !q.lacks.known(pairKey{account, from.Key()})
}

// waitsFor reports whether mail of the pair waits, or probes.
func (q *Queue) waitsFor(ctx context.Context, key pairKey) (bool, error) {
	ids, err := q.store.Find(ctx, Selection{Which: OfSender, Account: key.account, Sender: key.sender, Limit: 1})
	if err != nil || len(ids) > 0 {
		return true, err
	}
	l := q.set.Load().lanes[key.account]
	return l != nil && l.probes(key), nil
}

// lookAtLacks ends what nothing waits for any more: a person has dropped its mail or given it another sender, or it was
// too old.
func (q *Queue) lookAtLacks(ctx context.Context) error {
	before := q.now().Add(-lackRests)
	lanes := q.set.Load().lanes
	rest := map[pairKey]bool{}
	for _, lack := range q.lacks.all() {
		rest[pairKey{lack.Account, lack.Sender}] = lack.loaded.Before(before)
	}
	for _, l := range lanes {
		l.resting(before, rest)
	}
	for key, rests := range rest {
		if !rests {
			continue
		}
		waits, err := q.waitsFor(ctx, key)
		if err != nil {
			return err
		}
		if l := lanes[key.account]; !waits && (l == nil || l.forget(key, before)) {
			q.lacks.end(ctx, key)
		}
	}
	return nil
}

// resting notes which of the lane's pairs had their time before then, and are not probed.
func (l *lane) resting(then time.Time, rest map[pairKey]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, s := range l.senders {
		rest[key] = s.rests(then)
	}
}

// probes reports whether a message of the pair probes.
func (l *lane) probes(key pairKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.senders[key]
	return s != nil && s.probing != ""
}

// forget forgets a pair whose time came before then, and that nobody probes; false where it is not so.
func (l *lane) forget(key pairKey, then time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.senders[key]
	if s != nil && !s.rests(then) {
		return false
	}
	delete(l.senders, key)
	return true
}

func (s *sender) rests(then time.Time) bool { return s.probing == "" && !s.until.After(then) }
