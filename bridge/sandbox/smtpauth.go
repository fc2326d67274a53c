package sandbox

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// auth is AUTH: XOAUTH2 in one or two steps (facts C2), and LOGIN, which is offered and refused as it is at Exchange
// Online where basic authentication is off.
func (c *session) auth(arg string) {
	mech, initial, hasInitial := strings.Cut(arg, " ")
	mech = strings.ToUpper(mech)
	switch {
	case c.helo == "":
		c.reply("503 5.5.2 Send hello first")
	case c.who != nil || c.tx != nil: // RFC 4954 section 4
		c.reply("503 5.5.2 Already authenticated, or in the middle of a message")
	case !c.tls, mech != "XOAUTH2" && mech != "LOGIN":
		c.reply("504 5.7.4 Unrecognized authentication type %s", c.stamp())
	case mech == "LOGIN":
		c.authLogin(hasInitial)
	default:
		c.authXOAUTH2(initial, hasInitial)
	}
}

func (c *session) authLogin(hasInitial bool) {
	prompts := []string{"VXNlcm5hbWU6", "UGFzc3dvcmQ6"} // Username: and Password:
	if hasInitial {
		prompts = prompts[1:]
	}
	for _, p := range prompts {
		c.reply("334 %s", p)
		if line, err := c.readLine(); err != nil || line == "*" {
			c.reply("501 5.7.0 Authentication cancelled")
			c.ending = err != nil
			return
		}
	}
	c.reply("535 5.7.139 Authentication unsuccessful, basic authentication is disabled. %s", c.stamp())
}

func (c *session) authXOAUTH2(blob string, given bool) {
	set := c.s.settings()
	if !given {
		if set.BareChallenge {
			c.reply("334")
		} else {
			c.reply("334 ")
		}
		line, err := c.readLine()
		if err != nil {
			c.ending = true
			return
		}
		blob = line
	}
	if blob == "*" {
		c.reply("501 5.7.0 Authentication cancelled")
		return
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(blob)
	if err != nil || strings.ContainsAny(blob, "\r\n") {
		c.reply("501 5.5.2 Cannot decode the response")
		return
	}
	if c.struck(AtAuth) {
		return
	}
	who, disabled := c.s.signIn(string(raw))
	switch {
	case disabled != "":
		c.reply("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the %s. Visit https://aka.ms/smtp_auth_disabled for more information. %s", disabled, c.stamp())
	case who == nil:
		if set.ErrorChallenge && !c.errorChallenge() {
			return
		}
		c.reply("535 5.7.3 Authentication unsuccessful %s", c.stamp())
	default:
		c.who = who
		c.s.logf("smtp: %s signed in", who.mailbox.Address)
		c.reply("235 2.7.0 Authentication successful")
	}
}

// errorChallenge is Gmail's way to say no: a 334 with JSON, which the client answers with an empty line (facts D3).
func (c *session) errorChallenge() bool {
	c.reply("334 %s", base64.StdEncoding.EncodeToString([]byte(`{"status":"401","schemes":"bearer mac","scope":"https://mail.google.com/"}`)))
	line, err := c.readLine()
	if err != nil || line != "" && line != "*" {
		c.reply("501 5.5.2 An error challenge is answered with an empty line")
		c.ending = true
		return false
	}
	return true
}

// signIn judges an XOAUTH2 blob. nil says nothing about the cause, as Exchange's 535 5.7.3 does not; disabled names where
// SMTP AUTH is switched off, "Tenant" or "Mailbox".
func (s *Sandbox) signIn(blob string) (who *principal, disabled string) {
	user, text, err := splitBlob(blob)
	if err != nil {
		s.logf("smtp: %v", err)
		return nil, ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	mailbox, ok := s.world.mailbox(user)
	at := s.tokens.access[text]
	if !ok || at == nil || at.audience != outlookResource || !s.now().Before(at.expires) {
		return nil, ""
	}
	who = &principal{clientID: at.clientID, login: at.login, id: at.login, mailbox: mailbox}
	switch {
	case at.login == "":
		who.id = at.clientID
		if !s.appMaySubmit(at, mailbox) {
			return nil, ""
		}
	case !at.may("SMTP.Send"):
		return nil, ""
	case strings.EqualFold(mailbox.Address, at.login):
	case s.switches.SharedUser && mailbox.Shared && has(mailbox.FullAccess, at.login):
	default: // facts C2: the page says otherwise, the field says 535
		return nil, ""
	}
	if s.switches.TenantSMTPOff {
		return nil, "Tenant"
	}
	if mailbox.SMTPDisabled {
		return nil, "Mailbox"
	}
	return who, ""
}

// appMaySubmit is A2's two models: the role with a mailbox permission of the service principal, or RBAC without the role.
// Sandbox.mu is held.
func (s *Sandbox) appMaySubmit(at *accessToken, mailbox Mailbox) bool {
	if at.may("SMTP.SendAsApp") {
		return has(mailbox.FullAccess, at.clientID)
	}
	app, _ := s.world.app(at.clientID)
	return has(app.RBAC, mailbox.Address)
}

// splitBlob takes "user=" user ^A "auth=Bearer " token ^A ^A apart, and allows nothing else.
func splitBlob(blob string) (user, text string, err error) {
	parts := strings.Split(blob, "\x01")
	if len(parts) != 4 || parts[2] != "" || parts[3] != "" {
		return "", "", fmt.Errorf("XOAUTH2 response with %d instead of 3 control-A, or not ending in two", len(parts)-1)
	}
	user, okUser := strings.CutPrefix(parts[0], "user=")
	text, okAuth := strings.CutPrefix(parts[1], "auth=Bearer ")
	if !okUser || !okAuth || user == "" || text == "" {
		return "", "", fmt.Errorf("XOAUTH2 response without user= or auth=Bearer")
	}
	return user, text, nil
}
