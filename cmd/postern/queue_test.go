package main

import (
	"archive/tar"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/control"
)

// rows are what `queue list --json` prints.
func rows(t *testing.T, file string, args ...string) (list []control.QueueRow) {
	t.Helper()
	out, status := outcome(t, "", append([]string{"queue", "list", "--json", "--config", file}, args...)...)
	if err := json.Unmarshal([]byte(out), &list); err != nil || status != 0 {
		t.Fatalf("queue list = %d, %v\n%s", status, err, out)
	}
	return list
}

// TestQueueOnARunningDaemon: a person looks, holds, releases, drops and exports; each change is a line with his name.
func TestQueueOnARunningDaemon(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	d := startDaemon(t, file)
	for _, subject := range []string{"first", "second", "third"} {
		if err := d.send(subject); err != nil {
			t.Fatal(err)
		}
	}
	parked(t, file)
	list := rows(t, file)
	if len(list) != 3 {
		t.Fatalf("%d rows; want 3", len(list))
	}
	first, second, third := list[0].ID, list[1].ID, list[2].ID
	wantKeys(t, file)
	do := func(want string, args ...string) {
		t.Helper()
		out, status := outcome(t, "", append([]string{"queue", "--config", file}, args...)...)
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("queue %s = %d; want %q\n%s", strings.Join(args, " "), status, want, out)
		}
	}
	do("1 message held", "hold", first)
	do("held", "list", first)
	if out, _ := outcome(t, "", "queue", "list", "--config", file); !narrowEnough(out) || !strings.Contains(out, second) {
		t.Errorf("queue list is wider than 80 columns, or lacks a message:\n%s", out)
	}
	do("customer@example.test  held", "show", first)
	do("held by "+whoami(t), "show", first)
	do("2 messages dropped", "drop", second, third)
	do("0 messages to be tried at once\n", "retry", "--state", "failed") // what has no text any more is not meant
	if out, status := outcome(t, "", "queue", "retry", second, third, "--config", file); status != 1 || !strings.Contains(out, second+": its body is not kept any more\n") ||
		!strings.Contains(out, third+": its body is not kept any more\n") {
		t.Errorf("a retry of what was dropped = %d; want why nothing is tried, and status 1\n%s", status, out)
	}
	dir := t.TempDir()
	do(first+".eml", "export", first, "--to", dir)
	eml, err := os.ReadFile(filepath.Join(dir, first+".eml"))
	if err != nil || !strings.Contains(string(eml), "X-Envelope-To: <customer@example.test>; held\r\n") || !strings.Contains(string(eml), "X-Envelope-From: <nav@contoso.test>\r\n") ||
		!strings.Contains(string(eml), "\r\nSubject: first\r\n") || !strings.HasSuffix(string(eml), "invoice\r\n") {
		t.Errorf("export: %v\n%.600s", err, eml)
	}
	if out, status := outcome(t, "", "queue", "export", first, "--to", dir, "--config", file); status == 0 {
		t.Errorf("a second export replaced the file:\n%s", out)
	}
	many := t.TempDir() // the dropped ones have no text any more
	do(first+".eml", "export", "--all", "--to", many)
	if again, err := os.ReadFile(filepath.Join(many, first+".eml")); err != nil || !bytes.Equal(again, eml) {
		t.Errorf("export --all: %v\n%.600s", err, again)
	}
	if left, err := os.ReadDir(many); err != nil || len(left) != 1 {
		t.Errorf("export --all made %v, %v; want the one file", left, err)
	}
	if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file); status != 0 {
		t.Fatal(out)
	}
	do("1 message released", "release", "--all")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := box.Wait(ctx, 1); err != nil {
		t.Fatalf("the released message did not leave: %v\n%s", err, d.text())
	}
	d.terminate()
	for _, want := range []string{`action=hold queue_id=` + first, `action=drop queue_id=` + second, `action=release queue_id=` + first} {
		if !strings.Contains(d.text(), `msg="queue changed" by=`+whoami(t)+` `+want) {
			t.Errorf("no audit line with %q:\n%s", want, d.text())
		}
	}
	if got := box.Received(); len(got) != 1 || !strings.Contains(string(got[0].Raw), "Subject: first") {
		t.Errorf("%d messages arrived; want the first alone", len(got))
	}
}

