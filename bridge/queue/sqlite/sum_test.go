package sqlite_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
)

// damages claims all messages of an account, and returns what is wrong with each.
func damages(t *testing.T, s queue.Store, account string) map[envelope.ID]error {
	t.Helper()
	entries, err := s.Claim(t.Context(), queue.Claim{Account: account, Now: time.Now(), Limit: 9, Take: func(it *queue.Item) error {
		it.Lease = "here"
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	all := map[envelope.ID]error{}
	for _, e := range entries {
		all[e.Item.ID] = e.Damage
	}
	return all
}

// TestAnotherMessage: a row that was made another one, by a wrong bit or by hand, is damaged, and is not sent; all others are.
func TestAnotherMessage(t *testing.T) {
	for _, tc := range []struct{ name, change string }{
		{"it goes to somebody else", "UPDATE recipients SET address = 'buyes@fabrikam.test' WHERE seq = 1"},
		{"it goes to nobody else any more", "DELETE FROM recipients WHERE seq = 1 AND n = 1"},
		{"it goes to one more", "INSERT INTO recipients (seq, n, address, state, next_attempt) SELECT 1, 2, 'more@fabrikam.test', state, next_attempt FROM recipients WHERE seq = 1 AND n = 0"},
		{"it has another ID", "UPDATE messages SET id = '00000000000000vv' WHERE seq = 1"},
		{"it waits for another sender", "UPDATE messages SET sender = sender || 'x' WHERE seq = 1"},
		{"it was accepted at another time", "UPDATE messages SET accepted = accepted + 1 WHERE seq = 1"},
		{"its header ends elsewhere", "UPDATE messages SET header_size = header_size - 1, body_size = body_size + 1 WHERE seq = 1"},
		{"its session was another", "UPDATE messages SET session = replace(session, 'nav', 'naw') WHERE seq = 1"},
		{"its envelope is another", "UPDATE messages SET envelope = replace(envelope, 'nav', 'naw') WHERE seq = 1"},
		{"its plan is another", "UPDATE messages SET plan = replace(plan, 'erp', 'erq') WHERE seq = 1"},
		{"its sum is another", "UPDATE messages SET sum = sum + (1 << 32) WHERE seq = 1"},
	} {
		for _, size := range []int{300, 2_000_000} { // through the intake, and in several transactions
			t.Run(tc.name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "queue.db")
				s := open(t, path)
				var ids []envelope.ID
				for range 2 {
					item, m := queuetest.NewMessage("erp", accepted, "buyer@fabrikam.test", "other@fabrikam.test")
					if err := s.Add(t.Context(), item, m, bytes.NewReader(bodyOf(item.ID, size))); err != nil {
						t.Fatal(err)
					}
					ids = append(ids, item.ID)
				}
				s.Close()
				tamper(t, path, tc.change)
				s = open(t, path)
				defer s.Close()
				found := damages(t, s, "erp")
				if err, ok := found[ids[1]]; !ok || err != nil || len(found) != 2 {
					t.Errorf("of 2 messages %v", found)
				}
				for id, err := range found {
					if id != ids[1] && !errors.Is(err, queue.ErrDamaged) {
						t.Errorf("%s: %v", id, err)
					}
				}
			})
		}
	}
}

// TestNewPlanHasItsSum: a message with a new plan is whole, and damage is not made whole by one.
func TestNewPlanHasItsSum(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	ids := addBodies(t, s, 2, 300)
	s.Close()
	tamper(t, path, "UPDATE messages SET plan = replace(plan, 'erp', 'erq') WHERE seq = 2")
	s = open(t, path)
	defer s.Close()
	replan := func(id envelope.ID) error {
		return s.Update(t.Context(), id, func(it *queue.Item) error {
			it.Account, it.NewPlan = "crm", &message.Plan{Account: "crm"}
			return nil
		})
	}
	if err := replan(ids[0]); err != nil {
		t.Error(err)
	}
	if err := replan(ids[1]); !errors.Is(err, queue.ErrDamaged) {
		t.Errorf("of a damaged one: %v", err)
	}
	if found := damages(t, s, "crm"); len(found) != 1 || found[ids[0]] != nil {
		t.Errorf("with the new plan: %v", found)
	}
	if b, err := readBody(s, ids[0]); err != nil || !bytes.Equal(b, bodyOf(ids[0], 300)) {
		t.Errorf("its body: %v", err)
	}
	if found := damages(t, s, "erp"); !errors.Is(found[ids[1]], queue.ErrDamaged) {
		t.Errorf("with the former one: %v", found)
	}
}

// TestRowWithoutTheSum: an earlier version wrote none, and no sum at all before that.
func TestRowWithoutTheSum(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	ids := addBodies(t, s, 2, 300)
	s.Close()
	tamper(t, path, "UPDATE messages SET sum = sum & 0xffffffff WHERE seq = 1")
	tamper(t, path, "UPDATE messages SET sum = NULL WHERE seq = 2")
	s = open(t, path)
	defer s.Close()
	if found := damages(t, s, "erp"); len(found) != 2 || found[ids[0]] != nil || found[ids[1]] != nil {
		t.Errorf("%v", found)
	}
	tamper(t, path, "UPDATE chunks SET data = CAST('X' || substr(data, 2) AS BLOB)")
	if _, err := readBody(s, ids[0]); !errors.Is(err, queue.ErrDamaged) {
		t.Errorf("a wrong octet in a body that has a sum: %v", err)
	}
	if _, err := readBody(s, ids[1]); err != nil {
		t.Errorf("in one that has none: %v", err)
	}
}

// TestSalvageOfAnotherMessage: an ID that is wrong in the row is taken from the index; what nobody else knows is held.
func TestSalvageOfAnotherMessage(t *testing.T) {
	for _, tc := range []struct {
		name string
		text func(id envelope.ID) string // where the octet before its end is wrong, in a page of kind
		kind byte
		held int
	}{
		{"a wrong ID", func(id envelope.ID) string { return string(id) }, 0x0d, 0},
		{"a wrong address", func(envelope.ID) string { return "buyer@fabrikam.test" }, 0x0a, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "queue.db")
			s := open(t, path)
			ids := addBodies(t, s, 3, 300)
			s.Close()
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text, at := []byte(tc.text(ids[1])), -1
			for p := 0; p < len(file) && at < 0; p += 4096 {
				if i := bytes.Index(file[p:p+4096], text); i >= 0 && file[p] == tc.kind {
					at = p + i + len(text) - 2
				}
			}
			if at < 0 {
				t.Fatal("it is not there")
			}
			damage(t, path, int64(at), []byte{file[at] ^ 1})
			if err := os.WriteFile(path+".damaged", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s = open(t, path)
			defer s.Close()
			r := s.Salvaged()
			if r == nil || r.Saved != 3-tc.held || len(r.Held) != tc.held || len(r.Lost) != 0 {
				t.Fatalf("%+v", r)
			}
			for _, id := range ids {
				e, err := s.Get(t.Context(), id)
				if err != nil || (e.Item.State() == queue.Held) != (e.Damage != nil) || e.Damage != nil && r.Held[0].ID != string(id) {
					t.Errorf("%s: %s, %v, %v", id, e.Item.State(), e.Damage, err)
				}
			}
		})
	}
}
