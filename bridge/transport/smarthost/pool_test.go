package smarthost

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/reply"
	. "postern/bridge/transport/smarthost/smarthosttest"
)

func TestConnectionIsReused(t *testing.T) {
	r := start(t, Script{})
	for i := range 2 {
		if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Relayed {
			t.Fatalf("message %d = %+v", i+1, o)
		}
	}
	if got := r.server.Connections(); got != 1 {
		t.Errorf("%d connections for two messages, want 1", got)
	}
	r.Close()
	r.server.Close()
	if !r.server.Said("QUIT") {
		t.Error("left without QUIT")
	}
}

func TestConnectionEndsAfterHundredMessages(t *testing.T) {
	r := start(t, Script{})
	for i := range 101 {
		if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Relayed {
			t.Fatalf("message %d = %+v", i+1, o)
		}
	}
	if got := r.server.Connections(); got != 2 {
		t.Errorf("%d connections for 101 messages, want 2", got)
	}
	if m := r.server.Messages(); m[99].Connection != 1 || m[100].Connection != 2 {
		t.Errorf("message 100 went by connection %d, 101 by %d; want 1, 2", m[99].Connection, m[100].Connection)
	}
}

func TestIdleConnectionThatTheServerGaveUp(t *testing.T) {
	second := func(at Step, a Action) func(Exchange) *Action {
		return func(x Exchange) *Action {
			if x.Step == at && x.Count == 2 {
				return &a
			}
			return nil
		}
	}
	for _, tc := range []struct {
		name string
		on   func(Exchange) *Action
		drop bool
	}{
		{"closed while it was idle", nil, true},
		{"421 at MAIL", second(MAIL, Action{Reply: "421 4.4.1 Connection timed out\r\n", Drop: true}), false},
		{"451 4.4.2 at MAIL", second(MAIL, Action{Reply: "451 4.4.2 Timeout - closing connection\r\n", Drop: true}), false},
		{"sign-in forgotten at MAIL", second(MAIL, Action{Reply: "530 5.7.57 Client not authenticated to send mail.\r\n"}), false},
		{"closed at MAIL", second(MAIL, Action{Drop: true}), false},
		{"closed at RCPT", second(RCPT, Action{Drop: true}), false},
		{"421 at DATA", second(DATA, Action{Reply: "421 4.3.2 restarting\r\n", Drop: true}), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, Script{On: tc.on})
			if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Relayed {
				t.Fatalf("first message = %+v", o)
			}
			if tc.drop {
				r.server.DropAll()
			}
			if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Relayed {
				t.Errorf("second message = %+v; want relayed by a fresh connection", o)
			}
			if got := r.server.Connections(); got != 2 {
				t.Errorf("%d connections, want 2", got)
			}
			if strings.Contains(r.events.String(), "smarthost failed") {
				t.Errorf("a connection that was given up is no failure: %s", r.events)
			}
		})
	}
}

// TestReusedConnectionIsTriedOnce: a fault after the data is never tried again at once, and neither is a fresh
// connection's.
func TestReusedConnectionIsTriedOnce(t *testing.T) {
	for _, tc := range []struct {
		name  string
		at    Step
		count int // from then on the server drops
		want  reply.Verdict
		conns int
	}{
		{"after the final dot of a reused connection", Dot, 2, reply.InDoubt, 1},
		{"at MAIL of the fresh connection too", MAIL, 2, reply.Deferred, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, Script{On: func(x Exchange) *Action {
				if x.Step == tc.at && x.Count >= tc.count {
					return &Action{Drop: true}
				}
				return nil
			}})
			r.send(t, outgoing(t, plainBody, bob))
			if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != tc.want {
				t.Errorf("second message = %+v; want %v", o, tc.want)
			}
			if got := r.server.Connections(); got != tc.conns {
				t.Errorf("%d connections, want %d", got, tc.conns)
			}
		})
	}
}

func TestIdleConnectionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, StartPipe(t, Script{}), nil)
		r.send(t, outgoing(t, plainBody, bob))
		time.Sleep(44 * time.Second)
		synctest.Wait()
		if r.server.Open() != 1 {
			t.Error("connection was given up before its time")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if r.server.Open() != 0 || !r.server.Said("QUIT") {
			t.Errorf("connection is still open after 45 s; said %q", r.server.Commands())
		}
		if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Relayed {
			t.Errorf("Send = %+v", o)
		}
	})
}

// TestSilentIdleConnection: a firewall has forgotten the connection, and nobody says so.
func TestSilentIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, StartPipe(t, Script{On: func(x Exchange) *Action {
			if x.Step == MAIL && x.Count == 2 {
				return &Action{Wait: make(chan struct{})}
			}
			return nil
		}}), nil)
		r.send(t, outgoing(t, plainBody, bob))
		began := time.Now()
		if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Relayed {
			t.Errorf("Send = %+v", o)
		}
		if got := time.Since(began); got != 30*time.Second {
			t.Errorf("took %v, want 30s", got)
		}
	})
}

func TestCloseWithASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, StartPipe(t, Script{On: Always(QUIT, Action{Wait: make(chan struct{})})}), nil)
		r.send(t, outgoing(t, plainBody, bob))
		began := time.Now()
		r.Close()
		if got := time.Since(began); got != 5*time.Second {
			t.Errorf("Close took %v, want 5s", got)
		}
		if o := r.Send(t.Context(), outgoing(t, plainBody, bob)); o.Verdict != reply.Deferred || o.Owner != reply.Process {
			t.Errorf("Send after Close = %+v", o)
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	r := start(t, Script{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 20 {
				if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Relayed {
					t.Errorf("Send = %+v", o)
				}
			}
		})
	}
	wg.Wait()
	if got := len(r.server.Messages()); got != 60 {
		t.Errorf("%d messages, want 60", got)
	}
	if got := r.server.Connections(); got > 3 {
		t.Errorf("%d connections, want 3 at most", got)
	}
}

func TestProbe(t *testing.T) {
	t.Run("a good one sends no mail", func(t *testing.T) {
		r := start(t, Script{})
		if err := r.Probe(t.Context()); err != nil {
			t.Fatalf("Probe = %v", err)
		}
		r.server.Close()
		if r.server.Said("MAIL") || !r.server.Said("QUIT") {
			t.Errorf("said %q", r.server.Commands())
		}
	})
	t.Run("a refusal carries the remedy", func(t *testing.T) {
		r := start(t, Script{Accept: func(_, _ string) bool { return false }})
		err := r.Probe(t.Context())
		if err == nil || !strings.Contains(err.Error(), "535 5.7.3") || !strings.Contains(err.Error(), "postern check --live") {
			t.Errorf("Probe = %v", err)
		}
	})
}

// TestTalkativeServerIsNotReused: an answer that nobody asked for would be taken for the next command's.
func TestTalkativeServerIsNotReused(t *testing.T) {
	r := start(t, Script{On: Once(Dot, Action{Reply: "250 2.0.0 OK <1@smarthost.test>\r\n250 and more\r\n"})})
	for i := range 2 {
		if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Relayed {
			t.Fatalf("message %d = %+v", i+1, o)
		}
	}
	mails := 0
	for _, c := range r.server.Commands() {
		if strings.HasPrefix(c, "MAIL") {
			mails++
		}
	}
	if mails != 2 || r.server.Connections() != 2 {
		t.Errorf("%d MAIL commands on %d connections, want 2 on 2", mails, r.server.Connections())
	}
}
