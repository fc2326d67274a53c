package bridge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/bridge/config"
	"postern/bridge/sandbox"
)

// loadConfig has a listener with its default limits, one with room for the test, and one with TLS.
const loadConfig = `
[bridge]
hostname = "bridge.contoso.test"
data_dir = "data"

[[listener]]
address = "127.0.0.1:0"

[[listener]]
address = "127.0.0.1:0"
max_connections = 10000

[[listener]]
address = "127.0.0.1:0"
max_connections = 10000
tls = "implicit"
tls_cert = "cert.pem"
tls_key = "key.pem"

{CONFIDENTIAL}
[[account]]
name = "erp"
provider = "contoso"
mailbox = "erp@contoso.test"
signin = "app-only"
transport = "graph"
rate_per_minute = 0

[[user]]
name = "nav"
password = '{HASH}'
sender = { mode = "account" }
`

// loadSize is how hard the test pushes. The long form is what the README prints.
type loadSize struct {
	idle, connections, tlsIdle, slow int
	line, header                     int // octets
	recipients, depth, messages      int
}

var (
	shortLoad = loadSize{idle: 1000, connections: 1200, tlsIdle: 500, slow: 5, line: 4 << 20, header: 1 << 20, recipients: 3000, depth: 10_000, messages: 30}
	longLoad  = loadSize{idle: 1000, connections: 5000, tlsIdle: 1000, slow: 100, line: 100 << 20, header: 1 << 20, recipients: 100_000, depth: 10_000, messages: 1000}
)

// TestLoad fills a bridge in a process of its own with hostile clients, looks at its memory, and sends mail meanwhile.
// POSTERN_LOAD=long is the long form; it needs 12,000 open files.
func TestLoad(t *testing.T) {
	size, long := shortLoad, os.Getenv("POSTERN_LOAD") == "long"
	if long {
		size = longLoad
	}
	l := newLoad(t)
	l.warmUp()
	begin := l.rss("at the start, after ten messages")
	l.attackAlone(size, begin)
	l.waitForMail()

	idle := l.idleClients(size, l.rss("after hostile clients alone"))
	full := l.rss(fmt.Sprintf("with %d clients", size.connections+size.tlsIdle))
	peak, stop := l.watch()
	slow := l.slowSenders(size.slow)
	var attack sync.WaitGroup
	attack.Go(func() { l.attack(size) })
	p50, p99 := l.goodClient(1, size.messages)
	attack.Wait()
	stop()
	t.Logf("a good client meanwhile: connect, login, message, 250: p50 %v, p99 %v (%d messages)", p50, p99, size.messages)
	if long && p99 > time.Second {
		t.Errorf("p99 %v; want a second at most", p99)
	}
	// Go's collector lets the heap grow to twice what is in use.
	t.Logf("RSS at its peak: %d KB", peak.Load()/1000)
	if most := int64(2*full + 64_000_000); peak.Load() > most && !raceEnabled {
		t.Errorf("RSS at its peak: %d KB; want %d KB at most", peak.Load()/1000, most/1000)
	}

	served, refused := l.flood(size.connections)
	t.Logf("%d clients at a listener with max_connections = 200: %d greeted, %d told 421; an application that worked before is served", size.connections, served, refused)
	if served > 160 || served+refused != size.connections {
		t.Errorf("%d greeted, %d refused", served, refused)
	}
	for _, c := range slices.Concat(idle, slow) {
		c.Close()
	}
	l.waitForMail()
	l.settle(begin + 40_000_000)
}

// settle waits until the bridge has noticed that its clients are gone and its memory is below most again.
func (l *load) settle(most int) {
	l.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		n := l.collect()
		if n <= most || raceEnabled {
			l.t.Logf("RSS %d KB at the end, with all of them gone", n/1000)
			return
		}
		if time.Now().After(end) {
			l.t.Errorf("RSS stays at %d KB with all clients gone; want %d KB at most", n/1000, most/1000)
			return
		}
	}
}