// TestMessagesThatAreNamed: those that are there are listed and shown, and who is not is named, on a running daemon and a
// stopped one.
func TestMessagesThatAreNamed(t *testing.T) {
	file := install(t, startSandbox(t), "graph")
	d := startDaemon(t, file)
	for _, subject := range []string{"first", "second"} {
		if err := d.send(subject); err != nil {
			t.Fatal(err)
		}
	}
	parked(t, file)
	list := rows(t, file)
	first, second, nobody := list[0].ID, list[1].ID, "00000000000000vv"
	for _, running := range []bool{true, false} {
		if !running {
			d.terminate()
		}
		for _, tc := range []struct {
			name   string
			args   []string
			want   string // a pattern
			status int
		}{
			{"list those that are there", []string{"list", second, nobody, first}, `(?m)^` + second + `(?s:.*)^` + first + `(?s:.*)^postern: ` + nobody + `: no such message`, 1},
			{"list as JSON", []string{"list", nobody, first, "--json"}, `^\[\n.*"id":"` + first + `"(?s:.*)\n\]\npostern: ` + nobody + `: no such message`, 1},
			{"show several, in their order", []string{"show", second, first}, `(?s)^id            ` + second + `.*  Subject: second\n\nid            ` + first + `.*  Subject: first\n`, 0},
			{"show those that are there", []string{"show", nobody, first}, `(?s)^id            ` + first + `.*\npostern: ` + nobody + `: no such message`, 1},
			{"show what waits of an account", []string{"show", "--account", "erp"}, `(?s)^id            ` + first + `.*\n\nid            ` + second, 0},
			{"show as JSON, an object for each", []string{"show", first, second, "--json"}, `(?s)^\{\n  "id": "` + first + `".*\n\}\n\{\n  "id": "` + second + `".*\n\}\n$`, 0},
		} {
			out, status := outcome(t, "", append(append([]string{"queue"}, tc.args...), "--config", file)...)
			_, said, stopped := strings.Cut(out, "run: postern service start\n") // list says that nothing runs
			if !stopped {
				said = out
			}
			if status != tc.status || !regexp.MustCompile(tc.want).MatchString(said) {
				t.Errorf("%s, running %v: %d; want %d and %s\n%s", tc.name, running, status, tc.status, tc.want, out)
			}
		}
	}
}

// TestRowOfManyRecipients: the address and the reply of a row are those of one recipient, the first in the row's state.
func TestRowOfManyRecipients(t *testing.T) {
	refused := control.QueueRecipient{Address: "refused@example.test", State: "failed", Reply: "550 5.1.10 Recipient refused@example.test not found"}
	later := control.QueueRecipient{Address: "later@example.test", State: "deferred", Reply: "451 4.3.0 later"}
	for _, tc := range []struct {
		name       string
		state      string
		recipients []control.QueueRecipient
		want       []string // the address, and the line below it
	}{
		{"one that failed before two that wait", "queued", []control.QueueRecipient{refused, {Address: "ok@example.test", State: "queued"}, later}, []string{"ok@example.test +2"}},
		{"one that waits, with its reply", "deferred", []control.QueueRecipient{refused, later}, []string{"later@example.test +1", "  451 4.3.0 later"}},
		{"all have failed", "failed", []control.QueueRecipient{refused}, []string{"refused@example.test", "  550 5.1.10 Recipient refused@example.test not found"}},
		{"a state that no recipient has", "sending", []control.QueueRecipient{later, refused}, []string{"later@example.test +1", "  451 4.3.0 later"}},
		{"no recipients", "failed", nil, []string{""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			p := queuePrinter{out: &out, n: 1, now: time.Now()}
			if err := p.row(control.QueueRow{ID: "06ab3c9d0e1f2g3h", State: tc.state, Account: "erp", Recipients: tc.recipients, AcceptedAt: p.now}); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			_, to, _ := strings.Cut(lines[0], "erp")
			if lines[0] = strings.TrimSpace(to); !slices.Equal(lines, tc.want) {
				t.Errorf("%q; want %q", lines, tc.want)
			}
		})
	}
}

