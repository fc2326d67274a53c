package entra

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/auth/token"
)

const (
	codeCanary     = "1.canary-code"
	verifierCanary = "canary-verifier"
	deviceCanary   = "canary-device"
)

func TestOffer(t *testing.T) {
	both := []token.Resource{token.Graph, token.SMTP}
	for _, tc := range []struct {
		name   string
		change func(*Config)
		wants  token.Wants
		scopes string // without resources
		err    string
	}{
		{"both transports and drafts", nil, token.Wants{Resources: both, Drafts: true},
			"openid profile offline_access User.Read Mail.Send Mail.Send.Shared Mail.ReadWrite SMTP.Send", ""},
		{"without drafts", nil, token.Wants{Resources: both}, "openid profile offline_access User.Read Mail.Send Mail.Send.Shared SMTP.Send", ""},
		{"Graph alone", nil, token.Wants{Resources: both[:1], Drafts: true}, "openid profile offline_access User.Read Mail.Send Mail.Send.Shared Mail.ReadWrite", ""},
		{"SMTP alone", nil, token.Wants{Resources: both[1:], Drafts: true}, "openid profile offline_access User.Read SMTP.Send", ""},
		{"personal accounts know nothing shared", func(c *Config) { c.Tenant = "consumers" }, token.Wants{Resources: both, Drafts: true},
			"openid profile offline_access User.Read Mail.Send Mail.ReadWrite SMTP.Send", ""},
		{"a cloud whose SMTP scope nobody knows", func(c *Config) { c.Cloud = dod }, token.Wants{Resources: both},
			"openid profile offline_access User.Read Mail.Send Mail.Send.Shared", ""},
		{"there, SMTP alone", func(c *Config) { c.Cloud = dod }, token.Wants{Resources: both[1:]}, "", "use another transport"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newClient(t, "https://login.test/", tc.change)
			tc.wants.Login = "erp+1@contoso.test"
			o, err := c.Offer(tc.wants)
			if tc.err != "" {
				if e := fault(t, err); !e.Person || !strings.Contains(e.Error(), tc.err) {
					t.Errorf("error %v; want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, s := range o.Scopes {
				names = append(names, s.Name)
				if s.Why == "" || len(s.Why) > 60 {
					t.Errorf("%s: why %q; want a line of a terminal", s.Name, s.Why)
				}
			}
			if got := strings.Join(names, " "); got != tc.scopes {
				t.Errorf("scopes %s; want %s", got, tc.scopes)
			}
			u, err := url.Parse(o.Authorize)
			if err != nil {
				t.Fatal(err)
			}
			q := u.Query()
			if u.Path != "/"+c.config.Tenant+"/oauth2/v2.0/authorize" || q.Get("login_hint") != "erp+1@contoso.test" ||
				q.Get("prompt") != "select_account" || q.Get("response_type") != "code" || q.Get("client_id") != "1111-2222" {
				t.Errorf("the address is %s", o.Authorize)
			}
			if scopes := strings.Fields(q.Get("scope")); len(scopes) != len(names) || !strings.HasSuffix(scopes[3], "/User.Read") || !strings.HasPrefix(scopes[3], "https://") {
				t.Errorf("scope %q; want the names with their resources, Graph's first", q.Get("scope"))
			}
			if o.Native != "https://login.test/common/oauth2/nativeclient" {
				t.Errorf("the blank page is %s", o.Native)
			}
		})
	}
}

func TestRedeem(t *testing.T) {
	ctx := context.Background()
	code := token.Proof{Code: codeCanary, Verifier: verifierCanary, RedirectURI: "http://localhost:1"}
	server := newEndpoint(t, answer(200, tokenReply(nil)))
	c := newClient(t, server.URL, nil)
	if g, err := c.Redeem(ctx, code); err != nil || g.Refresh != nextCanary {
		t.Errorf("Redeem(code) = %v, %v", g, err)
	}
	if g, err := c.Redeem(ctx, token.Proof{Device: deviceCanary}); err != nil || g.Refresh != nextCanary {
		t.Errorf("Redeem(device) = %v, %v", g, err)
	}
	forms := server.forms()
	for name, want := range map[string]string{"grant_type": "authorization_code", "code": codeCanary, "code_verifier": verifierCanary,
		"redirect_uri": "http://localhost:1", "client_id": "1111-2222", "client_secret": secretCanary,
		"scope": "openid profile offline_access https://graph.microsoft.com/User.Read"} {
		if forms[0].Get(name) != want {
			t.Errorf("code: %s = %q; want %q", name, forms[0].Get(name), want)
		}
	}
	if f := forms[1]; f.Get("grant_type") != deviceGrant || f.Get("device_code") != deviceCanary || f.Has("scope") || f.Has("code") {
		t.Errorf("device: %v", f)
	}
	for _, tc := range []struct {
		name, reply string
		status      int
		proof       token.Proof
		code, text  string
		person      bool
	}{
		{"pending is nobody's trouble", `{"error":"authorization_pending","error_codes":[70016]}`, 400, token.Proof{Device: deviceCanary}, "authorization_pending", "", false},
		{"slow_down is nobody's trouble", `{"error":"slow_down"}`, 400, token.Proof{Device: deviceCanary}, "slow_down", "", false},
		{"an outage passes", `<html>`, 503, token.Proof{Device: deviceCanary}, "", "HTTP 503", false},
		{"declined", `{"error":"authorization_declined"}`, 400, token.Proof{Device: deviceCanary}, "authorization_declined", "was declined", true},
		{"expired", `{"error":"expired_token","error_codes":[70020]}`, 400, token.Proof{Device: deviceCanary}, "expired_token", "in time", true},
		{"an unknown device code", `{"error":"bad_verification_code","error_codes":[70018]}`, 400, token.Proof{Device: deviceCanary}, "bad_verification_code", "device code", true},
		{"a code used twice", `{"error":"invalid_grant","error_codes":[54005]}`, 400, code, "invalid_grant", "used before", true},
		{"a wrong code", `{"error":"invalid_grant","error_codes":[70000],"error_description":"AADSTS70000: x"}`, 400, code, "invalid_grant", "the code is wrong", true},
		{"a code that came too late", `{"error":"invalid_grant","error_codes":[70008],"error_description":"AADSTS70008: x"}`, 400, code, "invalid_grant", "or has expired", true},
		{"a text that quotes the request", `{"error":"invalid_grant","error_description":"bad ` + codeCanary + ` and ` + verifierCanary + `"}`, 400, code, "invalid_grant", "[redacted]", true},
		{"no refresh token", tokenReply(map[string]any{"refresh_token": nil}), 200, code, "", "offline_access", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newEndpoint(t, answer(tc.status, tc.reply))
			_, err := newClient(t, server.URL, nil).Redeem(ctx, tc.proof)
			if e := fault(t, err); e.Code != tc.code || e.Person != tc.person || !strings.Contains(e.Text, tc.text) {
				t.Errorf("%+v; want code %q, person %v and %q", e, tc.code, tc.person, tc.text)
			}
		})
	}
}

