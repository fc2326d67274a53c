package auth

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/auth/token"
	"postern/auth/vault"
)

func newSecrets(t *testing.T) Secrets {
	t.Helper()
	v, err := vault.Open(t.TempDir(), vault.Options{Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	return Secrets{Store: v, LookupEnv: func(name string) (string, bool) {
		value, ok := map[string]string{"CONTOSO": "from-env", "EMPTY": ""}[name]
		return value, ok
	}}
}

func TestResolve(t *testing.T) {
	s := newSecrets(t)
	if err := s.Set("contoso", "from-vault"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file:" + path
	}
	for _, tc := range []struct {
		name string
		ref  string
		want token.Secret
		err  string
	}{
		{"from the vault", "vault:contoso", "from-vault", ""},
		{"from the environment", "env:CONTOSO", "from-env", ""},
		{"from a file without its line end", file("a", "from-file\r\n"), "from-file", ""},
		{"one line end only, and blanks stay", file("b", " two \n\n"), " two \n", ""},
		{"not set in the vault", "vault:other", "", "vault:other is not set"},
		{"not set in the environment", "env:OTHER", "", "env:OTHER is not set in this process"},
		{"empty in the environment", "env:EMPTY", "", "env:EMPTY is empty"},
		{"an empty file", file("c", "\n"), "", "is empty"},
		{"no such file", "file:" + filepath.Join(dir, "none"), "", "cannot be read"},
		{"a file of megabytes", file("d", strings.Repeat("x", maxSecretBytes+1)), "", "more than"},
		{"a literal is refused and not repeated", "canary-literal", "", "must be given as"},
		{"so is one with a colon", "canary:literal", "", "must be given as"},
		{"a kind without a name", "vault:", "", "must be given as"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := s.Resolve(tc.ref)
			if got.Reveal() != tc.want.Reveal() || (err == nil) != (tc.err == "") {
				t.Fatalf("Resolve = %q, %v; want %q, %q", got.Reveal(), err, tc.want.Reveal(), tc.err)
			}
			if err != nil && (!strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "canary")) {
				t.Errorf("error %q; want %q", err, tc.err)
			}
		})
	}
}

func TestSetListRemoveSecrets(t *testing.T) {
	s := newSecrets(t)
	for _, name := range []string{"", "a b", "../a", "a/b", ".a", strings.Repeat("a", 101)} {
		if err := s.Set(name, "x"); err == nil {
			t.Errorf("Set took the name %q", name)
		}
	}
	if err := s.Set("contoso", ""); err == nil {
		t.Error("Set took an empty secret")
	}
	for _, value := range []token.Secret{"one", "two"} {
		if err := s.Set("contoso", value); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Resolve("vault:contoso"); err != nil || got.Reveal() != value.Reveal() {
			t.Errorf("Resolve = %v, %v; want the value that was just set", got, err)
		}
	}
	if _, err := s.Store.Swap("token/contoso/x", 0, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if l := s.List(); len(l) != 1 || l[0].Name != "contoso" || l[0].Set.IsZero() {
		t.Errorf("List() = %v; want contoso alone", l)
	}
	if err := s.Remove("contoso"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("contoso"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("Remove of nothing = %v; want ErrNotFound", err)
	}
	for ref, want := range map[string]string{"vault:contoso": "run: postern secret set contoso", "env:X": "variable X", "file:/run/s": "/run/s", "": "vault:NAME"} {
		if got := SecretRemedy(ref); !strings.Contains(got, want) {
			t.Errorf("SecretRemedy(%q) = %q; want %q", ref, got, want)
		}
	}
}

func TestAccountsKeepSecrets(t *testing.T) {
	c := newCabinet(t, newServer(), false)
	if err := c.SetSecret("contoso", "one"); err != nil {
		t.Fatal(err)
	}
	if l := c.ListSecrets(); len(l) != 1 || l[0].Name != "contoso" {
		t.Errorf("ListSecrets() = %v; want contoso", l)
	}
	c.disk.full = errFull
	if err := c.SetSecret("contoso", "two"); !errors.Is(err, errFull) {
		t.Errorf("SetSecret on a full disk = %v", err)
	}
	c.disk.full = nil
	if got, err := c.secrets.Resolve("vault:contoso"); err != nil || got.Reveal() != "one" {
		t.Errorf("after it: %v, %v; want the former secret", got, err)
	}
	if err := c.RemoveSecret("contoso"); err != nil || len(c.ListSecrets()) != 0 {
		t.Errorf("RemoveSecret = %v, left %v", err, c.ListSecrets())
	}
}
