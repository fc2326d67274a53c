package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/smtp"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/bridge/sandbox"
)

// maxOverIdle is how much more memory the daemon may have at its peak than idle, whatever the size of the message.
const maxOverIdle = 64 << 20

// TestMemoryOfLargeMessages relays messages of several sizes by SMTP and by upload session and prints the daemon's peak.
// POSTERN_MEMORY=long is the long form, with 50, 100 and 140 MB; the sandbox needs 3 GB for it.
func TestMemoryOfLargeMessages(t *testing.T) {
	sizes := []int64{8 << 20, 24 << 20}
	if os.Getenv("POSTERN_MEMORY") == "long" {
		sizes = []int64{50_000_000, 100_000_000, 140_000_000}
	}
	for _, via := range []string{"smtp", "graph"} {
		t.Run(via, func(t *testing.T) {
			box := startSandbox(t)
			box.SetMailbox(sandbox.Mailbox{Address: "erp@contoso.test", Name: "ERP", MaxMessage: 200 << 20})
			file := install(t, box, via)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text = bytes.Replace(text, []byte("rate_per_minute = 0\n"), []byte("rate_per_minute = 0\nmax_message = \"150MB\"\n"), 1)
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			d := startDaemon(t, file)
			if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal()+"\n", "signin", "erp", "--refresh-token", "-", "--config", file); status != 0 {
				t.Fatalf("signin = %d\n%s", status, out)
			}
			if err := d.send("warm"); err != nil { // what is made once and kept is no part of the question
				t.Fatal(err)
			}
			d.arrived(box, 1)
			idle := d.memory("VmRSS")
			for i, size := range sizes {
				d.forgetPeak()
				if err := d.sendLarge(size); err != nil {
					t.Fatalf("%d octets: %v", size, err)
				}
				r := d.arrived(box, i+2)[i+1]
				if int64(len(r.Raw)) < size*9/10 {
					t.Fatalf("%d octets arrived of %d", len(r.Raw), size)
				}
				over := d.memory("VmHWM") - idle
				t.Logf("%s, %d MB: peak %d MB over %d MB idle", via, size/1_000_000, over>>20, idle>>20)
				if over > maxOverIdle {
					t.Errorf("%s, %d MB: peak %d MB over idle; want at most %d", via, size/1_000_000, over>>20, maxOverIdle>>20)
				}
			}
		})
	}
}

// arrived waits for n messages.
func (d *daemon) arrived(box *sandbox.Sandbox, n int) []sandbox.Received {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Minute)
	defer cancel()
	got, err := box.Wait(ctx, n)
	if err != nil {
		d.t.Fatalf("%d of %d arrived: %v\n%s", len(got), n, err, d.text())
	}
	return got
}

// memory is one of the daemon's figures in octets (proc_pid_status(5)).
func (d *daemon) memory(name string) int64 {
	d.t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), name+":"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				d.t.Fatal(err)
			}
			return kb << 10
		}
	}
	d.t.Fatalf("no %s", name)
	return 0
}

// forgetPeak starts VmHWM anew (proc_pid_clear_refs(5)).
func (d *daemon) forgetPeak() {
	d.t.Helper()
	if os.Geteuid() != 0 {
		d.t.Skip("only root may forget the peak of a process that is concealed")
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", d.cmd.Process.Pid), []byte("5"), 0); err != nil {
		d.t.Fatal(err)
	}
}

// sendLarge hands in a message of about size octets, written as it goes: a text and one file in base64.
func (d *daemon) sendLarge(size int64) error {
	c, err := smtp.Dial(d.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Auth(smtp.PlainAuth("", "nav", password, "127.0.0.1")); err != nil {
		return err
	}
	if err := c.Mail("nav@contoso.test"); err != nil {
		return err
	}
	if err := c.Rcpt("customer@example.test"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	io.WriteString(w, "From: nav@contoso.test\r\nTo: customer@example.test\r\nSubject: large\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"+
		"--b\r\nContent-Type: text/plain\r\n\r\nlarge\r\n--b\r\nContent-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	line := make([]byte, 57)
	for i := int64(0); i < size/78; i++ {
		copy(line, strconv.FormatInt(i, 10))
		if _, err := io.WriteString(w, base64.StdEncoding.EncodeToString(line)+"\r\n"); err != nil {
			return err
		}
	}
	io.WriteString(w, "--b--\r\n")
	return w.Close()
}
