package smarthost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// transaction is one message on one connection: MAIL, RCPT, DATA (RFC 5321 section 3.3).
type transaction struct {
	t       *Transport
	s       *session
	out     message.Outgoing
	header  []byte                   // without Bcc
	refused map[string]reply.Outcome // recipients that fared on their own, by Key

	outcome reply.Outcome
	broken  bool // the connection cannot be used again
	stale   bool // broken as a connection is that the server gave up while it was idle, before any data
}

// transact runs a transaction and gives the connection back, or closes it.
func (t *Transport) transact(ctx context.Context, s *session, out message.Outgoing) *transaction {
	x := &transaction{t: t, s: s, out: out, refused: map[string]reply.Outcome{}}
	// Gmail delivers a Bcc field as it is: the envelope alone may know those recipients.
	x.header = message.RemoveBcc(out.Final)
	began := t.o.Now()
	release := watch(ctx, s.wire.raw)
	x.run(ctx)
	failed := x.broken
	if s.unclean && !x.broken {
		s.wire.expect(t.o.Timeouts.Command)
		// RSET makes the library say EHLO again; here rather than within the next message.
		x.broken = s.client.Reset() != nil || s.client.Hello(t.o.Hostname) != nil
		s.unclean = false
	}
	if release() {
		x.broken = true
	}
	s.messages++
	if x.broken {
		s.abort()
	} else {
		t.keep(s)
	}
	if failed && !x.stale {
		t.report(ctx, began, s.wire.last, &trouble{outcome: x.outcome})
	}
	if len(x.refused) > 0 {
		x.outcome.Recipients = x.refused
	}
	return x
}

// run takes the steps until one settles the outcome.
func (x *transaction) run(ctx context.Context) {
	if !x.mail(ctx) || !x.recipients(ctx) {
		return
	}
	body, err := x.out.Open(ctx)
	if err != nil {
		x.settle(deferred(reply.Process, fmt.Errorf("open body: %w", err)))
		return
	}
	defer body.Close()
	x.data(ctx, body)
}

// settle takes a trouble as the outcome.
func (x *transaction) settle(tr *trouble) { x.outcome = tr.outcome }

// mail begins the transaction. ok says to go on; else the outcome is settled.
func (x *transaction) mail(ctx context.Context) (ok bool) {
	reversePath := x.reversePath()
	path, err := wirePath(reversePath)
	if err != nil {
		x.fail(reply.Reply{Code: 553, Enhanced: "5.1.7", Text: "bad reverse-path"}, err)
		return false
	}
	utf8Path := !reversePath.ASCII()
	if utf8Path && !x.offers("SMTPUTF8") {
		x.fail(reply.Reply{Code: 550, Enhanced: "5.6.7", Text: "smarthost does not take non-ASCII addresses"},
			errors.New("reverse-path needs SMTPUTF8, which the smarthost does not offer"))
		return false
	}
	limit := x.t.o.Timeouts.Command
	if x.s.messages > 0 {
		limit = x.t.o.Timeouts.Reused
	}
	x.s.wire.expect(limit)
	// The library adds BODY=8BITMIME wherever that is announced, which is true of 7-bit text as well. Where it is not
	// announced 8-bit text goes as it is: converting it would change the body, and signatures with it.
	opts := &smtp.MailOptions{
		Size: int64(len(x.header)) + x.out.BodySize,
		UTF8: x.offers("SMTPUTF8") && (utf8Path || x.needsUTF8()),
	}
	if err := x.s.client.Mail(path, opts); err != nil {
		x.judge(ctx, mail, err)
		return false
	}
	x.s.unclean = true
	return true
}

// reversePath is the plan's, or the address of From where the plan has a null one: what Exchange Online answers to MAIL
// FROM:<> after AUTH is in no document, and a report that cannot leave reaches nobody.
func (x *transaction) reversePath() envelope.Address {
	if x.out.Plan.ReversePath.IsNull() {
		return x.out.Plan.HeaderFrom
	}
	return x.out.Plan.ReversePath
}

// needsUTF8 reports whether a recipient or the header makes the message one of RFC 6531. A header in raw UTF-8 counts only
// where the application said SMTPUTF8: older ones never did, their mail has always passed without, and with it the next
// server but one may refuse the message.
func (x *transaction) needsUTF8() bool {
	for _, a := range x.out.Recipients {
		if !a.ASCII() {
			return true
		}
	}
	eightBit := func(b byte) bool { return b >= 0x80 }
	return x.out.Envelope.SMTPUTF8 && containsByte(x.header, eightBit) && utf8.Valid(x.header)
}

