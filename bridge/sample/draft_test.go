package sample

import (
	"bytes"
	"encoding/base64"
	"errors"
	"flag"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// paper is longer than a line of base64, and no text.
var paper = []byte("%PDF-1.7\n" + strings.Repeat("\x00\xff\r\n.", 30))

func TestDraft(t *testing.T) {
	dir := t.TempDir()
	pdf, plain, empty := filepath.Join(dir, "Rückgabe 7.pdf"), filepath.Join(dir, "README"), filepath.Join(dir, "nothing")
	files := map[string][]byte{pdf: paper, plain: []byte("read me\n"), empty: nil}
	for path, data := range files {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	when := time.Date(2026, 3, 29, 3, 0, 7, 0, time.FixedZone("", 2*60*60))
	const text = "Grüße,\n\n.\nFrom here = there\r\nthe end \n"
	for _, tc := range []struct {
		name, file string
		d          Draft
		subject    string // as it is read
	}{
		{"a text alone", "text", Draft{From: "nav@contoso.test", To: []string{"a@example.test"}, Subject: "Test", Text: text}, "Test"},
		{"files, and a subject beyond US-ASCII whose line ends begin no field", "files",
			Draft{From: "nav@contoso.test", To: []string{"a@example.test", "büro@example.test"}, Subject: "Täst\r\nBcc: b@example.test", Text: text, Attach: []string{pdf, plain}},
			"Täst  Bcc: b@example.test"},
		{"a file with nothing in it, and no text", "empty", Draft{From: "nav@contoso.test", To: []string{"root"}, Attach: []string{empty}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.d.Make(when)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got, filepath.Join("testdata", tc.file+".eml"))
			read(t, got, tc.d, tc.subject, when, files)
		})
	}
}

// compare compares with a golden file, in which the boundary is BOUNDARY.
func compare(t *testing.T, got []byte, golden string) {
	t.Helper()
	if _, boundary, ok := bytes.Cut(got, []byte("boundary=")); ok {
		boundary, _, _ = bytes.Cut(boundary, []byte("\r\n"))
		got = bytes.ReplaceAll(got, boundary, []byte("BOUNDARY"))
	}
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("the message differs from %s (-want +got):\n%s", golden, d)
	}
}

// read reads the message as a stranger would.
func read(t *testing.T, got []byte, d Draft, subject string, when time.Time, files map[string][]byte) {
	t.Helper()
	for line := range bytes.Lines(got) {
		if !bytes.HasSuffix(line, []byte("\r\n")) || bytes.ContainsAny(bytes.TrimSuffix(line, []byte("\r\n")), "\r\n") || len(line) > 998 {
			t.Errorf("a line is no line of mail: %.100q", line)
		}
	}
	m, err := mail.ReadMessage(bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	if date, err := m.Header.Date(); err != nil || !date.Equal(when) {
		t.Errorf("Date = %v, %v; want %v", date, err, when)
	}
	if s, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil || s != subject {
		t.Errorf("Subject = %q, %v; want %q", s, err, subject)
	}
	if from, to := m.Header.Get("From"), m.Header.Get("To"); from != d.From || to != strings.Join(d.To, ", ") || m.Header.Get("Bcc") != "" {
		t.Errorf("From %q, To %q, Bcc %q; want %q and %q", from, to, m.Header.Get("Bcc"), d.From, d.To)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Attach) == 0 {
		// What multipart.Reader decodes, with a header that is the message's own.
		part := "--x\r\nContent-Type: " + m.Header.Get("Content-Type") + "\r\nContent-Transfer-Encoding: " + m.Header.Get("Content-Transfer-Encoding") + "\r\n\r\n"
		m.Body = io.MultiReader(strings.NewReader(part), m.Body, strings.NewReader("\r\n--x--\r\n"))
		params["boundary"] = "x"
	} else if kind != "multipart/mixed" {
		t.Errorf("Content-Type = %q; want multipart/mixed", kind)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	lines := strings.ReplaceAll(strings.ReplaceAll(d.Text, "\r\n", "\n"), "\n", "\r\n")
	if p, body := next(t, r); p.Header.Get("Content-Type") != "text/plain; charset=utf-8" || string(body) != lines+"\r\n" {
		t.Errorf("the text is of %q, and %q; want %q", p.Header.Get("Content-Type"), body, lines)
	}
	for _, path := range d.Attach {
		p, body := next(t, r)
		data, err := base64.StdEncoding.DecodeString(string(body))
		if err != nil || !slices.Equal(data, files[path]) || p.FileName() != filepath.Base(path) {
			t.Errorf("attached is %q with %q, %v; want %q with %q", p.FileName(), data, err, filepath.Base(path), files[path])
		}
	}
	if _, err := r.NextPart(); err != io.EOF {
		t.Errorf("behind the last part: %v; want EOF", err)
	}
}

func next(t *testing.T, r *multipart.Reader) (*multipart.Part, []byte) {
	t.Helper()
	p, err := r.NextPart()
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(p)
	if err != nil {
		t.Fatal(err)
	}
	return p, body
}

func TestDraftSaysWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		name string
		d    Draft
		want string // of the AddressError; "" where a file is missing
	}{
		{"a sender with an end of line in it", Draft{From: "nav@contoso.test\rBcc: b@example.test", To: []string{"a@example.test"}},
			`"nav@contoso.test\rBcc: b@example.test" is no address`},
		{"a recipient that would be a field too", Draft{From: "nav@contoso.test", To: []string{"a@example.test", "b@example.test\nX-Kind: po"}},
			`"b@example.test\nX-Kind: po" is no address`},
		{"a name beside the address", Draft{From: "Nav <nav@contoso.test>", To: []string{"a@example.test"}}, `"Nav <nav@contoso.test>" is no address`},
		{"a bracket that opens", Draft{From: "nav@contoso.test", To: []string{"<a@example.test"}}, `"<a@example.test" is no address`},
		{"a bracket that closes", Draft{From: "nav@contoso.test", To: []string{"a@example.test>"}}, `"a@example.test>" is no address`},
		{"a long one, cut", Draft{From: strings.Repeat("x", 70) + "\r"}, `"` + strings.Repeat("x", 60) + `" is no address`},
		{"a file that is not there", Draft{From: "nav@contoso.test", Attach: []string{filepath.Join(t.TempDir(), "none.pdf")}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := tc.d.Make(time.Now())
			var wrong *AddressError
			switch address := errors.As(err, &wrong); {
			case b != nil:
				t.Errorf("Make gives %q beside %v", b, err)
			case tc.want == "" && (address || !errors.Is(err, fs.ErrNotExist)):
				t.Errorf("Make = %v; want fs.ErrNotExist", err)
			case tc.want != "" && (!address || err.Error() != tc.want):
				t.Errorf("Make = %v; want %q", err, tc.want)
			}
		})
	}
}
