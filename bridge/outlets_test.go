package bridge

import (
	"testing"

	"postern/bridge/relay"
)

// TestAWrappedTransportKeepsItsTalents: relay asks a transport what else it can do, and what counts its users must not
// hide it.
func TestAWrappedTransportKeepsItsTalents(t *testing.T) {
	w := newWorld(t, worldOptions{})
	g := w.b.outlets["by-graph"].Graph
	if l, ok := g.(relay.Looker); !ok || !l.CanLook() {
		t.Error("Graph with drafts cannot look for what is in doubt")
	}
	if s, ok := g.(relay.Splitter); !ok || !s.Splits() {
		t.Error("Graph with drafts cannot send in parts")
	}
	s := w.b.outlets["by-smtp"].SMTP
	if l, ok := s.(relay.Looker); ok && l.CanLook() {
		t.Error("SMTP says that it can look")
	}
	if w.b.outlets["by-smtp"].Graph != nil {
		t.Error("an account of SMTP alone has Graph")
	}
}
