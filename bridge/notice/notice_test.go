package notice

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/dsn"
	"postern/bridge/envelope"
	"postern/bridge/envelope/envelopetest"
	"postern/bridge/event"
	"postern/bridge/reply"
)

// office is a desk with fakes around it.
type office struct {
	*Desk
	mu   sync.Mutex
	sent []Mail
	fail error // what Send returns
	full error // what Save returns
	up   map[string]bool
	kept string // what Memory holds
}

var address = envelopetest.Address

func newOffice(t testing.TB, notify ...string) *office {
	o := &office{up: map[string]bool{"erp": true, "hr": true}}
	o.start(t, notify)
	return o
}

// start makes the desk, as a start of the program does.
func (o *office) start(t testing.TB, notify []string) {
	opts := Options{Hostname: "bridge.contoso.test", DefaultDomain: "corp.test", Outbox: o, Memory: o,
		Accounts: []Account{{"erp", address(t, "erp@contoso.test"), []string{"graph", "smtp"}}, {"hr", address(t, "hr@fabrikam.test"), []string{"graph"}}},
		Up:       func(a string) bool { o.mu.Lock(); defer o.mu.Unlock(); return o.up[a] }}
	for _, n := range notify {
		opts.Notify = append(opts.Notify, address(t, n))
	}
	o.Desk = New(opts)
}

func (o *office) Send(_ context.Context, m Mail) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return o.fail
	}
	for _, s := range o.sent {
		if s.ID == m.ID {
			return nil
		}
	}
	o.sent = append(o.sent, m)
	return nil
}

func (o *office) Load(context.Context) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kept, nil
}

func (o *office) Save(_ context.Context, s string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.full != nil {
		return o.full
	}
	o.kept = s
	return nil
}

// setUp says which accounts are up from now on.
func (o *office) setUp(up map[string]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.up = up
}

// mail returns what was sent since it was last asked.
func (o *office) mail() []Mail {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := o.sent
	o.sent = nil
	return m
}

func failure(t testing.TB, reversePath string) Failure {
	f := Failure{Account: "erp", Since: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
		Original:   dsn.Original{ID: "0000000000000m01", User: "nav", Header: []byte("Subject: Invoice\r\n\r\n")},
		Recipients: []dsn.Recipient{{Address: address(t, "customer@example.test"), Action: dsn.Failed, Reply: reply.Reply{Code: 550, Enhanced: "5.1.1", Text: "no"}}}}
	if reversePath != "" {
		f.Original.ReversePath = address(t, reversePath)
	}
	return f
}

