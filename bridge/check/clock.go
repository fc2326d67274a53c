package check

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Entra takes an assertion whose times are off by five minutes, no more.
const (
	clockYellow = time.Minute
	clockRed    = 5 * time.Minute
)

// clock compares this machine's clock with the one of whoever answered last.
func clock(line Line, dates *dateWatch) []Line {
	off, ok := dates.offset()
	if !ok {
		return nil
	}
	line.Subject += ", clock"
	word := "ahead of"
	if off < 0 {
		off, word = -off, "behind"
	}
	text := fmt.Sprintf("this machine's clock is %v %s Microsoft's", off.Round(time.Second), word)
	const remedy = "set this machine's clock right, and keep it so by NTP"
	switch {
	case off >= clockRed:
		return []Line{red(line, text, remedy)}
	case off >= clockYellow:
		line.State, line.Text, line.Remedy = Yellow, text, remedy
		return []Line{line}
	}
	return []Line{green(line, "this machine's clock is right")}
}

// dateWatch notes how far this machine's clock is from the Date of an answer.
type dateWatch struct {
	next http.RoundTripper
	mu   sync.Mutex // guards what follows
	off  time.Duration
	seen bool
}

// watch puts itself before a transport.
func (d *dateWatch) watch(next http.RoundTripper) http.RoundTripper {
	d.next = next
	return d
}

// RoundTrip implements http.RoundTripper.
func (d *dateWatch) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := d.next.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	ended := time.Now()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.off, d.seen = clockOffset(date, began, ended), true
	}
	return resp, nil
}

// clockOffset returns how far this clock is ahead of a server that wrote date, a whole second, between two moments here;
// 0 where it may be right.
func clockOffset(date, began, ended time.Time) time.Duration {
	switch first, last := date, date.Add(time.Second); {
	case ended.Before(first):
		return ended.Sub(first)
	case began.After(last):
		return began.Sub(last)
	}
	return 0
}

func (d *dateWatch) offset() (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.off, d.seen
}
