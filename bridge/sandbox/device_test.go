package sandbox

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// deviceCall asks for a device code.
func deviceCall(t *testing.T, s *Sandbox, scope string) answer {
	t.Helper()
	return do(t, request(t, "POST", s.Authority()+"/"+TenantName+"/oauth2/v2.0/devicecode", "application/x-www-form-urlencoded",
		url.Values{"client_id": {PublicClientID}, "scope": {scope}}.Encode()))
}

const bothScopes = "openid offline_access " + graphResource + "/Mail.Send " + outlookResource + "/SMTP.Send"

func TestDeviceCode(t *testing.T) {
	c := newClock()
	s := start(t, Options{Now: c.now})
	type device struct{ code, user string }
	begin := func(t *testing.T) device {
		t.Helper()
		m := deviceCall(t, s, bothScopes).json(t)
		d := device{m["device_code"].(string), m["user_code"].(string)}
		if m["verification_uri"] != s.Authority()+"/devicelogin" || m["interval"].(float64) != 5 || m["expires_in"].(float64) != 900 ||
			!strings.Contains(m["message"].(string), d.user) || m["verification_uri_complete"] != nil ||
			!regexp.MustCompile(`^[A-Z0-9]{9}$`).MatchString(d.user) {
			t.Fatalf("device code: %v", m)
		}
		return d
	}
	poll := func(t *testing.T, d device) string {
		t.Helper()
		m := tokenCall(t, s, TenantName, url.Values{"grant_type": {deviceGrant}, "client_id": {PublicClientID}, "device_code": {d.code}}).json(t)
		if e, ok := m["error"].(string); ok {
			return e
		}
		if m["refresh_token"] == nil || !strings.Contains(m["scope"].(string), "Mail.Send") {
			t.Errorf("the device got %v", m)
		}
		return "ok"
	}
	enter := func(t *testing.T, typed, login, what string) answer {
		t.Helper()
		page := do(t, request(t, "POST", s.Authority()+"/devicelogin", "application/x-www-form-urlencoded", url.Values{"otc": {typed}}.Encode()))
		if what == "" {
			return page
		}
		return choose(t, s, page, login, what)
	}
	want := func(t *testing.T, what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s; want %s", what, got, want)
		}
	}
	t.Run("approved", func(t *testing.T) {
		d := begin(t)
		want(t, "first poll", poll(t, d), "authorization_pending")
		want(t, "too early", poll(t, d), "slow_down")
		c.add(6 * time.Second)
		want(t, "early for the new interval", poll(t, d), "slow_down")
		c.add(20 * time.Second)
		want(t, "in time", poll(t, d), "authorization_pending")
		if a := enter(t, " "+strings.ToLower(d.user)+" ", "erp@"+Domain, "accept"); !strings.Contains(string(a.body), "signed in to Postern") {
			t.Errorf("approved: %s", a.body)
		}
		c.add(20 * time.Second)
		want(t, "approved", poll(t, d), "ok")
		want(t, "a second time", poll(t, d), "invalid_grant")
		if a := enter(t, d.user, "", ""); a.status != 400 || !strings.Contains(string(a.body), "did not work") {
			t.Errorf("the code could be entered twice: %s", a.body)
		}
	})
	t.Run("declined", func(t *testing.T) {
		d := begin(t)
		enter(t, d.user, "", "cancel")
		want(t, "declined", poll(t, d), "authorization_declined")
	})
	t.Run("expired", func(t *testing.T) {
		d := begin(t)
		c.add(15 * time.Minute)
		want(t, "expired", poll(t, d), "expired_token")
		if a := enter(t, d.user, "", ""); a.status != 400 {
			t.Errorf("an expired code could be entered: %s", a.body)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		want(t, "unknown", poll(t, device{code: "x"}), "bad_verification_code")
		if a := enter(t, "WRONGCODE", "", ""); a.status != 400 {
			t.Errorf("a wrong code was taken: %s", a.body)
		}
	})
}

func TestDeviceCodeRefuses(t *testing.T) {
	s := start(t, Options{Switches: Switches{DeviceOneResource: true, DeviceInterval: Duration{time.Second}}})
	if m := deviceCall(t, s, bothScopes).json(t); m["error"] != "invalid_scope" {
		t.Errorf("two resources: %v", m)
	}
	if m := deviceCall(t, s, "openid offline_access Mail.Send User.Read").json(t); m["interval"] != 1.0 {
		t.Errorf("one resource: %v", m)
	}
	if m := deviceCall(t, s, "Mail.Sent").json(t); m["error"] != "invalid_scope" {
		t.Errorf("no such scope: %v", m)
	}
	if err := s.Fault(Fault{Where: AtDeviceCode, AADSTS: 53003}); err != nil {
		t.Fatal(err)
	}
	if m := deviceCall(t, s, "Mail.Send").json(t); m["error_codes"].([]any)[0] != 53003.0 {
		t.Errorf("blocked by policy: %v", m)
	}
}
