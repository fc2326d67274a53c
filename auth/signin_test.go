package auth

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/auth/token"
)

func TestSignIn(t *testing.T) {
	type want struct {
		works []token.Resource
		err   string // part of the error; "" for none
		kept  string // in the vault afterwards; "" for nothing
	}
	for _, tc := range []struct {
		name    string
		account string
		refresh token.Secret
		signed  bool // there is a former sign-in, refresh-0
		change  func(*server, *cabinet)
		want    want
	}{
		{"a first sign-in works for both resources", "erp", "refresh-9", false, nil, want{both, "", "refresh-2"}},
		{"an account that can use one resource tries one", "scan", "refresh-9", false, nil, want{both[:1], "", "refresh-1"}},
		{"on a server that revokes, the chain is followed", "erp", "refresh-9", false,
			func(s *server, _ *cabinet) { s.rotation = rotateAndRevoke }, want{both, "", "refresh-2"}},
		{"a server that sends no new one: the given one is kept", "erp", "refresh-9", false,
			func(s *server, _ *cabinet) { s.rotation = neverNew }, want{both, "", "refresh-9"}},
		{"a sign-in for one resource is accepted", "erp", "refresh-9", false,
			func(s *server, _ *cabinet) { s.lacks[token.Graph] = true }, want{both[1:], "", "refresh-1"}},
		{"a new sign-in replaces the former one", "erp", "refresh-9", true, nil, want{both, "", "refresh-2"}},
		{"a refresh token that yields nothing is refused, and nothing is stored", "erp", "stolen", false, nil, want{nil, "the sign-in was revoked", ""}},
		{"and the former sign-in stays", "erp", "stolen", true, nil, want{nil, "the sign-in was revoked", "refresh-0"}},
		{"no consent for anything is the person's trouble", "erp", "refresh-9", true,
			func(s *server, _ *cabinet) { s.lacks[token.Graph], s.lacks[token.SMTP] = true, true }, want{nil, "nobody has consented; run: postern signin erp", "refresh-0"}},
		{"an endpoint that is down stores nothing", "erp", "refresh-9", true,
			func(s *server, _ *cabinet) { s.trouble = &token.Error{Text: "down"} }, want{nil, "down", "refresh-0"}},
		{"an empty token is refused", "erp", "", true, nil, want{nil, "empty", "refresh-0"}},
		{"an unknown account is refused", "nobody", "refresh-9", true, nil, want{nil, "not known", "refresh-0"}},
		{"a damaged entry is replaced", "erp", "refresh-9", false, func(_ *server, c *cabinet) {
			if _, err := c.disk.Swap("token/contoso/svc@contoso.test", 0, []byte("garbage")); err != nil {
				c.t.Fatal(err)
			}
		}, want{both, "", "refresh-2"}},
		{"a full disk is told, and the sign-in works from memory", "erp", "refresh-9", true,
			func(_ *server, c *cabinet) { c.disk.full = errFull }, want{both, "could not be written", "refresh-0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				s.good["refresh-9"] = true
				s.user = "svc@contoso.test"
				c := newCabinet(t, s, tc.signed)
				if tc.change != nil {
					tc.change(s, c)
				}
				got, err := c.SignIn(context.Background(), tc.account, tc.refresh)
				if !slices.Equal(got.Works, tc.want.works) {
					t.Errorf("works %v; want %v", got.Works, tc.want.works)
				}
				if (err == nil) != (tc.want.err == "") || err != nil && !strings.Contains(err.Error(), tc.want.err) {
					t.Errorf("error %v; want %q", err, tc.want.err)
				}
				var known *token.Error
				if err != nil && !errors.As(err, &known) {
					t.Errorf("error is %T; want *token.Error", err)
				}
				if len(got.Works) > 0 && (got.User != s.user || len(got.Works)+len(got.Failed) != map[string]int{"erp": 2, "scan": 1}[tc.account]) {
					t.Errorf("result %+v; want the user, and every resource either way", got)
				}
				kept, _, err := readSignIn(c.disk, "token/contoso/svc@contoso.test")
				if (err == nil) != (tc.want.kept != "") || kept.Refresh.Reveal() != tc.want.kept {
					t.Errorf("the vault has %q, %v; want %q", kept.Refresh.Reveal(), err, tc.want.kept)
				}
				asked := s.asked()
				for _, r := range got.Works {
					if _, err := c.token(tc.account, r); err != nil {
						t.Errorf("Token(%s) after the sign-in: %v", r, err)
					}
				}
				if s.asked() != asked {
					t.Error("the tokens of the sign-in itself were not used")
				}
			})
		})
	}
}

