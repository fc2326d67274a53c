package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// accept is what taking mail came to.
type accept struct {
	messages int
	rate     float64       // a second
	p50, p99 time.Duration // from the final dot to the 250
}

// load sends count messages over so many connections, each message in commands of its own, as smtp-source does.
func load(ctx context.Context, address string, connections, count int) (accept, error) {
	var left atomic.Int64
	left.Store(int64(count))
	times := make([][]time.Duration, connections)
	errs := make([]error, connections)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range connections {
		wg.Go(func() { times[i], errs[i] = session(ctx, address, &left) })
	}
	wg.Wait()
	took := time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return accept{}, err
	}
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	if len(all) != count {
		return accept{}, fmt.Errorf("%d of %d messages were taken", len(all), count)
	}
	return accept{messages: count, rate: float64(count) / took.Seconds(), p50: all[len(all)/2], p99: all[len(all)*99/100]}, nil
}

var text = "From: app@contoso.test\r\nTo: customer@example.test\r\nSubject: Invoice\r\nDate: Fri, 20 Nov 2026 10:00:00 +0100\r\n\r\n" +
	strings.Repeat(strings.Repeat("x", 78)+"\r\n", messageSize/80) + ".\r\n"

// session sends messages over one connection until none is left.
func session(ctx context.Context, address string, left *atomic.Int64) (times []time.Duration, err error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Minute))
	r := bufio.NewReader(conn)
	say := func(line, want string) error {
		if line != "" {
			if _, err := conn.Write([]byte(line)); err != nil {
				return err
			}
		}
		for {
			got, err := r.ReadString('\n')
			if err != nil {
				return err
			}
			if len(got) > 3 && got[3] == '-' {
				continue
			}
			if !strings.HasPrefix(got, want) {
				return fmt.Errorf("%.20q was answered %q", line, got)
			}
			return nil
		}
	}
	if err := errors.Join(say("", "220"), say("EHLO bench.test\r\n", "250")); err != nil {
		return nil, err
	}
	for left.Add(-1) >= 0 {
		for _, step := range [][2]string{{"MAIL FROM:<app@contoso.test>\r\n", "250"}, {"RCPT TO:<customer@example.test>\r\n", "250"}, {"DATA\r\n", "354"}} {
			if err := say(step[0], step[1]); err != nil {
				return times, err
			}
		}
		began := time.Now()
		if err := say(text, "250"); err != nil {
			return times, err
		}
		times = append(times, time.Since(began))
	}
	return times, say("QUIT\r\n", "221")
}
