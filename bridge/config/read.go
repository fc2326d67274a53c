package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
)

var errNotVariable = errors.New("not the name of a variable")

// isArray has the tables of the file; true: an array of tables, [[name]].
var isArray = map[string]bool{
	"bridge": false, "log": false, "queue": false, "notify": false,
	"listener": true, "provider": true, "account": true, "user": true, "scenario": true,
}

// most is the upper bound of numbers that have none of their own.
const most = 1_000_000

func readBridge(t *table) Bridge {
	b := Default().Bridge
	t.checked("hostname", &b.Hostname, checkDomain)
	t.file("data_dir", &b.DataDir)
	t.checked("default_domain", &b.DefaultDomain, checkDomain)
	t.checked("proxy", &b.Proxy, checkProxy)
	t.text("sendmail_user", &b.SendmailUser)
	t.finish()
	return b
}

func readLog(t *table) Log {
	l := Default().Log
	level := "info"
	t.choice("level", &level, "debug", "info", "warn", "error")
	t.choice("format", &l.Format, "text", "json")
	t.choice("to", &l.To, "auto", "stderr", "file", "eventlog")
	t.file("file", &l.File)
	t.size("max_size", &l.MaxSize, math.MaxInt64)
	t.number("keep", &l.Keep, 0, most)
	t.finish()
	l.Level = map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}[level]
	return l
}

// tolerances are the words of Listener.Tolerate.
var tolerances = []string{"plaintext-auth", "old-tls", "bare-cr", "crcrlf-end"}

func readListener(t *table) Listener {
	l := defaultListener()
	t.checked("address", &l.Address, checkListenAddress)
	t.choice("tls", &l.TLS, "none", "starttls", "implicit")
	t.file("tls_cert", &l.TLSCert)
	t.file("tls_key", &l.TLSKey)
	t.choice("min_tls", &l.MinTLS, "1.0", "1.1", "1.2", "1.3")
	t.choice("auth", &l.Auth, "required", "optional", "none")
	t.prefixes("networks", &l.Networks)
	t.texts("tolerate", &l.Tolerate, false, func(s string) error {
		for _, k := range tolerances {
			if k == s {
				return nil
			}
		}
		return fmt.Errorf("must be one of %s%s", strings.Join(tolerances, ", "), didYouMean(s, tolerances))
	})
	if !t.set("min_tls") && slices.Contains(l.Tolerate, "old-tls") {
		l.MinTLS = "1.0"
	}
	t.number("max_connections", &l.MaxConnections, 1, most)
	t.number("max_connections_per_address", &l.MaxConnectionsPerAddress, 1, most)
	t.finish()
	return l
}

func readProvider(t *table) Provider {
	p := defaultProvider()
	t.checked("name", &p.Name, checkName)
	readType(t, &p)
	t.choice("cloud", &p.Cloud, cloudNames...)
	t.checked("tenant", &p.Tenant, checkTenant)
	t.text("client_id", &p.ClientID)
	entry := p.Name
	if entry == "" {
		entry = "NAME"
	}
	t.secret("client_secret", &p.ClientSecret, entry)
	t.files("certificate", &p.Certificates)
	t.date("client_secret_expires", &p.ClientSecretExpires)
	t.text("authority", &p.Authority)
	t.text("graph", &p.Graph)
	t.checked("smtp", &p.SMTP, checkSmarthost)
	t.choice("smtp_tls", &p.SMTPTLS, "starttls", "implicit")
	t.file("ca_file", &p.CAFile)
	t.flag("allow_http", &p.AllowHTTP)
	t.finish()
	p.Authority, p.Graph = strings.TrimRight(p.Authority, "/"), strings.TrimRight(p.Graph, "/")
	return p
}

func readType(t *table, p *Provider) {
	if s, _ := t.m["type"].(string); refuseType(t, s) {
		t.known = append(t.known, "type")
		return
	}
	t.choice("type", &p.Type, "microsoft")
}

// maxMailbox is the most that an Exchange Online mailbox can be set to take. Exchange Online limits (November 2026).
const maxMailbox = 150 << 20

