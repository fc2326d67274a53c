package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/bridge/sandbox"
)

// answer is what a step may leave.
type answer string

const (
	yes   answer = "in doubt"
	no    answer = "not in doubt"
	maybe answer = "either"
)

// TestKillAtEachStep kills the daemon at each named step of a message's walk, starts it again and lets it drain. Nothing
// that was answered with 250 is lost; a second copy comes only of a step after which nobody can tell, and was recorded
// as in doubt before it left.
func TestKillAtEachStep(t *testing.T) {
	needsStrace(t)
	type step struct {
		name    string
		at      sandbox.Where
		late    bool   // before the commit that follows
		doubted answer // is the message in doubt after the restart?
	}
	steps := map[string][]step{
		"smtp": {
			{"after the lease, at the greeting", sandbox.AtGreeting, false, no},
			{"at AUTH", sandbox.AtAuth, false, no},
			{"after MAIL", sandbox.AtMail, false, no},
			{"after RCPT", sandbox.AtRcpt, false, no},
			{"before 354", sandbox.AtData, false, no},
			{"after the final dot", sandbox.AtDot, false, yes},
			{"before the upstream's 250", sandbox.Kept, false, yes},
			{"after the upstream's 250, before the done-commit", sandbox.Kept, true, yes},
			{"after the done-commit", "", false, no},
		},
		"sendMail": {
			// The request's header leaves before the intent is committed, so at the first call both are right.
			{"at the request", sandbox.AtGraph, false, maybe},
			{"after the request", sandbox.AtDot, false, yes},
			{"before the 202", sandbox.Kept, false, yes},
			{"after the 202, before the done-commit", sandbox.Kept, true, yes},
			{"after the done-commit", "", false, no},
		},
		"graph": { // by a draft
			{"before the draft", sandbox.AtGraph, false, no},
			{"while the draft is made", sandbox.AtCreate, false, no},
			{"before the 201", sandbox.Made, false, no},
			{"after the 201, before the draft's ID is kept", sandbox.Made, true, no},
			{"after the draft's ID is kept, at the PATCH", sandbox.AtPatch, false, no},
			{"at the request to send", sandbox.AtSend, false, yes},
			{"after the request to send", sandbox.AtDot, false, yes},
			{"before the 202", sandbox.Kept, false, yes},
			{"after the 202, before the done-commit", sandbox.Kept, true, yes},
			{"after the done-commit", "", false, no},
		},
	}
	for transport, list := range steps {
		t.Run(transport, func(t *testing.T) {
			k := newKilling(t, transport)
			k.inject("pwrite64:signal=KILL", "nothing")() // or it says here that it cannot
			if transport == "graph" {
				k.to = append(k.to, "hidden@example.test") // is added by a PATCH
			}
			acked, lost, extra, doubts := 0, 0, 0, 0
			for i, s := range list {
				subject := fmt.Sprintf("step %d", i)
				if i > 0 {
					k.restart() // a connection that is kept for the next message would skip steps
				}
				dead := k.armLate(s.at, s.late)
				id, err := k.submit(subject, "")
				if err != nil {
					t.Fatalf("%s: %v", s.name, err)
				}
				acked++
				if s.at == "" {
					k.relayed(id) // which is told after it is committed: the steps before show it
				} else if <-dead; strings.Contains(k.d.text(), `msg="message relayed" queue_id=`+id) {
					t.Errorf("%s: it was told to be relayed", s.name)
				}
				known := s.at == sandbox.AtPatch || s.at == sandbox.AtSend || s.at == sandbox.AtDot || s.at == sandbox.Kept
				k.restart()
				k.relayed(id)
				if transport == "graph" && s.doubted == yes && k.looked() == 0 {
					t.Errorf("%s: nobody looked for the draft by the ID that was kept", s.name)
				}
				if drafts := k.box.Drafts(); transport == "graph" && known && len(drafts) > 0 {
					t.Errorf("%s: %d drafts are left; want its own sent", s.name, len(drafts))
				}
				n := k.copies(subject)
				if n == 0 {
					lost++
				}
				extra += max(n-1, 0)
				doubted := k.doubted(id)
				if doubted {
					doubts++
				}
				most := 2
				if transport == "graph" {
					most = 1 // a draft tells whether it was sent
				}
				if n == 0 || n > most || n == 2 && !doubted || s.doubted == yes && !doubted || s.doubted == no && doubted {
					t.Errorf("%s: %d copies, in doubt %v; want %s", s.name, n, doubted, s.doubted)
				}
			}
			t.Logf("%s: %d steps, acked %d, lost %d, extra copies %d, in doubt %d", transport, len(list), acked, lost, extra, doubts)
		})
	}
}

