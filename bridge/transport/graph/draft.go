package graph

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// Drafts says when a message goes as a draft that is then sent. After a doubt the draft tells what became of it, so no
// copy is ever made, and hidden recipients stand in no header. It needs Mail.ReadWrite.
type Drafts string

// The words of the configuration.
const (
	DraftsAuto   Drafts = "auto" // where Mail.ReadWrite was granted
	DraftsAlways Drafts = "always"
	DraftsNever  Drafts = "never"
)

// noDraftsFor is how long a refusal of drafts is believed, where no scope says whether they are allowed (app-only).
const noDraftsFor = time.Hour

// cleanTime bounds the removal of a draft that nobody needs; it also runs when the attempt was ended.
const cleanTime = 20 * time.Second

// noteTime bounds a note.
const noteTime = 10 * time.Second

// usesDrafts reports whether drafts are made now, as far as known before one was tried.
func (t *Transport) usesDrafts() bool {
	switch t.o.Drafts {
	case DraftsAlways:
		return true
	case DraftsAuto:
		t.mu.Lock()
		refused := t.o.Now().Before(t.noDraftsUntil)
		t.mu.Unlock()
		return !refused && (t.o.MayDraft == nil || t.o.MayDraft())
	}
	return false
}

// refuseDrafts remembers that the application may not make drafts.
func (t *Transport) refuseDrafts() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.noDraftsUntil = t.o.Now().Add(noDraftsFor)
}

// DraftsInUse says for people whether drafts are made: "yes", "no", or "not known" before it was tried.
func (t *Transport) DraftsInUse() string {
	switch {
	case t.usesDrafts() && t.o.Drafts == DraftsAuto && t.o.MayDraft == nil:
		return "not known"
	case t.usesDrafts():
		return "yes"
	}
	return "no"
}

// memo is what an attempt leaves for the next one.
type memo struct {
	Draft  string `json:"draft,omitempty"`  // its immutable id; "?" while one may have been made of which no id came
	Header string `json:"header,omitempty"` // of which header it was made: another plan needs another draft
}

const unknownDraft = "?"

func readMemo(note string) (m memo) {
	_ = json.Unmarshal([]byte(note), &m) // of an older version: nothing is known
	return m
}

// letter is one message on its way through drafts.
type letter struct {
	t       *Transport
	out     message.Outgoing
	header  []byte             // without Bcc
	hidden  []envelope.Address // for bccRecipients
	base    string             // URL of /me or /users/{mailbox}
	mark    string             // value of our marker field
	memo    memo
	others  map[string]bool // ids of drafts that another recipient may have got the message by
	digest  string
	uploads uploads
}

func (t *Transport) newLetter(out message.Outgoing) (*letter, error) {
	header, hidden, _, err := message.ReconcileRecipients(out.Final, out.Recipients)
	if err != nil {
		return nil, err
	}
	header = message.RemoveBcc(header)
	l := &letter{t: t, out: out, header: header, hidden: hidden, base: t.mailboxURL(out), memo: readMemo(out.Notes[noteKey(out)])}
	l.others = map[string]bool{}
	for _, note := range out.Others {
		if id := readMemo(note).Draft; id != "" && id != unknownDraft {
			l.others[id] = true
		}
	}
	sum := sha256.Sum256(header)
	l.digest = hex.EncodeToString(sum[:8])
	if h, err := message.ParseHeader(header); err == nil {
		l.mark = h.Get(message.MarkerField)
	}
	return l, nil
}

// noteKey is the recipient whose note is read: all of one part have the same.
func noteKey(out message.Outgoing) string {
	for _, r := range out.Recipients {
		if out.Notes[r.Key()] != "" {
			return r.Key()
		}
	}
	return ""
}

func (l *letter) remember(ctx context.Context, m memo) error {
	l.memo = m
	if l.out.Remember == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTime) // also where the attempt was ended
	defer cancel()
	if m == (memo{}) {
		return l.out.Remember(ctx, l.out.Recipients, "")
	}
	b, err := json.Marshal(m)
	if err == nil {
		err = l.out.Remember(ctx, l.out.Recipients, string(b))
	}
	return err
}

// sendAsDraft makes the draft, or takes the one that an earlier attempt has made, and sends it. fallback says that drafts
// are not allowed and nothing was made.
func (t *Transport) sendAsDraft(ctx context.Context, out message.Outgoing, large bool) (o reply.Outcome, fallback bool) {
	l, err := t.newLetter(out)
	if err != nil {
		return t.ours("the recipients could not be written into the header", err), false
	}
	have, o, ok := l.earlier(ctx)
	if !ok {
		return o, false
	}
	if !have {
		if o, fallback, ok = l.createOnce(ctx, large); !ok {
			return o, fallback
		}
	}
	return l.send(ctx), false
}

