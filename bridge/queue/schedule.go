package queue

import "time"

// Waits after the attempts of a message that met a temporary failure of its own (design.md section 6, "Wait", 1). They
// grow quadratically, so that fresh mail is not starved by old; the last repeats. The manual quotes this list.
var messageWaits = []time.Duration{
	1 * time.Minute, 4 * time.Minute, 9 * time.Minute, 16 * time.Minute,
	25 * time.Minute, 36 * time.Minute, 49 * time.Minute, 60 * time.Minute,
}

// Waits for a pair of account and From that lacks the Send As right: a grant takes Exchange up to two hours
// (design.md section 6, "Whose trouble"). The last repeats.
var senderWaits = []time.Duration{15 * time.Minute, 30 * time.Minute, 60 * time.Minute}

// guardWait keeps a message from a hot loop: its account had the trouble, but nobody closed the gate. Where the process had
// it nobody ever does, and the wait doubles each time, up to guardMost: what is wrong may be the message's own doing.
const (
	guardWait = 30 * time.Second
	guardMost = time.Hour
)

// ownWait returns the wait after so many attempts in a row that had trouble of the process.
func ownWait(n int) time.Duration { return min(guardWait<<min(max(n, 1)-1, 10), guardMost) }

// Schedule says when the attempts of a message are made.
type Schedule struct {
	GiveUpAfter time.Duration // age, counted from acceptance; time parked does not count
}

// NextAttempt returns when the attempt after the given one (counted from 1) may start, and false when the message would
// by then be older than s.GiveUpAfter. The last wait repeats. No jitter; the worker adds it. RFC 5321 section 4.5.4.1.
func (s Schedule) NextAttempt(queued, ended time.Time, attempt int) (at time.Time, ok bool) {
	at = ended.Add(wait(messageWaits, attempt))
	return at, !s.tooOld(queued, at)
}

func (s Schedule) tooOld(queued, at time.Time) bool { return at.Sub(queued) > s.GiveUpAfter }

// wait returns the n-th wait of the list, counted from 1, or its last.
func wait(list []time.Duration, n int) time.Duration {
	return list[min(max(n, 1), len(list))-1]
}
