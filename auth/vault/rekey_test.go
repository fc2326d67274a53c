package vault

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/auth/token"
)

// readFile returns a file of the vault's folder.
func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRekey(t *testing.T) {
	dir := t.TempDir()
	v := mustOpen(t, dir)
	rev := mustSwap(t, v, "token/contoso/erp", 0, "refresh")
	mustSwap(t, v, "secret/contoso", 0, "secret")
	oldKey, oldFile := readFile(t, dir, keyName), readFile(t, dir, fileName)

	path, err := v.Rekey("")
	if err != nil || path != filepath.Join(dir, keyName) {
		t.Fatalf("Rekey = %q, %v; want the key file", path, err)
	}
	if bytes.Equal(readFile(t, dir, keyName), oldKey) {
		t.Error("the key is the old one")
	}
	wantValue(t, v, "token/contoso/erp", "refresh")
	again := mustOpen(t, dir)
	wantValue(t, again, "token/contoso/erp", "refresh")
	wantValue(t, again, "secret/contoso", "secret")
	if _, got, _ := again.Get("token/contoso/erp"); got != rev {
		t.Errorf("revision %d; want %d, as before", got, rev)
	}
	mustSwap(t, v, "token/contoso/erp", rev, "newer")
	wantValue(t, mustOpen(t, dir), "token/contoso/erp", "newer")

	// The old key opens nothing any more, not even what is known to have been sealed.
	if err := os.WriteFile(filepath.Join(dir, keyName), oldKey, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, options()); !errors.Is(err, ErrKey) {
		t.Errorf("Open with the old key = %v; want ErrKey", err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileName), oldFile, 0o600); err != nil {
		t.Fatal(err)
	}
	wantValue(t, mustOpen(t, dir), "token/contoso/erp", "refresh") // a backup of both
}

func TestRekeyOfAnEmptyVault(t *testing.T) {
	dir := t.TempDir()
	if _, err := mustOpen(t, dir).Rekey(""); err != nil {
		t.Fatal(err)
	}
	mustSwap(t, mustOpen(t, dir), "a", 0, "b")
	wantValue(t, mustOpen(t, dir), "a", "b")
}

// rekeySteps: the key file and the vault take steps each, then the key is renamed and the folder synced.
const rekeySteps = 2*steps + 2

