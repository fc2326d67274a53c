package submission

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var session = envelope.Session{User: "nav", Listener: "127.0.0.1:25", Remote: netip.MustParseAddr("192.0.2.31"), Helo: "erp01.c.test", Protocol: "ESMTPA"}

// options are those of a small house: three accounts, and no user yet.
func options(t testing.TB, q Enqueuer) Options {
	t.Helper()
	return Options{
		Hostname: "bridge.c.test", DefaultDomain: "c.test", Default: "erp", Queue: q,
		Accounts: []Account{
			{Name: "erp", Mailbox: address(t, "erp@c.test")},
			{Name: "svc", Mailbox: address(t, "shared@c.test"), Login: address(t, "svc@c.test")},
			{Name: "any", Mailbox: address(t, "*@c.test")},
		},
		Now: func() time.Time { return time.Date(2026, 11, 2, 10, 0, 0, 0, time.FixedZone("CET", 3600)) },
	}
}

// queue is an Enqueuer that keeps messages in memory.
type queue struct {
	messages []message.Message
	bodies   []string
	err      error  // returned instead
	after    func() // called once the body is read
	swallow  bool   // the body's error is not handed on
	ctx      error  // ctx.Err() at the end
}

func (q *queue) Enqueue(ctx context.Context, m message.Message, body io.Reader) error {
	if q.err != nil {
		return q.err
	}
	text, err := io.ReadAll(body)
	if err != nil && !q.swallow {
		return fmt.Errorf("enqueue %s: %w", m.ID, err)
	}
	if q.after != nil {
		q.after()
	}
	q.ctx = ctx.Err()
	q.messages, q.bodies = append(q.messages, m), append(q.bodies, string(text))
	return nil
}

// newDesk makes a desk with one user.
func newDesk(t testing.TB, q Enqueuer, u User) *Desk {
	t.Helper()
	o := options(t, q)
	u.Name = "nav"
	o.Users = []User{u}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func envelopeTo(t testing.TB, recipients ...string) envelope.Envelope {
	t.Helper()
	env := envelope.Envelope{ReversePath: address(t, "app@c.test")}
	for _, r := range recipients {
		env.Recipients = append(env.Recipients, address(t, r))
	}
	return env
}

func checkReply(t *testing.T, err error, want string) {
	t.Helper()
	var refusal *reply.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("error %v, want a reply %s", err, want)
	}
	if got := fmt.Sprintf("%d %s", refusal.Code, refusal.Enhanced); got != want {
		t.Errorf("reply %q, want %s", refusal, want)
	}
	line := fmt.Sprintf("%d %s %s", refusal.Code, refusal.Enhanced, refusal.Text)
	if len(line) > 510 || strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
		t.Errorf("the reply is no line of printable US-ASCII under 512 octets: %q", line)
	}
}

