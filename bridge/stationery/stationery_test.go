package stationery

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/bridge/message"
)

// shelf keeps contents by a number.
type shelf []string

func (s *shelf) put(r io.Reader) (string, int64, error) {
	b, err := io.ReadAll(r)
	*s = append(*s, string(b))
	return fmt.Sprint(len(*s) - 1), int64(len(b)), err
}

// content is what a part refers to, "" for none.
func (s shelf) content(p *message.Part) string {
	if p == nil {
		return ""
	}
	for i, text := range s {
		if fmt.Sprint(i) == p.Hash && p.Size == int64(len(text)) {
			return text
		}
	}
	return "lost"
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFooters(t *testing.T) {
	text, html := file(t, "footer.txt", "-- \nContoso & Co.\n"), file(t, "footer.html", "<p>Contoso</p>\n")
	for _, tc := range []struct {
		name, text, html   string
		inText, inHTML     string // a part of what is kept; "" for nothing
		wantText, wantHTML bool
	}{
		{"none", "", "", "", "", false, false},
		{"a text stands below HTML too, as HTML", text, "", "Contoso & Co.", "Contoso &amp; Co.", true, true},
		{"each its own", text, html, "Contoso & Co.", "<p>Contoso</p>", true, true},
		{"HTML alone", "", html, "", "<p>Contoso</p>", false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var kept shelf
			a, b, err := Footers(tc.text, tc.html, kept.put)
			if err != nil {
				t.Fatal(err)
			}
			if got := kept.content(a); !strings.Contains(got, tc.inText) || (a != nil) != tc.wantText {
				t.Errorf("below text %q; want %q", got, tc.inText)
			}
			if got := kept.content(b); !strings.Contains(got, tc.inHTML) || (b != nil) != tc.wantHTML {
				t.Errorf("below HTML %q; want %q", got, tc.inHTML)
			}
		})
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	var kept shelf
	footer := func(path string) error { _, _, err := Footers(path, "", kept.put); return err }
	attach := func(path string) error { _, err := Attach(path, kept.put); return err }
	full := func(path string) error {
		_, err := Attach(path, func(io.Reader) (string, int64, error) { return "", 0, errors.New("no space left on device") })
		return err
	}
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"a footer that is not there", footer(filepath.Join(t.TempDir(), "footer.txt")), "footer.txt cannot be read: "},
		{"a footer in another encoding", footer(file(t, "footer.txt", "M\xfcnchen")), "footer.txt: it is not UTF-8; save it as UTF-8"},
		{"a footer that is a letter", footer(file(t, "footer.txt", strings.Repeat("x", maxFooter+1))), "footer.txt is larger than 64 KiB"},
		{"a document that is not there", attach(filepath.Join(t.TempDir(), "terms.pdf")), "terms.pdf cannot be read: "},
		{"a folder", attach(t.TempDir()), " is not a file"},
		{"a name that fits no line", attach(strings.Repeat("x", maxName+1)), "its name is longer than 180 octets"},
		{"no room for it", full(file(t, "terms.pdf", "terms")), "terms.pdf cannot be read or kept: no space left on device"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) || strings.Contains(tc.err.Error(), string(filepath.Separator)) {
				t.Errorf("%v; want %q and no folder", tc.err, tc.want)
			}
		})
	}
}

func TestAttach(t *testing.T) {
	for name, media := range map[string]string{"terms.PDF": "application/pdf", "list.xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
		"noname": "application/octet-stream", "letter.eml": "application/octet-stream"} {
		var kept shelf
		p, err := Attach(file(t, name, "content"), kept.put)
		if err != nil || p.Name != name || p.Type != media || kept.content(&p) != "content" {
			t.Errorf("Attach(%s) = %+v, %v; want %s with its content", name, p, err, media)
		}
	}
}
