package message

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// rebuildText takes a whole message apart.
func rebuildText(text string) (*Rebuilt, []string, error) {
	header, rest, err := SplitHeader(strings.NewReader(text), 0)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(rest)
	if err != nil {
		return nil, nil, err
	}
	m, err := Rebuild(header, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil })
	if err != nil {
		return nil, nil, err
	}
	var contents []string
	files := NewFileReader(bytes.NewReader(body))
	for _, f := range m.Files {
		r, err := files.Open(f)
		if err != nil {
			return nil, nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, nil, err
		}
		if int64(len(data)) != f.Size {
			return nil, nil, errors.New("a file has another size than was counted")
		}
		contents = append(contents, string(data))
	}
	return m, contents, nil
}

const one = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n"

func TestFileNames(t *testing.T) {
	for _, tc := range []struct{ name, header, want string }{
		{"plain", `Content-Disposition: attachment; filename=a.pdf`, "a.pdf"},
		{"quoted", `Content-Disposition: attachment; filename="a b.pdf"`, "a b.pdf"},
		{"with a quote in it", `Content-Disposition: attachment; filename="a\"b.pdf"`, `a"b.pdf`},
		{"the name of the type", `Content-Type: application/pdf; name=n.pdf`, "n.pdf"},
		{"an encoded word, as Outlook writes it", `Content-Disposition: attachment; filename="=?utf-8?q?=C3=A4.pdf?="`, "ä.pdf"},
		{"RFC 2231 in UTF-8", `Content-Disposition: attachment; filename*=utf-8''%C3%A4.pdf`, "ä.pdf"},
		{"RFC 2231 in Latin-1", `Content-Disposition: attachment; filename*=iso-8859-1'de'%E4.pdf`, "ä.pdf"},
		{"RFC 2231 in Shift JIS", `Content-Disposition: attachment; filename*=shift_jis''%93%FA.pdf`, "日.pdf"},
		{"RFC 2231 before the plain one", `Content-Disposition: attachment; filename=x.pdf; filename*=utf-8''%C3%A4.pdf`, "ä.pdf"},
		{"continuations", `Content-Disposition: attachment; filename*0=ein; filename*1=" langer"; filename*2=.pdf`, "ein langer.pdf"},
		{"continuations, encoded and plain", `Content-Disposition: attachment; filename*0*=iso-8859-1''%E4; filename*1=" b.pdf"`, "ä b.pdf"},
		{"continuations out of order", `Content-Disposition: attachment; filename*1=b.pdf; filename*0=a`, "ab.pdf"},
		{"raw UTF-8", "Content-Disposition: attachment; filename=\"\u00e4.pdf\"", "ä.pdf"},
		{"raw Latin-1", "Content-Disposition: attachment; filename=\"\xe4.pdf\"", "ä.pdf"},
		{"a Windows path", `Content-Disposition: attachment; filename="C:\temp\a.pdf"`, "a.pdf"},
		{"a path", `Content-Disposition: attachment; filename="../../etc/passwd"`, "passwd"},
		{"none", `Content-Type: application/pdf`, "part-1.pdf"},
		{"an unknown charset", `Content-Disposition: attachment; filename*=klingon''%E4.pdf`, "part-1.txt"},
		{"controls", `Content-Disposition: attachment; filename*=utf-8''a%0D%0Ab.pdf`, "a b.pdf"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			header := tc.header
			if !strings.HasPrefix(header, "Content-Type") && strings.Contains(tc.name, "unknown") {
				header += "\r\nContent-Type: text/plain"
			}
			m, _, err := rebuildText(one + header + "\r\n\r\nx\r\n--b--\r\n")
			if err != nil || len(m.Files) != 1 || m.Files[0].Name != tc.want {
				t.Fatalf("%+v, %v; want %q", m, err, tc.want)
			}
		})
	}
}

