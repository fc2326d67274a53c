package peers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// saslConfig is sasl-xoauth2.conf, and what its token files may say otherwise.
type saslConfig struct {
	ClientID      string `json:"client_id"`
	ClientSecret  string `json:"client_secret"`
	TokenEndpoint string `json:"token_endpoint"`
	Scope         string `json:"scope"`
	RefreshToken  string `json:"refresh_token"`
	User          string `json:"user"`
	Proxy         string `json:"proxy"`
}

// jsonComment is a line that jsoncpp skips.
var jsonComment = regexp.MustCompile(`(?m)^\s*//.*$`)

// saslXOAUTH2 reads the JSON with Postfix's maps: each login of sasl_passwd is an account, and a sender of its own is a
// scenario. Without sasl_passwd nobody knows the mailboxes.
func (w *writer) saslXOAUTH2(s Source, text string) error {
	var c saslConfig
	if err := json.Unmarshal(jsonComment.ReplaceAll([]byte(text), nil), &c); err != nil {
		return fmt.Errorf("%w, and no JSON: %w", errUnknown, err)
	}
	if c.ClientID == "" && c.TokenEndpoint == "" && c.RefreshToken == "" {
		return errUnknown
	}
	p := provider{tenant: "common", clientID: c.ClientID, secret: c.ClientSecret != ""}
	if c.TokenEndpoint != "" {
		tenant, ok := tenantOf(c.TokenEndpoint)
		if !ok {
			return fmt.Errorf("its token_endpoint is not Microsoft's, and this version knows no other")
		}
		p.tenant = tenant
	} else {
		w.note("without token_endpoint it was Google's; write your tenant")
		p.tenant = "FILL-IN.onmicrosoft.com"
	}
	if c.Proxy != "" {
		w.note("proxy: write it in [bridge], or set HTTPS_PROXY")
	}
	w.listeners.WriteString("\n[[listener]]\naddress = \"127.0.0.1:2525\"\n")
	w.note("Postfix took the mail before: the listener is a suggestion; where Postfix stays, write relayhost = [127.0.0.1]:2525")
	logins := w.saslLogins(s.SASLPasswd)
	if len(logins) == 0 && c.User != "" {
		logins = []saslLogin{{user: c.User}}
	}
	if len(logins) == 0 {
		return fmt.Errorf("it names no mailbox; give Postfix's password map too: --sasl-passwd /etc/postfix/sasl_passwd")
	}
	w.saslAccounts(c, p, logins)
	w.relayhosts(s.SenderMaps, logins)
	return nil
}

// saslLogin is a line of sasl_passwd: host or sender, the login, and the file of its token.
type saslLogin struct {
	sender string // "" for a host
	user   string
	file   string
}

func (w *writer) saslLogins(text []byte) (list []saslLogin) {
	for _, f := range postfixMap(text) {
		user, file, ok := strings.Cut(f[1], ":")
		switch {
		case !ok || !strings.Contains(user, "@"):
			w.note("sasl_passwd, %s: no login with a token file", f[0])
			continue
		case strings.Contains(f[0], "@") && !strings.HasPrefix(f[0], "["):
			list = append(list, saslLogin{sender: f[0], user: user, file: file})
		case strings.Contains(f[0], "office365.com") || strings.Contains(f[0], "outlook.com"):
			list = append(list, saslLogin{user: user, file: file})
		default:
			w.note("sasl_passwd, %s: this version sends through Microsoft 365 alone", f[0])
		}
	}
	return list
}

// postfixMap reads a table of Postfix's: key and value, # comments, indented lines go on.
func postfixMap(text []byte) (list [][2]string) {
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		line := s.Text()
		if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
			continue
		}
		if (line[0] == ' ' || line[0] == '\t') && len(list) > 0 {
			list[len(list)-1][1] += " " + strings.TrimSpace(line)
			continue
		}
		key, value, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
		list = append(list, [2]string{key, strings.TrimSpace(value)})
	}
	return list
}

func (w *writer) saslAccounts(c saslConfig, p provider, logins []saslLogin) {
	transport := transportOf(c.Scope)
	if transport == "auto" {
		transport = "smtp" // what its tokens are for
	}
	accounts := map[string]string{} // by login
	def := ""
	for _, l := range logins {
		if l.sender == "" && def == "" {
			def = l.user
		}
	}
	for _, l := range logins {
		if accounts[l.user] != "" {
			continue
		}
		name := w.unique(localOf(l.user))
		accounts[l.user] = name
		fmt.Fprintf(&w.accounts, "\n[[account]]\nname = %s\nprovider = %s\nmailbox = %s\ntransport = %s\n", quote(name), quote(w.provider(p)), quote(l.user), quote(transport))
		if l.user == def {
			w.accounts.WriteString("default = true\n")
		}
		w.do("sign in: postern signin %s (or hand over the refresh_token of %s: postern signin %s --refresh-token -)", name, l.file, name)
	}
	var senders []string
	for _, l := range logins {
		if l.sender == "" {
			continue
		}
		from := l.sender
		if strings.HasPrefix(from, "@") {
			from = "*" + from
		}
		senders = append(senders, from)
		fmt.Fprintf(&w.scenarios, "\n[[scenario]]\nname = %s\nmatch = { from = %s }\naccount = %s\n", quote("mail of "+l.sender), quote(from), quote(accounts[l.user]))
	}
	fmt.Fprintf(&w.users, "\n[[user]]\nname = \"postfix\"\n# password = \"\"   # write here what `postern passwd` prints\n")
	if def == "" {
		fmt.Fprintf(&w.users, "account = %s\n", quote(accounts[logins[0].user]))
	}
	own := slices.Clone(senders)
	for _, l := range logins {
		if !slices.Contains(own, l.user) {
			own = append(own, l.user)
		}
	}
	fmt.Fprintf(&w.users, "may_send_as = %s\n", quoteAll(own))
	w.do("give user postfix a password: postern passwd")
}

// relayhosts reads maps by sender, whose senders without a login of their own used the host's.
func (w *writer) relayhosts(maps [][]byte, logins []saslLogin) {
	for _, text := range maps {
		for _, f := range postfixMap(text) {
			known := slices.ContainsFunc(logins, func(l saslLogin) bool { return strings.EqualFold(l.sender, f[0]) })
			switch {
			case known:
			case strings.Contains(f[1], "office365.com") || strings.Contains(f[1], "outlook.com"):
				w.note("sender map, %s: it used the host's login; allow it in may_send_as", f[0])
			default:
				w.note("sender map, %s goes by %s: leave that with Postfix", f[0], f[1])
			}
		}
	}
}
