package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/queue/sqlite"
	"postern/bridge/reply"
)

func TestStore(t *testing.T) {
	queuetest.Run(t, func(t testing.TB) queuetest.Opener {
		// A name that would break a DSN pasted together.
		path := filepath.Join(t.TempDir(), "queue 100%#.db")
		return func(t testing.TB) queue.Store { return open(t, path) }
	})
}

func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

// settle has what waits in front of the tables moved into them.
func settle(t testing.TB, s queue.Store) {
	t.Helper()
	if _, err := s.Counts(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// raw opens the file behind the store's back.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func tamper(t *testing.T, path, statement string, args ...any) {
	t.Helper()
	if _, err := raw(t, path).Exec(statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func newMessage() (queue.Item, message.Message) { return queuetest.NewMessage("erp", accepted) }

func add(t testing.TB, s queue.Store, body string) queue.Item {
	t.Helper()
	item, m := queuetest.NewMessage("erp", accepted)
	if err := s.Add(t.Context(), item, m, strings.NewReader(body)); err != nil {
		t.Fatalf("Add: %v", err)
	}
	return item
}

func TestFileIsTheOwnersAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the folder's ACL protects it")
	}
	path := filepath.Join(t.TempDir(), "queue.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	defer s.Close()
	add(t, s, "body")
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", filepath.Base(name), st.Mode(), err)
		}
	}
}

func TestSchemaOfNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	open(t, path).Close()
	for pragma, want := range map[string]int{"user_version": 3, "application_id": 3, "auto_vacuum": 2} {
		var got int
		if err := raw(t, path).QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %d, %v; want %d", pragma, got, err, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	newer := filepath.Join(dir, "newer.db")
	open(t, newer).Close()
	tamper(t, newer, "PRAGMA user_version = 4")
	for _, tc := range []struct {
		name, path string
		is         error
		text       string
	}{
		{"a store that a newer program wrote", newer, queue.ErrNewer, "schema is 4"},
		{"a folder that is not there", filepath.Join(dir, "none", "queue.db"), os.ErrNotExist, "queue.db"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := sqlite.Open(t.Context(), tc.path)
			if err == nil {
				s.Close()
			}
			if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("Open: %v, want %v with %q", err, tc.is, tc.text)
			}
		})
	}
}

func TestUnfinishedIsRemovedAtTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	keep := add(t, s, "finished")
	lost := add(t, s, strings.Repeat("x", 2<<20))
	s.Close()
	tamper(t, path, "DELETE FROM recipients WHERE seq = 2")
	tamper(t, path, "UPDATE messages SET state = 'unfinished', next_attempt = NULL WHERE id = ?", string(lost.ID))
	s = open(t, path)
	defer s.Close()
	if _, err := s.Get(t.Context(), lost.ID); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("Get of the unfinished: %v, want ErrNotFound", err)
	}
	var chunks int
	if err := raw(t, path).QueryRow("SELECT count(*) FROM chunks").Scan(&chunks); err != nil || chunks != 1 {
		t.Errorf("%d chunks are left, %v; want that of the other", chunks, err)
	}
	if _, err := s.Get(t.Context(), keep.ID); err != nil {
		t.Errorf("Get of the finished: %v", err)
	}
}

// TestDamagedMessage: what cannot be read back is named, is never taken for whole, and keeps back no other.
func TestDamagedMessage(t *testing.T) {
	for _, tc := range []struct {
		name, damage string
		claimed      bool // already the claim names it
	}{
		{"a chunk is gone", "DELETE FROM chunks WHERE at = (1 << 20) + 1", false},
		{"the last chunk is short", "UPDATE chunks SET data = substr(data, 1, 5) WHERE at = (1 << 20) + 3", false},
		{"a chunk is too long", "UPDATE chunks SET data = zeroblob(100000) WHERE at = (1 << 20) + 3", false},
		{"a chunk follows the last", "INSERT INTO chunks VALUES ((1 << 20) + 4, x'78')", false},
		{"a chunk has other octets", "UPDATE chunks SET data = zeroblob(length(data)) WHERE at = (1 << 20) + 2", false},
		{"all chunks are gone", "DELETE FROM chunks WHERE at < 2 << 20", true},
		{"the plan is no JSON", "UPDATE messages SET plan = 'plan' WHERE seq = 1", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "queue.db")
			s := open(t, path)
			bad := add(t, s, strings.Repeat("x", 200<<10))
			good := add(t, s, "intact")
			s.Close()
			tamper(t, path, tc.damage)
			s = open(t, path)
			defer s.Close()
			es, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: accepted, Limit: 2, Take: take})
			if err != nil || len(es) != 2 || es[1].Damage != nil || es[1].Item.ID != good.ID {
				t.Fatalf("Claim: %+v, %v", es, err)
			}
			if got := errors.Is(es[0].Damage, queue.ErrDamaged); got != tc.claimed {
				t.Errorf("damage at the claim: %v, want %v", es[0].Damage, tc.claimed)
			}
			r, err := s.Open(t.Context(), bad.ID)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			if strings.Contains(tc.damage, "chunks") && !errors.Is(err, queue.ErrBody) {
				t.Errorf("the body was read to its end: %v, want ErrBody", err)
			}
		})
	}
}

