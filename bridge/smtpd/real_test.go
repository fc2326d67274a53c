package smtpd

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the transcripts of real programs anew")

// program is a mail program that is not ours. It sends one message to the server of a job, as nav with the password
// "secret" where it logs in.
type program struct {
	file    string // of testdata: real-FILE.dialogue
	from    string // which programs and devices have it in them
	notable string
	needs   string        // that must be there
	version func() string // of the package
	options string        // of the listener, as in a transcript
	command func(j job) *exec.Cmd
}

// job is what a program is told.
type job struct {
	host, port string
	dir        string // for its files
}

const shortMail = "From: nav@contoso.test\nTo: b@fabrikam.test\nSubject: x\n\none\n.\n.two\n"

// programs are the clients that can be had. Each was captured once, and is captured again wherever it is installed.
var programs = []program{
	{"swaks-plain", "swaks, with which administrators try a listener", "AUTH PLAIN with an initial response.",
		"swaks", debian("swaks"), "", func(j job) *exec.Cmd { return swaks(j, "PLAIN") }},
	{"swaks-login", "swaks, AUTH LOGIN", "The name and the password in two steps, prompted for.",
		"swaks", debian("swaks"), "", func(j job) *exec.Cmd { return swaks(j, "LOGIN") }},
	{"smtplib", "Python's smtplib: scripts, Odoo, Airflow, Home Assistant", "Verbs and the names of parameters in lower case, SIZE of the message.",
		"python3", debian("python3"), "", func(j job) *exec.Cmd { return script(j, "python3", "../testdata/clients/with_smtplib.py") }},
	{"msmtp", "msmtp: cron and mutt on Linux, many containers", "It does not wait between MAIL, RCPT and DATA.",
		"msmtp", debian("msmtp"), "", func(j job) *exec.Cmd {
			return feeding(exec.Command("msmtp", "--file=/dev/null", "--host="+j.host, "--port="+j.port, "--auth=plain", "--tls=off", "--user=nav",
				"--passwordeval=cat "+j.write("password", "secret"), "--from=nav@contoso.test", "b@fabrikam.test"))
		}},
	{"s-nail", "s-nail, the mailx of many distributions", "AUTH LOGIN in two steps.",
		"s-nail", debian("s-nail"), "", func(j job) *exec.Cmd {
			return feeding(exec.Command("s-nail", "-:/", "-Sv15-compat", "-Ssendwait", "-Smta=smtp://nav:secret@"+j.host+":"+j.port,
				"-Ssmtp-config=-starttls", "-Ssmtp-auth=login", "-r", "nav@contoso.test", "-s", "x", "b@fabrikam.test"))
		}},
	{"mutt", "mutt: people and scripts on Unix", "AUTH PLAIN with an authorization identity, which is the user.",
		"mutt", debian("mutt"), "", func(j job) *exec.Cmd {
			return feeding(exec.Command("mutt", "-n", "-F", j.write("muttrc", `set smtp_url="smtp://nav:secret@`+j.host+":"+j.port+`"
set smtp_authenticators="plain:login"
set ssl_starttls=no ssl_force_tls=no copy=no from=nav@contoso.test
`), "-s", "x", "b@fabrikam.test"))
		}},
	{"curl", "curl and libcurl: PHP's curl, backup appliances, monitoring", "AUTH PLAIN without an initial response, SIZE of the message.",
		"curl", debian("curl"), "", func(j job) *exec.Cmd {
			return exec.Command("curl", "--silent", "--show-error", "smtp://"+j.host+":"+j.port+"/client.test", "--user", "nav:secret",
				"--mail-from", "nav@contoso.test", "--mail-rcpt", "b@fabrikam.test", "--upload-file", j.write("eml", shortMail), "--crlf")
		}},
	{"nodemailer", "nodemailer: Node-RED, n8n, Ghost, and whatever else runs on Node", "It leaves without QUIT.",
		"node", func() string { return nodePackage("nodemailer") }, "", func(j job) *exec.Cmd {
			cmd := script(j, "node", "../testdata/clients/nodemailer.js")
			cmd.Env = append(cmd.Env, "NODE_PATH="+filepath.Join(outside("POSTERN_NODE_MODULES", "postern-node"), "node_modules"))
			return cmd
		}},
	{"phpmailer", "PHPMailer: WordPress, Joomla, Moodle, web shops", "AUTH LOGIN, although PLAIN stands before it.",
		"php", debian("libphp-phpmailer"), "", func(j job) *exec.Cmd { return script(j, "php", "../testdata/clients/phpmailer.php") }},
	{"smtp-source", "Postfix's smtp-source, with which mail servers are measured", "HELO, and no login.",
		"smtp-source", debian("postfix"), "at=127.0.0.1/32", func(j job) *exec.Cmd {
			return exec.Command("smtp-source", "-s", "1", "-m", "1", "-f", "nav@contoso.test", "-t", "b@fabrikam.test", j.host+":"+j.port)
		}},
	{"net-smtp", "Perl's Net::SMTP: Nagios and Icinga scripts, Request Tracker, sendmail replacements", "EHLO, and no login.",
		"perl", debian("perl"), "at=127.0.0.1/32", func(j job) *exec.Cmd {
			return exec.Command("perl", "-MNet::SMTP", "-e", `my $s = Net::SMTP->new($ARGV[0], Port => $ARGV[1], Hello => "client.test") or die;
$s->mail('nav@contoso.test') && $s->to('b@fabrikam.test') && $s->data("Subject: x\n\none\n.\n.two\n") && $s->quit or die $s->message;`, j.host, j.port)
		}},
	{"sendemail", "sendEmail: backup and monitoring scripts on Windows and Linux", "AUTH LOGIN, no parameter at MAIL.",
		"sendemail", debian("sendemail"), "", func(j job) *exec.Cmd {
			return exec.Command("sendemail", "-q", "-f", "nav@contoso.test", "-t", "b@fabrikam.test", "-u", "x", "-m", "one", "-s", j.host+":"+j.port,
				"-xu", "nav", "-xp", "secret", "-o", "tls=no")
		}},
	{"esmtp", "esmtp with libesmtp: Balsa, old web servers", "EHLO, and no parameter at MAIL although SIZE and 8BITMIME are announced.",
		"esmtp", debian("esmtp"), "", func(j job) *exec.Cmd {
			return feeding(exec.Command("esmtp", "-C", j.write("esmtprc", "hostname = "+j.host+":"+j.port+"\nusername = \"nav\"\npassword = \"secret\"\nstarttls = disabled\n"),
				"-f", "nav@contoso.test", "b@fabrikam.test"))
		}},
	{"ssmtp", "sSMTP: cron mail of Linux appliances, NAS, Proxmox and Jenkins containers", "AUTH LOGIN in two steps, no parameter at MAIL.",
		unpacked("ssmtp/usr/sbin/ssmtp"), packed("ssmtp"), "", func(j job) *exec.Cmd {
			return feeding(exec.Command(unpacked("ssmtp/usr/sbin/ssmtp"), "-C"+j.write("ssmtp.conf", "mailhub="+j.host+":"+j.port+"\nhostname=client.test\nFromLineOverride=YES\n"),
				"-aunav", "-apsecret", "-amLOGIN", "-fnav@contoso.test", "b@fabrikam.test"))
		}},
	{"nullmailer", "nullmailer: cron mail of servers without a mail server", "AUTH LOGIN with the name on the line of AUTH.",
		unpacked("nullmailer/usr/lib/nullmailer/smtp"), packed("nullmailer"), "", func(j job) *exec.Cmd {
			cmd := exec.Command(unpacked("nullmailer/usr/lib/nullmailer/smtp"), "--host="+j.host, "--port="+j.port, "--user=nav", "--pass=secret", "--auth-login")
			queued, err := os.Open(j.write("queued", "nav@contoso.test\nb@fabrikam.test\n\n"+shortMail))
			if err != nil {
				panic(err)
			}
			cmd.Env = append(os.Environ(), "HELOHOST=client.test")
			cmd.ExtraFiles = []*os.File{queued} // which it reads as its third
			return cmd
		}},
}

