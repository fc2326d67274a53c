package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/auth/token"
)

// noCredentials is an environment without CREDENTIALS_DIRECTORY.
func noCredentials(string) string { return "" }

var stamp = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

func options() Options {
	return Options{Getenv: noCredentials, Now: func() time.Time { return stamp }}
}

func mustOpen(t *testing.T, dir string) *Vault {
	t.Helper()
	v, err := Open(dir, options())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return v
}

func mustSwap(t *testing.T, v *Vault, name string, old uint64, value string) uint64 {
	t.Helper()
	rev, err := v.Swap(name, old, []byte(value))
	if err != nil {
		t.Fatalf("Swap(%q, %d): %v", name, old, err)
	}
	return rev
}

func wantValue(t *testing.T, v *Vault, name, want string) {
	t.Helper()
	got, _, err := v.Get(name)
	if err != nil || string(got) != want {
		t.Errorf("Get(%q) = %q, %v; want %q", name, got, err, want)
	}
}

func TestSwapKeepsAcrossOpen(t *testing.T) {
	dir := t.TempDir()
	v := mustOpen(t, dir)
	mustSwap(t, v, "secret/contoso", 0, "one")
	rev := mustSwap(t, v, "token/contoso/svc@contoso.test", 0, "two")
	mustSwap(t, v, "token/contoso/svc@contoso.test", rev, "three")
	mustSwap(t, v, "empty", 0, "")

	v = mustOpen(t, dir)
	wantValue(t, v, "secret/contoso", "one")
	wantValue(t, v, "token/contoso/svc@contoso.test", "three")
	wantValue(t, v, "empty", "")
	want := []Info{{Name: "empty", Set: stamp}, {Name: "secret/contoso", Set: stamp}, {Name: "token/contoso/svc@contoso.test", Set: stamp}}
	if got := v.List(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("List() = %v; want %v", got, want)
	}
	raw, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil || bytes.Contains(raw, []byte("three")) {
		t.Errorf("the file holds a value in the clear (or %v)", err)
	}
}

func TestSwapCompares(t *testing.T) {
	v := mustOpen(t, t.TempDir())
	first := mustSwap(t, v, "a", 0, "1")
	for _, tc := range []struct {
		name  string
		entry string
		old   uint64
		value []byte
		want  error
	}{
		{"an entry that is there is not created again", "a", 0, []byte("2"), ErrChanged},
		{"an older revision is refused", "a", first + 7, []byte("2"), ErrChanged},
		{"a removal compares too", "a", first + 7, nil, ErrChanged},
		{"an entry that is not there has no revision", "b", 1, []byte("2"), ErrChanged},
		{"removing what is not there is nothing", "b", 0, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := v.Swap(tc.entry, tc.old, tc.value); !errors.Is(err, tc.want) {
				t.Errorf("Swap = %v; want %v", err, tc.want)
			}
			wantValue(t, v, "a", "1")
		})
	}
	if _, err := v.Swap("a", first, nil); err != nil {
		t.Fatalf("remove: %v", err)
	}
	if _, rev, err := v.Get("a"); !errors.Is(err, ErrNotFound) || rev != 0 {
		t.Errorf("Get after removal = %d, %v; want 0, ErrNotFound", rev, err)
	}
	if again := mustSwap(t, v, "a", 0, "2"); again == first {
		t.Errorf("revision %d was given twice: an old holder could overwrite the new entry", again)
	}
}

func TestSwapRefusesWhatCannotBeKept(t *testing.T) {
	v := mustOpen(t, t.TempDir())
	for _, name := range []string{"", "a\nb", "a\x00b", "\xff", strings.Repeat("n", maxNameBytes+1)} {
		if _, err := v.Swap(name, 0, []byte("x")); err == nil {
			t.Errorf("Swap(%q) kept a name that cannot be told from others", name)
		}
	}
	if _, err := v.Swap("big", 0, make([]byte, MaxValueBytes+1)); err == nil {
		t.Error("Swap kept a value over the limit")
	}
	if n := len(v.List()); n != 0 {
		t.Errorf("%d entries after refusals; want 0", n)
	}
}

func TestConcurrentSwapsLoseNothing(t *testing.T) {
	dir := t.TempDir()
	v := mustOpen(t, dir)
	mustSwap(t, v, "counter", 0, "")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for done := 0; done < 5; {
				value, rev, err := v.Get("counter")
				if err != nil {
					t.Error(err)
					return
				}
				_, err = v.Swap("counter", rev, append(value, 'x'))
				if err == nil {
					done++
				} else if !errors.Is(err, ErrChanged) {
					t.Error(err)
					return
				}
				v.List()
			}
		})
	}
	wg.Wait()
	wantValue(t, mustOpen(t, dir), "counter", strings.Repeat("x", 40))
}

func TestDamageAtEveryOffset(t *testing.T) {
	dir := t.TempDir()
	v := mustOpen(t, dir)
	values := map[string]string{"secret/contoso": "one", "token/contoso/erp@contoso.test": "two"}
	for name, value := range values {
		mustSwap(t, v, name, 0, value)
	}
	path := filepath.Join(dir, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := Open(dir, options())
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%s: the error does not name the file: %v", what, err)
			}
			return
		}
		for name, value := range values {
			got, _, err := v.Get(name)
			if err == nil && string(got) != value {
				t.Errorf("%s: Get(%q) = %q; want %q or an error", what, name, got, value)
			}
			if err != nil && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name)) {
				t.Errorf("%s: Get(%q): %v; want ErrDamaged with the name", what, name, err)
			}
		}
	}
	for i := range whole {
		for _, flip := range []byte{0x01, 0x20, 0x80, 0xff} {
			spoilt := bytes.Clone(whole)
			spoilt[i] ^= flip
			check(fmt.Sprintf("byte %d ^ %#x", i, flip), spoilt)
		}
		check(fmt.Sprintf("cut at %d", i), whole[:i])
	}
}