// attackAlone shows that what hostile clients send is not kept: whatever its size, memory stays where it was.
func (l *load) attackAlone(size loadSize, begin int) {
	l.t.Helper()
	peak, stop := l.watch()
	l.attack(size)
	stop()
	l.t.Logf("RSS at its peak with hostile clients alone: %d KB", peak.Load()/1000)
	if most := int64(begin + 64_000_000); peak.Load() > most && !raceEnabled {
		l.t.Errorf("RSS at its peak with hostile clients alone: %d KB; want %d KB at most", peak.Load()/1000, most/1000)
	}
}

// attack runs every hostile client at once and returns when they have ended.
func (l *load) attack(size loadSize) {
	l.t.Helper()
	var all sync.WaitGroup
	for _, h := range l.hostile(size) {
		all.Go(func() {
			reply := h.run()
			if !slices.ContainsFunc(h.want, func(s string) bool { return strings.HasPrefix(reply, s) }) {
				l.t.Errorf("%s: the last reply is %.100q; want one of %q", h.name, reply, h.want)
			}
			l.t.Logf("%s: %.100s", h.name, reply)
		})
	}
	all.Wait()
}

// idleClients opens clients that do nothing, and says what each costs.
func (l *load) idleClients(size loadSize, before int) (all []net.Conn) {
	l.t.Helper()
	all = l.fill(1, size.idle, "127.0.0.1")
	l.untilResting(size.idle)
	with := l.each("in clear text", size.idle, before, 12_000)
	secure := l.fillTLS(size.tlsIdle)
	l.untilResting(size.idle + size.tlsIdle)
	more := l.each("under TLS", size.tlsIdle, with, 20_000) - with
	// SQLite keeps more pages in memory after so many messages, which is no client's cost: only Go's memory counts from here on.
	heap := l.heap
	if heap == 0 {
		l.t.Error("what is in memory of the heap cannot be read")
	}
	for _, c := range secure {
		l.invoice(c)
		all = append(all, c)
	}
	l.waitForMail()
	l.untilResting(size.idle + size.tlsIdle)
	l.cost("under TLS after a message of 43 KB", size.tlsIdle, more+l.heap-heap, 22_000)
	all = append(all, l.fill(1, size.connections-size.idle, "127.0.0.1")...)
	l.untilResting(size.connections + size.tlsIdle)
	return all
}

// untilResting waits until the bridge has let the library go for that many clients.
func (l *load) untilResting(clients int) {
	l.t.Helper()
	end := time.Now().Add(time.Minute)
	for l.collect(); l.resting < clients; l.collect() {
		if time.Now().After(end) {
			l.t.Fatalf("%d clients rest; want %d", l.resting, clients)
		}
	}
}

// each says what each of n clients that came since costs, and returns the resident memory with them.
func (l *load) each(how string, n, before, most int) (with int) {
	l.t.Helper()
	with = l.collect()
	l.t.Logf("RSS %d KB with %d idle clients %s", with/1000, n, how)
	l.cost(how, n, with-before, most)
	return with
}

// cost says what each of n clients costs that need so much memory together.
func (l *load) cost(how string, n, all, most int) {
	l.t.Helper()
	l.t.Logf("%d octets for each idle client %s", all/n, how)
	if all/n > most && !raceEnabled {
		l.t.Errorf("%d octets for each idle client %s; want %d at most", all/n, how, most)
	}
}

// load is a bridge in another process and the sandbox in this one.
type load struct {
	t     *testing.T
	box   *sandbox.Sandbox
	child *exec.Cmd
	in    io.Writer
	out   *bufio.Scanner
	addrs []string
	sent  atomic.Int64

	resting, heap int // at the last collection: clients; resident octets of Go's heap and stacks
}

const loadChild = "POSTERN_LOAD_CHILD"