func TestReportGoesTo(t *testing.T) {
	for _, tc := range []struct {
		name, reversePath, notify string
		change                    func(*Failure, *office)
		to, via                   string // "" where nobody gets one
	}{
		{"the reverse-path in an account's domain", "nav@contoso.test", "it@contoso.test", nil, "nav@contoso.test", "erp"},
		{"the reverse-path in another account's domain", "x@FABRIKAM.test", "", nil, "x@FABRIKAM.test", "erp"},
		{"the reverse-path in default_domain", "root@corp.test", "", nil, "root@corp.test", "erp"},
		{"[notify] where the reverse-path is a stranger's", "scanner@printer.local", "it@contoso.test", nil, "it@contoso.test", "erp"},
		{"nobody where it is a stranger's and there is no [notify]", "scanner@printer.local", "", nil, "", ""},
		{"nobody in a sub-domain of ours", "a@mail.contoso.test", "", nil, "", ""},
		{"nobody for a null reverse-path", "", "it@contoso.test", nil, "", ""},
		{"nobody for automatic mail", "nav@contoso.test", "", func(f *Failure, _ *office) {
			f.Original.Header = []byte("Auto-Submitted: auto-generated\r\n\r\n")
		}, "", ""},
		{"nobody for a report of ours", "nav@contoso.test", "it@contoso.test", func(f *Failure, _ *office) { f.Own = true }, "", ""},
		{"the sender by another account where the message's is down", "nav@contoso.test", "", func(_ *Failure, o *office) { o.up["erp"] = false }, "nav@contoso.test", "hr"},
		{"the sender by the message's own account where none is up", "nav@contoso.test", "", func(_ *Failure, o *office) { o.up = nil }, "nav@contoso.test", "erp"},
		{"the sender as the From of his message, where one account serves every mailbox", "nav@wild.test", "", func(f *Failure, o *office) {
			o.SetPeople(Options{Accounts: []Account{{Name: "all", Mailbox: address(t, "*@wild.test")}}})
			f.Account, f.From = "all", address(t, "boss@wild.test")
		}, "nav@wild.test", "all"},
		{"nobody where such an account has no mailbox to report from", "nav@wild.test", "", func(f *Failure, o *office) {
			o.SetPeople(Options{Accounts: []Account{{Name: "all", Mailbox: address(t, "*@wild.test")}}})
		}, "", ""},
		{"the sender by any account where the message's was removed", "nav@contoso.test", "", func(f *Failure, _ *office) { f.Account = "old" }, "nav@contoso.test", "erp"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var notify []string
			if tc.notify != "" {
				notify = append(notify, tc.notify)
			}
			o := newOffice(t, notify...)
			f := failure(t, tc.reversePath)
			if tc.change != nil {
				tc.change(&f, o)
			}
			if err := o.Report(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			got := o.mail()
			if tc.to == "" {
				if len(got) > 0 {
					t.Fatalf("a report went to %s", got[0].To)
				}
				return
			}
			if len(got) != 1 || len(got[0].To) != 1 || got[0].To[0].String() != tc.to || got[0].Account != tc.via {
				t.Fatalf("sent %+v; want one to %s by %s", got, tc.to, tc.via)
			}
			if dsn.Wanted(got[0].From, got[0].Header) {
				t.Error("the report would be answered with a report")
			}
		})
	}
}

func TestAllOfNotifyHearOfAFailure(t *testing.T) {
	for _, tc := range []struct {
		name, reversePath string
		notify            []string
		told              []string // of [notify], by a notice beside the report
	}{
		{"the sender is somebody else", "nav@contoso.test", []string{"it@contoso.test"}, []string{"it@contoso.test"}},
		{"the sender is the only one", "it@contoso.test", []string{"it@contoso.test"}, nil},
		{"the sender is the first of two", "it@contoso.test", []string{"it@contoso.test", "ops@contoso.test"}, []string{"it@contoso.test", "ops@contoso.test"}},
		{"the sender is the second of two", "OPS@contoso.test", []string{"it@contoso.test", "ops@contoso.test"}, []string{"it@contoso.test", "ops@contoso.test"}},
		{"the report went to all of them", "scanner@printer.local", []string{"it@contoso.test", "ops@contoso.test"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, tc.notify...)
				work(t, o)
				if err := o.Report(t.Context(), failure(t, tc.reversePath)); err != nil {
					t.Fatal(err)
				}
				if got := o.mail(); len(got) != 1 {
					t.Fatalf("%d reports; want 1", len(got))
				}
				time.Sleep(time.Hour)
				var told []string
				for _, m := range o.mail() {
					for _, a := range m.To {
						told = append(told, a.String())
					}
				}
				if !slices.Equal(told, tc.told) {
					t.Errorf("the notice went to %q; want %q", told, tc.told)
				}
			})
		})
	}
}

