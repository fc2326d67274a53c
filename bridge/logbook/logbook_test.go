package logbook

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern/bridge/event"
)

// moody is a log's file that can be full, stuck, or in order.
type moody struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	full  bool
	stuck chan struct{} // a write waits for it; nil: none does
	wrote chan struct{} // told of each write
}

func (m *moody) Write(b []byte) (int, error) {
	m.mu.Lock()
	stuck := m.stuck
	m.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { m.wrote <- struct{}{} }()
	if m.full {
		return 0, errors.New("no space left on device")
	}
	return m.buf.Write(b)
}

func (m *moody) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.buf.String()
}

func openTestLog(t *testing.T, to *moody) *Log {
	t.Helper()
	l, err := Open(Options{To: "auto", Format: "text", Stderr: to})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestALogThatIsFullIsToldOfLater: lines are dropped and counted, nobody waits, and the log says so once it can.
func TestALogThatIsFullIsToldOfLater(t *testing.T) {
	to := &moody{full: true, wrote: make(chan struct{}, 10)}
	l := openTestLog(t, to)
	for range 3 {
		l.Info("message relayed")
		<-to.wrote
	}
	to.mu.Lock()
	to.full = false
	to.mu.Unlock()
	l.Info("message relayed", "queue_id", "fourth")
	<-to.wrote
	<-to.wrote
	if got := to.text(); !strings.Contains(got, "fourth") || !strings.Contains(got, `msg="log lines dropped" lines=3`) {
		t.Errorf("the log has\n%s\nwant the fourth line, and that 3 were dropped", got)
	}
}

// TestALogThatIsStuckHoldsUpNobody: with a reader that does not read (a stuck journal) thousands of lines cost nothing.
func TestALogThatIsStuckHoldsUpNobody(t *testing.T) {
	to := &moody{stuck: make(chan struct{}), wrote: make(chan struct{}, 3*pumpLines)}
	l := openTestLog(t, to)
	for range 2 * pumpLines {
		l.Info("message relayed")
	}
	close(to.stuck)
	for !strings.Contains(to.text(), "log lines dropped") {
		<-to.wrote
	}
	if n := strings.Count(to.text(), "message relayed"); n < pumpLines {
		t.Errorf("%d lines were kept; want at least %d", n, pumpLines)
	}
}

// fakeEventLog keeps what the Windows event log would.
type fakeEventLog struct {
	mu      sync.Mutex
	entries []entry
}

func (f *fakeEventLog) Report(level slog.Level, number uint32, text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = append(f.entries, entry{level, number, []byte(text)})
	return nil
}

func (f *fakeEventLog) Close() error { return nil }

// TestLogTo: where the lines go by log.to, as a service of Windows and in the foreground.
func TestLogTo(t *testing.T) {
	for _, tc := range []struct {
		name, to                string
		service                 bool
		stderr, file, eventInfo bool
		eventWarn               bool
	}{
		{"auto in the foreground is stderr", "auto", false, true, false, false, false},
		{"auto as a service is the file, and the event log for warnings", "auto", true, false, true, false, true},
		{"file", "file", true, false, true, false, false},
		{"eventlog has everything", "eventlog", false, false, false, true, true},
		{"stderr", "stderr", true, true, false, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "postern.log")
			var stderr bytes.Buffer
			events := &fakeEventLog{}
			l, err := Open(Options{To: tc.to, Format: "text", File: path, MaxSize: 20_000_000, Keep: 10, Service: tc.service, Stderr: &stderr,
				OpenEventLog: func() (EventLog, error) { return events, nil }})
			if err != nil {
				t.Fatal(err)
			}
			sink := Sink{l.Logger}
			sink.Handle(context.Background(), event.Event{Kind: event.MessageRelayed, Level: slog.LevelInfo, Attrs: []slog.Attr{slog.String("queue_id", "q1")}})
			sink.Handle(context.Background(), event.Event{Kind: event.AccountParked, Level: slog.LevelError, Attrs: []slog.Attr{slog.String("account", "erp")}})
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			file, _ := os.ReadFile(path)
			var info, warn bool
			for _, e := range events.entries {
				info = info || e.number == 310 && string(e.text) == "message relayed\r\nqueue_id=q1"
				warn = warn || e.number == 500 && e.level == slog.LevelError && string(e.text) == "account parked\r\naccount=erp"
			}
			has := func(s string) bool { return strings.Contains(s, "queue_id=q1") && strings.Contains(s, "account=erp") }
			if has(stderr.String()) != tc.stderr || has(string(file)) != tc.file || info != tc.eventInfo || warn != tc.eventWarn {
				t.Errorf("stderr %q\nfile %q\nevent log %+v", stderr.String(), file, events.entries)
			}
		})
	}
}

// TestWhatAPersonDid: lines about that are there whatever the level is, but in the event log of a service, whose file has them.
func TestWhatAPersonDid(t *testing.T) {
	for _, tc := range []struct {
		name, to           string
		service            bool
		lines, eventNumber int
	}{
		{"on standard error", "stderr", false, 2, 0},
		{"in the file", "file", false, 2, 0},
		{"in the event log", "eventlog", false, 0, 410},
		{"as a service in the file alone", "auto", true, 2, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "postern.log")
			var stderr bytes.Buffer
			events := &fakeEventLog{}
			l, err := Open(Options{To: tc.to, Level: slog.LevelError, Format: "text", File: path, MaxSize: 20_000_000, Keep: 10, Service: tc.service, Stderr: &stderr,
				OpenEventLog: func() (EventLog, error) { return events, nil }})
			if err != nil {
				t.Fatal(err)
			}
			for _, log := range []*slog.Logger{l.Logger, l.With("caller", "x")} {
				sink := Sink{log}
				sink.Handle(t.Context(), event.Event{Kind: event.MessageRelayed, Level: slog.LevelInfo})
				sink.Handle(t.Context(), event.Event{Kind: event.QueueChanged, Level: slog.LevelInfo, Attrs: []slog.Attr{slog.String("by", "root")}})
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			file, _ := os.ReadFile(path)
			got := stderr.String() + string(file)
			number := 0
			for _, e := range events.entries {
				number = int(e.number)
			}
			if strings.Count(got, `msg="queue changed"`) != tc.lines || strings.Contains(got, "relayed") || number != tc.eventNumber {
				t.Errorf("%q, event log %+v", got, events.entries)
			}
		})
	}
}