func TestDamagedEntryLeavesOthersAndCanBeSetAgain(t *testing.T) {
	dir := t.TempDir()
	v := mustOpen(t, dir)
	mustSwap(t, v, "good", 0, "kept")
	rev := mustSwap(t, v, "bad", 0, "lost")
	v.entries["bad"].Sealed[20] ^= 1
	mustSwap(t, v, "other", 0, "later") // writes the damage down

	v = mustOpen(t, dir)
	wantValue(t, v, "good", "kept")
	_, got, err := v.Get("bad")
	if !errors.Is(err, ErrDamaged) || got != rev || !strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("Get(bad) = %d, %v; want revision %d and ErrDamaged with the name", got, err, rev)
	}
	if l := v.List(); !l[0].Damaged || l[1].Damaged {
		t.Errorf("List() = %v; want only bad marked as damaged", l)
	}
	mustSwap(t, v, "bad", rev, "signed in again")
	wantValue(t, mustOpen(t, dir), "bad", "signed in again")
}

func TestKeys(t *testing.T) {
	keyA, keyB := bytes.Repeat([]byte{'a'}, keyBytes), bytes.Repeat([]byte{'b'}, keyBytes)
	write := func(t *testing.T, path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sealed := func(t *testing.T, key []byte) string {
		t.Helper()
		dir := t.TempDir()
		write(t, filepath.Join(dir, keyName), key)
		mustSwap(t, mustOpen(t, dir), "a", 0, "1")
		return dir
	}
	t.Run("the systemd credential comes before a key of the folder", func(t *testing.T) {
		dir, credentials := t.TempDir(), t.TempDir()
		write(t, filepath.Join(dir, keyName), keyA)
		write(t, filepath.Join(credentials, keyName), keyB)
		o := options()
		o.Getenv = func(string) string { return credentials }
		v, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		mustSwap(t, v, "a", 0, "1")
		if _, err := Open(dir, options()); !errors.Is(err, ErrKey) {
			t.Errorf("Open without the credential = %v; want ErrKey", err)
		}
		o = options()
		o.Key = token.Secret(keyB)
		if v, err = Open(dir, o); err != nil {
			t.Fatalf("Open with the key that root read: %v", err)
		}
		wantValue(t, v, "a", "1")
	})
	t.Run("a vault that was begun with the folder's key opens although there is a credential now", func(t *testing.T) {
		dir, credentials := sealed(t, keyA), t.TempDir()
		write(t, filepath.Join(credentials, keyName), keyB)
		o := options()
		o.Getenv = func(string) string { return credentials }
		v, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		wantValue(t, v, "a", "1")
	})
	t.Run("a wrong key is one error that names vault and key", func(t *testing.T) {
		dir := sealed(t, keyA)
		write(t, filepath.Join(dir, keyName), keyB)
		_, err := Open(dir, options())
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "wrong key for "+filepath.Join(dir, fileName)) ||
			!strings.Contains(err.Error(), filepath.Join(dir, keyName)) {
			t.Errorf("Open = %v; want ErrKey with both files", err)
		}
	})
	t.Run("a vault without its key gets no new key", func(t *testing.T) {
		dir := sealed(t, keyA)
		if err := os.Remove(filepath.Join(dir, keyName)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, options()); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "start the service first") {
			t.Errorf("Open = %v; want ErrKey with a remedy", err)
		}
		if _, err := os.Stat(filepath.Join(dir, keyName)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a key was made beside a vault that it cannot open: %v", err)
		}
	})
	t.Run("a key may be base64 with a line end", func(t *testing.T) {
		dir := sealed(t, keyA)
		write(t, filepath.Join(dir, keyName), []byte("YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=\r\n"))
		wantValue(t, mustOpen(t, dir), "a", "1")
	})
	for name, text := range map[string]string{
		"an empty key is refused":              "",
		"a short key is refused":               "c2hvcnQ=",
		"a password is no key":                 "correct horse battery staple",
		"a key wrapped by nobody is refused":   "dpapi:",
		"a wrapped key must be base64":         "dpapi:%%%",
		"a key file of megabytes is not read":  strings.Repeat("a", maxKeyBytes+1),
		"sixty-four bytes are not a key of 32": strings.Repeat("a", 64),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, keyName), []byte(text))
			_, err := Open(dir, options())
			if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), keyName) {
				t.Errorf("Open = %v; want ErrKey with the file", err)
			}
			if text != "" && strings.Contains(err.Error(), text) {
				t.Errorf("the error quotes the key file: %v", err)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	v, err := Open(dir, options())
	if err != nil {
		f.Fatal(err)
	}
	if _, err := v.Swap("secret/contoso", 0, []byte("one")); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"postern_vault":1,"entries":[null]}`))
	f.Add([]byte(`{"postern_vault":1,"rev":18446744073709551615,"entries":[{"name":"a"},{"name":"a"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decode(data)
		if err != nil {
			return
		}
		v.take(c)
		for _, i := range v.List() {
			if _, _, err := v.Get(i.Name); (err != nil) != i.Damaged {
				t.Errorf("Get(%q) = %v, but Damaged is %v", i.Name, err, i.Damaged)
			}
		}
	})
}