// TestNotifyHearsOfTheFailuresInADelayNotice: nobody tells of them again when the message ends.
func TestNotifyHearsOfTheFailuresInADelayNotice(t *testing.T) {
	late := dsn.Recipient{Address: address(t, "slow@example.test"), Action: dsn.Delayed}
	failed := failure(t, "").Recipients
	for _, tc := range []struct {
		name               string
		recipients, hidden []dsn.Recipient
		want               []string
	}{
		{"that only tells of a delay", []dsn.Recipient{late}, nil, nil},
		{"that tells of a failure too", append(slices.Clone(failed), late), nil, []string{"customer@example.test"}},
		{"that keeps a failure from the sender", []dsn.Recipient{late}, failed, []string{"customer@example.test"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, "it@contoso.test")
				work(t, o)
				f := failure(t, "nav@contoso.test")
				f.Late, f.Recipients, f.Hidden = true, tc.recipients, tc.hidden
				for range 2 {
					if err := o.Report(t.Context(), f); err != nil {
						t.Fatal(err)
					}
				}
				if got := o.mail(); len(got) != 1 {
					t.Errorf("%d delay notices; want 1", len(got))
				}
				time.Sleep(time.Hour)
				got := o.mail()
				if len(got) != len(tc.want) {
					t.Fatalf("%d notices; want %d", len(got), len(tc.want))
				}
				for i, want := range tc.want {
					if text := string(got[i].Body); !strings.Contains(text, want) || strings.Contains(text, "slow@") {
						t.Errorf("the notice lacks %s, or names who is late:\n%s", want, text)
					}
				}
			})
		})
	}
}

func TestReportIsMadeOnce(t *testing.T) {
	o := newOffice(t)
	f := failure(t, "nav@contoso.test")
	for range 3 {
		if err := o.Report(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if got := o.mail(); len(got) != 1 {
		t.Errorf("%d reports; want 1", len(got))
	}
	if _, err := envelope.ParseID(string(reportID(f.Original.ID, "failed", f.Since))); err != nil {
		t.Error(err)
	}
	late := f
	late.Late = true
	again := f
	again.Since = f.Since.Add(time.Hour) // failed again after a retry
	for _, other := range []Failure{late, again} {
		if err := o.Report(t.Context(), other); err != nil {
			t.Fatal(err)
		}
	}
	if got := o.mail(); len(got) != 2 || got[0].ID == got[1].ID {
		t.Errorf("%d more reports; want a delay notice and one for the second failure", len(got))
	}
	o.fail = errors.New("the disk is full")
	if err := o.Report(t.Context(), failure(t, "other@contoso.test")); err == nil {
		t.Error("Report = nil although nothing was kept; the queue would never ask again")
	}
}

// happen hands the desk an event.
func (o *office) happen(kind event.Kind, level slog.Level, attrs ...slog.Attr) {
	o.Handle(context.Background(), event.Event{Kind: kind, Level: level, Attrs: attrs})
}

var (
	parkedERP = []slog.Attr{slog.String("account", "erp"), slog.String("transport", "graph"), slog.String("reply", "invalid_grant"), slog.String("remedy", "run: postern signin erp")}
	onERP     = []slog.Attr{slog.String("account", "erp"), slog.String("transport", "graph")}
)

// work runs the desk in a bubble until the test ends.
func work(t *testing.T, o *office) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	synctest.Wait()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func subjects(mails []Mail) (list []string) {
	for _, m := range mails {
		for line := range strings.Lines(strings.ReplaceAll(string(m.Header), "\r\n ", " ")) {
			if s, ok := strings.CutPrefix(line, "Subject: Postern on bridge.contoso.test: "); ok {
				list = append(list, strings.TrimSpace(s))
			}
		}
	}
	return list
}

func wantSubjects(t *testing.T, o *office, want ...string) []Mail {
	t.Helper()
	got := o.mail()
	if s := subjects(got); strings.Join(s, "\n") != strings.Join(want, "\n") {
		t.Errorf("notices %q; want %q", s, want)
	}
	return got
}

func TestParkedAccountIsToldOnceAndWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		work(t, o)
		o.up["erp"] = false
		const what = "account erp is parked on graph: its mail waits, and nothing of it is lost"
		for range 5 {
			o.happen(event.AccountParked, slog.LevelError, parkedERP...)
			time.Sleep(20 * time.Minute)
		}
		got := wantSubjects(t, o, what)
		if len(got) == 1 && (got[0].Account != "hr" || !strings.Contains(string(got[0].Body), "postern signin erp")) {
			t.Errorf("the notice went by %s:\n%s", got[0].Account, got[0].Body)
		}
		o.happen(event.AccountResumed, slog.LevelInfo, onERP...)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "over: "+what)
		o.happen(event.AccountParked, slog.LevelError, parkedERP...)
		time.Sleep(time.Hour)
		wantSubjects(t, o, what)
	})
}

