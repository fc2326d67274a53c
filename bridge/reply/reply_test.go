package reply

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestError(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  *Error
		want string
	}{
		{"a temporary refusal", &Error{Code: 451, Enhanced: "4.3.0", Text: "try again"}, "451 4.3.0 try again"},
		{"the cause comes last", &Error{Code: 550, Enhanced: "5.7.1", Text: "no", Err: io.EOF}, "550 5.7.1 no: EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.err.Error(); got != tc.want {
				t.Errorf("%q; want %q", got, tc.want)
			}
			var found *Error
			if wrapped := fmt.Errorf("store: %w", tc.err); !errors.As(wrapped, &found) || errors.Is(wrapped, io.EOF) != (tc.err.Err != nil) {
				t.Errorf("%v does not unwrap", wrapped)
			}
		})
	}
}

func TestReplyString(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   Reply
		want string
	}{
		{"no answer", Reply{}, ""},
		{"all parts but the server's id", Reply{250, "2.0.0", "Ok", "x"}, "250 2.0.0 Ok"},
		{"Graph's code", Reply{Code: 403, Enhanced: "ErrorSendAsDenied"}, "403 ErrorSendAsDenied"},
		{"text alone", Reply{Text: "connection refused"}, "connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.in.String(); got != tc.want {
				t.Errorf("String = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestOutcomeFor(t *testing.T) {
	o := Outcome{Verdict: Relayed, Transport: "smtp", Recipients: map[string]Outcome{"a@x": {Verdict: Failed, Owner: Recipient}}}
	if got := o.For("a@x"); got.Verdict != Failed || got.Owner != Recipient {
		t.Errorf("the one that fared differently: %+v", got)
	}
	if got := o.For("b@x"); got.Verdict != Relayed || got.Transport != "smtp" || got.Recipients != nil {
		t.Errorf("another: %+v", got)
	}
}

func TestWords(t *testing.T) {
	if zero := (Outcome{}); zero.Verdict != Deferred || zero.Owner != Nobody {
		t.Errorf("an unknown failure is %v", zero.Verdict)
	}
	for v, want := range map[Verdict]string{Deferred: "deferred", Relayed: "relayed", Failed: "failed", InDoubt: "in doubt"} {
		if v.String() != want {
			t.Errorf("Verdict %d is %q, want %q", v, v, want)
		}
	}
	for o, want := range map[Owner]string{Nobody: "nobody", Message: "message", Recipient: "recipient", Sender: "sender",
		Account: "account", Login: "login", Route: "route", Process: "process"} {
		if o.String() != want {
			t.Errorf("Owner %d is %q, want %q", o, o, want)
		}
	}
}
