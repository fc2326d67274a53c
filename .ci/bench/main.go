// Command bench measures Postern and, where it is installed, Postfix beside it in the same run: messages accepted a
// second with 1, 8 and 20 senders and the time from the final dot to the 250, messages relayed a second to a smarthost
// with STARTTLS and XOAUTH2, memory, what the disk takes for a write and an fsync alone, and how many messages come
// through a server that keeps none. Both write to the same disk, take mail from the same sender program without
// AUTH, hold it while it is accepted, and relay it to the same sink over 20 connections. Run it as root (Postfix needs
// that) from the root of the tree, on a machine that does nothing else:
//
//	go run ./.ci/bench
//
// Postfix logs in by PLAIN with a password as long as a token: as many octets and round trips as XOAUTH2, and no token to
// be refreshed. (Debian 12 has no XOAUTH2 plugin of Cyrus SASL that Postfix can use: libsasl2-modules-kdexoauth2 asks for
// the password by a callback of another kind.) Everything lives in a temporary folder and ends with the run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"
)

const (
	messageSize = 10 << 10 // octets of a body
	connections = 20       // of both to the sink
)

// steps are how many senders hand in how many messages. They last some seconds, so that what follows from a message (the
// moving of frames, the folding of the log) falls into them too.
var steps = []struct{ senders, messages int }{{1, 2000}, {8, 8000}, {20, 10_000}}

// server is one of the two.
type server interface {
	name() string
	start(ctx context.Context) error // returns when it takes mail, and holds all of it
	address() string
	letGo(ctx context.Context) error // the held mail goes to the sink
	memory() (rss int64)             // octets, of all its processes
	stop()
}

func main() {
	rounds := flag.Int("rounds", 3, "how often each rate is measured; the median counts")
	only := flag.String("only", "", "postern or postfix alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rounds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, only string) error {
	dir, err := os.MkdirTemp("", "pbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // Postfix's processes run as another user
		return err
	}
	s, err := newSink(dir)
	if err != nil {
		return err
	}
	defer s.close()
	ours, err := newPostern(ctx, filepath.Join(dir, "postern"), s)
	if err != nil {
		return err
	}
	defer ours.close()
	servers := []server{ours}
	if theirs := newPostfix(filepath.Join(dir, "postfix"), s); theirs != nil {
		servers = append(servers, theirs)
	} else {
		fmt.Println("Postfix is not installed; Postern alone.")
	}
	servers = slices.DeleteFunc(servers, func(v server) bool { return only != "" && v.name() != only })
	results := map[string]*result{}
	for _, v := range servers {
		results[v.name()] = &result{accepts: map[int][]accept{}}
	}
	var floors []time.Duration
	var ceilings []map[int]float64
	for round := range rounds {
		each, err := floor(dir)
		if err != nil {
			return fmt.Errorf("the floor: %w", err)
		}
		floors = append(floors, each)
		most, err := ceiling(ctx)
		if err != nil {
			return fmt.Errorf("the ceiling: %w", err)
		}
		if most != nil {
			ceilings = append(ceilings, most)
		}
		for _, v := range servers { // side by side, so that what else the machine does meets both
			fmt.Fprintf(os.Stderr, "round %d, %s\n", round+1, v.name())
			if err := measure(ctx, v, s, results[v.name()]); err != nil {
				return fmt.Errorf("%s: %w", v.name(), err)
			}
		}
	}
	report(os.Stdout, servers, results)
	least := median(floors)
	if len(ceilings) > 0 {
		reportCeiling(ceilings)
	}
	fmt.Printf("\nThe floor: one write of %d octets and one fsync take %.2f ms on this disk, %.0f a second.\n", messageSize, least.Seconds()*1000, 1/least.Seconds())
	return nil
}

// result is what was measured of a server, one entry a round.
type result struct {
	accepts map[int][]accept // by number of senders
	relays  []float64        // messages a second
	rss     int64            // the highest
}

func measure(ctx context.Context, v server, s *sink, r *result) error {
	defer v.stop()
	if err := v.start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	watch := watchMemory(v)
	defer func() { r.rss = max(r.rss, watch()) }()
	kept := 0
	for _, step := range steps {
		a, err := load(ctx, v.address(), step.senders, step.messages)
		if err != nil {
			return fmt.Errorf("accept with %d senders: %w", step.senders, err)
		}
		r.accepts[step.senders] = append(r.accepts[step.senders], a)
		kept += a.messages
	}
	s.reset()
	if err := v.letGo(ctx); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	rate, err := s.rate(ctx, kept)
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	r.relays = append(r.relays, rate)
	return nil
}

// watchMemory polls until the returned function is called, which returns the highest.
func watchMemory(v server) func() int64 {
	done, most := make(chan struct{}), make(chan int64)
	go func() {
		t := time.NewTicker(250 * time.Millisecond)
		defer t.Stop()
		var high int64
		for {
			select {
			case <-t.C:
				high = max(high, v.memory())
			case <-done:
				most <- max(high, v.memory())
				return
			}
		}
	}()
	return func() int64 { close(done); return <-most }
}
