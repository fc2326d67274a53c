// Package envelopetest makes envelopes for tests.
package envelopetest

import (
	"testing"

	"postern/bridge/envelope"
)

// Address is s as an address, "" the null one; the test ends where it is none.
func Address(t testing.TB, s string) envelope.Address {
	t.Helper()
	if s == "" {
		return envelope.Address{}
	}
	a, err := envelope.ParseAddress(s)
	if err != nil {
		t.Fatalf("ParseAddress(%q): %v", s, err)
	}
	return a
}