func swaks(j job, auth string) *exec.Cmd {
	return exec.Command("swaks", "--server", j.host, "--port", j.port, "--from", "nav@contoso.test", "--to", "b@fabrikam.test", "--silent", "2",
		"--auth", auth, "--auth-user", "nav", "--auth-password", "secret")
}

func script(j job, args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "HOST="+j.host, "PORT="+j.port, "USER_NAME=nav", "PASSWORD=secret",
		"FROM=nav@contoso.test", "TO=b@fabrikam.test", "SUBJECT=x", "ATTACHMENT="+j.write("attachment", "x"))
	return cmd
}

func feeding(cmd *exec.Cmd) *exec.Cmd {
	cmd.Stdin = strings.NewReader(shortMail)
	return cmd
}

// write makes a file for a program and returns its name.
func (j job) write(name, content string) string {
	file := filepath.Join(j.dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		panic(err)
	}
	return file
}

// debian asks which version of a package is installed.
func debian(name string) func() string {
	return func() string {
		out, _ := exec.Command("dpkg-query", "-W", "-f", "${Version}", name).Output()
		return string(out)
	}
}

// outside is a folder that .ci/install fills.
func outside(variable, name string) string {
	if dir := os.Getenv(variable); dir != "" {
		return dir
	}
	return filepath.Join(os.TempDir(), name)
}

func nodePackage(name string) string {
	b, _ := os.ReadFile(filepath.Join(outside("POSTERN_NODE_MODULES", "postern-node"), "node_modules", name, "package.json"))
	var p struct{ Version string }
	json.Unmarshal(b, &p)
	return p.Version
}

// unpacked is a program whose package cannot be installed beside Postfix.
func unpacked(path string) string {
	return filepath.Join(outside("POSTERN_CLIENTS", "postern-clients"), filepath.FromSlash(path))
}