func readAccount(t *table) Account {
	a := defaultAccount()
	t.checked("name", &a.Name, checkName)
	t.text("provider", &a.Provider)
	t.checked("mailbox", &a.Mailbox, func(s string) error {
		if strings.HasPrefix(s, "*@") {
			return checkPattern(s)
		}
		return checkAddress(s)
	})
	t.checked("login", &a.Login, checkAddress)
	t.choice("signin", &a.SignIn, "delegated", "app-only")
	t.choice("transport", &a.Transport, "graph", "smtp", "auto")
	t.choice("drafts", &a.Drafts, "auto", "always", "never")
	t.flag("default", &a.Default)
	t.size("max_message", &a.MaxMessage, maxMailbox)
	t.number("rate_per_minute", &a.RatePerMinute, 0, most)
	t.number("concurrency", &a.Concurrency, 1, 1000)
	t.number("recipients_per_day", &a.RecipientsPerDay, 0, most)
	t.choice("on_doubt", &a.OnDoubt, "resend", "hold")
	t.duration("doubt_wait", &a.DoubtWait)
	t.finish()
	if a.Login == "" {
		a.Login = a.Mailbox
	}
	return a
}

func readUser(t *table) User {
	u := defaultUser()
	t.checked("name", &u.Name, checkLogin)
	t.texts("password", &u.Passwords, true, checkHash)
	t.prefixes("networks", &u.Networks)
	t.text("account", &u.Account)
	t.checked("address", &u.Address, checkAddress)
	t.texts("may_send_as", &u.MaySendAs, false, checkPattern)
	t.texts("may_send_to", &u.MaySendTo, false, checkPattern)
	if s := t.sub("sender"); s != nil {
		u.Sender = readSender(s)
	}
	t.number("rate_per_minute", &u.RatePerMinute, 0, most)
	t.number("max_queued", &u.MaxQueued, 0, most)
	t.size("max_queued_size", &u.MaxQueuedSize, math.MaxInt64)
	t.number("max_recipients", &u.MaxRecipients, 0, most)
	t.size("max_message", &u.MaxMessage, maxMailbox)
	t.finish()
	return u
}

// readSender returns nil when the table has a mistake: nothing must be built on half a sender.
func readSender(t *table) *Sender {
	s := defaultSender()
	t.choice("mode", &s.Mode, "keep", "account", "send-as", "on-behalf", "current-user")
	t.checked("address", &s.Address, checkAddress)
	t.text("name", &s.Name)
	t.checked("reply_to", &s.ReplyTo, func(v string) error {
		if v == "original" || v == "none" {
			return nil
		}
		if checkAddress(v) != nil {
			return errors.New(`must be "original", "none" or a mail address`)
		}
		return nil
	})
	t.choice("otherwise", &s.Otherwise, "refuse", "account")
	t.finish()
	t.require("mode", s.Mode, "write keep, account, send-as, on-behalf or current-user")
	if t.good("mode", "address") {
		checkSenderPair(t, &s)
	}
	if len(t.wrong) > 0 {
		return nil
	}
	return &s
}

func checkSenderPair(t *table, s *Sender) {
	switch s.Mode {
	case "send-as":
		t.require("address", s.Address, "the mode send-as sends as one given address")
	case "keep", "account", "current-user":
		if s.Address != "" {
			t.mistake("address", "the mode %s takes no address; remove it, or use the mode send-as", s.Mode)
		}
	}
}

func readQueue(t *table) Queue {
	q := Default().Queue
	t.duration("give_up_after", &q.GiveUpAfter)
	t.duration("warn_after", &q.WarnAfter)
	t.duration("park_limit", &q.ParkLimit)
	t.duration("keep_history", &q.KeepHistory)
	t.duration("keep_failed", &q.KeepFailed)
	t.flag("keep_bodies", &q.KeepBodies)
	t.size("min_free_disk", &q.MinFreeDisk, math.MaxInt64)
	t.duration("stop_grace", &q.StopGrace)
	t.finish()
	if t.good("give_up_after", "warn_after") && q.WarnAfter >= q.GiveUpAfter {
		if t.set("warn_after") {
			t.mistake("warn_after", "must be shorter than give_up_after, or nobody is warned")
		} else {
			q.WarnAfter = q.GiveUpAfter / 2 // its default is longer than what the file gives give_up_after
		}
	}
	return q
}

func readNotify(t *table) Notify {
	var n Notify
	t.texts("to", &n.To, false, checkAddress)
	t.finish()
	return n
}
