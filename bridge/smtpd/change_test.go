package smtpd

import (
	"context"
	"testing"
	"time"
)

// TestSetOptions: who is connected keeps what he began with, who comes after gets the new options.
func TestSetOptions(t *testing.T) {
	h := open(t)
	old := h.dial()
	old.want("", "220 ")
	o := *h.s.o.Load()
	o.MaxMessage = 1000
	if err := h.s.SetOptions(o); err != nil {
		t.Fatal(err)
	}
	old.want("EHLO client.test", "250 ")
	old.want("AUTH PLAIN AG5hdgBzZWNyZXQ=", "235 ")
	old.want("MAIL FROM:<a@contoso.test> SIZE=5000", "250 ")
	fresh := h.dial()
	fresh.want("", "220 ")
	fresh.want("EHLO client.test", "250 ")
	fresh.want("AUTH PLAIN AG5hdgBzZWNyZXQ=", "235 ")
	fresh.want("MAIL FROM:<a@contoso.test> SIZE=5000", "552 5.3.4")

	o.Hostname = "other.contoso.test"
	if err := h.s.SetOptions(o); err == nil {
		t.Error("another host name was taken")
	}
	if err := h.s.SetOptions(Options{Address: "listener", Hostname: "bridge.contoso.test"}); err == nil {
		t.Error("options without users were taken")
	}
	if h.s.o.Load().MaxMessage != 1000 {
		t.Error("options that were refused are in force")
	}
}

// TestRetire: nobody new is let in, who is inside finishes his message, and then the server ends.
func TestRetire(t *testing.T) {
	h := open(t)
	c := h.begin("customer@example.test")
	retired := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() { retired <- h.s.Retire(ctx) }()
	if err := <-h.served; err != nil {
		t.Fatalf("Serve = %v; want nil", err)
	}
	h.served <- nil // for close
	c.want("DATA", "354 ")
	c.want("Subject: s\r\n\r\nx\r\n.", "250 ")
	c.want("QUIT", "221 ")
	if err := <-retired; err != nil {
		t.Errorf("Retire = %v; want nil once the last session has ended", err)
	}
	if n := len(h.desk.messages()); n != 1 {
		t.Errorf("%d messages were kept; want 1", n)
	}
	if err := h.s.Alive(ctx); err != nil {
		t.Errorf("Alive = %v", err)
	}
}
