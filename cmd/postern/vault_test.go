package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVaultRekey seals again beside the daemon and on a stopped one; nobody signs in a second time.
func TestVaultRekey(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	keyFile := filepath.Join(filepath.Dir(file), "data", "vault.key")
	d := startDaemon(t, file)
	signIn(t, file, box.RefreshToken("erp@contoso.test").Reveal())
	keys := map[string]bool{}
	rekey := func(args ...string) {
		t.Helper()
		out, status := outcome(t, "", append([]string{"vault", "rekey", "--config", file}, args...)...)
		if status != exitDone || !strings.Contains(out, "the new key is in "+keyFile) {
			t.Fatalf("vault rekey = %d\n%s", status, out)
		}
		key, err := os.ReadFile(keyFile)
		if err != nil || keys[string(key)] {
			t.Fatalf("the key is an old one, or cannot be read: %v", err)
		}
		keys[string(key)] = true
	}
	rekey()
	if err := d.send("after the first"); err != nil {
		t.Fatal(err)
	}
	arrived(t, box, 1)
	if status := d.terminate(); status != exitDone {
		t.Fatalf("the daemon ended with %d\n%s", status, d.text())
	}
	rekey()
	given := filepath.Join(filepath.Dir(file), "given.key")
	if err := os.WriteFile(given, bytes.Repeat([]byte{9}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	rekey("--key", given)
	d = startDaemon(t, file)
	if err := d.send("after a restart"); err != nil {
		t.Fatal(err)
	}
	arrived(t, box, 2)
	if out, status := outcome(t, "", "vault", "rekey", "--key", file, "--config", file); status != exitFailed || !strings.Contains(out, "not a key") {
		t.Errorf("a file that is no key = %d\n%s", status, out)
	}
}

// TestVaultRekeyOfACredential: what systemd hands in is not ours to write, and the program says what to do.
func TestVaultRekeyOfACredential(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	credentials := t.TempDir()
	old, next := filepath.Join(credentials, "vault.key"), filepath.Join(credentials, "new.key")
	for path, b := range map[string]byte{old: 1, next: 2} {
		if err := os.WriteFile(path, bytes.Repeat([]byte{b}, 32), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	d := startDaemon(t, file)
	signIn(t, file, box.RefreshToken("erp@contoso.test").Reveal())
	out, status := outcome(t, "", "vault", "rekey", "--config", file)
	if status != exitFailed || !strings.Contains(out, old) || !strings.Contains(out, "postern vault rekey --key /etc/postern/vault.key.new") {
		t.Errorf("vault rekey = %d\n%s\nwant what to do", status, out)
	}
	if out, status = outcome(t, "", "vault", "rekey", "--key", next, "--config", file); status != exitDone || !strings.Contains(out, "put that in the old key's place") {
		t.Errorf("vault rekey --key = %d\n%s", status, out)
	}
	if err := os.Rename(next, old); err != nil {
		t.Fatal(err)
	}
	if status := d.terminate(); status != exitDone {
		t.Fatalf("the daemon ended with %d\n%s", status, d.text())
	}
	startDaemon(t, file)
	if out, status = outcome(t, "", "accounts", "--config", file); status != exitDone || strings.Contains(out, "needs sign-in") {
		t.Errorf("accounts = %d\n%s\nwant the sign-in kept", status, out)
	}
}
