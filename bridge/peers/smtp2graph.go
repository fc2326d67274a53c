package peers

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// graphConfig is SMTP2Graph's config.yml.
type graphConfig struct {
	Mode string `yaml:"mode"`
	Send *struct {
		AppReg struct {
			Tenant      string `yaml:"tenant"`
			ID          string `yaml:"id"`
			Secret      string `yaml:"secret"`
			Certificate *struct {
				PrivateKeyPath string `yaml:"privateKeyPath"`
			} `yaml:"certificate"`
		} `yaml:"appReg"`
		ForceMailbox  string `yaml:"forceMailbox"`
		RetryLimit    *int   `yaml:"retryLimit"`
		RetryInterval *int   `yaml:"retryInterval"`
	} `yaml:"send"`
	Receive struct {
		Port              int      `yaml:"port"`
		ListenAddress     string   `yaml:"listenAddress"`
		Secure            bool     `yaml:"secure"`
		TLSKeyPath        string   `yaml:"tlsKeyPath"`
		TLSCertPath       string   `yaml:"tlsCertPath"`
		MaxSize           string   `yaml:"maxSize"`
		Banner            string   `yaml:"banner"`
		IPWhitelist       []string `yaml:"ipWhitelist"`
		AllowedFrom       []string `yaml:"allowedFrom"`
		AllowedRcpt       []string `yaml:"allowedRcpt"`
		AllowInsecureAuth bool     `yaml:"allowInsecureAuth"`
		RequireAuth       bool     `yaml:"requireAuth"`
		Users             []struct {
			Username    string   `yaml:"username"`
			Password    string   `yaml:"password"`
			AllowedFrom []string `yaml:"allowedFrom"`
		} `yaml:"users"`
		RateLimit any `yaml:"rateLimit"`
		AuthLimit any `yaml:"authLimit"`
	} `yaml:"receive"`
	HTTPProxy any `yaml:"httpProxy"`
}

// smtp2graph reads config.yml. SMTP2Graph sends through the mailbox that the From names, with the app's own right: that
// is an app-only account for each domain.
func (w *writer) smtp2graph(s Source, text string) error {
	var c graphConfig
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		var kind *yaml.TypeError // it is YAML, of something else
		if errors.As(err, &kind) {
			return errUnknown
		}
		return fmt.Errorf("%w, and no YAML: %w", errUnknown, err)
	}
	if c.Send == nil && c.Receive.Port == 0 && len(c.Receive.Users) == 0 {
		return errUnknown
	}
	if c.Mode != "" && c.Mode != "full" {
		w.note("mode %q: Postern takes mail and relays it, always both", c.Mode)
	}
	w.graphListener(c)
	account, err := w.graphAccounts(s, c)
	if err != nil {
		return err
	}
	for key, set := range map[string]bool{"rateLimit": c.Receive.RateLimit != nil, "authLimit": c.Receive.AuthLimit != nil, "banner": c.Receive.Banner != "",
		"httpProxy": c.HTTPProxy != nil} {
		if set {
			w.notes = append(w.notes, map[string]string{
				"rateLimit": "receive.rateLimit: Postern limits connections at a time (max_connections) and messages (rate_per_minute)",
				"authLimit": "receive.authLimit: Postern slows failed logins down and blocks them by itself",
				"banner":    "receive.banner: the greeting has hostname of [bridge]",
				"httpProxy": "httpProxy: write proxy in [bridge], or set HTTPS_PROXY",
			}[key])
		}
	}
	slices.Sort(w.notes)
	return w.graphUsers(s, c, account)
}

func (w *writer) graphListener(c graphConfig) {
	r := c.Receive
	port := cmp.Or(r.Port, 25)
	fmt.Fprintf(&w.listeners, "\n[[listener]]\naddress = %s\n", quote(net.JoinHostPort(r.ListenAddress, strconv.Itoa(port))))
	if r.TLSCertPath != "" {
		mode := "starttls"
		if r.Secure {
			mode = "implicit"
		}
		fmt.Fprintf(&w.listeners, "tls = %s\ntls_cert = %s\ntls_key = %s\n", quote(mode), quote(r.TLSCertPath), quote(r.TLSKeyPath))
	} else if r.Secure {
		w.note("receive.secure without a certificate of its own: give the listener tls, tls_cert and tls_key")
	}
	if !r.RequireAuth {
		w.listeners.WriteString("auth = \"optional\"\n")
	}
	if len(r.IPWhitelist) > 0 {
		fmt.Fprintf(&w.listeners, "networks = %s\n", quoteAll(r.IPWhitelist))
	} else if r.ListenAddress == "" {
		w.note("without receive.ipWhitelist every machine could connect; Postern lets in this machine alone until networks says who may")
	}
	if r.AllowInsecureAuth {
		w.listeners.WriteString("tolerate = [\"plaintext-auth\"]\n")
	}
}