// earlier looks at what former attempts left: have says that a draft is there and complete. ok is false where the
// outcome is known without sending.
func (l *letter) earlier(ctx context.Context) (have bool, o reply.Outcome, ok bool) {
	if l.memo.Draft != "" && l.memo.Draft != unknownDraft {
		isDraft, o, found := l.look(ctx, l.memo.Draft)
		switch {
		case found && !isDraft:
			return false, l.relayed("it was sent before"), false
		case found && l.memo.Header == l.digest:
			return true, o, true
		case found && !l.others[l.memo.Draft]:
			if o, gone := l.remove(ctx, l.memo.Draft); !gone {
				return false, postponed(o), false
			}
		case !found && !notThere(o):
			return false, o, false
		}
	}
	if l.out.Resend {
		if sent, o, known := l.inFolder(ctx, "sentitems"); !known {
			return false, o, false
		} else if len(sent) > 0 {
			return false, l.relayed("found in Sent Items"), false
		}
	}
	if l.memo.Draft != "" || l.out.Attempt > 1 || l.out.Resend { // one may have been made whose id never came
		left, o, known := l.inFolder(ctx, "drafts")
		if !known {
			return false, o, false
		}
		for _, id := range left {
			if o, gone := l.remove(ctx, id); !gone {
				return false, postponed(o), false
			}
		}
	}
	return false, reply.Outcome{}, true
}

// postponed is the outcome where an earlier draft is in the way: beside another one nobody would find it again.
func postponed(o reply.Outcome) reply.Outcome {
	if o.Verdict == reply.Failed || o.Owner == reply.Message {
		o.Owner = reply.Route
	}
	o.Verdict = reply.Deferred
	return o
}

func (l *letter) relayed(text string) reply.Outcome {
	return reply.Outcome{Verdict: reply.Relayed, Transport: name, Reply: reply.Reply{Text: text}}
}

// restarts is how often an upload that broke begins again with a new draft, in one attempt.
const restarts = 2

// createOnce makes the draft; by its parts where it is large, or where Graph finds its MIME too large.
func (l *letter) createOnce(ctx context.Context, large bool) (o reply.Outcome, fallback, ok bool) {
	for try := 0; ; try++ {
		o, fallback, ok = l.create(ctx, large)
		switch {
		case ok || fallback || ctx.Err() != nil:
			return o, fallback, ok
		case !large && (o.Size == reply.OverRequest || l.tooLargeInDisguise(o)):
			large = true
		case l.uploads.broken && try < restarts:
		default:
			return o, fallback, ok
		}
	}
}

// tooLargeInDisguise reports an answer that Graph is known to give to a request that is too large: 400 BadRequest, or a
// page of HTML with 500. Smaller messages get these for other reasons.
func (l *letter) tooLargeInDisguise(o reply.Outcome) bool {
	const suspicious = 2_000_000
	return int64(len(l.header))+l.out.BodySize > suspicious &&
		(o.Reply.Code == http.StatusBadRequest && strings.EqualFold(o.Reply.Enhanced, "BadRequest") || o.Reply.Code == http.StatusInternalServerError && o.Reply.Enhanced == "")
}

// create makes the draft with all that belongs to it, and commits its id.
func (l *letter) create(ctx context.Context, large bool) (o reply.Outcome, fallback, ok bool) {
	size := int64(len(l.header)) + l.out.BodySize
	var made *message.Rebuilt
	s := step{method: http.MethodPost, url: l.base + "/messages", want: http.StatusCreated, out: l.out,
		header: map[string]string{"Prefer": `IdType="ImmutableId"`, "Content-Type": "text/plain"}, body: l.mime(size)}
	if large {
		var err error
		if made, err = l.rebuild(ctx); err != nil {
			return l.cannot(err), false, false
		}
		s.header["Content-Type"] = "application/json"
		if s.body, err = l.uploads.compose(l, made); err != nil {
			return l.cannot(err), false, false
		}
	}
	a, o, done := l.t.do(ctx, s)
	if !done {
		if a.status == http.StatusForbidden && l.t.o.Drafts == DraftsAuto && isNoPermission(a) && made == nil {
			l.t.refuseDrafts()
			return o, true, false
		}
		if a.status == 0 && a.released || a.status >= 500 {
			if err := l.remember(ctx, memo{Draft: unknownDraft}); err != nil {
				return l.t.ours("the draft could not be noted down", err), false, false
			}
		}
		return o, false, false
	}
	id := readID(a.body)
	if id == "" {
		_ = l.remember(ctx, memo{Draft: unknownDraft}) // or the next attempt would not look for it
		return reply.Outcome{Verdict: reply.Deferred, Owner: reply.Route, Transport: name,
			Reply: reply.Reply{Code: a.status, Text: "Microsoft Graph made a draft and did not say which"}}, false, false
	}
	o, ok = l.complete(ctx, id, made)
	if !ok {
		// Graph may be down for the removal too. This note, which names no header, makes the next attempt remove it.
		_ = l.remember(ctx, memo{Draft: id})
		if _, gone := l.remove(ctx, id); !gone {
			l.uploads.broken = false // a second draft would take its place in the note
		}
		return o, false, false
	}
	if err := l.remember(ctx, memo{Draft: id, Header: l.digest}); err != nil {
		l.remove(ctx, id)
		return l.t.ours("the draft could not be noted down", err), false, false
	}
	return reply.Outcome{}, false, true
}

