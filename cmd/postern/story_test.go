package main

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// TestMain lets the test binary be the program: a story's `exec postern` and a test's exec.Command run it for real, in a
// process of its own.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "xdg-open" { // a desktop's browser, of a person who accepts
		os.Exit(browse(os.Args[1]))
	}
	if os.Getenv("POSTERN_TEST_MAIN") != "" {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	testscript.Main(m, map[string]func(){"postern": main})
}

// TestStories plays testdata/stories: each is a session at the command line.
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/stories",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PORT", freePort(t))
			e.Setenv("POSTERN_CONFIG", "")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": status,
			"narrow": narrow,
			"busy":   busy,
			"ran":    ran,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// status N COMMAND... runs a command and wants that exit status.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND [ARG...]")
	}
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d; want %s", got, args[0])
	}
}

// narrow FILE wants no line of over 80 columns.
func narrow(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 {
			ts.Fatalf("a line has %d columns: %s", n, line)
		}
	}
}

// TestHelpFits: the help of every verb fits a terminal and has an example.
func TestHelpFits(t *testing.T) {
	var walk func(path []string, cmd *cobra.Command)
	walk = func(path []string, cmd *cobra.Command) {
		if slices.Contains(path, "completion") { // its words are cobra's
			return
		}
		var out bytes.Buffer
		if status := run(append(path, "--help"), strings.NewReader(""), &out, &out); status != exitDone {
			t.Errorf("%v --help = %d", path, status)
		}
		if !strings.Contains(out.String(), "\nExamples:\n") {
			t.Errorf("%v --help has no example", path)
		}
		for line := range strings.Lines(out.String()) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 {
				t.Errorf("%v --help: a line has %d columns: %s", path, n, line)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(append(slices.Clone(path), sub.Name()), sub)
		}
	}
	walk(nil, (&cli{}).root())
}

// busy takes $PORT for the rest of the story.
func busy(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:"+ts.Getenv("PORT"))
	ts.Check(err)
	ts.Defer(func() { l.Close() })
}

// ran FILE has the daemon run on that configuration until it serves, and end.
func ran(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ran FILE")
	}
	cmd := program("run", "--config", ts.MkAbs(args[0]))
	log, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	serving := false
	for s := bufio.NewScanner(log); !serving && s.Scan(); {
		serving = strings.Contains(s.Text(), `msg="service started"`)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if !serving {
		ts.Fatalf("the daemon did not start")
	}
}

// freePort returns a port that nobody had a moment ago.
func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
