package control

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/auth/token"
)

// fakeService remembers what it was told.
type fakeService struct {
	SignIns
	Reloads
	Healths
	Queue
	Checks
	Vaults
	accounts []Account
	refresh  token.Secret
	secrets  map[string]token.Secret
}

func (f *fakeService) Accounts(context.Context) ([]Account, error) { return f.accounts, nil }

func (f *fakeService) SignIn(_ context.Context, account string, refresh token.Secret) (SignedIn, error) {
	if account != "erp" {
		return SignedIn{}, errors.New(`there is no account "` + account + `"; accounts: erp`)
	}
	f.refresh = refresh
	return SignedIn{As: "svc@contoso.test", Works: []string{"graph"}, Transport: "graph"}, nil
}

func (f *fakeService) Secrets(context.Context) ([]Secret, error) {
	var list []Secret
	for name := range f.secrets {
		list = append(list, Secret{Name: name})
	}
	return list, nil
}

func (f *fakeService) SetSecret(_ context.Context, name string, value token.Secret) error {
	f.secrets[name] = value
	return nil
}

func (f *fakeService) RemoveSecret(_ context.Context, name string) error {
	delete(f.secrets, name)
	return nil
}

// serve runs a server on a short temporary folder (a socket's path has at most 107 bytes).
func serve(t *testing.T, svc Service) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, key, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(svc, key)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Shutdown(context.Background())
		if err := <-done; err != nil {
			t.Errorf("Serve = %v after Shutdown; want nil", err)
		}
	})
	return dir
}

func TestClientReachesTheService(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	svc := &fakeService{
		accounts: []Account{{Name: "erp", Mailbox: "erp@contoso.test", Remedy: "run: postern signin erp",
			Transports: []Transport{{Name: "graph", State: "parked", TokenFetched: at}}}},
		secrets: map[string]token.Secret{},
	}
	c, err := Dial(t.Context(), serve(t, svc))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	got, err := c.Accounts(t.Context())
	if err != nil || !cmp.Equal(got, svc.accounts) {
		t.Errorf("Accounts = %v, %v; want %v", got, err, svc.accounts)
	}
	long := token.Secret(strings.Repeat("r", 5000))
	if in, err := c.SignIn(t.Context(), "erp", long); err != nil || in.As != "svc@contoso.test" || svc.refresh != long {
		t.Errorf("SignIn = %v, %v; the service got %d octets of token", in, err, len(svc.refresh))
	}
	var refusal *Error
	if _, err := c.SignIn(t.Context(), "nav", "x"); !errors.As(err, &refusal) || !strings.Contains(refusal.Text, "accounts: erp") {
		t.Errorf("SignIn of an unknown account = %v; want the service's own words", err)
	}
	if err := c.SetSecret(t.Context(), "con/to so", "s3cret"); err != nil || svc.secrets["con/to so"] != "s3cret" {
		t.Errorf("SetSecret = %v, stored %q", err, svc.secrets["con/to so"].Reveal())
	}
	if list, err := c.Secrets(t.Context()); err != nil || len(list) != 1 || list[0].Name != "con/to so" {
		t.Errorf("Secrets = %v, %v", list, err)
	}
	if err := c.RemoveSecret(t.Context(), "con/to so"); err != nil || len(svc.secrets) != 0 {
		t.Errorf("RemoveSecret = %v; %d secrets left", err, len(svc.secrets))
	}
}

func TestDialWithoutDaemonIsNotRunning(t *testing.T) {
	dir := t.TempDir()
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial on an empty folder = %v; want ErrNotRunning", err)
	}
}

func TestServerKeepsOutStrangers(t *testing.T) {
	for _, tc := range []struct {
		name, key, host string
		want            int
	}{
		{"the key and the host are right", "k", hostName, http.StatusOK},
		{"a wrong key is refused", "wrong", hostName, http.StatusForbidden},
		{"no key is refused", "", hostName, http.StatusForbidden},
		{"a browser's host is refused", "k", "127.0.0.1:1234", http.StatusForbidden},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := NewServer(&fakeService{}, "k")
			r, _ := http.NewRequest("GET", "/accounts", nil)
			r.Host = tc.host
			r.Header.Set("X-Postern-Key", tc.key)
			w := &recorder{header: http.Header{}}
			s.http.Handler.ServeHTTP(w, r)
			if w.status != tc.want {
				t.Errorf("status = %d; want %d", w.status, tc.want)
			}
		})
	}
}

type recorder struct {
	header http.Header
	status int
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(s int)   { r.status = s }
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return len(p), nil
}
