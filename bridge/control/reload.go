package control

import (
	"context"
	"net/http"
)

// Reloads is the part of a Service that puts the file in force again.
type Reloads interface {
	// Reload reads the daemon's file and puts it in force; after an error nothing has changed.
	Reload(ctx context.Context) (Reloaded, error)
}

// Reloaded says what a reload changed.
type Reloaded struct {
	Changes  []string `json:"changes"`            // in words, "account erp added"
	Restart  []string `json:"needs_restart"`      // keys that differ and keep their former value until a restart
	Warnings []string `json:"warnings,omitempty"` // of the file
}

func handleReload(mux *http.ServeMux, svc Reloads) {
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
		// Begun, it is finished: the command line's going away leaves no half of it.
		answer(w)(svc.Reload(context.WithoutCancel(r.Context())))
	})
}

// Reload has the daemon read its file again.
func (c *Client) Reload(ctx context.Context) (done Reloaded, err error) {
	return done, c.do(ctx, "POST", "/reload", nil, &done)
}
