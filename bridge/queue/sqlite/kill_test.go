package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/queue/sqlite"
	"postern/bridge/reply"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("POSTERN_TEST_VICTIM"); path != "" {
		if err := victim(path, os.Getenv("POSTERN_TEST_ROLE")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// victim is a process that works on the store at path until it is killed. Each line that it prints is a promise.
func victim(path, role string) error {
	ctx := context.Background()
	if at, ok := strings.CutPrefix(role, "salvage "); ok {
		return salvageVictim(ctx, path, at)
	}
	s, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	if role != "enqueue" {
		q := queue.New(queue.Options{Store: s, Relayer: hanging{intend: role == "intent"}, Accounts: []queue.Account{{Name: "erp"}}})
		return q.Run(ctx)
	}
	q := queue.New(queue.Options{Store: s, Accounts: []queue.Account{{Name: "erp"}}})
	var mu sync.Mutex // guards os.Stdout, so that lines stay whole
	for sender := range 8 {
		go func() {
			random := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(sender)))
			for {
				_, m := queuetest.NewMessage("erp", time.Now())
				size := random.IntN(40 << 10)
				if random.IntN(20) == 0 {
					size = 1<<20 + random.IntN(1<<20)
				}
				line := fmt.Sprintf("kept %s %d", m.ID, size)
				if err := q.Enqueue(ctx, m, bytes.NewReader(bodyOf(m.ID, size))); err != nil {
					line = "error " + err.Error()
				}
				mu.Lock()
				fmt.Println(line)
				mu.Unlock()
			}
		}()
	}
	select {}
}

// hanging is a relayer whose attempts never end. It says so when one has come to where the process is to die.
type hanging struct{ intend bool }

func (hanging) Gate(string, time.Time) queue.Gate { return queue.Gate{Limit: 1} }

func (h hanging) Relay(ctx context.Context, out message.Outgoing) reply.Outcome {
	if h.intend {
		if err := out.Intent(ctx); err != nil {
			fmt.Println("error", err)
		}
	}
	fmt.Println("in flight")
	select {}
}

// closing is a relayer that lets nothing go and ends the queue that asks.
type closing struct{ stop func() }

func (c closing) Gate(string, time.Time) queue.Gate { c.stop(); return queue.Gate{} }

func (closing) Relay(context.Context, message.Outgoing) reply.Outcome { return reply.Outcome{} }

// bodyOf is the body of that size that belongs to the message.
func bodyOf(id envelope.ID, size int) []byte {
	return bytes.Repeat([]byte(string(id)+"\r\n"), size/18+1)[:size]
}

// start runs a victim and hands each of its lines on.
func start(t *testing.T, path, role string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "POSTERN_TEST_VICTIM="+path, "POSTERN_TEST_ROLE="+role)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewScanner(out)
}

// TestKill kills a process that takes messages in, again and again: whatever it said it kept is there, whole, and
// nothing half is. POSTERN_KILLS sets how often, for the long form.
func TestKill(t *testing.T) {
	kills := 10
	if n, err := strconv.Atoi(os.Getenv("POSTERN_KILLS")); err == nil {
		kills = n
	}
	if testing.Short() {
		kills = 3
	}
	path := filepath.Join(t.TempDir(), "queue.db")
	kept := make(map[envelope.ID]int)
	for range kills {
		c, lines := start(t, path, "enqueue")
		lifetime := 1 + rand.IntN(60) // in promises, so that a slow machine gets as far
		for lines.Scan() {
			var id envelope.ID
			var size int
			if _, err := fmt.Sscanf(lines.Text(), "kept %s %d", &id, &size); err != nil {
				t.Errorf("the victim says: %s", lines.Text())
				break
			}
			kept[id] = size
			if lifetime--; lifetime == 0 {
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.Wait() // killed: its error says so
	}
	s := open(t, path)
	defer s.Close()
	for id, size := range kept {
		if got, err := readBody(s, id); err != nil || !bytes.Equal(got, bodyOf(id, size)) {
			t.Errorf("%s: %d octets of %d, %v", id, len(got), size, err)
		}
	}
	all, err := s.List(t.Context(), queue.Filter{})
	if err != nil || len(all) < len(kept) {
		t.Fatalf("List: %d, %v; want at least the %d that were promised", len(all), err, len(kept))
	}
	for _, e := range all { // also those that were kept and not yet promised
		got, err := readBody(s, e.Item.ID)
		if err != nil || !bytes.Equal(got, bodyOf(e.Item.ID, int(e.BodySize))) || e.Item.State() != queue.Queued || e.Damage != nil {
			t.Errorf("half a message: %s, %s, %d octets, %v, %v", e.Item.ID, e.Item.State(), len(got), err, e.Damage)
		}
	}
	var check string
	if err := raw(t, path).QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
		t.Errorf("integrity_check: %s, %v", check, err)
	}
	var orphans int
	if err := raw(t, path).QueryRow("SELECT count(*) FROM chunks WHERE at >> 20 NOT IN (SELECT seq FROM messages)").Scan(&orphans); err != nil || orphans != 0 {
		t.Errorf("%d chunks belong to nobody, %v", orphans, err)
	}
	t.Logf("%d kills, %d promised, %d kept", kills, len(kept), len(all))
}

func readBody(s queue.Store, id envelope.ID) ([]byte, error) {
	r, err := s.Open(context.Background(), id)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// TestKillInFlight kills a process that is relaying, before and after the intent.
func TestKillInFlight(t *testing.T) {
	for _, tc := range []struct {
		name, role string
		want       queue.State // as the next process finds it
	}{
		{"between claim and outcome: due at once", "claim", queue.Queued},
		{"after the intent: in doubt", "intent", queue.InDoubt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "queue.db")
			s := open(t, path)
			item := add(t, s, "body")
			s.Close()
			c, lines := start(t, path, tc.role)
			if !lines.Scan() || !strings.HasPrefix(lines.Text(), "in flight") {
				t.Errorf("the victim says: %s", lines.Text())
			}
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			c.Wait() // killed: its error says so

			s = open(t, path)
			defer s.Close()
			if e, err := s.Get(t.Context(), item.ID); err != nil || e.Item.State() != queue.Sending || e.Item.Attempts != 1 || e.Item.Lease == "" {
				t.Errorf("left behind: %+v, %v; want it leased, with the attempt counted", e.Item, err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			q := queue.New(queue.Options{Store: s, Relayer: closing{stop}, Accounts: []queue.Account{{Name: "erp"}}})
			if err := q.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
			row, err := q.Show(t.Context(), item.ID)
			if err != nil || row.State != tc.want || row.Item.Lease != "" || row.Item.Intent || !row.HasBody || row.NextAttempt.IsZero() != row.Item.Suspect {
				t.Errorf("after the start: %s, %+v, %v; want %s", row.State, row.Item, err, tc.want)
			}
		})
	}
}
