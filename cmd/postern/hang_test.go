package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/smtp"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"postern/bridge/sandbox"
	"postern/bridge/users"
)

// hang is a server that does not answer, and knows whether its clients still wait.
type hang struct {
	addr string

	mu     sync.Mutex // guards what follows
	moved  sync.Cond  // on mu: a client came or went
	n      int        // clients that wait
	gaveUp int        // that waited no longer
}

func newHang(addr string) *hang {
	h := &hang{addr: addr}
	h.moved.L = &h.mu
	return h
}

func (h *hang) count(more, gaveUp int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n += more
	h.gaveUp += gaveUp
	h.moved.Broadcast()
}

// await waits until so many clients wait.
func (h *hang) await(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.n != n {
		h.moved.Wait()
	}
}

func (h *hang) left() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gaveUp
}

// smarthostThatNeverGreets takes connections and says nothing.
func smarthostThatNeverGreets(t *testing.T) *hang {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := newHang(l.Addr().String())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.count(1, 0)
			go func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 1)) // until the client gives up
				h.count(-1, 1)
			}()
		}
	}()
	return h
}

// tokensThatHang passes on what is asked of the authority until hangs is set.
func tokensThatHang(t *testing.T, authority string, hangs *atomic.Bool) *hang {
	to, err := url.Parse(authority)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := newHang(l.Addr().String())
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: to.Scheme, Host: to.Host}) }}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hangs.Load() {
			_ = r.ParseForm() // read to its end: then the server sees the client go
			h.count(1, 0)
			<-r.Context().Done()
			h.count(-1, 1)
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return h
}

// crowd is a daemon with an account whose smarthost never greets, one whose tokens never come, and others.
type crowd struct {
	*killing
	mute, slow *hang
	hangs      atomic.Bool // the tokens
	others     []string
}

func newCrowd(t *testing.T) *crowd {
	box := startSandbox(t)
	c := &crowd{killing: &killing{t: t, box: box}, mute: smarthostThatNeverGreets(t)}
	c.slow = tokensThatHang(t, box.Authority(), &c.hangs)
	authority, err := url.Parse(box.Authority())
	if err != nil {
		t.Fatal(err)
	}
	hash, err := users.Hash(password)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	text := "[bridge]\nhostname = \"bridge.contoso.test\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n" +
		box.ConfigTOML("contoso", sandbox.PublicClientID) +
		strings.ReplaceAll(box.ConfigTOML("mute", sandbox.PublicClientID), box.SMTPAddr(), c.mute.addr) +
		strings.ReplaceAll(box.ConfigTOML("slow", sandbox.PublicClientID), fmt.Sprintf("authority = \"%s://%s", authority.Scheme, authority.Host),
			fmt.Sprintf("authority = \"http://%s", c.slow.addr))
	add := func(name, provider, transport string) {
		box.SetMailbox(sandbox.Mailbox{Address: name + "@contoso.test"})
		text += fmt.Sprintf("[[account]]\nname = %[1]q\nprovider = %[2]q\nmailbox = \"%[1]s@contoso.test\"\ntransport = %[3]q\nrate_per_minute = 0\n"+
			"[[user]]\nname = %[1]q\naccount = %[1]q\npassword = '%[4]s'\nsender = { mode = \"account\" }\n", name, provider, transport, hash)
	}
	add("mute", "mute", "smtp")
	add("slow", "slow", "smtp")
	for i := range 6 {
		name := fmt.Sprintf("other%d", i)
		add(name, "contoso", []string{"smtp", "graph"}[i%2])
		c.others = append(c.others, name)
	}
	c.file = filepath.Join(dir, "postern.toml")
	if err := os.WriteFile(c.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.d = startDaemon(t, c.file)
	for _, name := range append([]string{"mute", "slow"}, c.others...) {
		if out, status := outcome(t, box.RefreshToken(name+"@contoso.test").Reveal(), "signin", name, "--refresh-token", "-", "--config", c.file); status != 0 {
			t.Fatal(out)
		}
	}
	return c
}

// sendAs hands in so many messages of that account.
func (c *crowd) sendAs(name string, n int) {
	c.t.Helper()
	for i := range n {
		err := smtp.SendMail(c.d.addr, smtp.PlainAuth("", name, password, "127.0.0.1"), name+"@contoso.test", []string{"customer@example.test"},
			fmt.Appendf(nil, "From: %s@contoso.test\r\nTo: customer@example.test\r\nSubject: %d\r\n\r\ninvoice\r\n", name, i))
		if err != nil {
			c.t.Fatalf("%s: %v\n%s", name, err, c.d.text())
		}
	}
}

// othersFlow demands that all mail of the other accounts is relayed while nobody at the two that hang has given up.
func (c *crowd) othersFlow() {
	c.t.Helper()
	mute, slow := c.mute.left(), c.slow.left()
	const each = 5
	for _, name := range c.others {
		c.sendAs(name, each)
	}
	for _, name := range c.others {
		re := regexp.MustCompile(fmt.Sprintf(`(?s)(?:msg="message relayed" [^\n]* account=%s .*){%d}|msg="(account paused|token failed)"`, name, each))
		if m := c.d.await(re); m == nil || m[1] != "" {
			c.t.Fatalf("what hangs has ended, and mail of %s was not relayed before:\n%s", name, c.d.text())
		}
	}
	if m, s := c.mute.left()-mute, c.slow.left()-slow; m+s > 0 {
		c.t.Errorf("the others' mail was relayed after %d connections that hang and %d requests for a token had ended; want it beside them", m, s)
	}
}

// TestHangingAccounts: neither a smarthost that never greets nor a token that never comes delays another account, in
// the whole program; nor after an unclean stop in the middle of it.
func TestHangingAccounts(t *testing.T) {
	c := newCrowd(t)
	c.hangs.Store(true)
	c.restart() // which has no access token yet
	c.sendAs("slow", 3)
	c.slow.await(1)
	c.sendAs("mute", 4)
	c.mute.await(3) // as many as an account may have in flight
	c.othersFlow()
	c.d.kill()
	c.slow.await(0)
	c.mute.await(0)
	c.restart()
	c.slow.await(1)
	c.othersFlow()
}