func TestDeadSignInIsOneTroubleForRefreshAndMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		work(t, o)
		o.happen(event.TokenFailed, slog.LevelError, slog.String("account", "erp,nav"), slog.String("resource", "graph"), slog.String("err", "invalid_grant"))
		o.happen(event.TokenFailed, slog.LevelWarn, slog.String("account", "hr"), slog.String("resource", "graph"))
		time.Sleep(time.Hour)
		o.happen(event.AccountParked, slog.LevelError, parkedERP...)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "account erp, nav is parked on graph: its mail waits, and nothing of it is lost")
		o.happen(event.AccountSignedIn, slog.LevelInfo, slog.String("account", "erp,nav"))
		o.happen(event.AccountResumed, slog.LevelInfo, onERP...)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "over: account erp, nav is parked on graph: its mail waits, and nothing of it is lost")
	})
}

func TestTroubleThatNobodyCouldBeToldOfIsForgottenWhenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		work(t, o)
		o.setUp(nil)
		o.happen(event.AccountParked, slog.LevelError, parkedERP...)
		time.Sleep(3 * time.Hour)
		o.happen(event.AccountResumed, slog.LevelInfo, onERP...)
		o.setUp(map[string]bool{"erp": true})
		time.Sleep(time.Hour)
		wantSubjects(t, o)
	})
}

func TestRestartRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		stop := work(t, o)
		o.happen(event.AccountParked, slog.LevelError, parkedERP...)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "account erp is parked on graph: its mail waits, and nothing of it is lost")
		if err := o.Report(t.Context(), failure(t, "nav@contoso.test")); err != nil {
			t.Fatal(err)
		}
		stop()
		o.mail() // the report
		o.start(t, []string{"it@contoso.test"})
		o.happen(event.AccountParked, slog.LevelError, parkedERP...) // met again by the first message
		work(t, o)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "messages that were not sent: 1")
		o.happen(event.MessageRelayed, slog.LevelInfo, onERP...)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "over: account erp is parked on graph: its mail waits, and nothing of it is lost")
	})
}

func TestManyFailuresAreOneNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		work(t, o)
		for i := range 200 {
			f := failure(t, "") // no report
			f.Since = f.Since.Add(time.Duration(i) * time.Second)
			if err := o.Report(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			o.happen(event.MessageHeld, slog.LevelError, slog.String("queue_id", "0000000000000m02"), slog.String("user", "nav"), slog.String("err", "in doubt"))
		}
		o.happen(event.MessageHeld, slog.LevelError, slog.String("user", User)) // a notice of ours
		time.Sleep(time.Hour)
		got := wantSubjects(t, o, "messages that were not sent: 200")
		if len(got) == 1 && strings.Count(string(got[0].Body), "and 150 more") != 2 {
			t.Errorf("the notice does not count:\n%.3000s", got[0].Body)
		}
		if len(got) == 1 && !dsn.Automatic(got[0].Header) {
			t.Error("the notice does not say that a program wrote it")
		}
		time.Sleep(time.Hour)
		wantSubjects(t, o)
	})
}

func TestNoticeThatCannotBeKeptIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		work(t, o)
		o.mu.Lock()
		o.fail = errors.New("the disk is full")
		o.mu.Unlock()
		secret := Trouble{Key: "secret contoso", Text: "the client secret of provider contoso expires on 3 December"}
		o.Current("expiry ", []Trouble{secret})
		o.Current("expiry ", []Trouble{secret})
		o.Current("other ", nil)
		time.Sleep(time.Hour)
		o.mu.Lock()
		o.fail = nil
		o.mu.Unlock()
		time.Sleep(time.Hour)
		wantSubjects(t, o, secret.Text)
		o.Current("expiry ", nil)
		o.Current("expiry ", nil)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "over: "+secret.Text)
	})
}