// TestLanesUseTheIndex: with 100,000 messages a claim that sorts or scans would stop the house.
func TestLanesUseTheIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	open(t, path).Close()
	db := raw(t, path)
	for _, tc := range []struct {
		name, query string
		args        []any
		want        []string // of the plan, all that touches messages
	}{
		{"a claim", sqlite.SelectDue, []any{"erp", 0, 1, 1}, []string{"INDEX messages_due (account=? AND <expr>=? AND next_attempt<?)"}},
		{"what is due next", sqlite.SelectNext, []any{"erp"}, []string{"COVERING INDEX messages_due (account=? AND <expr>=? AND next_attempt>?)",
			"COVERING INDEX messages_due (account=? AND <expr>=? AND next_attempt>?)"}},
		{"how much there is, and how much of what has failed is kept", sqlite.CountAll, []any{""},
			[]string{"COVERING INDEX messages_state", "COVERING INDEX messages_kept (finished>?)"}},
		{"what is due later", sqlite.SelectLater, []any{"erp", 1, "", 1}, []string{"INDEX messages_due (account=? AND <expr>=? AND next_attempt>?)"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows, err := db.Query("EXPLAIN QUERY PLAN "+tc.query, tc.args...)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			var got []string
			for rows.Next() {
				var id, parent, unused int
				var detail string
				if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
					t.Fatal(err)
				}
				if _, how, ok := strings.Cut(detail, " messages USING "); ok {
					got = append(got, how)
				} else if strings.Contains(detail, "messages") || strings.Contains(detail, "ORDER BY") && tc.name == "a claim" {
					t.Errorf("plan: %s", detail)
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("plan (-want +got):\n%s", d)
			}
		})
	}
}

// TestNeighboursInOneCommit: one change that fails after it has written does not take others with it.
func TestNeighboursInOneCommit(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "queue.db"))
	defer s.Close()
	first := add(t, s, "first")
	busy := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { // holds the writer until the others have queued up
		err := s.Update(t.Context(), first.ID, func(*queue.Item) error { <-busy; return nil })
		if err != nil {
			t.Errorf("Update: %v", err)
		}
	})
	results := make([]error, 40)
	items := make([]queue.Item, len(results))
	handed := make(chan struct{}, len(results))
	for i := range results {
		item, m := queuetest.NewMessage("erp", accepted)
		if i%4 == 0 {
			item.ID, m.ID = first.ID, first.ID // the second INSERT is refused
		}
		items[i] = item
		all.Go(func() {
			handed <- struct{}{}
			results[i] = s.Add(t.Context(), item, m, strings.NewReader("body"))
		})
	}
	for range results {
		<-handed
	}
	close(busy)
	all.Wait()
	for i, err := range results {
		if i%4 == 0 {
			if !errors.Is(err, queue.ErrExists) {
				t.Errorf("Add under a taken ID: %v, want ErrExists", err)
			}
			continue
		}
		if _, get := s.Get(t.Context(), items[i].ID); err != nil || get != nil {
			t.Errorf("Add beside it: %v, Get: %v", err, get)
		}
	}
}

func TestCallerThatLeavesIsToldTheEnd(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "queue.db"))
	defer s.Close()
	item := add(t, s, "body")
	ctx, leave := context.WithCancel(t.Context())
	err := s.Update(ctx, item.ID, func(it *queue.Item) error { leave(); it.Attempts = 7; return nil })
	if e, get := s.Get(t.Context(), item.ID); err != nil || get != nil || e.Item.Attempts != 7 {
		t.Errorf("Update: %v; Get: %d attempts, %v; want the change carried through", err, e.Item.Attempts, get)
	}
	if err := s.Update(ctx, item.ID, func(*queue.Item) error { return nil }); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Update with a context that is over: %v", err)
	}
}

func TestCloseEndsItsGoroutines(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := open(t, filepath.Join(t.TempDir(), "queue.db"))
	add(t, s, "body")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

// TestQueueOnDisk walks one message through a queue on this store, in real time.
func TestQueueOnDisk(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "queue.db"))
	defer s.Close()
	relayer := reader{done: make(chan string, 1)}
	q := queue.New(queue.Options{Store: s, Relayer: relayer, StopGrace: time.Minute, Accounts: []queue.Account{{Name: "erp"}}})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	_, m := queuetest.NewMessage("erp", time.Now())
	if err := q.Enqueue(t.Context(), m, strings.NewReader("Hello\r\n")); err != nil {
		t.Fatalf("Enqueue: %v", err)
	}
	if got := <-relayer.done; got != string(m.Header)+"Hello\r\n" {
		t.Errorf("relayed %q", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if row, err := q.Show(t.Context(), m.ID); err != nil || row.State != queue.Relayed || row.HasBody {
		t.Errorf("Show: %s, body %v, %v", row.State, row.HasBody, err)
	}
}

// reader is a relayer that takes every message and says what it was.
type reader struct{ done chan string }

func (reader) Gate(string, time.Time) queue.Gate { return queue.Gate{Limit: 20} }

func (r reader) Relay(ctx context.Context, out message.Outgoing) reply.Outcome {
	if err := out.Intent(ctx); err != nil {
		return reply.Outcome{Err: err}
	}
	body, err := out.Open(ctx)
	if err != nil {
		return reply.Outcome{Err: err}
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		return reply.Outcome{Err: err}
	}
	r.done <- string(out.Header) + string(b)
	return reply.Outcome{Verdict: reply.Relayed}
}