func TestAcceptedMessage(t *testing.T) {
	for _, tc := range []struct {
		name, file, in string
		session        envelope.Session
		to             []string
	}{
		{"a message without Date, Message-ID and From", "bare.eml", "Subject: hello\r\n\r\nbody\r\n", session, []string{"to@d.test"}},
		{"a complete message gets its trace only", "complete.eml", "From: erp@c.test\r\nDate: Mon, 2 Nov 2026 09:59:00 +0100\r\nmessage-id:\r\n <1@erp01.c.test>\r\nTo: to@d.test\r\nBcc: hidden@d.test\r\n\r\nbody\r\n",
			session, []string{"to@d.test", "hidden@d.test"}},
		{"nothing at all", "empty.eml", "", envelope.Session{User: "nav", Remote: netip.MustParseAddr("2001:db8::1"), Helo: "bad (helo) by x"}, []string{"to@d.test"}},
		{"a text without header", "text.eml", "Backup of db01 finished.\r\nErrors: 0\r\n", session, []string{"j\u00fcrgen@d.test"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := &queue{}
			d := newDesk(t, q, User{})
			id, err := d.Submit(t.Context(), tc.session, envelopeTo(t, tc.to...), strings.NewReader(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			m := q.messages[0]
			if _, err := envelope.ParseID(string(id)); err != nil || m.ID != id || m.Session != tc.session || m.Accepted.Location() != time.UTC {
				t.Errorf("id %q, message %+v, %v", id, m, err)
			}
			if came := strings.TrimSuffix(string(m.Header), "\r\n") + strings.TrimPrefix(q.bodies[0], "\r\n"); strings.ReplaceAll(came, "\r\n", "") != strings.ReplaceAll(tc.in, "\r\n", "") {
				t.Errorf("queued is not what came: %q, %q", m.Header, q.bodies[0])
			}
			final, err := message.Apply(m.Header, m.Plan.Edits)
			if err != nil {
				t.Fatal(err)
			}
			if h, err := message.ParseHeader(final); err != nil || h.MessageID() != m.Plan.MessageID || h.Get(message.MarkerField) != string(id) {
				t.Errorf("Message-ID %q, in the plan %q, %v", h.MessageID(), m.Plan.MessageID, err)
			}
			golden(t, tc.file, bytes.ReplaceAll(append(final, q.bodies[0]...), []byte(id), []byte("QUEUE-ID")))
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\ngot:\n%s\nwant:\n%s", name, got, want)
	}
}

func TestRefused(t *testing.T) {
	received := strings.Repeat("Received: from a by b; Mon, 2 Nov 2026 10:00:00 +0100\r\n", maxReceived)
	for _, tc := range []struct {
		name string
		user User
		in   string
		to   []string
		want string // "" is accepted
	}{
		{"our own marker is a loop", User{}, "x-postern-id: 0123456789abcdef\r\n\r\n", []string{"a@d.test"}, "554 5.4.6"},
		{"a disguised marker is a loop", User{}, "X-Postern-Id :\r\n 0\r\n\r\n", []string{"a@d.test"}, "554 5.4.6"},
		{"a marker in the body is none", User{}, "A: b\r\n\r\nX-Postern-Id: 0\r\n", []string{"a@d.test"}, ""},
		{"50 Received fields are taken", User{}, received + "\r\n", []string{"a@d.test"}, ""},
		{"51 Received fields are a loop", User{}, received + "Received: x\r\n\r\n", []string{"a@d.test"}, "554 5.4.6"},
		{"a NUL in the header", User{}, "Subject: a\x00b\r\n\r\n", []string{"a@d.test"}, "550 5.6.0"},
		{"a bare CR in the header", User{}, "Subject: a\rFrom: boss@c.test\r\n\r\n", []string{"a@d.test"}, "550 5.6.0"},
		{"a header over the limit", User{}, "X: " + strings.Repeat("x", message.HeaderLimit) + "\r\n\r\n", []string{"a@d.test"}, "552 5.3.4"},
		{"no recipient", User{}, "\r\n", nil, "554 5.5.1"},
		{"as many recipients as may be", User{MaxRecipients: 2}, "\r\n", []string{"a@d.test", "b@d.test"}, ""},
		{"one recipient too many", User{MaxRecipients: 2}, "\r\n", []string{"a@d.test", "b@d.test", "c@d.test"}, "550 5.5.3"},
		{"a recipient that is allowed", User{MaySendTo: []string{"*@d.test", "boss@e.test"}}, "\r\n", []string{"A@D.test", "BOSS@e.test"}, ""},
		{"one recipient of many that is not", User{MaySendTo: []string{"*@d.test"}}, "\r\n", []string{"a@d.test", "a@sub.d.test"}, "550 5.7.1"},
		{"nobody may be written to", User{MaySendTo: []string{}}, "\r\n", []string{"a@d.test"}, "550 5.7.1"},
		{"a message at the limit", User{MaxMessage: 10}, "\r\n12345678", []string{"a@d.test"}, ""},
		{"a message over the limit", User{MaxMessage: 10}, "\r\n123456789", []string{"a@d.test"}, "552 5.3.4"},
		{"a large message over the limit", User{MaxMessage: 1e5}, "\r\n" + strings.Repeat("1234567\r\n", 1e5), []string{"a@d.test"}, "552 5.3.4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := &queue{}
			id, err := newDesk(t, q, tc.user).Submit(t.Context(), session, envelopeTo(t, tc.to...), strings.NewReader(tc.in))
			if tc.want == "" {
				if err != nil || id == "" || len(q.messages) != 1 {
					t.Errorf("Submit = %q, %v", id, err)
				}
				return
			}
			checkReply(t, err, tc.want)
			if len(q.messages) > 0 || id != "" {
				t.Errorf("refused, and queued as %q", id)
			}
		})
	}
}

func TestTheSmallerLimitCounts(t *testing.T) {
	for _, tc := range []struct{ account, user, want int64 }{{0, 0, 0}, {10, 0, 10}, {0, 10, 10}, {10, 20, 10}, {20, 10, 10}} {
		u := &user{User: User{MaxMessage: tc.user}, account: &Account{MaxMessage: tc.account}}
		if got := u.maxMessage(); got != tc.want {
			t.Errorf("account %d and user %d give %d, want %d", tc.account, tc.user, got, tc.want)
		}
	}
}

func TestUnknownUserIsTemporary(t *testing.T) {
	s := session
	s.User = "gone\r\n"
	_, err := newDesk(t, &queue{}, User{}).Submit(t.Context(), s, envelopeTo(t, "a@d.test"), strings.NewReader(""))
	checkReply(t, err, "451 4.3.5")
}

func TestRefusalNamesUserAddressAndRule(t *testing.T) {
	d := newDesk(t, &queue{}, User{MaySendAs: []string{"*@c.test", "a@b.test", "c@b.test", "d@b.test", "e@b.test"}})
	_, err := d.Submit(t.Context(), session, envelopeTo(t, "a@d.test"), strings.NewReader("From: boss@evil.test\r\n\r\n"))
	checkReply(t, err, "550 5.7.1")
	want := `user "nav" may not send as "boss@evil.test": may_send_as allows "*@c.test", "a@b.test", "c@b.test", and 2 more`
	if !strings.Contains(err.Error(), want) {
		t.Errorf("the refusal %q does not say %q", err, want)
	}
}

func TestFailuresOfData(t *testing.T) {
	broken := errors.New("connection reset")
	smuggled := &reply.Error{Code: 550, Enhanced: "5.5.2", Text: "bare CR in the message"}
	long := "A: b\r\n\r\n" + strings.Repeat("x", 1e5)
	for _, tc := range []struct {
		name, in string
		err      error
		swallow  bool
		want     string
	}{
		{"the client goes within the header", "A: b", broken, false, "451 4.4.2"},
		{"the client goes within the body", long, broken, false, "451 4.4.2"},
		{"the client goes and the queue does not notice", long, broken, true, "451 4.4.2"},
		{"what the listener refuses in the body stays", long, smuggled, false, "550 5.5.2"},
		{"what the listener refuses in the header stays", "A: b", fmt.Errorf("data: %w", smuggled), false, "550 5.5.2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDesk(t, &queue{swallow: tc.swallow}, User{})
			id, err := d.Submit(t.Context(), session, envelopeTo(t, "a@d.test"), io.MultiReader(strings.NewReader(tc.in), iotest.ErrReader(tc.err)))
			checkReply(t, err, tc.want)
			if id != "" {
				t.Errorf("id %q", id)
			}
		})
	}
}

func TestFailuresOfTheQueue(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"a reply passes through", fmt.Errorf("enqueue: %w", &reply.Error{Code: 452, Enhanced: "4.3.1", Text: "disk full"}), "452 4.3.1"},
		{"anything else is temporary", errors.New("database is locked at C:\\secret"), "451 4.3.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sink := &recorder{}
			o := options(t, &queue{err: tc.err})
			o.Users, o.Events = []User{{Name: "nav"}}, event.NewBus(sink)
			d, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.Submit(t.Context(), session, envelopeTo(t, "a@d.test"), strings.NewReader(""))
			checkReply(t, err, tc.want)
			var refusal *reply.Error
			if errors.As(err, &refusal); strings.Contains(refusal.Text, "secret") {
				t.Errorf("the text %q shows the cause", refusal.Text)
			}
			if len(sink.events) != 1 || sink.events[0].Kind != event.MessageRefused {
				t.Errorf("events %+v", sink.events)
			}
		})
	}
}