// TestKillWithinTheText: whether the dot was on its way nobody can tell from here; but nothing is lost, and no copy is
// silent.
func TestKillWithinTheText(t *testing.T) {
	for _, at := range []sandbox.Where{sandbox.InBody, sandbox.AtEnd} {
		t.Run(string(at), func(t *testing.T) {
			k := newKilling(t, "smtp")
			dead := k.arm(at)
			id, err := k.submit("text", "")
			if err != nil {
				t.Fatal(err)
			}
			<-dead
			k.restart()
			k.relayed(id)
			if n := k.copies("text"); n == 0 || n > 2 || n == 2 && !k.doubted(id) {
				t.Errorf("%d copies, in doubt %v", n, k.doubted(id))
			}
		})
	}
}

// TestKillBetweenParts: a message to more than 500 leaves in parts. Only the one that was under way is in doubt then; the
// other arrives once.
func TestKillBetweenParts(t *testing.T) {
	for part, name := range []string{"in the first", "in the second"} {
		t.Run(name, func(t *testing.T) {
			k := newKilling(t, "smtp")
			k.to = nil
			for i := range 1000 {
				k.to = append(k.to, fmt.Sprintf("r%d@example.test", i))
			}
			k.skip = part
			dead := k.arm(sandbox.Kept)
			id, err := k.submit("parts", "")
			if err != nil {
				t.Fatal(err)
			}
			<-dead
			k.restart()
			doubted := k.d.await(regexp.MustCompile(`msg="message in doubt" queue_id=` + id + `.*`))
			if doubted == nil {
				t.Fatalf("nothing is in doubt:\n%s", k.d.text())
			}
			for _, last := range []int{0, 500} { // of each part
				if last == 0 && part == 1 {
					continue // it was told by the daemon that was killed
				}
				if k.d.await(regexp.MustCompile(fmt.Sprintf(`msg="message relayed" queue_id=%s.*\br%d@`, id, last))) == nil {
					t.Fatalf("r%d did not get it:\n%s", last, k.d.text())
				}
			}
			copies := map[string]int{}
			for _, r := range k.box.Received() {
				for _, to := range r.Recipients {
					copies[to]++
				}
			}
			for i, to := range k.to {
				cut := i/500 == part
				if n := copies[to]; n < 1 || n > 2 || n > 1 && !cut || strings.Contains(doubted[0], to) != cut {
					t.Errorf("%s got %d copies; was it under way: %v", to, n, cut)
				}
			}
		})
	}
}

// TestKillWithOneRefused: of two recipients the smarthost refuses one at RCPT for now, and the daemon is killed with the
// message at its end. Only the other is in doubt; whom it is relayed to has got it, although this smarthost takes a
// Message-ID once.
func TestKillWithOneRefused(t *testing.T) {
	k := newKilling(t, "smtp")
	k.box.Switch(func(s *sandbox.Switches) { s.RefuseDuplicates = true })
	for i, s := range []struct {
		name    string
		at      sandbox.Where
		doubted bool
	}{
		{"before 354", sandbox.AtData, false},
		{"after the final dot", sandbox.AtDot, true},
		{"before the upstream's 250", sandbox.Kept, true},
	} {
		now, later := fmt.Sprintf("now%d@example.test", i), fmt.Sprintf("later@x%d.example.test", i)
		k.to = []string{now, later}
		if i > 0 {
			k.restart()
		}
		dead := k.arm(s.at)
		id, err := k.submit(s.name, "")
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		<-dead
		k.restart()
		for _, to := range k.to {
			if k.d.await(regexp.MustCompile(`msg="message relayed" queue_id=`+id+`.*\b`+regexp.QuoteMeta(to))) == nil {
				t.Fatalf("%s: %s did not get it:\n%s", s.name, to, k.d.text())
			}
		}
		copies := map[string]int{}
		for _, r := range k.box.Received() {
			for _, to := range r.Recipients {
				copies[to]++
			}
		}
		if copies[now] != 1 || copies[later] != 1 {
			t.Errorf("%s: %d and %d copies; want one each", s.name, copies[now], copies[later])
		}
		doubts := strings.Join(regexp.MustCompile(`msg="message in doubt".*`).FindAllString(k.d.text(), -1), "\n")
		if strings.Contains(doubts, now) != s.doubted || strings.Contains(doubts, later) {
			t.Errorf("%s: in doubt was %q; want the one who was not refused %v, the other never", s.name, doubts, s.doubted)
		}
	}
}