// TestRekeyStoppedAnywhere kills it, or fills the disk, after each step: the next start opens the vault, and nothing is
// lost.
func TestRekeyStoppedAnywhere(t *testing.T) {
	for _, tc := range []struct {
		name string
		fail error
		dead bool
	}{
		{"killed", errStopped, true},
		{"the disk is full", syscall.ENOSPC, false},
	} {
		for n := range rekeySteps {
			t.Run(fmt.Sprintf("%s after step %d", tc.name, n), func(t *testing.T) {
				dir := t.TempDir()
				rev := mustSwap(t, mustOpen(t, dir), "token", 0, "value")
				d := &dyingDisk{left: n, fail: tc.fail, dead: tc.dead}
				v, err := open(dir, options(), d)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := v.Rekey(""); !errors.Is(err, tc.fail) {
					t.Fatalf("Rekey = %v; want %v", err, tc.fail)
				}
				wantValue(t, v, "token", "value")
				if !tc.dead {
					// The process goes on: it writes, and tries again.
					rev = mustSwap(t, v, "token", rev, "next")
					wantValue(t, mustOpen(t, dir), "token", "next")
					v, err = open(dir, options(), osDisk{})
					if err != nil {
						t.Fatal(err)
					}
					if _, err := v.Rekey(""); err != nil {
						t.Fatalf("a second Rekey: %v", err)
					}
					mustSwap(t, v, "token", rev, "value")
				}
				wantValue(t, mustOpen(t, dir), "token", "value")
				if left, _ := filepath.Glob(filepath.Join(dir, "*.next")); len(left) > 0 {
					t.Errorf("left behind after a start: %v", left)
				}
				wantValue(t, mustOpen(t, dir), "token", "value") // by vault.key alone
			})
		}
	}
	// One step more, and nothing fails: the count above is right.
	dir := t.TempDir()
	mustSwap(t, mustOpen(t, dir), "token", 0, "value")
	v, err := open(dir, options(), &dyingDisk{left: rekeySteps, fail: errStopped, dead: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Rekey(""); err != nil {
		t.Errorf("Rekey with %d steps = %v; want nil", rekeySteps, err)
	}
}

func TestRekeyUnderAnothersKey(t *testing.T) {
	dir, credentials := t.TempDir(), t.TempDir()
	file := filepath.Join(credentials, keyName)
	o := options()
	o.Getenv = func(string) string { return credentials }
	if err := os.WriteFile(file, bytes.Repeat([]byte{1}, keyBytes), 0o400); err != nil {
		t.Fatal(err)
	}
	v, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	mustSwap(t, v, "token", 0, "value")
	if _, err := v.Rekey(""); !errors.Is(err, ErrNotOurKey) || !strings.Contains(err.Error(), file) {
		t.Errorf("Rekey = %v; want ErrNotOurKey, with the credential's file", err)
	}
	wantValue(t, v, "token", "value")
	if _, err := os.Stat(filepath.Join(dir, keyName)); err == nil {
		t.Error("a key was written beside the credential")
	}
	next := bytes.Repeat([]byte{2}, keyBytes)
	if path, err := v.Rekey(token.Secret(next)); err != nil || path != "" {
		t.Fatalf("Rekey with the administrator's key = %q, %v", path, err)
	}
	if _, err := Open(dir, o); !errors.Is(err, ErrKey) {
		t.Errorf("Open with the old credential = %v; want ErrKey", err)
	}
	o.Key = token.Secret(next)
	if v, err = Open(dir, o); err != nil {
		t.Fatal(err)
	}
	wantValue(t, v, "token", "value")
}

func TestRekeyToAGivenKey(t *testing.T) {
	dir := t.TempDir()
	v := mustOpen(t, dir)
	mustSwap(t, v, "token", 0, "value")
	if path, err := v.Rekey(token.Secret(bytes.Repeat([]byte{7}, keyBytes))); err != nil || path == "" {
		t.Fatalf("Rekey = %q, %v; want it put into vault.key", path, err)
	}
	wantValue(t, mustOpen(t, dir), "token", "value")
	if _, err := v.Rekey("short"); err == nil {
		t.Error("a key of five bytes was taken")
	}
	wantValue(t, mustOpen(t, dir), "token", "value")
}

func TestRekeyRefusesDamage(t *testing.T) {
	dir := t.TempDir()
	v := mustOpen(t, dir)
	mustSwap(t, v, "good", 0, "value")
	mustSwap(t, v, "bad", 0, "value")
	file := filepath.Join(dir, fileName)
	text := strings.Replace(string(readFile(t, dir, fileName)), `"name": "bad"`, `"name": "bat"`, 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	key := readFile(t, dir, keyName)
	if _, err := mustOpen(t, dir).Rekey(""); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `"bat"`) {
		t.Errorf("Rekey = %v; want ErrDamaged with the entry's name", err)
	}
	if !bytes.Equal(readFile(t, dir, keyName), key) || string(readFile(t, dir, fileName)) != text {
		t.Error("a refused Rekey changed something")
	}
	wantValue(t, mustOpen(t, dir), "good", "value")
}

// TestForeignNextKey: a vault.key.next that no Rekey made does no harm.
func TestForeignNextKey(t *testing.T) {
	for name, text := range map[string]string{"no key": "garbage", "another key": strings.Repeat("k", keyBytes)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mustSwap(t, mustOpen(t, dir), "token", 0, "value")
			if err := os.WriteFile(filepath.Join(dir, nextKeyName), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			wantValue(t, mustOpen(t, dir), "token", "value")
		})
	}
}

// TestSnapshotDuringRekey: whatever a copy catches, its key opens its vault.
func TestSnapshotDuringRekey(t *testing.T) {
	dir := t.TempDir()
	v := mustOpen(t, dir)
	if files, err := v.Snapshot(); err != nil || files[fileName] != nil || files[keyName] == nil {
		t.Fatalf("Snapshot of a vault that was never written = %v, %v; want the key alone", files, err)
	}
	mustSwap(t, v, "token", 0, "value")
	done := make(chan error, 1)
	go func() {
		for range 5 {
			if _, err := v.Rekey(""); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for ended := false; !ended; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			ended = true
		default:
		}
		files, err := v.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		copied := t.TempDir()
		for name, b := range files {
			if err := os.WriteFile(filepath.Join(copied, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		wantValue(t, mustOpen(t, copied), "token", "value")
	}
}

func TestSnapshotLeavesACredentialOut(t *testing.T) {
	dir := t.TempDir()
	o := options()
	o.Key = token.Secret(bytes.Repeat([]byte{3}, keyBytes))
	v, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	mustSwap(t, v, "token", 0, "value")
	if files, err := v.Snapshot(); err != nil || len(files) != 1 || files[fileName] == nil {
		t.Errorf("Snapshot has %d files, %v; want the vault alone", len(files), err)
	}
}
