package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"postern/bridge/message"
	"postern/bridge/reply"
)

// CanLook reports whether a message in doubt can be looked for.
func (t *Transport) CanLook() bool { return t.usesDrafts() }

// Look finds out what became of a message in doubt, also of one that left by another transport of the mailbox: Relayed,
// InDoubt while nobody can tell or where it is not allowed, or Deferred where nobody could be asked. It sends nothing.
func (t *Transport) Look(ctx context.Context, out message.Outgoing) reply.Outcome {
	if err := t.learnGrants(ctx); err != nil {
		return t.noToken(ctx, err)
	}
	if !t.usesDrafts() {
		return reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: name}
	}
	l, err := t.newLetter(out)
	if err != nil {
		return t.ours("the recipients could not be written into the header", err)
	}
	o := l.lookAll(ctx)
	if t.o.Drafts == DraftsAuto && o.Reply.Code == http.StatusForbidden && kindOf(o.Reply.Enhanced) == noPermission {
		t.refuseDrafts() // only a look, or a draft, shows what an application may not
		o.Verdict, o.Owner, o.CanLook, o.Remedy = reply.InDoubt, reply.Route, false, ""
	}
	return o
}

// lookAll looks for the draft, and in Sent Items.
func (l *letter) lookAll(ctx context.Context) reply.Outcome {
	unknown := reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: name, CanLook: true}
	// A draft that Graph refused to send says nothing about what SMTP may have taken afterwards.
	byDraft := l.out.Transport == name || l.out.Transport == ""
	if id := l.memo.Draft; byDraft && id != "" && id != unknownDraft {
		isDraft, o, found := l.look(ctx, id)
		switch {
		case found && !isDraft:
			return l.relayed("the draft was sent")
		case found:
			unknown.Reply.Text = "still a draft"
			return unknown
		case !notThere(o):
			return o
		}
	}
	sent, o, known := l.inFolder(ctx, "sentitems")
	switch {
	case !known:
		return o
	case len(sent) > 0:
		return l.relayed("found in Sent Items")
	}
	unknown.Reply.Text = fmt.Sprintf("not in Sent Items of %s yet", l.t.limited(l.out))
	return unknown
}

// look reads the draft. found is false where it is not there or cannot be read; o then says which.
func (l *letter) look(ctx context.Context, id string) (isDraft bool, o reply.Outcome, found bool) {
	a, o, done := l.t.do(ctx, step{method: http.MethodGet, url: l.item(id) + "?$select=id,isDraft", draft: true, want: http.StatusOK, out: l.out,
		header: map[string]string{"Prefer": `IdType="ImmutableId"`}})
	if !done {
		return false, asked(o, a), false
	}
	var m struct {
		IsDraft *bool `json:"isDraft"`
	}
	if err := json.Unmarshal(a.body, &m); err != nil || m.IsDraft == nil {
		return false, reply.Outcome{Owner: reply.Route, Transport: name, Reply: reply.Reply{Code: a.status, Text: "the answer about a draft is none"}}, false
	}
	return *m.IsDraft, o, true
}

// asked is the outcome of a question: nothing about the message itself was said.
func asked(o reply.Outcome, a answer) reply.Outcome {
	o = postponed(o)
	o.Reply.Code = a.status
	return o
}

// notThere reports a look that did not find the draft; 404 as a page, or of a mailbox that is gone, is the account's.
func notThere(o reply.Outcome) bool {
	return o.Reply.Code == http.StatusNotFound && o.Owner != reply.Account
}

// noUser reports that the mailbox whose folder was searched is not there: it has taken nothing.
func noUser(o reply.Outcome) bool {
	k := kindOf(o.Reply.Enhanced)
	return o.Reply.Code == http.StatusNotFound && (k == noObject || k == noMailbox)
}

// property names our marker field as an extended property ("Commonly used property sets": PS_INTERNET_HEADERS).
const property = "String {00020386-0000-0000-C000-000000000046} Name " + message.MarkerField

// inFolder returns the ids of the messages in a folder that are this one: by our marker field, and where a server has
// lost that, by Message-ID. known is false where the folder cannot be searched.
//
// A Message-ID alone proves little: an application may use one for several transactions, and the parts of a split message
// are told apart by their markers too. So a message with another's marker is another one; and a draft is only ours by its
// marker, whatever the server makes of the filter, and where no other recipient's note names it, because it would be
// removed.
func (l *letter) inFolder(ctx context.Context, folder string) (ids []string, o reply.Outcome, known bool) {
	filters := []string{"singleValueExtendedProperties/any(ep:ep/id eq " + quoteOData(property) + " and ep/value eq " + quoteOData(l.mark) + ")"}
	if folder != "drafts" {
		filters = append(filters, "internetMessageId eq "+quoteOData(l.out.Plan.MessageID))
	}
	expand := url.QueryEscape("singleValueExtendedProperties($filter=id eq " + quoteOData(property) + ")")
	for _, filter := range filters {
		a, o, done := l.t.do(ctx, step{method: http.MethodGet, want: http.StatusOK, out: l.out,
			url:    l.base + "/mailFolders/" + folder + "/messages?$select=id&$top=50&$expand=" + expand + "&$filter=" + url.QueryEscape(filter),
			header: map[string]string{"Prefer": `IdType="ImmutableId"`}})
		if !done {
			return nil, asked(o, a), false
		}
		var list struct {
			Value []found `json:"value"`
		}
		if err := json.Unmarshal(a.body, &list); err != nil {
			return nil, reply.Outcome{Owner: reply.Route, Transport: name, Reply: reply.Reply{Code: a.status, Text: "the answer to a search is none"}}, false
		}
		for _, m := range list.Value {
			if m.ID == "" || slices.Contains(ids, m.ID) || !l.owns(m, folder) {
				continue
			}
			switch another, err := l.mayBeAnothers(ctx, m); {
			case err != nil:
				return nil, l.t.ours("other messages with its Message-ID could not be looked for", err), false
			case !another:
				ids = append(ids, m.ID)
			}
		}
	}
	return ids, reply.Outcome{}, true
}

// owns reports whether what was found in that folder is this message, to these recipients: others of the same part may have
// got one by themselves.
func (l *letter) owns(m found, folder string) bool {
	if folder == "drafts" {
		return l.mark != "" && m.marker() == l.mark && !l.others[m.ID]
	}
	return (m.marker() == l.mark || m.marker() == "") && (!l.others[m.ID] || m.ID == l.memo.Draft)
}

// mayBeAnothers reports whether what has lost its marker may be another message of the same Message-ID.
func (l *letter) mayBeAnothers(ctx context.Context, m found) (bool, error) {
	if m.marker() != "" || l.out.Namesake == nil {
		return false, nil
	}
	return l.out.Namesake(ctx)
}

// found is a message in the answer to a search.
type found struct {
	ID         string `json:"id"`
	Properties []struct {
		ID    string `json:"id"`
		Value string `json:"value"`
	} `json:"singleValueExtendedProperties"`
}

// marker is the value of our field, "" where the message has none.
func (f found) marker() string {
	for _, p := range f.Properties {
		if strings.EqualFold(p.ID, property) {
			return p.Value
		}
	}
	return ""
}

// quoteOData writes a string literal of OData (part 2, section 5.1.1.11): quotes are doubled.
func quoteOData(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