// A power cut comes without a word: what Memory holds is all that is left.
func TestWhatWaitsToBeToldIsKeptAtOnce(t *testing.T) {
	held := func(o *office, id string) {
		o.happen(event.MessageHeld, slog.LevelError, slog.String("queue_id", id), slog.String("user", "nav"), slog.String("err", "in doubt"))
	}
	for _, tc := range []struct {
		name   string
		before func(*office) // ends while something waits to be told
	}{
		{"while no account is up", func(o *office) {
			o.setUp(nil)
			o.happen(event.AccountParked, slog.LevelError, parkedERP...)
			time.Sleep(time.Hour)
		}},
		{"between two notices", func(o *office) {
			held(o, "0000000000000m01")
			time.Sleep(gather + time.Second)
			held(o, "0000000000000m02")
			time.Sleep(interval / 2)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, "it@contoso.test")
				work(t, o)
				tc.before(o)
				held(o, "0000000000000m03")
				o.happen(event.AccountParked, slog.LevelError, slog.String("account", "hr"), slog.String("transport", "graph"))
				synctest.Wait()
				kept, _ := o.Load(t.Context())
				after := &office{kept: kept, up: map[string]bool{"erp": true}}
				after.start(t, []string{"it@contoso.test"})
				work(t, after)
				time.Sleep(time.Hour)
				var all strings.Builder
				for _, m := range after.mail() {
					all.Write(m.Body)
				}
				for _, want := range []string{"message 0000000000000m03", "account hr is parked on graph"} {
					if !strings.Contains(all.String(), want) {
						t.Errorf("after the power cut nobody is told of %q:\n%s", want, &all)
					}
				}
			})
		})
	}
}

func TestFailureBeforeTheDeskRunsLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		stop := work(t, o)
		o.happen(event.MessageHeld, slog.LevelError, slog.String("queue_id", "0000000000000m02"), slog.String("user", "nav"), slog.String("err", "in doubt"))
		stop()
		o.start(t, []string{"it@contoso.test"})
		if err := o.Report(t.Context(), failure(t, "")); err != nil { // the queue is there first
			t.Fatal(err)
		}
		work(t, o)
		time.Sleep(time.Hour)
		got := wantSubjects(t, o, "messages that were not sent: 1")
		if len(got) == 1 && !strings.Contains(string(got[0].Body), "message 0000000000000m02") {
			t.Errorf("what the process before had not told is lost:\n%s", got[0].Body)
		}
	})
}

// The queue asks again for as long as a report returns an error, and after a crash before it wrote down that there was none.
func TestFailureIsToldOnceHoweverOftenItIsReported(t *testing.T) {
	report := func(t *testing.T, o *office, again time.Duration) error {
		t.Helper()
		f := failure(t, "") // no report
		f.Since = f.Since.Add(again)
		return o.Report(t.Context(), f)
	}
	full := func(o *office, err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.full = err
	}
	for _, tc := range []struct {
		name string
		do   func(*testing.T, *office)
		want string
	}{
		{"while the disk is full, and the notice leaves meanwhile", func(t *testing.T, o *office) {
			work(t, o)
			full(o, errors.New("the disk is full"))
			for range 20 {
				if report(t, o, 0) == nil {
					t.Fatal("Report = nil although nothing was kept; the queue would never ask again")
				}
				time.Sleep(5 * time.Second)
			}
			full(o, nil)
			if err := report(t, o, 0); err != nil {
				t.Fatal(err)
			}
		}, "messages that were not sent: 1"},
		{"by the next process", func(t *testing.T, o *office) {
			if err := report(t, o, 0); err != nil {
				t.Fatal(err)
			}
			o.start(t, []string{"it@contoso.test"})
			if err := report(t, o, 0); err != nil {
				t.Fatal(err)
			}
			work(t, o)
		}, "messages that were not sent: 1"},
		{"but a message that fails again after a retry is told again", func(t *testing.T, o *office) {
			work(t, o)
			for _, again := range []time.Duration{0, time.Hour} {
				if err := report(t, o, again); err != nil {
					t.Fatal(err)
				}
			}
		}, "messages that were not sent: 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, "it@contoso.test")
				tc.do(t, o)
				time.Sleep(time.Hour)
				wantSubjects(t, o, tc.want)
			})
		})
	}
}

