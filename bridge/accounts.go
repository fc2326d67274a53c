package bridge

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"runtime"
	"strings"

	"postern/auth"
	"postern/auth/entra"
	"postern/auth/token"
	"postern/auth/vault"
	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/event"
)

// unitKeyFile is what the unit's LoadCredential=vault.key names (systemd.exec(5)); root alone can read it.
const unitKeyFile = "/etc/postern/vault.key"

// unitKey reads that file where it is there and may be read: the command line of root needs it, because only the
// service has the credential. It is read before data_dir's owner is put on.
func unitKey() (token.Secret, error) {
	if runtime.GOOS == "windows" {
		return "", nil
	}
	key, err := vault.ReadKey(unitKeyFile)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", nil
	}
	return key, err
}

// CheckKey says what is wrong with the text of a vault's key file.
func CheckKey(text []byte) error { return vault.CheckKey(text) }

// openAccounts opens the vault and the key cabinet. events may be nil.
func openAccounts(cfg *config.Config, key token.Secret, events *event.Bus) (*auth.Accounts, error) {
	accounts, _, err := openCabinet(cfg, key, events)
	return accounts, err
}

// openCabinet also returns the clients, which a reload may go on with.
func openCabinet(cfg *config.Config, key token.Secret, events *event.Bus) (*auth.Accounts, providers, error) {
	v, err := vault.Open(cfg.Bridge.DataDir, vault.Options{Key: key})
	if err != nil {
		return nil, nil, err
	}
	clients, err := openProviders(cfg, auth.Secrets{Store: v}, nil)
	if err != nil {
		return nil, nil, err
	}
	accounts, err := auth.New(auth.Options{Providers: clients.clients(), Accounts: signIns(cfg), Vault: v,
		Notify: func(ctx context.Context, c auth.Change) { tell(ctx, events, c) }})
	return accounts, clients, err
}

// signIns are the accounts for the key cabinet.
func signIns(cfg *config.Config) []auth.Account {
	var list []auth.Account
	for _, a := range cfg.Accounts {
		acc := auth.Account{Name: a.Name, Provider: a.Provider, Login: a.Login, AppOnly: a.SignIn == "app-only",
			Drafts: a.Drafts != "never", Resources: resources(cfg, a)}
		list = append(list, acc)
	}
	return list
}

// resources are those that the account's mail leaves by; each has its transport's name.
func resources(cfg *config.Config, a config.Account) (all []token.Resource) {
	if usesGraph(a) {
		all = append(all, token.Graph)
	}
	if usesSMTP(a, providerOf(cfg, a)) {
		all = append(all, token.SMTP)
	}
	return all
}

func openProvider(cfg *config.Config, p config.Provider, secrets auth.Secrets) (auth.Provider, error) {
	return openEntra(cfg, p, secrets, nil)
}

// openEntra makes the client of an app registration. Its answers come through what watch, if not nil, makes of its transport.
func openEntra(cfg *config.Config, p config.Provider, secrets auth.Secrets, watch func(http.RoundTripper) http.RoundTripper) (*entra.Client, error) {
	web, err := webClient(cfg, p)
	if err != nil {
		return nil, err
	}
	if watch != nil {
		web.Transport = watch(web.Transport)
	}
	c := entra.Config{
		Provider: p.Name, Authority: p.Authority, Tenant: p.Tenant, ClientID: p.ClientID, HTTP: web, GraphURL: p.Graph, NoDrafts: nobodyDrafts(cfg, p.Name),
		Cloud: entra.Cloud{Graph: p.GraphResource, SMTP: p.SMTPScopeHost, ExchangeApps: p.SMTPScopeHostAppOnly},
	}
	if p.ClientSecret.Kind != "" {
		ref := p.ClientSecret.Kind + ":" + p.ClientSecret.Name
		c.Secret = func() (token.Secret, error) { return secrets.Resolve(ref) }
		c.SecretRemedy = auth.SecretRemedy(ref)
	}
	if len(p.Certificates) > 0 {
		c.Certificates = func() ([]entra.Certificate, error) { return appCertificates(p.Certificates) }
		c.SecretRemedy = "put a PEM or PFX file with certificate and key where certificate of provider " + p.Name + " says"
	}
	return entra.New(c)
}

// tell turns what happened to a token into an event.
func tell(ctx context.Context, events *event.Bus, c auth.Change) {
	attrs := []slog.Attr{slog.String("account", strings.Join(c.Accounts, ",")), slog.String("provider", c.Provider)}
	if c.Login != "" {
		attrs = append(attrs, slog.String("login", c.Login))
	}
	if c.Resource != "" {
		attrs = append(attrs, slog.String("resource", string(c.Resource)))
	}
	if c.Took > 0 {
		attrs = append(attrs, slog.String("host", c.Host), slog.Duration("duration", c.Took))
	}
	if c.Err != nil {
		attrs = append(attrs, slog.String("err", c.Err.Error()))
	}
	if by := control.Caller(ctx); by != "" && (c.Kind == auth.SignedIn || c.Kind == auth.SignedOut) {
		attrs = append([]slog.Attr{slog.String("by", by)}, attrs...)
	}
	switch c.Kind {
	case auth.SignedIn:
		events.Emit(ctx, slog.LevelInfo, event.AccountSignedIn, append(attrs, slog.String("user", c.User))...)
	case auth.SignedOut:
		events.Emit(ctx, slog.LevelInfo, event.AccountSignedOut, attrs...)
	case auth.Refreshed:
		events.Emit(ctx, slog.LevelInfo, event.TokenRefreshed, append(attrs, slog.Time("expiry", c.Expiry))...)
	case auth.NotStored:
		events.Emit(ctx, slog.LevelError, event.TokenNotStored, attrs...)
	case auth.Stored:
		events.Emit(ctx, slog.LevelInfo, event.TokenStored, attrs...)
	case auth.Failed:
		level := slog.LevelWarn
		if c.Err != nil && c.Err.Person {
			level = slog.LevelError
		}
		events.Emit(ctx, level, event.TokenFailed, attrs...)
	}
}