func newLoad(t *testing.T) *load {
	dir, err := os.MkdirTemp("", "pl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &load{t: t}
	if l.box, err = sandbox.Start(sandbox.Options{Dir: filepath.Join(dir, "mail")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.box.Close() })
	hash, err := worldHash()
	if err != nil {
		t.Fatal(err)
	}
	writeCertificate(t, dir)
	text := strings.NewReplacer("{CONFIDENTIAL}", l.box.ConfigTOML("contoso", sandbox.ConfidentialClientID), "{HASH}", hash).Replace(loadConfig)
	file := filepath.Join(dir, "postern.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l.child = exec.Command(os.Args[0], "-test.run=^TestLoadServer$", "-test.v")
	l.child.Env = append(os.Environ(), loadChild+"="+file)
	l.child.Stderr = os.Stderr
	in, err := l.child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := l.child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); io.Copy(io.Discard, out); l.child.Wait() })
	l.in, l.out = in, bufio.NewScanner(out)
	l.addrs = strings.Fields(l.answer("listening "))
	return l
}

// TestLoadServer is the other process: a bridge that ends with its standard input, and collects garbage for each line.
func TestLoadServer(t *testing.T) {
	file := os.Getenv(loadChild)
	if file == "" {
		t.Skip("runs as a process of TestLoad")
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b, err := New(ctx, cfg, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	fmt.Print("\nlistening")
	for _, a := range b.Addrs() {
		fmt.Print(" ", a)
	}
	fmt.Println()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		n := resting()
		debug.FreeOSMemory()
		fmt.Printf("\ncollected %d %d\n", n, heapResident())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// resting counts the goroutines that wait for a client that rests.
func resting() (clients int) {
	var stacks bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	alike := 0 // goroutines whose stack follows
	for line := range strings.Lines(stacks.String()) {
		if strings.Contains(line, " @ ") {
			fmt.Sscan(line, &alike)
		} else if strings.Contains(line, "smtpd.(*guard).rest+") {
			clients += alike
		}
	}
	return clients
}

// heapResident is how much of Go's heap and stacks is in memory, in octets: the mappings near an object of the heap, where
// nothing else is.
func heapResident() (n int) {
	object := int(reflect.ValueOf(bytes.Repeat([]byte("x"), 1<<16)).Pointer())
	b, _ := os.ReadFile("/proc/self/smaps")
	near := false
	for line := range strings.Lines(string(b)) {
		var from, to, size int
		if k, _ := fmt.Sscanf(line, "%x-%x", &from, &to); k == 2 {
			near = from < object+1<<30 && to > object-1<<30
		} else if k, _ := fmt.Sscanf(line, "Rss: %d", &size); k == 1 && near {
			n += size * 1024
		}
	}
	return n
}

// answer reads lines of the other process up to one that begins so.
func (l *load) answer(prefix string) string {
	l.t.Helper()
	for l.out.Scan() {
		if rest, ok := strings.CutPrefix(l.out.Text(), prefix); ok {
			return rest
		}
	}
	l.t.Fatalf("the process of the bridge has ended (%v)", l.out.Err())
	return ""
}

// rss returns the resident memory of the bridge after a collection, in octets.
func (l *load) rss(when string) int {
	l.t.Helper()
	n := l.collect()
	l.t.Logf("RSS %d KB %s", n/1000, when)
	return n
}

func (l *load) collect() int {
	l.t.Helper()
	fmt.Fprintln(l.in, "collect")
	fmt.Sscan(l.answer("collected "), &l.resting, &l.heap)
	return l.resident()
}

// resident is VmRSS of proc(5), in octets; 0 where it cannot be read.
func (l *load) resident() (n int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.child.Process.Pid))
	if _, rest, ok := bytes.Cut(b, []byte("VmRSS:")); ok {
		fmt.Sscan(string(rest), &n)
	}
	return n * 1024
}

// watch keeps the largest resident size until stop.
func (l *load) watch() (peak *atomic.Int64, stop func()) {
	peak = new(atomic.Int64)
	tick := time.NewTicker(20 * time.Millisecond)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			peak.Store(max(peak.Load(), int64(l.resident())))
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	return peak, func() { close(done); tick.Stop(); wg.Wait() }
}

// talk is one connection of a client at the given address to one of the listeners.
type talk struct {
	net.Conn
	in *bufio.Reader
}

func (l *load) dial(listener int, from string) (*talk, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 30 * time.Second}
	c, err := d.Dial("tcp", l.addrs[listener])
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(10 * time.Minute)) // a test that hangs ends
	return &talk{c, bufio.NewReaderSize(c, 512)}, nil
}