// graphAccounts writes an account for each domain of the senders, or for the one mailbox, and returns the name of the only
// one, "" where there are more.
func (w *writer) graphAccounts(s Source, c graphConfig) (only string, err error) {
	var p provider
	p.tenant = "FILL-IN.onmicrosoft.com"
	if c.Send != nil {
		p = provider{tenant: c.Send.AppReg.Tenant, clientID: c.Send.AppReg.ID, secret: c.Send.AppReg.Secret != ""}
		if !strings.Contains(p.tenant, ".") && !strings.Contains(p.tenant, "-") {
			p.tenant += ".onmicrosoft.com" // SMTP2Graph adds it
		}
		if k := c.Send.AppReg.Certificate; k != nil {
			p.certificate = strings.TrimSuffix(k.PrivateKeyPath, ".key") + ".pem"
			w.do("put certificate and private key (%s) into one PEM file: %s", k.PrivateKeyPath, p.certificate)
		}
		if c.Send.RetryLimit != nil || c.Send.RetryInterval != nil {
			w.note("send.retryLimit and retryInterval: Postern tries for five days, by a schedule of its own ([queue] give_up_after)")
		}
	}
	name := w.provider(p)
	mailboxes := []string{}
	add := func(from string) {
		if box := "*@" + strings.ToLower(domainOf(from)); strings.Contains(from, "@") && !slices.Contains(mailboxes, box) {
			mailboxes = append(mailboxes, box)
		}
	}
	if c.Send != nil && c.Send.ForceMailbox != "" {
		mailboxes = append(mailboxes, c.Send.ForceMailbox)
	} else {
		for _, from := range c.Receive.AllowedFrom {
			add(from)
		}
		for _, u := range c.Receive.Users {
			for _, from := range u.AllowedFrom {
				add(from)
			}
		}
		if len(mailboxes) == 0 {
			domain := cmp.Or(s.DefaultMail, "FILL-IN.example")
			mailboxes = append(mailboxes, "*@"+domain)
			w.do("write the domain of your senders into mailbox: the file names none")
		}
	}
	var names []string
	for i, box := range mailboxes {
		only = w.unique(strings.TrimPrefix(box, "*@"))
		fmt.Fprintf(&w.accounts, "\n[[account]]\nname = %s\nprovider = %s\nmailbox = %s\nsignin = \"app-only\"\ntransport = \"graph\"\n", quote(only), quote(name), quote(box))
		if size := strings.ToLower(c.Receive.MaxSize); size != "" {
			fmt.Fprintf(&w.accounts, "max_message = %s\n", quote(strings.NewReplacer("k", "KiB", "m", "MiB").Replace(size)))
		}
		names = append(names, only)
		if i == 0 && len(mailboxes) > 1 {
			w.accounts.WriteString("default = true\n")
		}
	}
	for i, box := range mailboxes[1:] {
		domain := strings.TrimPrefix(box, "*@")
		fmt.Fprintf(&w.scenarios, "\n[[scenario]]\nname = %s\nmatch = { from = %s }\naccount = %s\n", quote("mail of "+domain), quote(box), quote(names[i+1]))
		only = ""
	}
	return only, nil
}

func (w *writer) graphUsers(s Source, c graphConfig, account string) error {
	r := c.Receive
	end := func(from []string) {
		if account != "" {
			fmt.Fprintf(&w.users, "account = %s\n", quote(account))
		}
		if len(from) == 0 {
			from = r.AllowedFrom
		}
		if len(from) > 0 {
			fmt.Fprintf(&w.users, "may_send_as = %s\n", quoteAll(from))
		} else {
			w.users.WriteString("may_send_as = [\"*\"]\n")
		}
		if len(r.AllowedRcpt) > 0 {
			fmt.Fprintf(&w.users, "may_send_to = %s\n", quoteAll(r.AllowedRcpt))
		}
	}
	for _, u := range r.Users {
		hash, err := s.HashOf(u.Password)
		if err != nil {
			return fmt.Errorf("password of user %q: %w", u.Username, err)
		}
		fmt.Fprintf(&w.users, "\n[[user]]\nname = %s\npassword = '%s'\n", quote(w.unique(u.Username)), hash)
		end(u.AllowedFrom)
	}
	if !r.RequireAuth {
		networks := r.IPWhitelist
		if len(networks) == 0 {
			networks = []string{"127.0.0.1", "::1"}
		}
		fmt.Fprintf(&w.users, "\n[[user]]\nname = %s\n# Clients that do not log in.\nnetworks = %s\n", quote(w.unique("anonymous")), quoteAll(networks))
		end(nil)
	}
	return nil
}
