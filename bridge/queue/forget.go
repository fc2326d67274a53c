package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"
)

// An account that is removed keeps its lane while mail of its waits. Mailboxes of a domain come and go by the thousand, and
// their names are what an application writes as From: what nobody needs of them any more is forgotten.

const (
	goneFor     = time.Hour // after it an account that was removed may be forgotten: what was coming in for it is here
	notesAtOnce = 200       // deleted at one look: each is written to the disk
)

// forgetGone does it, once an hour: it closes the lanes that no mail waits in, and deletes the notes that nobody reads.
func (q *Queue) forgetGone(ctx context.Context) error {
	now := q.clock()
	if q.forgets.IsZero() {
		q.forgets = now.Add(goneFor)
	}
	if now.Before(q.forgets) {
		return nil
	}
	counts, err := q.store.Counts(ctx)
	if err != nil {
		return fmt.Errorf("count the queue: %w", err)
	}
	waiting := map[string]bool{}
	for _, c := range counts {
		if !c.State.Final() {
			waiting[c.Account] = true
		}
	}
	q.closeLanes(func(account string, since time.Time) bool { return !waiting[account] && now.Sub(since) >= goneFor })
	parks, err := q.parks.forget(ctx, func(account string) bool { return waiting[account] || q.set.Load().lanes[account] != nil })
	if err != nil {
		return err
	}
	rates, err := q.forgetRates(ctx)
	if err == nil && parks < notesAtOnce && rates < notesAtOnce {
		q.forgets = now.Add(goneFor)
	}
	return err
}

// closeLanes forgets removed accounts, and ends the lanes that no other account has.
func (q *Queue) closeLanes(needless func(account string, since time.Time) bool) {
	q.changing.Lock()
	defer q.changing.Unlock()
	was := q.set.Load()
	forgotten := map[string]bool{}
	for name, since := range was.gone {
		if needless(name, since) {
			forgotten[name] = true
		}
	}
	if len(forgotten) > 0 {
		q.setAccounts(was.list, forgotten)
	}
}

// laneOf returns the account's lane, for mail that is to be sent. One that was forgotten has it again: of its mail, some came in
// at that moment, or a person has it tried again. One that was removed is not forgotten soon: who counts its mail at this
// moment may not have seen this.
func (q *Queue) laneOf(account string) *lane {
	lately := func(set *accountSet) bool {
		since, gone := set.gone[account]
		return set.lanes[account] != nil && (!gone || q.clock().Sub(since) < goneFor/2)
	}
	if set := q.set.Load(); lately(set) {
		return set.lanes[account]
	}
	q.changing.Lock()
	defer q.changing.Unlock()
	was := q.set.Load()
	if lately(was) {
		return was.lanes[account]
	}
	set := &accountSet{list: was.list, accounts: was.accounts, lanes: maps.Clone(was.lanes), gone: maps.Clone(was.gone)}
	l, known := set.lanes[account]
	if !known {
		a := Account{Name: account}
		l = newLane(q, a.laneKey())
		l.assign(nil, []Account{a})
	}
	set.lanes[account], set.gone[account] = l, q.clock()
	q.set.Store(set)
	if !known && q.begin != nil {
		q.begin(l)
	}
	return l
}

// forget drops what is known of accounts that are not needed, and returns of how many: notesAtOnce where there may be more.
func (p *parks) forget(ctx context.Context, needed func(account string) bool) (n int, err error) {
	var names []string
	p.mu.Lock()
	for account := range p.of {
		if !needed(account) && len(names) < notesAtOnce {
			names = append(names, account)
		}
	}
	p.mu.Unlock()
	for _, account := range names {
		if err := p.forgetOne(ctx, account, needed); err != nil {
			return 0, fmt.Errorf("how long account %s was parked: %w", account, err)
		}
	}
	return len(names), nil
}

func (p *parks) forgetOne(ctx context.Context, account string, needed func(account string) bool) error {
	p.saving.Lock()
	defer p.saving.Unlock()
	if err := p.q.store.SetNote(ctx, parkNote+account, ""); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !needed(account) { // else it has just come back, and its mail remembers the sum
		delete(p.of, account)
	}
	return nil
}

// forgetRates deletes what mailboxes without a lane have begun, once its minute is over, and returns of how many:
// notesAtOnce where there may be more.
func (q *Queue) forgetRates(ctx context.Context) (n int, err error) {
	notes, err := q.store.Notes(ctx, rateNote)
	if err != nil {
		return 0, fmt.Errorf("what was begun lately: %w", err)
	}
	keys := map[string]bool{}
	for _, l := range q.set.Load().lanes {
		keys[l.key] = true
	}
	for key, text := range notes {
		var b begun
		if keys[strings.TrimPrefix(key, rateNote)] || json.Unmarshal([]byte(text), &b) == nil && q.now().Sub(b.At) < time.Minute || n == notesAtOnce {
			continue
		}
		if err := q.store.SetNote(ctx, key, ""); err != nil {
			return n, fmt.Errorf("what was begun lately: %w", err)
		}
		n++
	}
	return n, nil
}
