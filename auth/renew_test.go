package auth

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"postern/auth/token"
)

// hours lets the hall's hourly call go on for so many days.
func (c *cabinet) hours(days int) {
	for range days * 24 {
		time.Sleep(time.Hour)
		c.Renew(c.t.Context())
	}
}

func TestIdleSignInIsUsedWeekly(t *testing.T) {
	for name, r := range map[string]rotation{"a server that keeps the old token": rotateAndKeep,
		"a server that revokes it": rotateAndRevoke, "a server that never sends a new one": neverNew} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				s.rotation = r
				c := newCabinet(t, s, true)
				defer func() { c.Close(t.Context()) }()
				c.hours(1)
				if n := s.asked(); n != 0 {
					t.Fatalf("%d requests on the first day; want 0", n)
				}
				c.hours(27)
				if n := s.asked(); n != 4 {
					t.Errorf("%d requests in four weeks for one login of two accounts; want 4: %v", n, s.requests)
				}
				if used := c.States(t.Context())[0].Used; time.Since(used) > 7*24*time.Hour {
					t.Errorf("last used %v ago; want less than a week", time.Since(used))
				}
				// A new process knows of it.
				c.Close(t.Context())
				c.open()
				c.Renew(t.Context())
				if n := s.asked(); n != 4 {
					t.Errorf("%d requests after a restart; want no more", n)
				}
			})
		})
	}
}

func TestBusySignInIsNotUsedForItsOwnSake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.rotation = neverNew
		c := newCabinet(t, s, true)
		defer c.Close(t.Context())
		for range 10 {
			if _, err := c.token("erp", token.Graph); err != nil {
				t.Fatal(err)
			}
			before := s.asked()
			c.hours(1)
			if s.asked() != before {
				t.Fatalf("a refresh token that was used today was used again: %v", s.requests)
			}
		}
	})
}

func TestRenewalThatFailsIsToldAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		c := newCabinet(t, s, true)
		defer c.Close(t.Context())
		c.hours(5)
		s.fail(&token.Error{Text: "the token endpoint cannot be reached"})
		c.hours(2)
		if n := s.asked(); n < 20 {
			t.Errorf("%d requests in a day of failures; want one an hour", n)
		}
		if kinds := c.kinds(); !slices.Equal(kinds, []ChangeKind{Failed}) {
			t.Errorf("told %v; want the failure, once", kinds)
		}
		s.fail(nil)
		c.hours(1)
		if kinds := c.kinds(); !slices.Equal(kinds, []ChangeKind{Refreshed}) || c.kept() == "refresh-0" {
			t.Errorf("told %v, kept %s; want one refresh, its token kept", kinds, c.kept())
		}
	})
}

func TestRenewLeavesOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		c := newCabinet(t, s, false) // nobody is signed in; "app" never is
		defer c.Close(t.Context())
		c.hours(14)
		if n := s.asked(); n != 0 {
			t.Errorf("requests %v; want none", s.requests)
		}
	})
}

// TestRenewAfterTheClockWasWrong: a last use that lies ahead was noted by a clock that has been set right since. It costs
// one refresh, not one an hour, and never the sign-in.
func TestRenewAfterTheClockWasWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.rotation = neverNew
		c := newCabinet(t, s, false)
		defer c.Close(t.Context())
		ahead := []byte(`{"refresh":"refresh-0","signed_in":"2099-01-01T00:00:00Z","received":"2099-01-01T00:00:00Z"}`)
		if _, err := c.disk.Swap("token/contoso/svc@contoso.test", 0, ahead); err != nil {
			t.Fatal(err)
		}
		c.hours(3)
		if n := s.asked(); n != 1 {
			t.Errorf("%d requests in three days; want 1", n)
		}
		if c.kept() != "refresh-0" {
			t.Errorf("kept %s", c.kept())
		}
	})
}

func TestUseIsNotedDaily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.rotation, s.life = neverNew, 2*time.Hour
		c := newCabinet(t, s, true)
		defer c.Close(t.Context())
		writes := map[uint64]bool{}
		for range 48 {
			if _, err := c.token("erp", token.Graph); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			_, rev, err := c.disk.Get("token/contoso/svc@contoso.test")
			if err != nil {
				t.Fatal(err)
			}
			writes[rev] = true
			time.Sleep(time.Hour)
		}
		if len(writes) > 3 { // the first, and one a day
			t.Errorf("the sign-in was written %d times in two days although no new token came", len(writes))
		}
	})
}
