//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"postern/bridge/sandbox"
)

// TestFullDisk fills a small file system of our own with mail that waits: the application gets 452 with a fixed text
// while it is full, nothing that was promised is lost, and mail is taken again by itself once the other is relayed.
// POSTERN_DISKS sets how many sizes are tried, for the long form.
func TestFullDisk(t *testing.T) {
	disks := 3
	if n, err := strconv.Atoi(os.Getenv("POSTERN_DISKS")); err == nil {
		disks = n
	}
	for i := range disks {
		// The sizes are odd, so that the room ends at another point of the write each time.
		size, body := 16<<20+i*(32<<20)/disks+i*12345, 300_000
		if i%2 == 1 { // messages that lie in the intake first
			size, body = size/4, 20_000
		}
		t.Run(fmt.Sprintf("%d bytes, messages of %d", size, body), func(t *testing.T) { fillDisk(t, size, body) })
	}
}

// mountDisk makes the folder, with a file system of so many octets there until the test ends.
func mountDisk(t *testing.T, folder string, size int) {
	t.Helper()
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no file system can be mounted here: %v; CI runs as root", err)
		}
		t.Skipf("no file system can be mounted here: %v; run the tests as root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
}

func fillDisk(t *testing.T, size, body int) {
	box := startSandbox(t)
	k := &killing{t: t, box: box, to: []string{"customer@example.test"}, file: install(t, box, "smtp")}
	data := filepath.Join(filepath.Dir(k.file), "data")
	mountDisk(t, data, size)
	text, err := os.ReadFile(k.file)
	if err == nil {
		err = os.WriteFile(k.file, append(text, "\n[queue]\nmin_free_disk = \"1MB\"\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	k.d = startDaemon(t, k.file)
	t.Cleanup(func() { k.d.kill() })

	var kept []string
	for n := 0; ; n++ {
		id, err := k.submitText(fmt.Sprintf("disk %d", n), strings.Repeat(strings.Repeat("x", 98)+"\r\n", body/100))
		if err != nil {
			checkFull(t, err)
			break
		}
		kept = append(kept, id)
	}
	if len(kept) < 5 {
		t.Fatalf("only %d messages fitted; the test proves nothing\n%s", len(kept), k.d.text())
	}
	// With another message of a megabyte and with a tiny one it is still only a 4xx.
	for _, body := range []string{strings.Repeat(strings.Repeat("y", 98)+"\r\n", 10000), "tiny\r\n"} {
		if id, err := k.submitText("more", body); err == nil {
			kept = append(kept, id)
		} else {
			checkFull(t, err)
		}
	}
	for room := int64(0); room <= 48<<10; room += 8 << 10 {
		if room%(16<<10) == 0 {
			k.d.kill()
		} else {
			k.d.terminate() // and then there is less that gives room back
		}
		kept = append(kept, k.startOnFullDisk(data, room)...)
	}
	if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", k.file); status != 0 {
		t.Fatalf("%s\n%s", out, k.d.text())
	}
	for _, id := range kept {
		k.relayed(id)
	}
	k.acceptsAgain()
	t.Logf("%d bytes: %d kept, and each of them relayed", size, len(kept))
}

// startOnFullDisk takes the room that there is but for so many octets, and starts the daemon there: it comes up, for the mail that
// goes makes room; or, where the queue itself finds none, it says what to do. It returns what was taken meanwhile: a start may
// give back what the dead process had in the log.
func (k *killing) startOnFullDisk(data string, room int64) (kept []string) {
	k.t.Helper()
	ballast := filepath.Join(data, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		k.t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		k.t.Fatal(err)
	}
	fi, err := f.Stat()
	if err == nil {
		err = f.Truncate(fi.Size() - room)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	d, serves := tryCommand(k.t, program("run", "--config", k.file))
	if serves {
		k.d = d
		id, err := k.submitText("no room", "tiny\r\n")
		if err == nil {
			kept = append(kept, id)
		} else {
			checkFull(k.t, err)
		}
		if out, status := outcome(k.t, "", "health", "--config", k.file); err != nil && status != 2 {
			k.t.Errorf("health of a full disk: exit status %d; want 2\n%s", status, out)
		}
	} else if !strings.Contains(d.text(), "make room on its disk") {
		k.t.Errorf("a start with room for %d octets ended:\n%s", room, d.text())
	}
	if err := errors.Join(f.Close(), os.Remove(ballast)); err != nil {
		k.t.Error(err)
	}
	if !serves {
		k.d = startDaemon(k.t, k.file)
	}
	return kept
}

// TestBrokenFile: where the queue's file alone cannot be written, what is accepted stands in its log, and a person is told
// before that has filled the disk.
func TestBrokenFile(t *testing.T) {
	needsStrace(t)
	k := newKilling(t, "smtp")
	detach := k.inject("pwrite64:error=EIO", "queue.db")
	large := strings.Repeat(strings.Repeat("x", 98)+"\r\n", 60_000)
	var kept []string
	for n := 0; !strings.Contains(k.d.text(), "cannot be copied into the queue's file"); n++ {
		if n == 40 { // of 6 MB
			t.Fatalf("nobody is told\n%s", k.d.text())
		}
		id, err := k.submitText(fmt.Sprintf("file %d", n), large)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, id)
	}
	detach()
	for _, id := range kept {
		k.relayed(id)
	}
	k.restart()
	if n := k.copies("file 0"); n != 1 {
		t.Errorf("the first message arrived %d times; want once", n)
	}
}

// checkFull holds a refusal to the text of a full disk.
func checkFull(t *testing.T, err error) {
	t.Helper()
	var refusal *textproto.Error
	if !errors.As(err, &refusal) || refusal.Code != 452 || refusal.Msg != "4.3.1 insufficient system storage; try again later" {
		t.Errorf("submit on a full disk: %v; want 452 4.3.1", err)
	}
}

// acceptsAgain submits until a message is taken: room is given back a little at a time.
func (k *killing) acceptsAgain() {
	for range 20_000 {
		id, err := k.submitText("again", "tiny\r\n")
		if err == nil {
			k.relayed(id)
			return
		}
		checkFull(k.t, err)
	}
	k.t.Errorf("mail is still refused after the queue was emptied\n%s", k.d.text())
}

// submitText hands in a message with that text.
func (k *killing) submitText(subject, text string) (id string, err error) {
	return k.submitMessage("From: nav@contoso.test\r\nTo: customer@example.test\r\nSubject: "+subject+"\r\n\r\n"+text+sandbox.EndOfText, "")
}

// TestBackupOntoFullDisk: half a backup is a failure, leaves nothing behind, neither there nor in data_dir, and the next
// one goes.
func TestBackupOntoFullDisk(t *testing.T) {
	box := startSandbox(t)
	k := &killing{t: t, box: box, to: []string{"customer@example.test"}, file: install(t, box, "smtp")}
	dir := filepath.Dir(k.file)
	small := filepath.Join(dir, "small")
	mountDisk(t, small, 1<<20)
	k.d = startDaemon(t, k.file)
	t.Cleanup(func() { k.d.kill() })
	if _, err := k.submitText("large", strings.Repeat(strings.Repeat("x", 98)+"\r\n", 50_000)); err != nil {
		t.Fatal(err)
	}
	out, status := outcome(t, "", "backup", filepath.Join(small, "copy.tar"), "--config", k.file)
	if status != 1 || !strings.Contains(out, "no space left") {
		t.Errorf("exit status %d: %s", status, out)
	}
	if left, err := os.ReadDir(small); err != nil || len(left) != 0 {
		t.Errorf("left on the full disk: %v, %v", left, err)
	}
	if out, status := outcome(t, "", "backup", filepath.Join(dir, "copy.tar"), "--config", k.file); status != 0 {
		t.Errorf("elsewhere: exit status %d: %s", status, out)
	}
	if status := k.d.terminate(); status != 0 { // it waits for what is under way
		t.Errorf("exit status %d", status)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "data", "*backup*")); err != nil || len(left) != 0 {
		t.Errorf("left in data_dir: %v, %v", left, err)
	}
	if n := strings.Count(k.d.text(), `msg="backup written"`); n != 1 {
		t.Errorf("%d backups are said to be written; want one", n)
	}
}