// complete adds what creation could not carry: hidden recipients of MIME, and the large files of a rebuilt message.
func (l *letter) complete(ctx context.Context, id string, made *message.Rebuilt) (reply.Outcome, bool) {
	if made != nil {
		return l.uploads.run(ctx, l, id)
	}
	if len(l.hidden) == 0 {
		return reply.Outcome{}, true
	}
	_, o, done := l.t.do(ctx, step{method: http.MethodPatch, url: l.item(id), draft: true, want: http.StatusOK, out: l.out,
		header: map[string]string{"Content-Type": "application/json", "Prefer": `IdType="ImmutableId"`},
		body:   jsonBody(map[string]any{"bccRecipients": people(l.hidden)})})
	return o, done
}

// send is the step that makes Graph take the message.
func (l *letter) send(ctx context.Context) reply.Outcome {
	id := l.memo.Draft
	a, o, done := l.t.do(ctx, step{method: http.MethodPost, url: l.item(id) + "/send", draft: true, want: http.StatusAccepted, out: l.out, intent: l.out.Intent})
	switch {
	case done:
		return reply.Outcome{Verdict: reply.Relayed, Transport: name, Reply: reply.Reply{Code: http.StatusAccepted, Text: "accepted by Microsoft Graph"}}
	case isGone(a):
		return l.gone(ctx, id, o)
	case o.Verdict == reply.InDoubt:
		o.CanLook = true
		if isDraft, _, found := l.look(ctx, id); found && !isDraft {
			return l.relayed("no answer, but the draft was sent")
		}
	case l.out.Resend: // it may be on its way since the attempt before; Tidy comes later
	case o.Verdict == reply.Failed, o.Owner == reply.Sender, o.Owner == reply.Account, o.Owner == reply.Recipient, o.Owner == reply.Message:
		l.remove(ctx, id) // it is made again, and nobody wants to find it among his drafts meanwhile
	}
	return o
}

// gone finds out about a draft that Graph does not find when it is to send it: it was sent, or somebody has deleted it. A
// gateway that makes a request twice gives the answer to the second one, and what was sent may show in Sent Items late.
func (l *letter) gone(ctx context.Context, id string, o reply.Outcome) reply.Outcome {
	isDraft, _, found := l.look(ctx, id)
	if found && !isDraft {
		return l.relayed("the draft was sent before")
	}
	switch sent, why, known := l.inFolder(ctx, "sentitems"); {
	case known && len(sent) > 0:
		return l.relayed("found in Sent Items")
	case !known && noUser(why):
		return why
	case !known, !found:
		o.Verdict, o.Owner, o.CanLook = reply.InDoubt, reply.Route, true
	}
	return o
}

// remove deletes a draft, and reports whether it is gone. What fails of it is told in the log; the next attempt finds it
// again, or Tidy.
func (l *letter) remove(ctx context.Context, id string) (o reply.Outcome, gone bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	_, o, gone = l.t.do(ctx, step{method: http.MethodDelete, url: l.item(id), draft: true, want: http.StatusNoContent, gone: true, out: l.out})
	if gone && l.memo.Draft == id {
		_ = l.remember(ctx, memo{}) // the id leads nowhere, which the next attempt would find too
	}
	return o, gone
}

func (l *letter) item(id string) string { return l.base + "/messages/" + url.PathEscape(id) }

// mime is the message in base64, as sendMail takes it, without an intent: a draft sends nothing.
func (l *letter) mime(size int64) func(context.Context) (io.ReadCloser, int64, error) {
	return func(ctx context.Context) (io.ReadCloser, int64, error) {
		stored, err := l.out.Open(ctx)
		if err != nil {
			return nil, 0, &sourceError{"the stored body", err}
		}
		return newBody(l.header, stored, size, func() error { return nil }), encodedSize(size), nil
	}
}

// people is a list of Graph's recipients.
func people(list []envelope.Address) []any {
	all := make([]any, len(list))
	for i, a := range list {
		all[i] = person(message.Mailbox{Address: a})
	}
	return all
}

func person(m message.Mailbox) any {
	e := map[string]string{"address": m.Address.Wire()}
	if m.Name != "" {
		e["name"] = m.Name
	}
	return map[string]any{"emailAddress": e}
}

func readID(b []byte) string {
	var m struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(b, &m)
	return m.ID
}
