package bridge

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tool runs a program and returns its output.
func tool(t *testing.T, env []string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, errs.Bytes())
	}
	return out
}

func withCRLF(b []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

// TestSignaturesVerify: S/MIME by openssl and PGP/MIME by gpg, after the sender was rewritten on the way.
func TestSignaturesVerify(t *testing.T) {
	needs(t, "openssl")
	needs(t, "gpg")
	dir, err := os.MkdirTemp("", "ps") // short: gpg's agent has its socket there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, data []byte) string {
		if err := os.WriteFile(at(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	part := write("part", []byte("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße, \r\n.\r\n..\r\nFrom here\r\n"))
	header := "From: app@erp.local\r\nTo: ann@example.test\r\nSubject: signed\r\n"

	tool(t, nil, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", at("key"), "-out", at("crt"), "-days", "30", "-subj", "/CN=app")
	smime := append([]byte(header), withCRLF(tool(t, nil, "openssl", "cms", "-sign", "-in", part, "-signer", at("crt"), "-inkey", at("key")))...)

	home := []string{"GNUPGHOME=" + at("g")}
	if err := os.Mkdir(at("g"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = append(os.Environ(), home...)
		_ = cmd.Run() // the agent of this folder alone
	})
	tool(t, home, "gpg", "--batch", "--passphrase", "", "--quick-gen-key", "app@erp.local", "ed25519", "sign")
	sig := withCRLF(tool(t, home, "gpg", "--batch", "--armor", "--detach-sign", "--output", "-", part))
	signed, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	pgp := fmt.Appendf([]byte(header), "MIME-Version: 1.0\r\nContent-Type: multipart/signed; micalg=pgp-sha512;\r\n protocol=\"application/pgp-signature\"; boundary=sig\r\n\r\n"+
		"--sig\r\n%s\r\n--sig\r\nContent-Type: application/pgp-signature\r\n\r\n%s\r\n--sig--\r\n", signed, sig)

	for _, via := range []string{"smtp", "mime", "drafts"} {
		t.Run(via, func(t *testing.T) {
			w := newWorld(t, worldOptions{config: exactConfig})
			for i, text := range [][]byte{smime, pgp} {
				if err := w.hand(via, []string{"ann@example.test"}, text); err != nil {
					t.Fatal(err)
				}
				w.wait(i + 1)
			}
			got := w.box.Received()
			tool(t, nil, "openssl", "cms", "-verify", "-noverify", "-in", write("got-"+via, got[0].Raw), "-out", at("out-"+via))
			_, rest, ok := bytes.Cut(got[1].Raw, []byte("--sig\r\n"))
			inner, _, ok2 := bytes.Cut(rest, []byte("\r\n--sig\r\n"))
			if !ok || !ok2 {
				t.Fatalf("the structure is gone:\n%s", got[1].Raw)
			}
			tool(t, home, "gpg", "--batch", "--verify", write("sig", sig), write("inner-"+via, inner))
			if bytes.Contains(got[0].Raw, []byte("From: app@erp.local")) {
				t.Error("the sender was not rewritten, so this proves little")
			}
		})
	}
}

// TestBrokenSignatureIsSeen proves that TestSignaturesVerify can fail.
func TestBrokenSignatureIsSeen(t *testing.T) {
	needs(t, "openssl")
	dir := t.TempDir()
	part := filepath.Join(dir, "part")
	if err := os.WriteFile(part, []byte("text\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, nil, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", dir+"/key", "-out", dir+"/crt", "-days", "30", "-subj", "/CN=app")
	signed := tool(t, nil, "openssl", "cms", "-sign", "-in", part, "-signer", dir+"/crt", "-inkey", dir+"/key")
	broken := bytes.Replace(signed, []byte("text\r\n"), []byte("Text\r\n"), 1)
	if bytes.Equal(broken, signed) {
		broken = bytes.Replace(signed, []byte("text\n"), []byte("Text\n"), 1)
	}
	if err := os.WriteFile(dir+"/broken", broken, 0o600); err != nil {
		t.Fatal(err)
	}
	if exec.Command("openssl", "cms", "-verify", "-noverify", "-in", dir+"/broken", "-out", dir+"/out").Run() == nil {
		t.Error("openssl verifies a changed message")
	}
}
