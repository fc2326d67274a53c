package signin

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const authorize = "https://login.test/contoso/oauth2/v2.0/authorize?client_id=c&prompt=select_account"

func TestURLCarriesStateAndChallenge(t *testing.T) {
	a := NewAttempt("http://localhost:1234")
	text, err := a.URL(authorize)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	sum := sha256.Sum256([]byte(a.Verifier.Reveal()))
	for name, want := range map[string]string{"client_id": "c", "prompt": "select_account", "redirect_uri": "http://localhost:1234",
		"code_challenge": base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method": "S256", "state": a.state} {
		if q.Get(name) != want {
			t.Errorf("%s = %q; want %q", name, q.Get(name), want)
		}
	}
	if n := len(a.Verifier); n < 43 || n > 128 || len(a.state) < 22 {
		t.Errorf("verifier of %d and state of %d characters; want 43 to 128, and at least 128 bits", n, len(a.state))
	}
	if strings.Contains(text, a.Verifier.Reveal()) {
		t.Error("the URL has the verifier")
	}
	b := NewAttempt("http://localhost:1234")
	if b.state == a.state || b.Verifier == a.Verifier {
		t.Error("two attempts are the same")
	}
	if _, err := a.URL("nonsense"); err == nil {
		t.Error("URL took an endpoint without a host")
	}
}

func TestPasted(t *testing.T) {
	a := NewAttempt("http://localhost")
	a.state = "STATE"
	long := strings.Repeat("c", 5000)
	for _, tc := range []struct{ name, text, code, err string }{
		{"the whole address", "http://localhost/?code=1.AX&state=STATE&session_state=x", "1.AX", ""},
		{"an address with blanks and quotes around it", " \"http://localhost/?code=1.AX&state=STATE\" ", "1.AX", ""},
		{"the address of the blank page", "https://login.test/common/oauth2/nativeclient?code=1.AX&state=STATE", "1.AX", ""},
		{"an address with a fragment", "http://localhost/#code=1.AX&state=STATE", "1.AX", ""},
		{"the query alone", "?code=1.AX&state=STATE", "1.AX", ""},
		{"the query without its question mark", "code=1.AX&state=STATE", "1.AX", ""},
		{"the bare code", "1.AX-b_c.d", "1.AX-b_c.d", ""},
		{"a code longer than a terminal's line", "http://localhost/?code=" + long + "&state=STATE", long, ""},
		{"an address of another sign-in", "http://localhost/?code=1.AX&state=OTHER", "", "another sign-in"},
		{"an address without a state", "http://localhost/?code=1.AX", "", "another sign-in"},
		{"two codes", "http://localhost/?code=1.AX&code=2&state=STATE", "", "code twice"},
		{"the address that was to be opened", authorize + "&response_type=code&state=STATE", "", "that was to be opened"},
		{"an address without a code", "http://localhost/", "", "no code"},
		{"an empty code", "http://localhost/?code=&state=STATE", "", "no code"},
		{"something else", "I cannot find it", "", "neither an address nor a code"},
		{"nothing", "  ", "", "nothing was pasted"},
		{"a broken escape", "http://localhost/?code=%zz&state=STATE", "", "cannot be read"},
		{"a refusal", "http://localhost/?error=access_denied&error_description=AADSTS65004%3a+no%0d%0aTrace+ID%3a+1&state=STATE", "", "the sign-in was refused: access_denied: AADSTS65004: no"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, err := a.Pasted(tc.text)
			if code.Reveal() != tc.code || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("Pasted(%.80q) = %.20q, %v; want %.20q and an error with %q", tc.text, code.Reveal(), err, tc.code, tc.err)
			}
		})
	}
	_, err := a.Pasted("http://localhost/?error=access_denied&error_description=AADSTS65004%3a+no&state=STATE")
	var r *Refusal
	if !errors.As(err, &r) || r.Number != 65004 || r.Code != "access_denied" {
		t.Errorf("the refusal is %#v", err)
	}
}

func FuzzPasted(f *testing.F) {
	f.Add("http://localhost/?code=1.AX&state=STATE")
	f.Add("http://localhost/?error=%1b[2J&error_description=%1b]0;x&state=STATE")
	f.Add("?#/code=x")
	f.Fuzz(func(t *testing.T, text string) {
		a := NewAttempt("http://localhost")
		a.state = "STATE"
		code, err := a.Pasted(text)
		if (err == nil) == (code == "") {
			t.Errorf("Pasted(%q) = %q, %v; want one of them", text, code.Reveal(), err)
		}
		var r *Refusal
		if errors.As(err, &r) && strings.ContainsFunc(r.Error(), func(c rune) bool { return c < ' ' || c == 0x7f }) {
			t.Errorf("the refusal %q would reach a terminal", r.Error())
		}
	})
}
