package config

import (
	"errors"
	"math"
	"strings"
)

// readScenario reads a [[scenario]] whole, so that its mistakes are known before this version can use it.
func readScenario(t *table) Scenario {
	s := defaultScenario()
	t.text("name", &s.Name)
	if m := t.sub("match"); m != nil {
		s.Match = readMatch(m)
	}
	t.text("account", &s.Account)
	if sender := t.sub("sender"); sender != nil {
		s.Sender = readSender(sender)
	}
	t.texts("attach", &s.Attach, false, notEmpty)
	for i := range s.Attach {
		s.Attach[i] = t.abs(s.Attach[i])
	}
	t.texts("bcc", &s.Bcc, false, checkAddress)
	if f := t.sub("footer"); f != nil {
		readFooter(f, &s)
	}
	t.checked("reply_to", &s.ReplyTo, checkAddress)
	t.flag("save_to_sent", &s.SaveToSent)
	t.flag("hold", &s.Hold)
	t.finish()
	t.require("name", s.Name, "give the scenario a name of its own")
	return s
}

func readFooter(t *table, s *Scenario) {
	t.file("text", &s.FooterText)
	t.file("html", &s.FooterHTML)
	t.finish()
}

func readMatch(t *table) Match {
	var m Match
	for _, k := range []struct {
		key string
		dst *[]string
	}{{"user", &m.User}, {"listener", &m.Listener}, {"from", &m.From}, {"to", &m.To}, {"subject", &m.Subject}} {
		t.texts(k.key, k.dst, true, notEmpty)
	}
	if h := t.sub("header"); h != nil {
		m.Header = map[string][]string{}
		for name := range h.m {
			var globs []string
			h.texts(name, &globs, true, notEmpty)
			m.Header[name] = globs
			if !isFieldName(name) {
				path := joinPath(h.path, name)
				t.f.mistake(t.f.x.line(path), path, "not the name of a header field")
			}
		}
	}
	var size string
	t.checked("size", &size, func(s string) error {
		if s[0] != '<' && s[0] != '>' {
			return errors.New(`must be like ">1MB" or "<1MB"`)
		}
		n, err := parseSize(s[1:])
		if err != nil || n == math.MaxInt64 {
			return errors.New(`must be like ">1MB" or "<1MB"`)
		}
		return nil
	})
	if size != "" {
		n, _ := parseSize(size[1:]) // checked above
		if size[0] == '>' {
			m.Larger = n
		} else {
			m.Smaller = n
		}
	}
	t.finish()
	return m
}

func notEmpty(s string) error {
	if s == "" {
		return errors.New("is empty; remove it")
	}
	return nil
}

// isFieldName reports whether s is a field-name of RFC 5322 section 2.2.
func isFieldName(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) < 0
}
