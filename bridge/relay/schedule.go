package relay

import "time"

// The waits of design.md section 6, "Wait". The last one repeats. None carries jitter: one message probes at a time.
var (
	// pauses are for trouble of a route that passes by itself, where the server named no time of its own.
	pauses = []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute}

	// probes are for a parked account whose trouble only the vendor sees end: full, disabled, SMTP AUTH off, a consent that
	// was granted; or that was mended behind our back, such as a secret's file.
	probes = []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour}
)

const (
	// maxPause caps what a server asks for.
	maxPause = time.Hour

	// turnedBack is how long a message waits at least that found no transport open although its account is.
	turnedBack = 30 * time.Second

	// attemptLimit ends an attempt that its transport did not end. The transports' own limits are shorter: SMTP waits ten
	// minutes for the reply to the final dot alone (RFC 5321 section 4.5.3.2.6).
	attemptLimit = 30 * time.Minute
)

// wait returns the wait after the given number of failures before, counted from 0.
func wait(list []time.Duration, failures int) time.Duration {
	return list[min(failures, len(list)-1)]
}