func containsByte(b []byte, is func(byte) bool) bool {
	for _, c := range b {
		if is(c) {
			return true
		}
	}
	return false
}

func (x *transaction) offers(extension string) bool {
	ok, _ := x.s.client.Extension(extension)
	return ok
}

// recipients names the recipients. ok says that the server took at least one; else the outcome is settled. A refusal is
// that recipient's own, unless the reply speaks of the account or the connection.
func (x *transaction) recipients(ctx context.Context) (ok bool) {
	for i, a := range x.out.Recipients {
		r, err := x.recipient(a)
		if err == nil {
			continue
		}
		u := judge(rcpt, r)
		if r.Code == 0 || u.owner != reply.Recipient {
			x.judge(ctx, rcpt, err)
			return false
		}
		x.refuse(a, u.verdict, r)
		if tooMany(r) {
			// The rest in another transaction (RFC 5321 section 4.5.3.1.10), but not now: Exchange refuses a second
			// submission of one Message-ID.
			for _, rest := range x.out.Recipients[i+1:] {
				x.refuse(rest, reply.Deferred, r)
			}
			break
		}
	}
	if len(x.refused) < len(x.out.Recipients) {
		return true
	}
	for i, a := range x.out.Recipients { // the outcome of the whole is the first that is not final
		if o := x.refused[a.Key()]; i == 0 || o.Verdict == reply.Deferred && x.outcome.Verdict != reply.Deferred {
			x.outcome = o
		}
	}
	return false
}

// tooMany reports a refusal of one recipient that speaks of how many there are (RFC 3463 section 3.6, X.5.3). 552 is older
// servers' word for it (RFC 5321 section 4.5.3.1.10).
func tooMany(r reply.Reply) bool {
	return r.Enhanced == "4.5.3" || r.Enhanced == "5.5.3" ||
		(r.Code == 452 || r.Code == 552) && strings.Contains(strings.ToLower(r.Text), "too many recipients")
}

// recipient names one. On an error, r is the refusal; its code is 0 where the connection failed.
func (x *transaction) recipient(a envelope.Address) (r reply.Reply, err error) {
	path, err := wirePath(a)
	if err != nil || path == "" {
		return reply.Reply{Code: 553, Enhanced: "5.1.3", Text: "bad recipient address"}, errBadRecipient
	}
	if !a.ASCII() && !x.offers("SMTPUTF8") {
		return reply.Reply{Code: 550, Enhanced: "5.6.7", Text: "smarthost does not take non-ASCII addresses"}, errBadRecipient
	}
	x.s.wire.expect(x.t.o.Timeouts.Command)
	err = x.s.client.Rcpt(path, nil)
	if err != nil {
		r, _ = answerIn(err)
	}
	return r, err
}

var errBadRecipient = errors.New("recipient cannot be named to the smarthost")

// refuse records what became of one recipient.
func (x *transaction) refuse(a envelope.Address, v reply.Verdict, r reply.Reply) {
	x.refused[a.Key()] = reply.Outcome{Verdict: v, Owner: reply.Recipient, Reply: r, Transport: transportName,
		Err: fmt.Errorf("recipient refused: %v", r)}
}

// data sends the message. From the 354 on the connection is closed on any failure: another command would make the
// library write the final dot first.
func (x *transaction) data(ctx context.Context, body io.Reader) {
	w := x.s.wire
	w.expect(x.t.o.Timeouts.DataStart)
	cmd, err := x.s.client.Data()
	if err != nil {
		x.judge(ctx, data, err)
		return
	}
	x.broken = true // until the server has answered the final dot
	if err := x.content(cmd, body); err != nil {
		if w.writeErr != nil || ctx.Err() != nil {
			x.settle(interrupted(ctx, fmt.Errorf("connection ended within the message: %w", err)))
			return
		}
		x.settle(deferred(reply.Process, err))
		return
	}
	// The last octets may still be in the library's buffer, the final dot is not: this is the moment.
	if err := x.intend(ctx); err != nil {
		x.settle(deferred(reply.Process, fmt.Errorf("commit the intent: %w", err)))
		return
	}
	w.expect(x.t.o.Timeouts.DataEnd)
	resp, err := cmd.CloseWithResponse()
	if err != nil {
		x.unconfirmed(ctx, err)
		return
	}
	x.took(accepted(resp.StatusText))
}