// TestExportOfADamagedMessage: what can be read of it is in a file that is called so, and the others are exported.
func TestExportOfADamagedMessage(t *testing.T) {
	file := install(t, startSandbox(t), "graph")
	d := startDaemon(t, file)
	for _, subject := range []string{"first", "second", "third"} {
		if err := d.send(subject); err != nil {
			t.Fatal(err)
		}
	}
	parked(t, file)
	list := rows(t, file)
	d.terminate()
	db, err := sql.Open("sqlite", filepath.Join(filepath.Dir(file), "data", "queue.db"))
	if err == nil {
		// The last octet but two of the first one, whose end is "invoice" and CR LF.
		_, err = db.Exec(`UPDATE chunks SET data = CAST(substr(data, 1, length(data) - 3) || x'21' || substr(data, length(data) - 1) AS BLOB)
			WHERE at = (SELECT min(at) FROM chunks)`)
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil || len(list) != 3 {
		t.Fatal(err, list)
	}
	export := func(args ...string) {
		t.Helper()
		dir := t.TempDir()
		out, status := outcome(t, "", append([]string{"queue", "export", "--to", dir, "--config", file}, args...)...)
		if status != 1 || !strings.Contains(out, list[0].ID+": its stored copy is damaged") || !strings.Contains(out, list[0].ID+".damaged.eml") ||
			!strings.Contains(out, "1 damaged message cannot be read back whole") {
			t.Errorf("export = %d\n%s", status, out)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
			t.Errorf("it made %v, %v", left, err)
		}
		for i, want := range map[int]string{0: "invoic!\r\n", 1: "invoice\r\n", 2: "invoice\r\n"} {
			name := list[i].ID + ".eml"
			if i == 0 {
				name = list[i].ID + ".damaged.eml"
			}
			if eml, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.HasSuffix(eml, []byte(want)) || !bytes.Contains(eml, []byte("X-Envelope-To: <customer@example.test>")) {
				t.Errorf("%s: %v\n%.600s", name, err, eml)
			}
		}
	}
	ids := []string{list[0].ID, list[1].ID, list[2].ID}
	export("--all")
	export(ids...)
	startDaemon(t, file)
	export("--all")
	export(ids...)
}

// holdAll returns when the one message is held: the first of an account that nobody has signed in is being sent for a
// moment, until that is found out.
func holdAll(t *testing.T, file string) {
	t.Helper()
	for {
		out, status := outcome(t, "", "queue", "hold", "--all", "--config", file)
		switch {
		case status == 0 && strings.Contains(out, "1 message held"):
			return
		case status != 0 && !strings.Contains(out, "it is being sent at this moment"):
			t.Fatal(out)
		}
	}
}

// parked returns when every message waits for the sign-in.
func parked(t *testing.T, file string) {
	t.Helper()
	for {
		list := rows(t, file)
		if !slices.ContainsFunc(list, func(r control.QueueRow) bool { return r.WaitingFor != "parked" }) {
			return
		}
	}
}

func whoami(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

func narrowEnough(s string) bool {
	for l := range strings.Lines(s) {
		if len([]rune(strings.TrimRight(l, "\n"))) > 80 {
			return false
		}
	}
	return true
}

// wantKeys holds the JSON names, which scripts rely on (design.md section 4).
func wantKeys(t *testing.T, file string) {
	t.Helper()
	out, _ := outcome(t, "", "queue", "list", "--json", "--config", file)
	var list []map[string]any
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) == 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	got := map[string]bool{}
	for k := range list[0] {
		got[k] = true
	}
	want := map[string]bool{}
	for _, k := range []string{"id", "message_id", "user", "account", "state", "waiting_for", "reverse_path", "header_from", "recipients", "size",
		"attempts", "accepted_at", "next_attempt_at"} {
		want[k] = true
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("keys of a row (-want +got):\n%s", d)
	}
}

// TestBackupAndRestore: the copy of a running daemon has its mail and its sign-ins; put back into an empty folder, it
// sends nothing until a person says so.
func TestBackupAndRestore(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	d := startDaemon(t, file)
	if err := d.send("waits"); err != nil {
		t.Fatal(err)
	}
	holdAll(t, file)
	if err := d.send("due"); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(filepath.Dir(file), "copy.tar")
	if out, status := outcome(t, "", "backup", copied, "--config", file); status != 0 {
		t.Fatal(out)
	}
	audit := regexp.MustCompile(`level=INFO msg="backup written" by=\S+ size=\d{4}`)
	if d.await(audit) == nil {
		t.Errorf("nobody says who took it:\n%s", d.text())
	}
	if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file); status != 0 {
		t.Fatal(out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := box.Wait(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if status := d.terminate(); status != 0 {
		t.Fatalf("exit status %d\n%s", status, d.text())
	}
	signedIn := filepath.Join(filepath.Dir(file), "signed-in.tar")
	if out, status := outcome(t, "", "backup", signedIn, "--config", file); status != 0 || !audit.MatchString(out) {
		t.Fatal(out) // of a stopped daemon
	}

	for _, tc := range []struct {
		name, archive string
		held          int
	}{
		{"a copy of the running daemon", copied, 2},
		{"a copy of the stopped daemon", signedIn, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := len(box.Received())
			data := filepath.Join(filepath.Dir(file), "data")
			if err := os.RemoveAll(data); err != nil {
				t.Fatal(err)
			}
			unpack(t, tc.archive, data)
			d := startDaemon(t, file)
			if !strings.Contains(d.text(), `msg="queue held"`) && tc.held > 1 {
				t.Errorf("the start does not say that it holds everything:\n%s", d.text())
			}
			if held := rows(t, file, "--state", "held"); len(held) != tc.held {
				t.Errorf("%d messages are held; want %d", len(held), tc.held)
			}
			if tc.archive == signedIn {
				out, status := outcome(t, "", "queue", "release", "--all", "--config", file)
				if status != 0 || !strings.Contains(out, "1 message released") {
					t.Errorf("release = %d\n%s", status, out)
				}
				if _, err := box.Wait(ctx, before+1); err != nil {
					t.Errorf("the restored sign-in does not send: %v\n%s", err, d.text())
				}
			}
			d.terminate()
			if got := len(box.Received()); tc.archive == copied && got != before {
				t.Errorf("%d messages went out of a restored queue by themselves", got-before)
			}
			// The next start is an ordinary one.
			d = startDaemon(t, file)
			if strings.Contains(d.text(), `msg="queue held"`) {
				t.Errorf("the second start holds again:\n%s", d.text())
			}
			d.terminate()
		})
	}
}

// TestBackupOverACrashedQueue: where a copy is unpacked over what a crash left, it is not mixed with the log of that and is held
// like any other; so is what came later and still lies in the intake.
func TestBackupOverACrashedQueue(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	dir := filepath.Dir(file)
	d := startDaemon(t, file)
	if err := d.send("went"); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copy.tar")
	if out, status := outcome(t, "", "backup", copied, "--config", file); status != 0 {
		t.Fatal(out)
	}
	if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file); status != 0 {
		t.Fatal(out)
	}
	if err := d.send("came later"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := box.Wait(ctx, 2); err != nil {
		t.Fatal(err)
	}
	d.kill()
	log := filepath.Join(dir, "data", "queue.db-wal")
	if fi, err := os.Stat(log); err != nil || fi.Size() == 0 {
		t.Fatalf("the crash left no log, and the test proves nothing: %v", err)
	}

	unpack(t, copied, filepath.Join(dir, "data"))
	d = startDaemon(t, file)
	held := rows(t, file, "--state", "held")
	if all := rows(t, file); len(all) != 2 || len(held) != 2 {
		t.Errorf("%d messages are there and %d are held; want two, held\n%s", len(all), len(held), d.text())
	}
	if !strings.Contains(d.text(), "restored from a backup") || strings.Contains(d.text(), "damaged") {
		t.Errorf("the start says:\n%s", d.text())
	}
	d.terminate()
}

func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 {
			t.Errorf("%s has mode %o; want 600", h.Name, h.Mode)
		}
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestQueueOlderThanItsLastStart: a copy of the file alone, put back later, sends nothing twice.
func TestQueueOlderThanItsLastStart(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	data := filepath.Join(filepath.Dir(file), "data")
	d := startDaemon(t, file)
	if err := d.send("yesterday"); err != nil {
		t.Fatal(err)
	}
	d.kill()
	old, err := os.ReadFile(filepath.Join(data, "queue.db"))
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(filepath.Join(data, "queue.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	d = startDaemon(t, file)
	if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file); status != 0 {
		t.Fatal(out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := box.Wait(ctx, 1); err != nil {
		t.Fatalf("an ordinary restart after a crash holds mail: %v\n%s", err, d.text())
	}
	d.terminate()
	for name, b := range map[string][]byte{"queue.db": old, "queue.db-wal": wal} {
		if err := os.WriteFile(filepath.Join(data, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d = startDaemon(t, file)
	if held := rows(t, file, "--state", "held"); len(held) != 1 {
		t.Errorf("%d messages are held; want 1\n%s", len(held), d.text())
	}
	if !strings.Contains(d.text(), "this queue is older than the last start here") || !strings.Contains(d.text(), "postern queue release --all") {
		t.Errorf("the log does not say why and what to do:\n%s", d.text())
	}
	d.terminate()
	if got := box.Received(); len(got) != 1 {
		t.Errorf("%d copies arrived; want 1", len(got))
	}
}

// TestRetryUnderTodaysPolicy: mail that was taken under another policy leaves under the one of now, as the same message.
func TestRetryUnderTodaysPolicy(t *testing.T) {
	for _, stopped := range []bool{true, false} {
		t.Run(map[bool]string{true: "on a stopped daemon", false: "on a running daemon"}[stopped], func(t *testing.T) {
			box := startSandbox(t)
			file := install(t, box, "graph")
			d := startDaemon(t, file)
			if err := d.send("planned anew"); err != nil {
				t.Fatal(err)
			}
			holdAll(t, file)
			before := rows(t, file)[0]
			d.terminate()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(text), `sender = { mode = "account" }`, `sender = { mode = "send-as", address = "noreply@contoso.test" }`, 1)
			if changed == string(text) {
				t.Fatal("the configuration has no sender to change")
			}
			if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			if !stopped {
				d = startDaemon(t, file)
			}
			if out, status := outcome(t, "", "queue", "retry", before.ID, "--policy", "today", "--config", file); status != 0 || !strings.Contains(out, "1 message to be tried") {
				t.Fatalf("retry = %d\n%s", status, out)
			}
			if stopped {
				d = startDaemon(t, file)
			}
			if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file); status != 0 {
				t.Fatal(out)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			got, err := box.Wait(ctx, 1)
			if err != nil {
				t.Fatalf("it did not leave: %v\n%s", err, d.text())
			}
			raw := string(got[0].Raw)
			for _, want := range []string{"From: noreply@contoso.test\r\n", "X-Postern-Id: " + before.ID + "\r\n", "Message-ID: " + before.MessageID + "\r\n"} {
				if !strings.Contains(raw, want) {
					t.Errorf("the message lacks %q:\n%.900s", want, raw)
				}
			}
			d.terminate()
		})
	}
}
