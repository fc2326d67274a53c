package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/auth/token"
)

func TestTokenIsCachedAndRenewedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.delay = time.Second
		c := newCabinet(t, s, true)
		c.want("erp", token.Graph, "access-1")
		c.want("scan", token.Graph, "access-1") // one login, one token
		time.Sleep(47 * time.Minute)
		c.want("erp", token.Graph, "access-1")
		if n := s.asked(); n != 1 {
			t.Fatalf("%d requests before 80%% of the life; want 1", n)
		}
		time.Sleep(time.Minute + time.Second) // past 80 %
		c.want("erp", token.Graph, "access-1")
		c.want("erp", token.Graph, "access-1") // nobody waits while it still works
		time.Sleep(2 * time.Second)
		c.want("erp", token.Graph, "access-2")
		if n := s.asked(); n != 2 {
			t.Errorf("%d requests; want 2", n)
		}
		time.Sleep(59*time.Minute + 30*time.Second) // less than a minute is left
		c.want("erp", token.Graph, "access-3")
		c.Close(context.Background())
	})
}

func TestRefreshInIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.refreshIn = 10 * time.Minute
		c := newCabinet(t, s, true)
		c.want("erp", token.Graph, "access-1")
		time.Sleep(11 * time.Minute)
		c.want("erp", token.Graph, "access-1")
		synctest.Wait()
		c.want("erp", token.Graph, "access-2")
	})
}

func TestThousandAskersMakeOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.delay = 5 * time.Second
		c := newCabinet(t, s, true)
		ask := func(want string) {
			var wg sync.WaitGroup
			for i := range 1000 {
				wg.Go(func() {
					got, err := c.token([]string{"erp", "scan"}[i%2], token.Graph)
					if got != want || (err == nil) != (want != "") {
						t.Errorf("Token = %q, %v; want %q", got, err, want)
					}
				})
			}
			wg.Wait()
		}
		ask("access-1")
		if n := s.asked(); n != 1 {
			t.Fatalf("%d requests; want 1", n)
		}
		s.fail(&token.Error{Text: "down"})
		time.Sleep(2 * time.Hour)
		ask("")
		ask("")
		if n := s.asked(); n != 2 {
			t.Errorf("%d requests after a failure; want one more", n)
		}
		time.Sleep(30 * time.Second)
		ask("")
		ask("")
		if n := s.asked(); n != 3 {
			t.Errorf("%d requests after the cool-down; want one more", n)
		}
	})
}

func TestWaiterLeavesWithoutEndingTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.delay = 10 * time.Second
		c := newCabinet(t, s, true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := c.Source("erp").Token(ctx, token.Graph); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Token = %v; want the deadline", err)
		}
		c.want("erp", token.Graph, "access-1")
		if n := s.asked(); n != 1 {
			t.Errorf("%d requests; want the first one to go on", n)
		}
	})
}

func TestOneLoginIsRefreshedOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.rotation, s.delay = rotateAndRevoke, time.Second
		c := newCabinet(t, s, true)
		var wg sync.WaitGroup
		for _, r := range both {
			wg.Go(func() {
				if _, err := c.token("erp", r); err != nil {
					t.Errorf("Token(%s): %v", r, err)
				}
			})
		}
		wg.Wait()
		if s.overlap {
			t.Error("two refreshes of one refresh token at once: a server that revokes would have ended the sign-in")
		}
	})
}

func TestCoolDowns(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want time.Duration
	}{
		{"trouble that passes is asked again after 30 seconds", &token.Error{Text: "down"}, 30 * time.Second},
		{"Retry-After is obeyed exactly", &token.Error{Text: "busy", RetryAfter: 95 * time.Second}, 95 * time.Second},
		{"up to an hour", &token.Error{Text: "busy", RetryAfter: 20 * time.Hour}, time.Hour},
		{"what a person must mend is asked again after 15 minutes", &token.Error{Code: "invalid_grant", Person: true, Text: "gone", Remedy: signInRemedy}, 15 * time.Minute},
		{"an unknown failure may pass", errors.New("?"), 30 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				c := newCabinet(t, s, true)
				s.fail(tc.err)
				_, first := c.token("erp", token.Graph)
				time.Sleep(tc.want - time.Second)
				_, e := c.token("erp", token.Graph)
				if n := s.asked(); n != 1 || e == nil {
					t.Fatalf("%d requests during the cool-down, error %v; want 1 and the remembered failure", n, e)
				}
				if e.Person != first.Person || !e.Person && e.RetryAfter != time.Second {
					t.Errorf("remembered failure %+v; want what is left of the wait", e)
				}
				s.fail(nil)
				time.Sleep(time.Second)
				c.want("erp", token.Graph, "access-1")
			})
		})
	}
}

func TestFailureWhileTheTokenWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		c := newCabinet(t, s, true)
		c.want("erp", token.Graph, "access-1")
		s.fail(&token.Error{Text: "down"})
		time.Sleep(48 * time.Minute)
		var at []time.Duration // of the requests, from the first failing one
		begun := time.Now()
		for range 11 * 60 { // until a minute before it expires
			seen := s.asked()
			c.want("erp", token.Graph, "access-1")
			synctest.Wait()
			if s.asked() > seen {
				at = append(at, time.Since(begun))
			}
			time.Sleep(time.Second)
		}
		want := []time.Duration{0, 30 * time.Second, 90 * time.Second, 210 * time.Second, 450 * time.Second}
		if !slices.Equal(at, want) {
			t.Errorf("requests at %v; want %v", at, want)
		}
		time.Sleep(time.Second)
		if _, err := c.token("erp", token.Graph); err == nil {
			t.Error("a token with less than a minute left was handed out")
		}
		s.fail(nil)
		time.Sleep(30 * time.Second)
		c.want("erp", token.Graph, "access-2")
	})
}

func TestFailureIsForgottenWhenMended(t *testing.T) {
	gone := &token.Error{Code: "invalid_client", Person: true, Text: "the secret expired", Remedy: "run: postern secret set contoso"}
	for _, tc := range []struct {
		name string
		mend func(*cabinet) error
	}{
		{"by a new secret", func(c *cabinet) error { return c.SetSecret("contoso", "new") }},
		{"by a recheck", func(c *cabinet) error { c.Recheck("scan"); return nil }},
		{"by a sign-in", func(c *cabinet) error {
			_, err := c.SignIn(context.Background(), "scan", "refresh-0")
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				c := newCabinet(t, s, true)
				s.fail(gone)
				if _, err := c.token("erp", token.SMTP); err == nil || err.Remedy != gone.Remedy {
					t.Fatalf("Token: %v; want %v", err, gone)
				}
				s.fail(nil)
				if err := tc.mend(c); err != nil {
					t.Fatal(err)
				}
				if _, err := c.token("erp", token.SMTP); err != nil {
					t.Errorf("Token after mending: %v", err)
				}
			})
		})
	}
	t.Run("even if a request with the old secret fails after it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			s.delay = time.Second
			c := newCabinet(t, s, true)
			s.fail(gone)
			go c.token("erp", token.Graph)
			synctest.Wait()
			if err := c.SetSecret("contoso", "new"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			s.fail(nil)
			c.want("erp", token.Graph, "access-1")
		})
	})
}

func TestNotSignedIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		c := newCabinet(t, s, false)
		for range 3 {
			_, err := c.token("scan", token.Graph)
			if err == nil || !err.Person || err.Error() != "needs sign-in; run: postern signin scan" {
				t.Fatalf("Token: %+v", err)
			}
		}
		if n := s.asked(); n != 0 {
			t.Errorf("%d requests without a refresh token; want 0", n)
		}
		if got := c.kinds(); !slices.Equal(got, []ChangeKind{Failed}) {
			t.Errorf("changes %v; want one failure, told once", got)
		}
		if _, err := c.SignIn(context.Background(), "erp", "refresh-0"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.token("scan", token.Graph); err != nil {
			t.Errorf("Token after the sign-in of the same login: %v", err)
		}
	})
}

func TestRotation(t *testing.T) {
	for name, mode := range map[string]rotation{
		"a server that rotates and keeps": rotateAndKeep, "one that rotates and revokes": rotateAndRevoke, "one that never sends a new one": neverNew,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				s.rotation = mode
				c := newCabinet(t, s, true)
				for i := range 10 {
					for _, r := range both {
						if _, err := c.token("erp", r); err != nil {
							t.Fatalf("round %d, %s: %v", i, r, err)
						}
						want := fmt.Sprintf("refresh-%d", s.count)
						if mode == neverNew {
							want = "refresh-0"
						}
						if got := c.kept(); got != want {
							t.Fatalf("the vault has %s when the access token is handed out; want %s", got, want)
						}
					}
					time.Sleep(2 * time.Hour)
					if i%3 == 2 {
						c.open() // the process ends and starts
					}
				}
			})
		})
	}
}

