package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// pause is how long a start is waited for at a time.
func pause() { time.Sleep(50 * time.Millisecond) }

// residentSet is VmHWM: the most that the process has had, the pages of its program included.
func residentSet(pid int) int64 { return kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:") }

func proportionalSet(pid string) int64 { return kilobytes("/proc/"+pid+"/smaps_rollup", "Pss:") }

func kilobytes(file, field string) (n int64) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			fmt.Sscan(rest, &n)
		}
	}
	return n << 10
}

func median[T int64 | float64 | time.Duration](all []T) T {
	if len(all) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(all))[len(all)/2]
}

// report prints a table in Markdown, with a column for the ratio where both were measured.
func report(out io.Writer, servers []server, results map[string]*result) {
	head, rule := "| median |", "|---|"
	for _, v := range servers {
		head, rule = head+" "+v.name()+" |", rule+"---|"
	}
	both := len(servers) == 2
	if both {
		head, rule = head+" ratio |", rule+"---|"
	}
	fmt.Fprintf(out, "\n%s\n%s\n", head, rule)
	row := func(name string, format string, of func(*result) float64) {
		line := "| " + name + " |"
		for _, v := range servers {
			line += " " + fmt.Sprintf(format, of(results[v.name()])) + " |"
		}
		if both {
			line += fmt.Sprintf(" %.1f |", of(results[servers[0].name()])/of(results[servers[1].name()]))
		}
		fmt.Fprintln(out, line)
	}
	for _, step := range steps {
		n := step.senders
		pick := func(r *result, f func(accept) float64) float64 {
			var all []float64
			for _, a := range r.accepts[n] {
				all = append(all, f(a))
			}
			return median(all)
		}
		of := fmt.Sprintf(", %d senders", n)
		if n == 1 {
			of = ", 1 sender"
		}
		row(fmt.Sprintf("accepted a second%s, %d messages", of, step.messages), "%.0f", func(r *result) float64 { return pick(r, func(a accept) float64 { return a.rate }) })
		row("dot to 250, p50, ms"+of, "%.1f", func(r *result) float64 { return pick(r, func(a accept) float64 { return a.p50.Seconds() * 1000 }) })
		row("dot to 250, p99, ms"+of, "%.1f", func(r *result) float64 { return pick(r, func(a accept) float64 { return a.p99.Seconds() * 1000 }) })
	}
	row("relayed a second", "%.0f", func(r *result) float64 { return median(r.relays) })
	row("memory, MB (RSS; Postfix: PSS of all)", "%.0f", func(r *result) float64 { return float64(r.rss) / 1e6 })
}
