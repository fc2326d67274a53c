package queue

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// accountSet is what the configuration says of accounts. It is never changed: another configuration is another set.
type accountSet struct {
	list     []Account
	accounts map[string]Account
	lanes    map[string]*lane     // by account, also of those that were removed: their mail is held back, and not refused
	gone     map[string]time.Time // the removed ones, and since when, until they are forgotten
}

// SetAccounts replaces the accounts, also while Run runs. What is in flight ends as it began, and no message is lost: mail
// of an account that is not there any more waits as if the account were parked (the Relayer's Gate says so), until it is
// configured again or a person makes a new plan. One without mail is forgotten an hour later. Relayer must know the new
// accounts before, and the old ones not any more; where it opens the gate of one that stays as it was, Wake says so.
func (q *Queue) SetAccounts(list []Account) {
	q.changing.Lock()
	defer q.changing.Unlock()
	q.setAccounts(list, nil)
}

// setAccounts is SetAccounts, and forgets some of those that were removed. q.changing is held.
func (q *Queue) setAccounts(list []Account, forgotten map[string]bool) {
	was := q.set.Load()
	lanes := map[string]*lane{} // by mailbox
	for _, l := range was.lanes {
		lanes[l.key] = l
	}
	set := &accountSet{list: slices.Clone(list), accounts: make(map[string]Account, len(list)), lanes: make(map[string]*lane, len(list)), gone: map[string]time.Time{}}
	active := map[*lane][]Account{}
	var fresh []*lane
	for _, a := range list {
		a.Concurrency = max(a.Concurrency, 1)
		a.DoubtWait = orDefault(a.DoubtWait, 10*time.Minute)
		l := lanes[a.laneKey()]
		if l == nil {
			l = newLane(q, a.laneKey())
			lanes[l.key] = l
			fresh = append(fresh, l)
		}
		active[l] = append(active[l], a)
		set.accounts[a.Name], set.lanes[a.Name] = a, l
	}
	retired := map[*lane][]Account{}
	for name, l := range was.lanes {
		if set.lanes[name] != nil || forgotten[name] {
			continue
		}
		since, known := was.gone[name]
		if !known {
			since = q.clock()
		}
		set.lanes[name], set.gone[name] = l, since
		retired[l] = append(retired[l], l.account(name))
	}
	changed := map[*lane]bool{}
	for _, l := range lanes {
		changed[l] = l.assign(active[l], retired[l])
	}
	for _, l := range fresh {
		changed[l] = false // it looks when it begins
	}
	q.set.Store(set)
	if q.begin != nil {
		for _, l := range fresh {
			q.begin(l)
		}
	}
	for _, l := range lanes {
		if len(active[l])+len(retired[l]) == 0 {
			close(l.over) // nobody finds it any more: another configuration begins with the set's lanes
			continue
		}
		if changed[l] { // one mailbox more must not wake thousands
			l.poke()
		}
	}
}

// laneKey is the mailbox whose limits count.
func (a Account) laneKey() string {
	if a.Mailbox == "" {
		return "account " + a.Name
	}
	return "mailbox " + a.Mailbox
}

// account returns one of the lane's accounts, which a removed one is served with.
func (l *lane) account(name string) Account {
	list := l.list()
	if i := slices.IndexFunc(list, func(a Account) bool { return a.Name == name }); i >= 0 {
		return list[i]
	}
	return Account{Name: name}
}

// beginLanes begins every lane, and those that come later, by run; nil ends that.
func (q *Queue) beginLanes(run func(*lane)) {
	q.changing.Lock()
	defer q.changing.Unlock()
	if q.begin = run; run == nil {
		return
	}
	begun := map[*lane]bool{}
	for _, l := range q.set.Load().lanes {
		if !begun[l] {
			begun[l] = true
			run(l)
		}
	}
}

// TellOrphans tells of the mail that waits for these accounts where the configuration does not have them.
func (q *Queue) TellOrphans(ctx context.Context, accounts ...string) error {
	counts, err := q.store.Counts(ctx)
	if err != nil {
		return fmt.Errorf("count the queue: %w", err)
	}
	q.seeOrphans(ctx, counts, func(account string) bool { return slices.Contains(accounts, account) })
	return nil
}

// SetMaxQueued replaces what each user may have waiting.
func (q *Queue) SetMaxQueued(most map[string]Usage) {
	q.usage.mu.Lock()
	defer q.usage.mu.Unlock()
	q.usage.most = most
	q.usage.n = nil // counted again at the next message of a user with a limit
}