// TestCrashBetweenReceiptAndCommit stops the process when the new refresh token has come but is not stored.
func TestCrashBetweenReceiptAndCommit(t *testing.T) {
	for _, tc := range []struct {
		name string
		mode rotation
		want bool
	}{
		{"the old token still works where the server keeps it", rotateAndKeep, true},
		{"where the server revokes it, the account needs a sign-in and nothing is deleted", rotateAndRevoke, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				s.rotation = tc.mode
				c := newCabinet(t, s, true)
				c.disk.full = errFull
				c.want("erp", token.Graph, "access-1")
				c.open()
				_, err := c.token("erp", token.Graph)
				if (err == nil) != tc.want {
					t.Errorf("Token after the crash: %v; want success %v", err, tc.want)
				}
				if err != nil && err.Remedy != "run: postern signin erp" {
					t.Errorf("remedy %q", err.Remedy)
				}
				if !tc.want && c.kept() != "refresh-0" {
					t.Errorf("the vault has %s", c.kept())
				}
			})
		})
	}
}

func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.rotation = rotateAndRevoke
		c := newCabinet(t, s, true)
		c.disk.full = errFull
		c.want("erp", token.Graph, "access-1") // the mail that frees the disk must go out
		c.want("erp", token.SMTP, "access-2")  // with the token in memory: the stored one is dead
		st := c.States(context.Background())[0]
		if st.Trouble == nil || !st.Trouble.Person || !st.SignedIn || !strings.Contains(st.Trouble.Text, "used from memory") {
			t.Errorf("state %+v; want it red", st)
		}
		if err := c.Keep(context.Background()); !errors.Is(err, errFull) {
			t.Errorf("Keep = %v; want the disk's error", err)
		}
		c.disk.full = nil
		c.want("erp", token.Graph, "access-1") // too early for another try
		if got := c.kept(); got != "refresh-0" {
			t.Errorf("the vault has %s", got)
		}
		time.Sleep(30 * time.Second)
		c.want("erp", token.Graph, "access-1")
		if got := c.kept(); got != "refresh-2" {
			t.Errorf("the vault has %s after 30 seconds; want refresh-2", got)
		}
		if err := c.Keep(context.Background()); err != nil {
			t.Errorf("Keep: %v", err)
		}
		if st := c.States(context.Background())[0]; st.Trouble != nil {
			t.Errorf("trouble %+v after it was stored", st.Trouble)
		}
		if got, want := c.kinds(), []ChangeKind{NotStored, Refreshed, Refreshed, Stored}; !slices.Equal(got, want) {
			t.Errorf("changes %v; want %v", got, want)
		}
		c.open()
		time.Sleep(2 * time.Hour)
		c.want("erp", token.SMTP, "access-3")
	})
}

func TestAnotherProcessSignedIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.rotation, s.delay = rotateAndRevoke, time.Second
		c := newCabinet(t, s, true)
		s.good["refresh-new"] = true
		delete(s.good, "refresh-0")
		done := make(chan struct{})
		go func() { defer close(done); c.want("erp", token.Graph, "access-1") }()
		synctest.Wait() // refresh-0 is under way
		_, rev, _ := c.disk.Get("token/contoso/svc@contoso.test")
		if _, err := c.disk.Swap("token/contoso/svc@contoso.test", rev, []byte(`{"refresh":"refresh-new","signed_in":"2000-01-01T00:00:00Z","received":"2000-01-01T00:00:01Z"}`)); err != nil {
			t.Fatal(err)
		}
		<-done
		if got, want := s.requests, []string{"graph refresh-0", "graph refresh-new"}; !slices.Equal(got, want) {
			t.Errorf("requests %v; want %v", got, want)
		}
		if got := c.kept(); got != "refresh-1" {
			t.Errorf("the vault has %s; want the newest", got)
		}
	})
}

func TestNewerSignInOfAnotherProcessStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.delay = time.Second
		c := newCabinet(t, s, true)
		done := make(chan struct{})
		go func() { defer close(done); c.want("erp", token.Graph, "access-1") }()
		synctest.Wait()
		_, rev, _ := c.disk.Get("token/contoso/svc@contoso.test")
		if _, err := c.disk.Swap("token/contoso/svc@contoso.test", rev, []byte(`{"refresh":"by-a-person","signed_in":"2000-01-01T00:00:01Z","received":"2000-01-01T00:00:01Z"}`)); err != nil {
			t.Fatal(err)
		}
		<-done
		if got := c.kept(); got != "by-a-person" {
			t.Errorf("the vault has %s: a refresh of the old sign-in replaced the new one", got)
		}
	})
}

