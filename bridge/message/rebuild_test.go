package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
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
		{"quoted-printable as devices write it", "Content-Transfer-Encoding: quoted-printable\r\n", "50 = half, =zz \t\r\na=  \r\nb=3d=\r\n\fc\r\nlast=", "50 = half, =zz\r\nab=\fc\r\nlast"},
		{"base64 in quotes", "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: \"base64\" (x)\r\n", "R3LDvMOfZQ==", "Grüße"},
		{"cp850, as DOS writes it", "Content-Type: text/plain; charset=cp850\r\n", "Gr\x81\xe1e\r\n", "Grüße\r\n"},
		{"IBM437", "Content-Type: text/plain; charset=IBM437\r\n", "Gr\x81\xe1e\r\n", "Grüße\r\n"},
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

// TestWhatOnlyDecodingShows is known to CheckRebuild, which reads a message once, as it is to Rebuild.
func TestWhatOnlyDecodingShows(t *testing.T) {
	const mixed = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
	part := func(header, content string) string { return "--b\r\n" + header + "\r\n\r\n" + content + "\r\n" }
	const armor = "-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA512\r\n\r\ntext\r\n-----BEGIN PGP SIGNATURE-----\r\n"
	for _, tc := range []struct{ name, text, want string }{
		{"an inline PGP signature", "Subject: s\r\n\r\n" + armor, "signed or encrypted"},
		{"an inline PGP message in quoted-printable", mixed + part("Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable", "-----BEGIN PGP =\r\nMESSAGE-----") + "--b--\r\n", "signed or encrypted"},
		{"an inline PGP message in base64", "Content-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(armor)), "signed or encrypted"},
		{"one in the text beside an HTML text", "Content-Type: multipart/alternative; boundary=b\r\n\r\n" + part("Content-Type: text/plain", armor) + part("Content-Type: text/html", "<p>") + "--b--\r\n", "signed or encrypted"},
		{"one in a second text", mixed + part("Content-Type: text/plain", "see below") + part("Content-Type: text/plain", armor) + "--b--\r\n", "signed or encrypted"},
		{"one in a file goes as it is", mixed + part("Content-Type: text/plain", "see the file") + part("Content-Type: text/plain; name=a.asc", armor) + "--b--\r\n", ""},
		{"one at the end of a line that went on for long", "Subject: s\r\n\r\n" + strings.Repeat("x", 100) + "\r\n-----BEGIN PGP MESSAGE-----\r\n", "signed or encrypted"},
		{"one that a ticket quotes", "Subject: s\r\n\r\n> -----BEGIN PGP MESSAGE-----\r\nthe customer writes: '-----BEGIN PGP SIGNED MESSAGE-----'\r\n", ""},
		{"a PGP key", "Subject: s\r\n\r\n-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n", ""},
		{"an encoding with a hyphen", "Content-Transfer-Encoding: 8-bit\r\n\r\nx\r\n", ""},
		{"an encoding in quotes", "Content-Transfer-Encoding: \"base64\"\r\n\r\nAAAA\r\n", ""},
		{"an encoding with comments", "Content-Transfer-Encoding: (it is) base64 (really (it is))\r\n\r\nAAAA\r\n", ""},
		{"an encoding that nobody knows", "Content-Transfer-Encoding: x-uuencode\r\n\r\nx\r\n", "x-uuencode"},
		{"words about PGP", "Subject: s\r\n\r\nBEGIN PGP SIGNED MESSAGE\r\n", ""},
		{"a file in damaged base64", mixed + part("", "x") + part("Content-Type: text/csv; name=list.csv\r\nContent-Transfer-Encoding: base64", "A") + "--b--\r\n", `its file "list.csv" is damaged: it is not base64`},
		{"a text in damaged base64", "Content-Transfer-Encoding: base64\r\n\r\nA\r\n", "its text/plain part is damaged: it is not base64"},
		{"quoted-printable with a form feed and an escape", "Content-Transfer-Encoding: quoted-printable\r\n\r\npage 1\r\n\fpage 2\x1bE\r\n", ""},
		{"a file in quoted-printable with what controls a printer", mixed + part("", "x") + part("Content-Type: application/x; name=a.prn\r\nContent-Transfer-Encoding: quoted-printable", "\x1b%-12345X\f\x01") + "--b--\r\n", ""},
		{"quoted-printable with a line without end", "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("x", 70_000) + "\r\n", ""},
		{"quoted-printable with a line of 5,000 octets", "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("x", 5000) + "\r\n", ""},
		{"base64 that goes on after its end", mixed + part("", "x") + part("Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64", "AAA=\r\nAAAA") + "--b--\r\n", `its file "a.pdf" is damaged: it is not base64`},
		{"base64 that ends in the middle of an octet", mixed + part("", "x") + part("Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64", "AAAAA") + "--b--\r\n", "its application/pdf part is damaged: it is not base64"},
		{"base64 with more padding than it needs", mixed + part("", "x") + part("Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64", "AAAA==\r\n=\r\n") + "--b--\r\n", ""},
		{"a text that is not in its charset", "Content-Type: text/plain; charset=klingon\r\n\r\nx\r\n", "klingon"},
		{"a text that grows in UTF-8", "Content-Type: text/plain; charset=windows-874\r\n\r\n" + strings.Repeat("\xa1\xa2\xa3\xa4\r\n", 250_000), "text is larger"},
		{"a text that grows in JSON", "Subject: s\r\n\r\n" + strings.Repeat("\"\"\"\"\r\n", 300_000), "text is larger"},
		{"a text whose base64 is too large and itself is not", "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("AAAA\r\n", 600_000), "text is larger"},
		{"a text of 3.3 MB", "Subject: s\r\n\r\n" + strings.Repeat("0123456789012345678901234567890123456789\r\n", 75_000), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			header, body, err := SplitHeader(strings.NewReader(tc.text), 0)
			if err != nil {
				t.Fatal(err)
			}
			check := CheckRebuild(header, body)
			_, _, err = rebuildText(tc.text)
			for what, got := range map[string]error{"CheckRebuild": check, "Rebuild": err} {
				var cannot *CannotRebuild
				switch {
				case tc.want == "" && got != nil:
					t.Errorf("%s = %v; want none", what, got)
				case tc.want != "" && (!errors.As(got, &cannot) || !strings.Contains(got.Error(), tc.want)):
					t.Errorf("%s = %v; want %q", what, got, tc.want)
				}
			}
		})
	}
}

// TestBrokenReaderIsNoVerdict: what cannot be read to its end may be carried or not.
func TestBrokenReaderIsNoVerdict(t *testing.T) {
	broken := errors.New("connection reset")
	header, err := Apply([]byte("\r\n"), []Edit{{Op: Set, Name: "Content-Transfer-Encoding", Value: "base64"}})
	if err != nil {
		t.Fatal(err)
	}
	var cannot *CannotRebuild
	if err := CheckRebuild(header, io.MultiReader(strings.NewReader("AAA"), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.As(err, &cannot) {
		t.Errorf("CheckRebuild = %v; want what the reader said", err)
	}
}

// FuzzRebuild: whatever comes, nothing panics, files have the size that was counted, and CheckRebuild refuses what Rebuild
// refuses.
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
		if check := CheckRebuild(header, body); (check == nil) != (err == nil) {
			t.Errorf("CheckRebuild = %v, Rebuild = %v", check, err)
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
