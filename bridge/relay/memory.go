package relay

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"postern/bridge/event"
	"postern/bridge/reply"
)

// Memory keeps troubles over a restart. Safe for concurrent use.
type Memory interface { // the hall hands in the store's notes
	// Save keeps value under key; "" forgets it.
	Save(ctx context.Context, key, value string) error
}

// kept is a trouble as it is remembered.
type kept struct {
	Login     bool        `json:"login,omitempty"`
	Key       string      `json:"key"`
	Transport string      `json:"transport"`
	Parked    bool        `json:"parked,omitempty"`
	Since     time.Time   `json:"since"`
	Until     time.Time   `json:"until,omitzero"`
	Failures  int         `json:"failures"`
	Account   string      `json:"account"`
	Owner     reply.Owner `json:"owner"`
	Reply     reply.Reply `json:"reply,omitzero"`
	Remedy    string      `json:"remedy,omitempty"`
	Err       string      `json:"err,omitempty"`
	Cause     string      `json:"cause,omitempty"`
}

// String is the key under which the place is remembered.
func (p place) String() string {
	kind := "mailbox"
	if p.login {
		kind = "login"
	}
	return kind + "/" + p.transport + "/" + p.key
}

// recall takes up the troubles of the former process. A pause lasts as long as it was to last. What waits for a person
// is probed by one message at once: he may have acted while nobody ran, and often the restart is how he says so. What
// cannot be read is left out, and found again by a message.
func (r *Relay) recall(remembered map[string]string) {
	now := r.now()
	for _, text := range remembered {
		var k kept
		if json.Unmarshal([]byte(text), &k) != nil {
			continue
		}
		at := place{login: k.Login, key: k.Key, transport: k.Transport}
		r.rounds++
		t := &trouble{parked: k.Parked, since: k.Since, failures: max(k.Failures, 1), round: r.rounds, account: k.Account, cause: k.Cause,
			outcome: reply.Outcome{Owner: k.Owner, Reply: k.Reply, Remedy: k.Remedy}}
		if k.Err != "" {
			t.outcome.Err = errors.New(k.Err)
		}
		if !k.Parked { // counted by a clock that nobody sets; the wall clock may have been set back already, and may yet be
			t.until = now.Add(min(k.Until.Sub(now), maxPause))
		}
		r.troubles[at] = t
	}
}

// remember writes down how these places stand now. A store that cannot take it makes a restart find the trouble anew.
func (r *Relay) remember(ctx context.Context, places ...place) {
	if r.memory == nil {
		return
	}
	r.saving.Lock() // so that what was learnt last is written last
	defer r.saving.Unlock()
	for _, at := range places {
		if err := r.memory.Save(context.WithoutCancel(ctx), at.String(), r.text(at)); err != nil {
			r.events.Emit(ctx, slog.LevelWarn, event.QueueFailed, slog.String("err", err.Error()))
		}
	}
}

// text is the place's trouble as it is remembered, "" where there is none.
func (r *Relay) text(at place) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.troubles[at]
	if t == nil {
		return ""
	}
	k := kept{Login: at.login, Key: at.key, Transport: at.transport, Parked: t.parked, Since: t.since, Until: t.until,
		Failures: t.failures, Account: t.account, Owner: t.outcome.Owner, Reply: t.outcome.Reply, Remedy: t.outcome.Remedy, Cause: t.cause}
	if t.outcome.Err != nil {
		k.Err = t.outcome.Err.Error()
	}
	b, err := json.Marshal(k)
	if err != nil {
		return ""
	}
	return string(b)
}