// say sends lines and returns the last line of the reply to the last of them; "" where the server has closed.
func (c *talk) say(lines ...string) (reply string) {
	for _, line := range lines {
		if line != "" {
			if _, err := io.WriteString(c, line+"\r\n"); err != nil {
				return ""
			}
		}
		for {
			s, err := c.in.ReadString('\n')
			if err != nil {
				return ""
			}
			if reply = strings.TrimSpace(s); len(reply) < 4 || reply[3] != '-' {
				break
			}
		}
	}
	return reply
}

// open goes as far as DATA.
func (l *load) open(from string) *talk {
	c, err := l.dial(1, from)
	if err == nil && strings.HasPrefix(c.say("", "EHLO x", authPlain("nav", worldPassword), "MAIL FROM:<a@erp.local>"), "250") {
		return c
	}
	l.t.Errorf("no session: %v", err)
	return nil
}

// fill opens clients that have said EHLO and are idle.
func (l *load) fill(listener, n int, from string) (all []net.Conn) {
	for range n {
		c, err := l.dial(listener, from)
		if err != nil {
			l.t.Fatal(err)
		}
		if got := c.say("", "EHLO x"); !strings.HasPrefix(got, "250") {
			l.t.Fatalf("client %d is answered %q", len(all), got)
		}
		all = append(all, c)
	}
	return all
}

// fillTLS opens clients that have said EHLO under TLS and are idle.
func (l *load) fillTLS(n int) (all []*talk) {
	for range n {
		c, err := l.dial(2, "127.0.0.1")
		if err != nil {
			l.t.Fatal(err)
		}
		s := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true}) // as OpenSSL: 16 KB a record
		c = &talk{s, bufio.NewReaderSize(s, 512)}
		if got := c.say("", "EHLO x"); !strings.HasPrefix(got, "250") {
			l.t.Fatalf("TLS client %d is answered %q", len(all), got)
		}
		all = append(all, c)
	}
	return all
}

// slowSenders opens n clients in each phase of a session that stop in the middle of what they say there.
func (l *load) slowSenders(n int) (all []net.Conn) {
	for _, steps := range [][]string{
		{""}, {"", "EHLO x"}, {"", "EHLO x", "AUTH LOGIN"}, {"", "EHLO x", authPlain("nav", worldPassword)},
		{"", "EHLO x", authPlain("nav", worldPassword), "MAIL FROM:<a@b.test>"},
		{"", "EHLO x", authPlain("nav", worldPassword), "MAIL FROM:<a@b.test>", "RCPT TO:<c@example.test>"},
		{"", "EHLO x", authPlain("nav", worldPassword), "MAIL FROM:<a@b.test>", "RCPT TO:<c@example.test>", "DATA"},
	} {
		for range n {
			c, err := l.dial(1, "127.0.0.1")
			if err != nil || c.say(steps...) == "" {
				l.t.Fatalf("a slow sender cannot say %q: %v", steps, err)
			}
			io.WriteString(c, "NOO") // half a command, half a password, half a line of text
			all = append(all, c)
		}
	}
	for range n { // in the TLS handshake
		c, err := l.dial(2, "127.0.0.1")
		if err != nil {
			l.t.Fatal(err)
		}
		io.WriteString(c, "\x16\x03\x01\x02\x00\x01")
		all = append(all, c)
	}
	return all
}