func TestRebuiltText(t *testing.T) {
	for _, tc := range []struct{ name, header, body, want string }{
		{"no MIME", "", "text\r\n", "text\r\n"},
		{"8 bits without MIME", "", "Gr\xfc\xdfe\r\n", "Grüße\r\n"},
		{"UTF-8 without MIME", "", "Grüße\r\n", "Grüße\r\n"},
		{"quoted-printable", "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: Quoted-Printable\r\n", "Gr=FC=\r\n=DFe\r\n", "Grüße\r\n"},
		{"base64 with line ends and junk", "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: BASE64\r\n", "R3LDvM\r\n* OfZQ==\r\n", "Grüße"},
		{"base64 without padding", "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n", "R3LDvMOfZQ", "Grüße"},
		{"koi8-r", "Content-Type: text/plain; charset=koi8-r\r\n", "\xf0\xd2\xc9\xd7\xc5\xd4\r\n", "Привет\r\n"},
		{"iso-2022-jp", "Content-Type: text/plain; charset=iso-2022-jp\r\n", "\x1b$B$3\x1b(B\r\n", "こ\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, _, err := rebuildText(tc.header + "\r\n" + tc.body)
			if err != nil || m.Text != tc.want || m.HTML || len(m.Files) != 0 {
				t.Errorf("%+v, %v; want %q", m, err, tc.want)
			}
		})
	}
}

func TestImportance(t *testing.T) {
	for _, tc := range []struct{ field, want string }{
		{"Importance: High", "high"}, {"Importance: low", "low"}, {"Importance: normal", ""}, {"Priority: urgent", "high"},
		{"Priority: non-urgent", "low"}, {"X-Priority: 1 (Highest)", "high"}, {"X-Priority: 3", ""}, {"X-Priority: 5", "low"}, {"X-MSMail-Priority: High", "high"},
	} {
		if m, _, err := rebuildText(tc.field + "\r\n\r\nx\r\n"); err != nil || m.Importance != tc.want {
			t.Errorf("%s: %q, %v; want %q", tc.field, m.Importance, err, tc.want)
		}
	}
}

// TestFiveHeadersAtMost: ours go first, then the application's in their order.
func TestFiveHeadersAtMost(t *testing.T) {
	m, _, err := rebuildText("X-A: 1\r\nX-B: 2\r\nX-C: 3\r\nX-Postern-Id: q\r\nX-D: 4\r\nX-E: 5\r\nX-F: \xff\r\n\r\nx\r\n")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range m.Extra {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != "X-Postern-Id X-A X-B X-C X-D" {
		t.Errorf("X- fields = %s", got)
	}
}

// FuzzRebuild: whatever comes, nothing panics, files have the size that was counted, and what CheckRebuild refuses Rebuild
// refuses too.
func FuzzRebuild(f *testing.F) {
	f.Add(one + "Content-Disposition: attachment; filename*0*=utf-8''%C3; filename*1=b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAA=\r\n--b--\r\n")
	f.Add("Content-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\nContent-Type: text/html\r\n\r\n<p>\r\n--a\r\nContent-Type: text/calendar\r\n\r\nx\r\n--a--")
	f.Add("Content-Type: multipart/related; boundary=a\r\n\r\n--a\r\n\r\nx\r\n--a\r\nContent-ID: <c>\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=\r\n--a--\r\n")
	f.Add("Subject: =?utf-8?q?=FF?=\r\nList-Id: x\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, _, err := rebuildText(text)
		header, body, splitErr := SplitHeader(strings.NewReader(text), 0)
		if splitErr != nil {
			return
		}
		check := CheckRebuild(header, body)
		if check != nil && err == nil {
			t.Errorf("CheckRebuild = %v, Rebuild takes it", check)
		}
		if err == nil {
			for _, file := range m.Files {
				if file.Name == "" || strings.ContainsAny(file.Name, "\r\n\x00/\\") {
					t.Errorf("file name %q", file.Name)
				}
			}
		}
		if err != nil && strings.Contains(err.Error(), "another size") {
			t.Error(err)
		}
	})
}
