package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestCompletions: a shell offers what may stand there, and files only where a file is asked for.
func TestCompletions(t *testing.T) {
	file := install(t, startSandbox(t), "graph")
	for _, tc := range []struct{ name, line, want string }{
		{"the names of accounts", "signin --config FILE ", "erp :4"},
		{"no second account", "signin --config FILE erp ", ":4"},
		{"the names of accounts after a flag", "queue list --config FILE --account ", "erp :4"},
		{"the names of users", "send --config FILE --user ", "nav :4"},
		{"states", "queue hold --state ", "sending queued deferred in-doubt held failed relayed :4"},
		{"formats", "health --format ", "text nagios prtg json :4"},
		{"a queue ID is no file", "queue show ", ":4"},
		{"a backup is a file", "backup ", ":0"},
		{"a configuration is a file", "check --config ", ":0"},
		{"a broken file offers nothing", "signin --config none.toml ", ":4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"__completeNoDesc"}, strings.Split(strings.ReplaceAll(tc.line, "FILE", file), " ")...)
			var out, errs bytes.Buffer
			if status := run(args, strings.NewReader(""), &out, &errs); status != exitDone {
				t.Fatalf("exit status %d\n%s", status, errs.String())
			}
			if got := strings.Join(strings.Fields(out.String()), " "); got != tc.want {
				t.Errorf("completion of %q = %q; want %q", tc.line, got, tc.want)
			}
		})
	}
}
