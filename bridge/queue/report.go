package queue

import (
	"context"
	"time"
)

// Reporter makes the report about a message that its sender is owed (design.md section 6, "Reports"): the hall hands in
// notice. It decides to whom, and whether at all.
//
// The queue calls it, after the change was committed and outside of it, when a message is final or held for all of its
// recipients and failed for some (one report for all of those), and when it has not been relayed within
// Options.WarnAfter and somebody still waits. Of whose failure a report was made, Last.Told says so. What is owed is written down with the state (Item.Owed), and cleared when
// Report returned nil; so a crash between the two repeats the call, and Report must take a second one for what it has
// queued already (it finds its own message by an ID made of this one's).
type Reporter interface {
	// Report returns nil when a report is queued, or none is due. An error is temporary: it is asked again.
	Report(ctx context.Context, r Report) error
}

// Report is a message that its sender must be told of.
type Report struct {
	Entry Entry // as it is after the change, with its header
	Late  bool  // it is late; else nobody is waited for, and it failed for some of its recipients

	Until time.Time // of one that is late: when it is given up, unless its age stands still
}
