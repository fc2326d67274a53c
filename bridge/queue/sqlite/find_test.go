package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
)

// TestDamageWhileOpen: whoever meets damage in a store that is open leaves a mark, and it is told once; the next Open
// salvages.
func TestDamageWhileOpen(t *testing.T) {
	for _, tc := range []struct {
		name, root string
		meet       func(t *testing.T, s *sqlite.Store) error
	}{
		{"the writer meets it", "chunks", func(t *testing.T, s *sqlite.Store) error {
			item, m := newMessage()
			err := s.Add(t.Context(), item, m, strings.NewReader("one more"))
			if err == nil { // it waits in front of the tables, and the next has to find out
				_, _ = s.Counts(t.Context())
				item, m = newMessage()
				err = s.Add(t.Context(), item, m, strings.NewReader("another"))
			}
			return err
		}},
		{"a reader meets it", "recipients", func(t *testing.T, s *sqlite.Store) error {
			_, err := s.List(t.Context(), queue.Filter{})
			return err
		}},
		{"a claim meets it", "messages_due", func(t *testing.T, s *sqlite.Store) error {
			_, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: accepted, Limit: 1, Take: func(*queue.Item) error { return nil }})
			return err
		}},
		{"whoever sends a body meets it", "chunks", func(t *testing.T, s *sqlite.Store) error {
			all, err := s.List(t.Context(), queue.Filter{})
			if err == nil {
				_, err = readBody(s, all[0].Item.ID)
			}
			return err
		}},
		{"the check beside the mail finds it", "messages", func(t *testing.T, s *sqlite.Store) error { return s.CheckNow(t.Context()) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "queue.db")
			s := open(t, path)
			sizes := addMany(t, s, 50)
			s.Close()
			s = open(t, path)
			defer s.Close()
			if s.Damage() != nil {
				t.Fatalf("before: %v", s.Damage())
			}
			damage(t, path, (roots(t, path)[tc.root]-1)*4096, make([]byte, 4096))
			if err := s.SetNote(t.Context(), "a change", "has connections forget the pages that they know"); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := tc.meet(t, s); !errors.Is(err, queue.ErrDamaged) {
					t.Fatalf("it ends with %v", err)
				}
			}
			select {
			case err := <-s.Damaged():
				if !errors.Is(err, queue.ErrDamaged) || s.Damage() != err {
					t.Errorf("told: %v; Damage: %v", err, s.Damage())
				}
			default:
				t.Error("nobody is told")
			}
			select {
			case err := <-s.Damaged():
				t.Errorf("it is told again: %v", err)
			default:
			}
			s.Close()
			if _, err := os.Stat(path + ".damaged"); err != nil {
				t.Errorf("there is no mark: %v", err)
			}
			s = open(t, path)
			defer s.Close()
			if s.Salvaged() == nil {
				t.Fatal("the next Open does not salvage")
			}
			checkSalvaged(t, s, sizes)
		})
	}
}
