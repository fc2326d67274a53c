package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern/auth/entra"
	"postern/auth/token"
	"postern/auth/vault"
)

// TestCanary walks the whole cabinet, with Microsoft's client and a real vault, past an endpoint that repeats everything
// it is sent, and looks for secrets in all that it prints, returns and leaves on the disk.
func TestCanary(t *testing.T) {
	var mu sync.Mutex // guards fault
	fault := ""
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		reply := map[string]any{"token_type": "Bearer", "expires_in": 3600, "access_token": "canary-access", "refresh_token": "canary-rotated"}
		switch {
		case fault == "html":
			w.Header().Set("Content-Type", "text/html")
		case fault != "":
			w.WriteHeader(400)
			reply = map[string]any{"error": fault, "error_description": "you sent " + r.PostForm.Encode() + fmt.Sprint(r.PostForm)}
		}
		json.NewEncoder(w).Encode(reply)
	}))
	defer endpoint.Close()

	dir := t.TempDir()
	v, err := vault.Open(dir, vault.Options{Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	secrets := Secrets{Store: v}
	client, err := entra.New(entra.Config{
		Provider: "contoso", Cloud: globalCloud, Authority: endpoint.URL, Tenant: "contoso.test", ClientID: "app",
		Secret: func() (token.Secret, error) { return secrets.Resolve("vault:contoso") }, SecretRemedy: SecretRemedy("vault:contoso"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	logs := []*slog.Logger{
		slog.New(slog.NewTextHandler(&printed, &slog.HandlerOptions{Level: slog.LevelDebug})),
		slog.New(slog.NewJSONHandler(&printed, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	show := func(things ...any) {
		for _, thing := range things {
			fmt.Fprintf(&printed, "%v %+v %#v %s %q\n", thing, thing, thing, thing, thing)
			for _, log := range logs {
				log.Debug("shown", "thing", thing)
			}
			if err, ok := thing.(error); ok {
				for ; err != nil; err = unwrap(err) {
					fmt.Fprintf(&printed, "%v %+v %#v\n", err, err, err)
				}
			}
		}
	}
	var told sync.Mutex // guards printed while Notify may write
	a, err := New(Options{
		Providers: map[string]Provider{"contoso": client},
		Accounts: []Account{
			{Name: "erp", Provider: "contoso", Login: "svc@contoso.test", Resources: both},
			{Name: "app", Provider: "contoso", AppOnly: true, Resources: both},
		},
		Vault: v,
		Notify: func(_ context.Context, c Change) {
			told.Lock()
			defer told.Unlock()
			show(c)
			if c.Err != nil {
				show(c.Err)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	step := func(f func() (any, error)) {
		result, err := f()
		told.Lock()
		defer told.Unlock()
		show(result, err)
	}
	step(func() (any, error) { return nil, a.SetSecret("contoso", "canary-secret~+/8Q") })
	step(func() (any, error) { return a.SignIn(ctx, "erp", "canary-refresh~+/") })
	for _, f := range []string{"", "invalid_grant", "invalid_client", "server_error", "unknown", "html", ""} {
		mu.Lock()
		fault = f
		mu.Unlock()
		for _, name := range []string{"erp", "app"} {
			source := a.Source(name)
			for _, r := range both {
				a.Recheck(name)
				source.Refused(r, "canary-access")
				step(func() (any, error) { return source.Token(ctx, r) })
			}
			step(func() (any, error) { return a.SignIn(ctx, name, "canary-other") })
			s, _ := a.set.Load().logins[name].load()
			step(func() (any, error) { return s, nil })
		}
		step(func() (any, error) { return a.States(ctx), nil })
		states, err := json.Marshal(a.States(ctx))
		step(func() (any, error) { return states, err })
		step(func() (any, error) { return a.ListSecrets(), nil })
	}
	a.Close(ctx)

	if !strings.Contains(printed.String(), "you sent") {
		t.Error("nothing of the endpoint's own text was printed: the test proves nothing")
	}
	text := printed.String()
	for _, encoded := range []string{"canary", fmt.Sprintf("%x", "canary"), strings.Trim(fmt.Sprint([]byte("canary")), "[]")} {
		if i := strings.Index(text, encoded); i >= 0 {
			t.Errorf("printed a secret: ...%s...", text[max(0, i-200):min(len(text), i+100)])
		}
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("canary")) {
			t.Errorf("%s holds a secret in the clear", d.Name())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func unwrap(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return nil
}