func TestCommitOutlivesTheSession(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	q := &queue{after: cancel}
	id, err := newDesk(t, q, User{}).Submit(ctx, session, envelopeTo(t, "a@d.test"), strings.NewReader("A: b\r\n\r\nbody"))
	if err != nil || id == "" || q.ctx != nil {
		t.Errorf("Submit = %q, %v; the commit's context: %v", id, err, q.ctx)
	}
}

func TestSessionThatEndsWithinTheBodyQueuesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	q := &queue{}
	data := io.MultiReader(strings.NewReader("A: b\r\n\r\n"), readerFunc(func(p []byte) (int, error) { cancel(); p[0] = 'x'; return 1, nil }))
	_, err := newDesk(t, q, User{}).Submit(ctx, session, envelopeTo(t, "a@d.test"), data)
	checkReply(t, err, "451 4.4.2")
	if len(q.messages) != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("queued %d, %v", len(q.messages), err)
	}
}

// TestEachMessageHasItsOwnBody: messages are read by readers that others have used, and of some nobody has read the end.
func TestEachMessageHasItsOwnBody(t *testing.T) {
	var q enqueuerFunc = func(_ context.Context, m message.Message, body io.Reader) error {
		text := make([]byte, 600)
		if m.Plan.MessageID == "<0@c.test>" {
			_, err := io.ReadFull(body, text)
			return errors.Join(err, errors.New("the disk is gone"))
		}
		all, err := io.ReadAll(body)
		if n := strings.TrimSuffix(m.Plan.MessageID, "@c.test>")[1:]; err != nil || string(all) != strings.Repeat(n+"\r\n", 1000) {
			t.Errorf("message %s has the body %.40q, %v", m.Plan.MessageID, all, err)
		}
		return err
	}
	d := newDesk(t, q, User{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for n := range 40 {
				text := fmt.Sprintf("From: erp@c.test\r\nMessage-ID: <%d@c.test>\r\n\r\n", n%4) + strings.Repeat(fmt.Sprint(n%4)+"\r\n", 1000)
				if _, err := d.Submit(t.Context(), session, envelopeTo(t, "a@d.test"), strings.NewReader(text)); (err == nil) != (n%4 > 0) {
					t.Errorf("message %d: %v", n, err)
				}
			}
		})
	}
	clients.Wait()
}