func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCabinet(t, newServer(), true)
		c.want("erp", token.Graph, "access-1")
		source := c.Source("erp")
		source.Refused(token.Graph, "access-0") // an older one: somebody else has seen to it
		source.Refused(token.SMTP, "access-1")
		c.want("erp", token.Graph, "access-1")
		source.Refused(token.Graph, "access-1")
		c.want("erp", token.Graph, "access-2")
		source.Refused(token.Graph, "access-1")
		c.want("erp", token.Graph, "access-2")
	})
}

func TestAppOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		c := newCabinet(t, s, false)
		c.want("app", token.SMTP, "access-1")
		c.want("app", token.Graph, "access-2")
		c.want("app", token.SMTP, "access-1")
		if _, err := c.SignIn(context.Background(), "app", "refresh-0"); err == nil || !strings.Contains(err.Error(), "app-only") {
			t.Errorf("SignIn of an app-only account = %v", err)
		}
		if l := c.disk.List(); len(l) != 0 {
			t.Errorf("app-only left something in the vault: %v", l)
		}
		if st := c.States(context.Background())[2]; !st.SignedIn || st.Trouble != nil || len(st.Resources) != 2 || st.Resources[0].Expiry.IsZero() {
			t.Errorf("state %+v", st)
		}
	})
}

func TestClock(t *testing.T) {
	fetched := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	tok := token.Token{Access: "x", Fetched: fetched, Expiry: fetched.Add(time.Hour)}
	for _, tc := range []struct {
		name string
		now  time.Time
		want bool
	}{
		{"a fresh token is good", fetched, true},
		{"until a minute is left", fetched.Add(59 * time.Minute), true},
		{"not in its last minute", fetched.Add(59*time.Minute + time.Second), false},
		{"a clock corrected by seconds does no harm", fetched.Add(-30 * time.Second), true},
		{"a clock set back makes its age unknown", fetched.Add(-2 * time.Hour), false},
		{"a clock set forward ends it", fetched.AddDate(1, 0, 0), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := cell{grant: token.Grant{Token: tok}}
			if _, good := c.good(tc.now); good != tc.want {
				t.Errorf("good = %v; want %v", good, tc.want)
			}
		})
	}
	t.Run("a cool-down from before the clock was set back is over", func(t *testing.T) {
		c := cell{}
		c.fail(&token.Error{Text: "down"}, fetched)
		if c.cooling(fetched) == nil {
			t.Error("no cool-down at all")
		}
		if err := c.cooling(fetched.AddDate(0, 0, -1)); err != nil {
			t.Errorf("still cooling for %v", err.RetryAfter)
		}
	})
}

func TestShortLivedTokenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.life = 45 * time.Second
		c := newCabinet(t, s, true)
		if _, err := c.token("erp", token.Graph); err == nil || err.Person || !strings.Contains(err.Text, "45s only") {
			t.Errorf("Token: %v; want a refusal", err)
		}
		if got := c.kept(); got != "refresh-1" {
			t.Errorf("the vault has %s; want the rotated token although the access token is useless", got)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.delay = 20 * time.Second
		c := newCabinet(t, s, true)
		go c.token("erp", token.Graph)
		synctest.Wait()
		c.Close(context.Background()) // waits: the refresh token may be used up
		if got := c.kept(); got != "refresh-1" {
			t.Errorf("the vault has %s after Close; want refresh-1", got)
		}
		c.want("erp", token.Graph, "access-1")
		if _, err := c.token("erp", token.SMTP); err == nil || err.Person {
			t.Errorf("Token after Close: %v", err)
		}

		c = newCabinet(t, newServer(), true)
		c.server.delay = 20 * time.Second
		go c.token("erp", token.Graph)
		go c.token("erp", token.SMTP)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		begun := time.Now()
		c.Close(ctx)
		if d := time.Since(begun); d != time.Second {
			t.Errorf("Close took %v; want it to end with its context", d)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	providers := map[string]Provider{"contoso": newServer()}
	for name, accounts := range map[string][]Account{
		"an unknown provider":       {{Name: "a", Provider: "x", Login: "l"}},
		"a name that is used twice": {{Name: "a", Provider: "contoso", Login: "l"}, {Name: "a", Provider: "contoso", Login: "m"}},
		"nobody to sign in":         {{Name: "a", Provider: "contoso"}},
	} {
		if _, err := New(Options{Providers: providers, Accounts: accounts}); err == nil {
			t.Errorf("New took %s", name)
		}
	}
	a, err := New(Options{Providers: providers})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Source("nobody").Token(context.Background(), token.Graph); err == nil {
		t.Error("an unknown account got a token")
	}
	a.Source("nobody").Refused(token.Graph, "x")
	a.Recheck("nobody")
}
