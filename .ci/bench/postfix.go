package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// postfix is the installed Postfix with a configuration and a queue of its own.
type postfix struct {
	dir, conf, addr string
	auth            bool
	sink            *sink
	master          int // its process
}

// newPostfix returns nil where Postfix is not installed.
func newPostfix(dir string, s *sink) *postfix {
	if _, err := exec.LookPath("postfix"); err != nil {
		return nil
	}
	plugins, _ := filepath.Glob("/usr/lib/*/sasl2/libplain.so")
	p := &postfix{dir: dir, conf: filepath.Join(dir, "etc"), sink: s, auth: len(plugins) > 0}
	if !p.auth {
		fmt.Println("Cyrus SASL has no PLAIN here (libsasl2-modules): Postfix relays without AUTH.")
	}
	return p
}

// Postfix as the distribution has it, but for what would slow it here: no peer names, no limits for one client, no log
// (nobody listens), its queue manager out of the way while mail is accepted (HOLD), 20 connections at once from the
// beginning, and TLS connections used again.
const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
mail_owner = postfix
myhostname = postfix.contoso.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
relayhost = [127.0.0.1]:%[2]s
smtpd_recipient_restrictions = check_client_access static:HOLD, permit_mynetworks, reject
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
disable_dns_lookups = yes
smtp_host_lookup = native
smtp_tls_security_level = encrypt
smtp_tls_CAfile = %[3]s
smtp_tls_connection_reuse = yes
smtp_tls_session_cache_database = btree:%[1]s/data/smtp_scache
smtp_destination_concurrency_limit = %[4]d
initial_destination_concurrency = %[4]d
smtp_sasl_auth_enable = %[5]s
smtp_sasl_password_maps = static:erp@contoso.test:ya29.token-of-some-length-ya29.token-of-some-length
smtp_sasl_security_options = noanonymous
smtp_sasl_mechanism_filter = plain
`

const masterCF = `127.0.0.1:%s inet n - n - - smtpd
pickup    unix n - n 60 1 pickup
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
tlsproxy  unix - - n - 0 tlsproxy
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
showq     unix n - n - - showq
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
`

func (p *postfix) name() string    { return "postfix" }
func (p *postfix) address() string { return p.addr }

func (p *postfix) start(ctx context.Context) error {
	if err := os.RemoveAll(p.dir); err != nil {
		return err
	}
	for _, d := range []string{p.conf, filepath.Join(p.dir, "spool"), filepath.Join(p.dir, "data")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := exec.Command("chown", "postfix", filepath.Join(p.dir, "data")).Run(); err != nil {
		return fmt.Errorf("chown: %w (bench runs as root)", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.addr = l.Addr().String()
	l.Close()
	_, own, _ := net.SplitHostPort(p.addr)
	_, port, _ := net.SplitHostPort(p.sink.listener.Addr().String())
	yes := map[bool]string{true: "yes", false: "no"}[p.auth]
	if err := os.WriteFile(filepath.Join(p.conf, "main.cf"), fmt.Appendf(nil, mainCF, p.dir, port, p.sink.caFile, connections, yes), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.conf, "master.cf"), fmt.Appendf(nil, masterCF, own), 0o644); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "postfix", "-c", p.conf, "start").CombinedOutput(); err != nil {
		return fmt.Errorf("postfix start: %w: %s", err, out)
	}
	for range 200 {
		text, err := os.ReadFile(filepath.Join(p.dir, "spool", "pid", "master.pid"))
		if _, scanErr := fmt.Sscan(string(text), &p.master); err == nil && scanErr == nil {
			if c, err := net.Dial("tcp", p.addr); err == nil {
				c.Close()
				return nil
			}
		}
		pause()
	}
	return errors.New("it does not start")
}

// letGo takes all mail off hold, into the deferred queue, and has that tried at once.
func (p *postfix) letGo(ctx context.Context) error {
	if out, err := exec.CommandContext(ctx, "postsuper", "-c", p.conf, "-H", "ALL").CombinedOutput(); err != nil {
		return fmt.Errorf("postsuper: %w: %s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "postqueue", "-c", p.conf, "-f").CombinedOutput(); err != nil {
		return fmt.Errorf("postqueue: %w: %s", err, out)
	}
	return nil
}

// memory adds up what each process has for itself and its share of what they share (PSS): its kindest figure.
func (p *postfix) memory() (sum int64) {
	out, err := exec.Command("pgrep", "-P", fmt.Sprint(p.master)).Output()
	if err != nil {
		return 0
	}
	for _, pid := range append(strings.Fields(string(out)), fmt.Sprint(p.master)) {
		sum += proportionalSet(pid)
	}
	return sum
}

func (p *postfix) stop() {
	if p.master != 0 {
		exec.Command("postfix", "-c", p.conf, "stop").Run()
		p.master = 0
	}
}