type enqueuerFunc func(ctx context.Context, m message.Message, body io.Reader) error

func (f enqueuerFunc) Enqueue(ctx context.Context, m message.Message, body io.Reader) error {
	return f(ctx, m, body)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// recorder is a sink that keeps events.
type recorder struct{ events []event.Event }

func (r *recorder) Handle(_ context.Context, e event.Event) { r.events = append(r.events, e) }

func TestEvents(t *testing.T) {
	sink := &recorder{}
	o := options(t, &queue{})
	o.Users, o.Events = []User{{Name: "nav"}}, event.NewBus(sink)
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	in := "Message-ID: <1@c.test>\r\nSubject: secret plan\r\n\r\nbody"
	id, err := d.Submit(t.Context(), session, envelopeTo(t, "a@d.test", "b@d.test"), strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Submit(t.Context(), session, envelopeTo(t, "a@d.test"), strings.NewReader("From: boss@c.test\r\n"+in)); err == nil {
		t.Fatal("accepted")
	}
	want := []map[string]string{
		{"queue_id": string(id), "message_id": "<1@c.test>", "user": "nav", "account": "erp", "remote": "192.0.2.31", "listener": "127.0.0.1:25",
			"header_from": "erp@c.test", "reverse_path": "app@c.test", "recipients": "2", "size": fmt.Sprint(len(in))},
		{"message_id": "<1@c.test>", "user": "nav", "account": "erp", "remote": "192.0.2.31", "listener": "127.0.0.1:25", "reverse_path": "app@c.test", "recipients": "1",
			"reply": `550 5.7.1 user "nav" may not send as "boss@c.test": may_send_as allows "erp@c.test"`},
	}
	if len(sink.events) != 2 || sink.events[0].Kind != event.MessageAccepted || sink.events[1].Kind != event.MessageRefused ||
		sink.events[0].Level != slog.LevelInfo || sink.events[1].Level != slog.LevelWarn {
		t.Fatalf("events %+v", sink.events)
	}
	for i, e := range sink.events {
		for _, a := range e.Attrs {
			if got := a.Value.String(); got != want[i][a.Key] {
				t.Errorf("event %d: %s is %q, want %q", i, a.Key, got, want[i][a.Key])
			}
			delete(want[i], a.Key)
		}
		if len(want[i]) > 0 {
			t.Errorf("event %d lacks %v", i, want[i])
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"no host name", func(o *Options) { o.Hostname = "" }, "hostname"},
		{"a host name with a line feed", func(o *Options) { o.Hostname = "a\nb" }, "hostname"},
		{"no queue", func(o *Options) { o.Queue = nil }, "no queue"},
		{"an account twice", func(o *Options) { o.Accounts = append(o.Accounts, o.Accounts[0]) }, `account "erp"`},
		{"an account without mailbox", func(o *Options) { o.Accounts[0].Mailbox = envelope.Address{} }, `account "erp"`},
		{"a user of no account", func(o *Options) { o.Default = "" }, "none is the default"},
		{"a user of an unknown account", func(o *Options) { o.Users[0].Account = "nobody" }, `there is no account "nobody"`},
		{"a user twice", func(o *Options) { o.Users = append(o.Users, o.Users[0]) }, `user "nav": there twice`},
		{"an unknown mode", func(o *Options) { o.Users[0].Sender = &Sender{Mode: "fake"} }, `no mode "fake"`},
		{"an unknown otherwise", func(o *Options) { o.Users[0].Sender = &Sender{Otherwise: "drop"} }, `not "drop"`},
		{"send-as nobody", func(o *Options) { o.Users[0].Sender = &Sender{Mode: SendAs} }, "needs an address"},
		{"a reply_to that is no address", func(o *Options) { o.Users[0].Sender = &Sender{ReplyTo: "Original"} }, `reply_to "Original"`},
		{"a star within a local part", func(o *Options) { o.Users[0].MaySendAs = []string{"no*@c.test"} }, "may_send_as"},
		{"a star in a domain", func(o *Options) { o.Users[0].MaySendTo = []string{"*@*.c.test"} }, "may_send_to"},
		{"many mailboxes as the account's", func(o *Options) { o.Users[0].Account, o.Users[0].Sender = "any", &Sender{Mode: AsAccount} }, "give the user an address in c.test"},
		{"many mailboxes on behalf", func(o *Options) { o.Users[0].Account, o.Users[0].Sender = "any", &Sender{Mode: OnBehalf} }, "on-behalf"},
		{"many mailboxes and one of another domain", func(o *Options) {
			o.Users[0].Account, o.Users[0].Sender = "any", &Sender{Mode: SendAs, Address: envelope.Address{Local: "a", Domain: "d.test"}}
		}, "no mailbox of c.test"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := options(t, &queue{})
			o.Users = []User{{Name: "nav"}}
			tc.change(&o)
			if d, err := New(o); err == nil || d != nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("New = %v, %v; want an error with %q", d, err, tc.want)
			}
		})
	}
	o := options(t, nil)
	o.Hostname, o.Users = "", []User{{Name: "a", Account: "x"}, {Name: "b", Account: "y"}}
	if _, err := New(o); err == nil || len(strings.Split(err.Error(), "\n")) != 4 {
		t.Errorf("not all mistakes at once: %v", err)
	}
}