// TestConfigurationEndsATrouble: no message and no sign-in tells of it, because nothing is tried any more.
func TestConfigurationEndsATrouble(t *testing.T) {
	missing := func(name string) []slog.Attr {
		return []slog.Attr{slog.String("account", name), slog.String("err", "the configuration has no such account")}
	}
	on := func(name, transport string) []slog.Attr {
		return []slog.Attr{slog.String("account", name), slog.String("transport", transport)}
	}
	account := func(name string, transports ...string) Account {
		return Account{Name: name, Mailbox: address(t, "x@contoso.test"), Transports: transports}
	}
	for _, tc := range []struct {
		name    string
		kind    event.Kind
		trouble []slog.Attr
		then    []Account
		over    bool
	}{
		{"the account that was missing is back", event.AccountParked, missing("old"), []Account{account("erp", "graph"), account("old", "smtp")}, true},
		{"the account is missing still", event.AccountParked, missing("old"), []Account{account("erp", "graph")}, false},
		{"that of the domain is back", event.AccountParked, missing("people/ann@contoso.test"), []Account{account("people", "graph")}, true},
		{"the account goes without the transport", event.AccountParked, on("erp", "smtp"), []Account{account("erp", "graph")}, true},
		{"the account goes by the transport still", event.AccountParked, on("erp", "smtp"), []Account{account("erp", "graph", "smtp")}, false},
		{"a mailbox of the domain goes by it still", event.AccountParked, on("people/ann@contoso.test", "smtp"), []Account{account("people", "smtp")}, false},
		{"the account is gone, and its trouble may come back with it", event.AccountParked, on("erp", "smtp"), []Account{account("hr", "graph")}, false},
		{"one of those who share the token goes by it still", event.TokenFailed, []slog.Attr{slog.String("account", "erp,nav"), slog.String("resource", "smtp")},
			[]Account{account("erp", "graph"), account("nav", "smtp")}, false},
		{"a token for any transport is no missing account", event.TokenFailed, []slog.Attr{slog.String("account", "erp")}, []Account{account("erp", "graph")}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, how := range []string{"reload", "restart"} {
				t.Run("by a "+how, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						o := newOffice(t, "it@contoso.test")
						stop := work(t, o)
						o.happen(tc.kind, slog.LevelError, tc.trouble...)
						time.Sleep(time.Hour)
						if got := o.mail(); len(got) != 1 {
							t.Fatalf("%d notices of the trouble; want 1", len(got))
						}
						people := Options{Notify: o.o.Notify, Accounts: append(tc.then, account("up"))}
						o.setUp(map[string]bool{"up": true})
						if how == "restart" {
							stop()
							o.start(t, []string{"it@contoso.test"})
						}
						o.SetPeople(people)
						if how == "restart" {
							work(t, o)
						}
						time.Sleep(time.Hour)
						if over := strings.HasPrefix(strings.Join(subjects(o.mail()), "\n"), "over: "); over != tc.over {
							t.Errorf("told that it is over: %v; want %v", over, tc.over)
						}
						o.happen(tc.kind, slog.LevelError, tc.trouble...)
						time.Sleep(time.Hour)
						if again := len(o.mail()) == 1; again != tc.over {
							t.Errorf("told again: %v; want %v", again, tc.over)
						}
					})
				})
			}
		})
	}
}