// TestHoldAfterAKill: what was in flight when the daemon was killed is held before the next start, and does not go out by
// itself; what may have gone out is not released.
func TestHoldAfterAKill(t *testing.T) {
	k := newKilling(t, "smtp")
	for i, s := range []struct {
		name     string
		at       sandbox.Where
		copies   int // that the dead daemon may have sent
		released int // the exit status of release
	}{
		{"before 354", sandbox.AtData, 0, 0},
		{"after the final dot", sandbox.AtDot, 1, 1},
	} {
		if i > 0 {
			k.restart()
		}
		dead := k.arm(s.at)
		id, err := k.submit(s.name, "")
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		<-dead
		if out, status := outcome(t, "", "queue", "hold", "--all", "--config", k.file); status != 0 || !strings.Contains(out, "1 message held\n") {
			t.Errorf("%s: hold --all = %d; want it held\n%s", s.name, status, out)
		}
		k.restart()
		next, err := k.submit("beside it", "")
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		k.relayed(next)
		if held := rows(t, k.file, "--state", "held"); len(held) != 1 || held[0].ID != id || k.copies(s.name) > s.copies {
			t.Errorf("%s: held are %+v, and %d copies arrived; want it held, and at most %d", s.name, held, k.copies(s.name), s.copies)
		}
		if out, status := outcome(t, "", "queue", "release", "--all", "--config", k.file); status != s.released {
			t.Errorf("%s: release --all = %d; want %d\n%s", s.name, status, s.released, out)
		} else if status == 0 {
			k.relayed(id)
		}
	}
}

// TestKillWhileAccepting: what was not answered with 250 is not promised and not half there; what was is there.
func TestKillWhileAccepting(t *testing.T) {
	k := newKilling(t, "smtp")
	half := "From: nav@contoso.test\r\nTo: customer@example.test\r\nSubject: half\r\n\r\n" + strings.Repeat("invoice of the month\r\n", 100_000)
	if _, err := k.submitMessage(half, "body"); err != nil {
		t.Fatal(err)
	}
	for k.count("SELECT count(*) FROM messages WHERE state = 'unfinished'") == 0 {
		select {
		case <-k.d.end:
			t.Fatalf("the daemon ended by itself:\n%s", k.d.text())
		default:
		}
	}
	k.restart()
	if messages, chunks := k.count("SELECT count(*) FROM messages"), k.count("SELECT count(*) FROM chunks"); messages != 0 || chunks != 0 {
		t.Errorf("of half a message %d rows and %d pieces of its text are left", messages, chunks)
	}

	// After the commit: the line is written between it and the 250. Whether the 250 came decides what was promised.
	promised := make(chan string, 1)
	go func() {
		id, _ := k.submit("committed", "") // an error is the kill
		promised <- id
	}()
	m := k.d.await(regexp.MustCompile(`msg="message accepted" queue_id=(\w+)`))
	if m == nil {
		t.Fatal("the daemon ended by itself")
	}
	k.d.kill()
	<-promised
	k.restart()
	k.relayed(m[1]) // committed is kept, promised or not

	id, err := k.submit("answered", "")
	if err != nil {
		t.Fatal(err)
	}
	k.d.kill() // after 250
	k.restart()
	k.relayed(id)
	if n := k.copies("half"); n != 0 {
		t.Errorf("half arrived %d times", n)
	}
	for subject, id := range map[string]string{"committed": m[1], "answered": id} {
		if n := k.copies(subject); n == 0 || n > 2 || n == 2 && !k.doubted(id) {
			t.Errorf("%s: %d copies, in doubt %v", subject, n, k.doubted(id))
		}
	}
}

// TestKillAtRandom is SIGKILL at random moments: under 8 senders, and while the next daemon starts, takes up what was
// left, or drains. POSTERN_KILLS sets how often, for the long form.
func TestKillAtRandom(t *testing.T) {
	kills := 6
	if n, err := strconv.Atoi(os.Getenv("POSTERN_KILLS")); err == nil {
		kills = n
	}
	for _, transport := range []string{"smtp", "graph"} {
		t.Run(transport, func(t *testing.T) {
			k := newKilling(t, transport)
			acked := map[string]bool{}
			for round := range kills {
				if round%2 == 1 {
					k.killWithin(rand.N(400 * time.Millisecond))
					k.restart()
					continue
				}
				for _, s := range k.d.sendUntilKilled(round, 8, 1+rand.N(60)) {
					acked[s] = true
				}
			}
			if kills%2 == 1 {
				k.restart()
			}
			held := drain(t, k.box, k.file, kills)
			copies, lost := arrivals(t, k.box, acked, k.d)
			extra, silent := 0, 0
			doubted := map[string]bool{}
			for _, m := range doubtLine.FindAllStringSubmatch(k.logs.String()+k.d.text(), -1) {
				doubted[m[1]] = true
			}
			for _, r := range k.box.Received() {
				subject := subjectLine.FindStringSubmatch(string(r.Raw))[1]
				if n := copies[subject]; n > 1 {
					extra++ // counted once for each copy, so the first is taken off below
					if !doubted[strings.Trim(r.MessageID, "<>")] {
						silent++
					}
				}
			}
			for s, n := range copies {
				if n > 1 {
					extra--
				}
				if n > 2 {
					t.Errorf("%s arrived %d times", s, n)
				}
			}
			if silent > 0 {
				t.Errorf("%d copies were not recorded as in doubt", silent)
			}
			t.Logf("%s: %d kills, acked %d, lost %d, extra copies %d, in doubt %d, held %d", transport, kills, len(acked), lost, extra, len(doubted), held)
		})
	}
}