func TestASingleAccountIsTheDefault(t *testing.T) {
	o := options(t, &queue{})
	o.Default, o.Accounts, o.Users = "", o.Accounts[:1], []User{{Name: "nav"}}
	d, err := New(o)
	if err != nil || d.users["nav"].account.Name != "erp" {
		t.Errorf("New: %v", err)
	}
}

// FuzzSubmit looks for a header that gets another sender through than the one that was allowed.
func FuzzSubmit(f *testing.F) {
	for _, p := range policies {
		f.Add(strings.Join(p.header, "\r\n") + "\r\n\r\nx")
	}
	for _, s := range []string{"From: =?utf-8?q?a?= <erp@c.test>", "From : <erp@c.test>", "From:\r\n erp@c.test\r\n (x)", "X: y\r\n \r\nFrom: erp@c.test"} {
		f.Add(s + "\r\n\r\n")
	}
	f.Fuzz(func(t *testing.T, in string) {
		q := &queue{}
		if _, err := newDesk(t, q, User{}).Submit(t.Context(), session, envelopeTo(t, "a@d.test"), strings.NewReader(in)); err != nil {
			return
		}
		m := q.messages[0]
		out, err := message.Apply(m.Header, m.Plan.Edits)
		if err != nil {
			t.Fatal(err)
		}
		if from := mailFrom(t, out); from != "erp@c.test" {
			t.Fatalf("net/mail reads From %q in %q", from, out)
		}
	})
}