// intend commits the intent for those whom the server has taken.
func (x *transaction) intend(ctx context.Context) error {
	if len(x.refused) == 0 || x.out.IntentBy == nil {
		return x.out.Intent(ctx)
	}
	var taken []envelope.Address
	for _, a := range x.out.Recipients {
		if _, refused := x.refused[a.Key()]; !refused {
			taken = append(taken, a)
		}
	}
	return x.out.IntentBy(ctx, transportName, taken)
}

// content writes header and body. An error is the connection's where the wire knows of one, else the store's.
func (x *transaction) content(w io.Writer, body io.Reader) error {
	if _, err := w.Write(x.header); err != nil {
		return err
	}
	n, err := io.Copy(w, body)
	if err != nil {
		return fmt.Errorf("body after %d octets: %w", n, err)
	}
	// A body that the store cut short must never look complete.
	if n != x.out.BodySize {
		return fmt.Errorf("body has %d octets where %d were accepted", n, x.out.BodySize)
	}
	return nil
}

// unconfirmed judges a final dot that got no 250.
func (x *transaction) unconfirmed(ctx context.Context, err error) {
	if r, ok := answerIn(err); ok {
		if r.Code/100 == 2 { // the first digit counts (RFC 5321 section 4.2.1)
			x.took(r)
			return
		}
		x.judge(ctx, dot, err)
		return
	}
	// A write that failed left octets behind, and under TLS the record with the dot cannot have been complete.
	if x.s.wire.writeErr != nil {
		x.settle(interrupted(ctx, fmt.Errorf("connection ended before the final dot: %w", err)))
		return
	}
	tr := deferred(reply.Route, fmt.Errorf("no reply to the final dot: %w", err))
	tr.outcome.Verdict = reply.InDoubt
	x.settle(tr)
}

// took records that the server took the message. Whatever follows changes nothing.
func (x *transaction) took(r reply.Reply) {
	x.broken = false
	x.s.unclean = false
	x.outcome = reply.Outcome{Verdict: reply.Relayed, Owner: reply.Nobody, Reply: r, Transport: transportName}
}

// fail settles the message without having asked the server.
func (x *transaction) fail(r reply.Reply, err error) {
	x.outcome = reply.Outcome{Verdict: reply.Failed, Owner: reply.Message, Reply: r, Transport: transportName, Err: err}
}

// judge settles the outcome by an error that the library returned at a step, and says whether the connection is still
// good.
func (x *transaction) judge(ctx context.Context, at step, err error) {
	r, ok := answerIn(err)
	if !ok {
		x.broken = true
		x.settle(interrupted(ctx, fmt.Errorf("smarthost at %v: %w", at, err)))
	} else {
		tr := x.t.replyTrouble(at, r, x.out.Plan.HeaderFrom.String())
		if r.Code == 552 && (r.Enhanced == "" || r.Enhanced == "5.3.4" || r.Enhanced == "5.2.3") && at&(mail|dot) != 0 {
			tr.outcome.Size = reply.OverMailbox
		}
		if at == dot {
			x.s.unclean = false
			x.settleDuplicate(tr)
		}
		x.settle(tr)
		x.broken = saysGoodbye(at, r)
	}
	x.stale = x.broken && at != dot && x.s.messages > 0
}

// saysGoodbye reports whether a reply ends the connection, or shows that both sides no longer agree on where they are.
// Some servers say 451 4.4.2 for an idle connection that they give up, where RFC 5321 has 421.
func saysGoodbye(at step, r reply.Reply) bool {
	return r.Code < 400 || r.Code == 421 || r.Code == 503 || r.Code == 530 || at == mail && strings.HasPrefix(r.Enhanced, "4.4.")
}

// settleDuplicate judges Exchange's refusal of a Message-ID that it has taken before. Answering a resend after a doubt it
// means that the copy in doubt arrived, where no other message has that Message-ID. Answering anything else it is an application that uses a Message-ID twice: the
// message has to go again under a new one, which is not the transport's to give.
func (x *transaction) settleDuplicate(tr *trouble) {
	if !strings.Contains(strings.ToLower(tr.outcome.Reply.Text), "duplicatedelivery") {
		return
	}
	tr.outcome.Duplicate = true
	if x.out.Resend {
		tr.outcome.Verdict, tr.outcome.Owner, tr.outcome.Err = reply.Relayed, reply.Nobody, nil
		return
	}
	tr.outcome.Verdict, tr.outcome.Owner = reply.Deferred, reply.Message
	tr.outcome.Remedy = "the server has taken a message with this Message-ID before; this one needs another Message-ID"
}