func packed(name string) func() string {
	return func() string {
		b, _ := os.ReadFile(unpacked(name + "/VERSION"))
		return strings.TrimSpace(string(b))
	}
}

// needs skips on a contributor's machine where a program is missing, and fails in CI.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing; .ci/install installs it", program)
	}
	t.Skipf("%s is missing; .ci/install installs it", program)
}

// TestRealPrograms lets each program send a message and compares the dialogue with the one that was captured first. What
// changes from machine to machine is masked: the name in EHLO, SIZE, and the text, whose exactness is TestClients'. The
// transcripts are played by TestDialogues, where no program is needed.
func TestRealPrograms(t *testing.T) {
	for _, p := range programs {
		t.Run(p.file, func(t *testing.T) {
			t.Parallel()
			needs(t, p.needs)
			rec := &recording{}
			h := open(t, dialogueOptions(t, p.options), func(_ *Options, h *house) { h.record = rec })
			host, port, _ := net.SplitHostPort(h.address)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := p.command(job{host: host, port: port, dir: t.TempDir()})
			stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
			defer stop()
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("it ended with %v:\n%s\n%s", err, out, strings.Join(rec.lines(), "\n"))
			}
			h.untilLinks(0)
			got := rec.lines()
			if p.options != "" {
				got = slices.Insert(got, 0, "O: "+p.options)
			}
			for _, m := range h.desk.messages() {
				m.body, m.s.Helo = "(text)\r\n", "client.test"
				got = append(got, "M: "+m.String())
			}
			p.compare(t, got)
		})
	}
}

func (p program) compare(t *testing.T, got []string) {
	file := filepath.Join("testdata", "real-"+p.file+".dialogue")
	if *update {
		head := fmt.Sprintf("# From: %s\n# Captured from version %s. %s\n", p.from, p.version(), p.notable)
		if err := os.WriteFile(file, []byte(head+strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var want []string
	for l := range strings.Lines(string(b)) {
		if !strings.HasPrefix(l, "#") {
			want = append(want, strings.TrimSuffix(l, "\n"))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("version %s speaks otherwise than captured; look at it, and run with -update:\n%s\nwas captured:\n%s",
			p.version(), strings.Join(got, "\n"), b)
	}
}

// TestRealTranscriptsSayTheirVersion: a dozen programs at least were really captured.
func TestRealTranscriptsSayTheirVersion(t *testing.T) {
	form := regexp.MustCompile(`^# From: .{4,}\n# Captured from version [0-9][^ ]*[0-9]\. .{10,}\n`)
	files, _ := filepath.Glob("testdata/real-*.dialogue")
	if len(files) != len(programs) || len(files) < 12 {
		t.Errorf("%d transcripts of %d programs", len(files), len(programs))
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err != nil || !form.Match(b) {
			t.Errorf("%s does not say what was captured (%v)", f, err)
		}
	}
}

// recording is what went over the wire at the listener, in order.
type recording struct {
	mu    sync.Mutex
	parts []part
}

type part struct {
	client bool
	octets string
}

type recordedConn struct {
	net.Conn
	r *recording
}

func (c *recordedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.r.add(true, b[:n])
	return n, err
}

func (c *recordedConn) Write(b []byte) (int, error) {
	c.r.add(false, b)
	return c.Conn.Write(b)
}

func (r *recording) add(client bool, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts = append(r.parts, part{client, string(b)})
}

var (
	ownName  = regexp.MustCompile(`(?i)^((?:EHLO|HELO) +)\S+`)
	ownCount = regexp.MustCompile(`(?i)(SIZE=)\d+`)
)

// lines writes the recording as a transcript: each command and what answered it, also where a program does not wait for
// that (RFC 2920), so that it is the same each time.
func (r *recording) lines() (list []string) {
	said, answers := r.sides()
	inText := false
	answer := func() {
		for len(answers) > 0 {
			l := answers[0]
			list, answers = append(list, "S: "+l), answers[1:]
			inText = strings.HasPrefix(l, "354")
			if len(l) < 4 || l[3] != '-' {
				return
			}
		}
	}
	answer()
	for _, l := range said {
		line, clean := strings.CutSuffix(l, "\r\n")
		switch {
		case inText && line != ".":
			continue
		case inText:
			list = append(list, "C: (text)", "C: .")
		case clean:
			list = append(list, "C: "+ownCount.ReplaceAllString(ownName.ReplaceAllString(line, "${1}client.test"), "${1}1000"))
		default:
			list = append(list, "R: "+strconv.Quote(l))
		}
		answer()
	}
	if n := len(list); n > 0 && strings.HasPrefix(list[n-1], "S: 221") {
		list = append(list, "X:")
	}
	return list
}

// sides returns what the client said, in lines with their ends, and what it was told.
func (r *recording) sides() (said, answers []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var in, out string
	for _, p := range r.parts {
		if p.client {
			in += p.octets
		} else {
			out += p.octets
		}
	}
	return slices.Collect(strings.Lines(in)), strings.Split(strings.TrimSuffix(out, "\r\n"), "\r\n")
}