func TestFailedSignInLeavesTheFormerTokenWorking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCabinet(t, newServer(), true)
		c.want("erp", token.Graph, "access-1")
		if _, err := c.SignIn(context.Background(), "erp", "stolen"); err == nil {
			t.Fatal("SignIn took a token that yields nothing")
		}
		c.want("erp", token.Graph, "access-1")
		time.Sleep(2 * time.Hour)
		c.want("erp", token.Graph, "access-2")
	})
}

func TestSignInAfterTheClockWasSetBackStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.good["refresh-9"] = true
		c := newCabinet(t, s, false)
		future := stored{Refresh: "refresh-0", SignedIn: time.Now().AddDate(5, 0, 0), Received: time.Now().AddDate(5, 0, 0)}
		value, err := json.Marshal(future)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.disk.Swap("token/contoso/svc@contoso.test", 0, value); err != nil {
			t.Fatal(err)
		}
		if _, err := c.SignIn(context.Background(), "erp", "refresh-9"); err != nil {
			t.Fatal(err)
		}
		if got := c.kept(); got != "refresh-2" {
			t.Errorf("the vault has %s; want the new sign-in", got)
		}
		time.Sleep(2 * time.Hour)
		c.want("erp", token.Graph, "access-3")
		if got := c.kept(); got != "refresh-3" {
			t.Errorf("the vault has %s; want its successor", got)
		}
	})
}

func TestSignInEndsWithItsContextOnlyBeforeItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.good["refresh-9"] = true
		s.delay = 10 * time.Second
		c := newCabinet(t, s, true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := c.SignIn(ctx, "erp", "refresh-9"); err != nil {
			t.Errorf("SignIn: %v; want it to go on once the token is on its way", err)
		}
		go c.token("erp", token.Graph)
		c.Source("erp").Refused(token.Graph, "access-1")
		go c.token("erp", token.Graph)
		synctest.Wait() // the turn is taken
		asked := s.asked()
		if _, err := c.SignIn(ctx, "erp", "refresh-9"); !errors.Is(err, context.DeadlineExceeded) || s.asked() != asked {
			t.Errorf("SignIn with an ended context = %v", err)
		}
		time.Sleep(time.Minute)
	})
}

func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.user = "Svc@contoso.test"
		s.lacks[token.SMTP] = true
		c := newCabinet(t, s, false)
		st := c.States(context.Background())
		if len(st) != 3 || st[0].SignedIn || st[0].Trouble.Text != "needs sign-in" || st[0].Trouble.Remedy != "run: postern signin erp" ||
			st[1].Trouble.Remedy != "run: postern signin scan" {
			t.Errorf("before the sign-in: %+v", st)
		}
		if _, err := c.SignIn(context.Background(), "erp", "refresh-0"); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		time.Sleep(10 * time.Minute)
		got := c.States(context.Background())[0]
		encoded, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var back State
		if err := json.Unmarshal(encoded, &back); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(encoded), "refresh-") || strings.Contains(string(encoded), "access-") {
			t.Errorf("the state holds a token: %s", encoded)
		}
		if !back.SignedIn || back.User != s.user || !back.Since.Equal(begun) || back.Trouble != nil {
			t.Errorf("state %s", encoded)
		}
		graph, smtp := back.Resources[0], back.Resources[1]
		if !graph.Fetched.Equal(begun) || !graph.Expiry.Equal(begun.Add(time.Hour)) || !graph.NextRefresh.Equal(begun.Add(48*time.Minute)) || graph.Trouble != nil {
			t.Errorf("Graph: %+v", graph)
		}
		if smtp.Trouble == nil || !smtp.Trouble.Person || smtp.Trouble.Text != "nobody has consented" || !smtp.Trouble.Since.Equal(begun) ||
			!smtp.Trouble.RetryAt.Equal(begun.Add(15*time.Minute)) || !smtp.Expiry.IsZero() {
			t.Errorf("SMTP: %+v", smtp)
		}
	})
}
