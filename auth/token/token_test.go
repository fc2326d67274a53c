package token

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
)

const canary = "canary-7f3a"

// TestSecretNeverPrints tries every way that a value gets into a log, an error or a file.
func TestSecretNeverPrints(t *testing.T) {
	s := Secret(canary)
	tok := Token{Access: s, Scopes: []string{"Mail.Send"}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10s", "%T"} {
		fmt.Fprintf(&out, verb+" ", s)
		fmt.Fprintf(&out, verb+" ", tok)
		fmt.Fprintf(&out, verb+" ", &tok)
		fmt.Fprintf(&out, verb+" ", []Secret{s})
		fmt.Fprintf(&out, verb+" ", map[string]Secret{"a": s})
	}
	fmt.Fprintln(&out, s, fmt.Errorf("with %v", s), s.String())
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "secret", s, "token", tok, "pointer", &s, "list", []Secret{s})
	}
	for _, encode := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
		for _, v := range []any{s, tok} {
			data, err := encode(v)
			if err != nil {
				t.Fatal(err)
			}
			out.Write(data)
		}
	}
	text := strings.ToLower(out.String())
	if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
		t.Errorf("the secret is in %q", out.String())
	}
	if !strings.Contains(text, redacted) || s.Reveal() != canary {
		t.Errorf("Reveal gives %q", s.Reveal())
	}
}

func TestEmptySecretIsEmpty(t *testing.T) {
	if s := Secret(""); s.String() != "" || fmt.Sprint(s) != "" {
		t.Errorf("an empty secret prints %q", s.String())
	}
}

func TestError(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  *Error
		want string
	}{
		{"what happened and what to do", &Error{Text: "sign-in has expired", Remedy: "run: postern signin erp"}, "sign-in has expired; run: postern signin erp"},
		{"nothing to do", &Error{Text: "the token endpoint is down", Err: io.EOF}, "the token endpoint is down"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.err.Error(); got != tc.want {
				t.Errorf("Error = %q, want %q", got, tc.want)
			}
			var found *Error
			wrapped := fmt.Errorf("token of account %q: %w", "erp", tc.err)
			if !errors.As(wrapped, &found) || errors.Is(wrapped, io.EOF) != (tc.err.Err != nil) {
				t.Errorf("%v does not unwrap", wrapped)
			}
		})
	}
}
