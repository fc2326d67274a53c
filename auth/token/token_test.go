package token

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const canary = "canary-7f3a"

func TestSecretNeverPrintsItself(t *testing.T) {
	s := Secret(canary)
	wrapped := struct {
		Name   string
		Secret Secret
		Token  Token
	}{"x", s, Token{Access: s}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T %v"} {
		for _, v := range []any{s, &s, wrapped, &wrapped, []Secret{s}, map[string]Secret{"k": s}} {
			if out := fmt.Sprintf(verb, v); strings.Contains(out, canary) || strings.Contains(out, fmt.Sprintf("%x", canary)) {
				t.Errorf("Sprintf(%q, %T) leaks: %s", verb, v, out)
			}
		}
	}
	if b, err := json.Marshal(wrapped); err != nil || bytes.Contains(b, []byte(canary)) {
		t.Errorf("json.Marshal = %s, %v; leaks or fails", b, err)
	}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "secret", s, "wrapped", wrapped)
	}
	if strings.Contains(log.String(), canary) {
		t.Errorf("slog leaks: %s", log.String())
	}
	if s.Reveal() != canary {
		t.Errorf("Reveal() = %q; want the value", s.Reveal())
	}
}

func TestForNamesTheAccount(t *testing.T) {
	e := &Error{Text: "the sign-in is gone", Remedy: "run: postern signin ACCOUNT"}
	if got, want := e.For("erp").Error(), "the sign-in is gone; run: postern signin erp"; got != want {
		t.Errorf("For(erp).Error() = %q; want %q", got, want)
	}
	if e.Remedy != "run: postern signin ACCOUNT" {
		t.Errorf("For changed the original: %q", e.Remedy)
	}
}
