package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
)

// ceiling is how many messages a second come through a server that keeps none: smtp-sink, which comes with Postfix. More
// than that the sender, the four round trips and the machine do not give, whatever a disk can do. nil without smtp-sink.
func ceiling(ctx context.Context) (rates map[int]float64, err error) {
	program, err := exec.LookPath("smtp-sink")
	if err != nil {
		return nil, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	l.Close()
	cmd := exec.Command(program, "-u", "nobody", address, "100")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for range 200 {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			break
		}
		pause()
	}
	rates = map[int]float64{}
	for _, step := range steps {
		n := step.senders
		a, err := load(ctx, address, n, step.messages)
		if err != nil {
			return nil, fmt.Errorf("%s with %d senders: %w", program, n, err)
		}
		rates[n] = a.rate
	}
	return rates, nil
}

// reportCeiling prints the medians.
func reportCeiling(all []map[int]float64) {
	var parts []string
	for _, step := range steps {
		n := step.senders
		var rates []float64
		for _, r := range all {
			rates = append(rates, r[n])
		}
		parts = append(parts, fmt.Sprintf("%.0f with %d", median(rates), n))
	}
	fmt.Printf("\nThe ceiling: a server that keeps nothing (smtp-sink) takes, a second and by senders: %s.\n", strings.Join(parts, ", "))
}
