package dsn

import (
	"fmt"
	"strings"
	"time"
)

const (
	maxListed = 20 // recipients that the part for people names; the part for programs has all
	textWidth = 72 // of a line of text for people
)

// forPeople is the first part: what happened, to which message, why, and what to do.
func (r *Report) forPeople() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	if r.failed() {
		line("Postern on %s could not send a message.", oneLine(r.Hostname))
	} else {
		line("Postern on %s has not been able to send a message yet.", oneLine(r.Hostname))
		if r.RetryUntil.IsZero() {
			line("It goes on trying. Nobody need send the message again.")
		} else {
			line("It goes on trying until %s.", stamp(r.RetryUntil))
			line("Nobody need send the message again.")
		}
	}
	line("")
	if s := r.originalSubject(); s != "" {
		line("Subject:   %s", s)
	}
	if from := first(values(r.Original.Header, "From")); from != "" {
		line("From:      %s", cut(decode(from), 200))
	}
	line("Handed in: %s by %s", stamp(r.Original.Accepted), oneLine(r.Original.User))
	line("Queue ID:  %s", r.Original.ID)
	r.groups(&b, Failed, "Not sent to:")
	r.groups(&b, Delayed, "Still waiting:")
	if r.Relayed > 0 {
		line("")
		line("It was sent to %d other %s.", r.Relayed, plural(r.Relayed, "recipient"))
	}
	if r.Waiting > 0 {
		line("")
		line("For %d other %s it still waits.", r.Waiting, plural(r.Waiting, "recipient"))
	}
	if r.failed() && !r.KeptUntil.IsZero() {
		line("")
		line("The message is kept until %s. Once the cause is", stamp(r.KeptUntil))
		line("gone, an administrator sends it again by")
		line("  postern queue retry %s", r.Original.ID)
		line("or, where the configuration was changed for it, by")
		line("  postern queue retry --policy today %s", r.Original.ID)
	}
	return b.String()
}

// groups lists the recipients of an action by reason, since mostly all have the same.
func (r *Report) groups(b *strings.Builder, action Action, title string) {
	type reason struct{ why, means, remedy string }
	var order []reason
	members := map[reason][]string{}
	for _, rc := range r.Recipients {
		if rc.Action != action {
			continue
		}
		why := reason{rc.reason(), oneLine(rc.Means), oneLine(rc.Remedy)}
		if members[why] == nil {
			order = append(order, why)
		}
		members[why] = append(members[why], oneLine(rc.Address.String()))
	}
	for i, why := range order {
		if i == maxListed {
			fmt.Fprintf(b, "\r\nThe second part of this report has %d more reasons.\r\n", len(order)-i)
			return
		}
		fmt.Fprintf(b, "\r\n%s\r\n", title)
		all := members[why]
		for _, a := range all[:min(len(all), maxListed)] {
			fmt.Fprintf(b, "  %s\r\n", a)
		}
		if n := len(all) - maxListed; n > 0 {
			fmt.Fprintf(b, "  and %d more, which the second part of this report names\r\n", n)
		}
		b.WriteString(wrap("because: ", why.why))
		if why.means != "" {
			b.WriteString(wrap("that is: ", why.means))
		}
		if why.remedy != "" {
			b.WriteString(wrap("what to do: ", why.remedy))
		}
	}
}

// reason says in one line why.
func (rc *Recipient) reason() string {
	switch said := oneLine(rc.Reply.String()); {
	case said != "" && rc.RemoteMTA != "":
		return oneLine(rc.RemoteMTA) + " said: " + said
	case said != "":
		return said
	case rc.Why != "":
		return oneLine(rc.Why)
	}
	return "the reason is not known"
}

// wrap writes a text in lines of textWidth, the first after its label, the others indented as deep.
func wrap(label, text string) string {
	var b strings.Builder
	line := "  " + label
	indent := strings.Repeat(" ", 4)
	empty := true
	for _, word := range strings.Fields(text) {
		if !empty && len(line)+1+len(word) > textWidth {
			b.WriteString(strings.TrimRight(line, " ") + "\r\n")
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	return b.String() + line + "\r\n"
}

func (r *Report) originalSubject() string {
	return cut(decode(first(values(r.Original.Header, "Subject"))), 200)
}

// stamp is a time for people, with its zone.
func stamp(t time.Time) string { return t.Format("Mon, 2 Jan 2006 15:04 MST") }

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}