func TestDeviceCode(t *testing.T) {
	ctx := context.Background()
	wants := token.Wants{Resources: []token.Resource{token.Graph, token.SMTP}}
	const good = `{"device_code":"` + deviceCanary + `","user_code":"FRWQDE7YL","verification_uri":"https://microsoft.com/devicelogin","expires_in":900,"interval":5,"message":"x"}`
	for _, tc := range []struct {
		name, reply       string
		status            int
		interval, expires time.Duration
		err               string
	}{
		{"as Microsoft answers", good, 200, 5 * time.Second, 15 * time.Minute, ""},
		{"numbers as strings", strings.NewReplacer("900", `"600"`, `"interval":5`, `"interval":"10"`).Replace(good), 200, 10 * time.Second, 10 * time.Minute, ""},
		{"without interval and life", strings.NewReplacer(`"expires_in":900,"interval":5,`, "").Replace(good), 200, 5 * time.Second, 15 * time.Minute, ""},
		{"an interval of nothing", strings.Replace(good, `"interval":5`, `"interval":0`, 1), 200, time.Second, 15 * time.Minute, ""},
		{"a code with a terminal's escapes", strings.Replace(good, "FRWQ", `\u001b[2J`, 1), 200, 0, 0, "no usable device code"},
		{"an address that runs something", strings.Replace(good, "https:", "javascript:", 1), 200, 0, 0, "no usable verification_uri"},
		{"an address with a terminal's escapes", strings.Replace(good, "devicelogin", `\u009b2J`, 1), 200, 0, 0, "no usable verification_uri"},
		{"no code", `{}`, 200, 0, 0, "no usable device code"},
		{"garbage", `[`, 200, 0, 0, "not JSON"},
		{"an outage", `{}`, 503, 0, 0, "HTTP 503"},
		{"a policy", `{"error":"access_denied","error_codes":[530033]}`, 400, 0, 0, "Conditional Access blocks the device-code flow (AADSTS530033)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newEndpoint(t, answer(tc.status, tc.reply))
			d, err := newClient(t, server.URL, nil).DeviceCode(ctx, wants)
			if tc.err != "" {
				if e := fault(t, err); !strings.Contains(e.Error(), tc.err) {
					t.Errorf("error %v; want %q", err, tc.err)
				}
				return
			}
			if err != nil || d.Device != deviceCanary || d.UserCode != "FRWQDE7YL" || d.Interval != tc.interval || d.Expires != tc.expires || len(d.Resources) != 2 {
				t.Errorf("%+v, %v", d, err)
			}
			if f := server.forms()[0]; f.Get("client_id") != "1111-2222" || !strings.Contains(f.Get("scope"), "SMTP.Send") || f.Has("client_secret") {
				t.Errorf("asked with %v", f)
			}
		})
	}
	t.Run("two resources are refused: one is asked for", func(t *testing.T) {
		server := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.PostForm.Get("scope"), "SMTP.Send") {
				answer(400, `{"error":"invalid_scope","error_codes":[28000]}`)(w, r)
				return
			}
			answer(200, good)(w, r)
		})
		d, err := newClient(t, server.URL, nil).DeviceCode(ctx, wants)
		if err != nil || !slices.Equal(d.Resources, []token.Resource{token.Graph}) {
			t.Errorf("%+v, %v; want a code for Graph", d, err)
		}
	})
	t.Run("a context that ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := newClient(t, "http://127.0.0.1:1", nil).DeviceCode(ctx, wants); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestIdentify(t *testing.T) {
	ctx := context.Background()
	for _, tc := range []struct {
		name, me  string
		status    int
		addresses []string
	}{
		{"as Graph answers", `{"userPrincipalName":"erp@contoso.test","mail":"ERP@contoso.test","proxyAddresses":["SMTP:erp@contoso.test","smtp:bills@contoso.test","SIP:erp@contoso.test","X500:/o=x"]}`,
			200, []string{"erp@contoso.test", "ERP@contoso.test", "erp@contoso.test", "bills@contoso.test"}},
		{"a person without a mailbox", `{"userPrincipalName":"admin@contoso.test","mail":null}`, 200, []string{"admin@contoso.test"}},
		{"no permission", `{"error":{"code":"Authorization_RequestDenied"}}`, 403, nil},
		{"garbage", `{`, 200, nil},
		{"nobody", `{}`, 200, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v1.0/me" {
					answer(200, tokenReply(nil))(w, r)
					return
				}
				if r.Header.Get("Authorization") != "Bearer "+accessCanary || r.URL.Query().Get("$select") != "userPrincipalName,mail,proxyAddresses" {
					t.Errorf("/me asked with %v", r.URL)
				}
				answer(tc.status, tc.me)(w, r)
			})
			c := newClient(t, server.URL, func(c *Config) { c.GraphURL = server.URL + "/v1.0/" })
			p, g, err := c.Identify(ctx, refreshCanary)
			wantClean(t, err)
			if (err == nil) != (tc.addresses != nil) || !slices.Equal(p.Addresses, tc.addresses) || g.Refresh != nextCanary {
				t.Errorf("Identify = %+v, %v; want %v, and the new refresh token in any case", p, err, tc.addresses)
			}
		})
	}
	if _, _, err := newClient(t, "http://127.0.0.1:1", nil).Identify(ctx, refreshCanary); !errors.Is(err, errNobodyToAsk) {
		t.Errorf("without Graph: %v", err)
	}
}

func FuzzDeviceCode(f *testing.F) {
	f.Add(`{"device_code":"x","user_code":"FRWQDE7YL","verification_uri":"https://microsoft.com/devicelogin","expires_in":900,"interval":5}`)
	f.Add(base64.StdEncoding.EncodeToString([]byte("x")))
	f.Fuzz(func(t *testing.T, body string) {
		d, err := readDeviceCode([]byte(body))
		if err != nil {
			return
		}
		if d.Interval < time.Second || d.Expires <= 0 || strings.ContainsFunc(d.UserCode+d.URI, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%+v", d)
		}
		if d.Device == "" {
			t.Error("no device code")
		}
	})
}
