package control

import (
	"context"
	"net/http"

	"postern/auth/token"
)

// Vaults is what `postern vault` asks.
type Vaults interface {
	// Rekey seals every entry of the vault again under key, or with "" under a new one that is made. path is where the new
	// key stands, "" where whoever gave it must put it in the old one's place.
	Rekey(ctx context.Context, key token.Secret) (path string, err error)
}

// rekeyRequest carries the key as bytes, which JSON writes in base64: a raw key is no text.
type rekeyRequest struct {
	Key []byte `json:"key,omitempty"`
}

type rekeyAnswer struct {
	Path string `json:"path"`
}

func handleVault(mux *http.ServeMux, svc Vaults) {
	mux.HandleFunc("POST /vault/rekey", func(w http.ResponseWriter, r *http.Request) {
		var q rekeyRequest
		if ask(w, r, &q) {
			path, err := svc.Rekey(r.Context(), token.Secret(q.Key))
			answer(w)(rekeyAnswer{path}, err)
		}
	})
}

// Rekey asks the daemon for it.
func (c *Client) Rekey(ctx context.Context, key token.Secret) (path string, err error) {
	var got rekeyAnswer
	err = c.do(ctx, "POST", "/vault/rekey", rekeyRequest{[]byte(key.Reveal())}, &got)
	return got.Path, err
}
