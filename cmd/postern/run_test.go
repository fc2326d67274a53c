package main

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
)

// TestManyHangUps: signals that come while nobody reloads, such as at the start, keep the end from nobody.
func TestManyHangUps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		hangUp, reload, ended := make(chan os.Signal), make(chan struct{}, 1), make(chan struct{})
		go func() {
			defer close(ended)
			passOn(ctx, hangUp, reload)
		}()
		for range 5 {
			hangUp <- os.Interrupt // which one is the caller's choice
		}
		cancel()
		<-ended
		if len(reload) != 1 {
			t.Errorf("%d reloads are asked for; want 1", len(reload))
		}
	})
}
