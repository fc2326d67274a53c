package sandbox

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// The device code flow's numbers (facts A6).
const (
	deviceLife     = 15 * time.Minute
	deviceInterval = 5 * time.Second
)

// device is a device code. Guarded by Sandbox.mu.
type device struct {
	app              App
	tenant, userCode string
	scopes           []string
	at               time.Time
	interval         time.Duration
	polled           time.Time // last
	login            string    // who approved; "" while nobody has
	declined, used   bool
}

// serveDeviceCode begins the flow (RFC 8628 section 3.1).
func (s *Sandbox) serveDeviceCode(w http.ResponseWriter, r *http.Request, tenant string) {
	q := newTokenRequest(s, w, r)
	q.tenant = tenant
	e := q.readBody()
	if e == nil {
		if f := s.takeFault(AtDeviceCode, ""); f != nil && !s.tokenFault(q, f) {
			return
		}
		e = checkTenant(tenant)
	}
	if e == nil {
		e = q.findApp(q.form.Get("client_id"))
	}
	if e == nil {
		e = q.newDevice()
	}
	if e != nil {
		q.fail(*e)
	}
}

func (q *tokenRequest) newDevice() *stsError {
	scopes := strings.Fields(q.form.Get("scope"))
	if len(scopes) == 0 {
		return &stsError{900144, "scope"}
	}
	first := ""
	for _, scope := range scopes {
		resource, name, e := splitScope(scope)
		switch {
		case e != nil:
			return e
		case resource == "":
			continue
		case name != ".default" && !has(knownScopes[resource], name):
			return &stsError{70011, scope}
		case first != "" && resource != first && q.set.DeviceOneResource:
			return &stsError{28000, strings.Join(scopes, " ")}
		}
		first = resource
	}
	d := &device{app: q.app, tenant: q.tenant, userCode: userCode(), scopes: scopes, at: q.at, interval: q.set.DeviceInterval.Duration}
	text := "JAQABIQEAAAD" + random(180)
	q.s.mu.Lock()
	q.s.signins.devices[text] = d
	q.s.mu.Unlock()
	uri := q.s.Authority() + "/devicelogin"
	q.s.logf("entra: device code %s", d.userCode)
	writeJSON(q.w, http.StatusOK, map[string]any{
		"device_code": text, "user_code": d.userCode, "verification_uri": uri,
		"expires_in": int(deviceLife.Seconds()), "interval": int(d.interval.Seconds()),
		"message": fmt.Sprintf("To sign in, use a web browser to open the page %s and enter the code %s to authenticate.", uri, d.userCode),
	})
	return nil
}

// userCode is nine characters that nobody mistakes for others (RFC 8628 section 6.1).
func userCode() string {
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789" // 32 of them
	b := make([]byte, 9)
	rand.Read(b) // never fails
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return string(b)
}

// redeemDevice is a poll (RFC 8628 section 3.5). Entra's own number for slow_down is not known.
func (q *tokenRequest) redeemDevice() *stsError {
	text := q.form.Get("device_code")
	if text == "" {
		return &stsError{900144, "device_code"}
	}
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	d := q.s.signins.devices[text]
	switch {
	case d == nil, !strings.EqualFold(d.app.ClientID, q.app.ClientID):
		return &stsError{70018, ""}
	case d.used:
		return &stsError{90120, ""}
	case q.at.Sub(d.at) >= deviceLife:
		return &stsError{70020, ""}
	case d.declined:
		q.failAs("authorization_declined", stsError{65004, ""})
		return nil
	}
	early := !d.polled.IsZero() && q.at.Sub(d.polled) < d.interval*9/10 // a timer may be a little fast
	d.polled = q.at
	switch {
	case early:
		d.interval += deviceInterval
		q.failAs("slow_down", stsError{70016, ""})
		return nil
	case d.login == "":
		return &stsError{70016, ""}
	}
	e := q.giveUser(d.login, d.scopes, "")
	d.used = e == nil
	return e
}

// decide ends a device's waiting.
func (s *Sandbox) decide(d *device, login string, declined bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.login, d.declined = login, declined
}

// serveDeviceLogin is the page of the verification_uri: it takes the code and goes on to the login page.
func (s *Sandbox) serveDeviceLogin(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		if localPage(w, r, http.MethodGet) {
			s.askForCode(w, http.StatusOK, "")
		}
		return
	}
	q := newTokenRequest(s, w, r)
	if !localPage(w, r, http.MethodPost) {
		return
	}
	if e := q.readBody(); e != nil {
		q.failPage(*e)
		return
	}
	typed := strings.ToUpper(strings.TrimSpace(q.form.Get("otc")))
	d := s.waitingDevice(typed, q.at)
	if d == nil {
		s.askForCode(w, http.StatusBadRequest, "That code did not work. Check it and try again.")
		return
	}
	s.show(w, s.openPage(&loginPage{app: d.app, tenant: d.tenant, scopes: d.scopes, at: q.at, device: d}))
}

// waitingDevice finds the device with that user code, if it still waits.
func (s *Sandbox) waitingDevice(userCode string, now time.Time) *device {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.signins.devices {
		if d.userCode == userCode && userCode != "" && d.login == "" && !d.declined && now.Sub(d.at) < deviceLife {
			return d
		}
	}
	return nil
}
