package message

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/text/encoding/ianaindex"
)

// cabinet is Contents in memory.
type cabinet map[string][]byte

func (c cabinet) part(content, name, media string) Part {
	sum := sha256.Sum256([]byte(content))
	hash := hex.EncodeToString(sum[:])
	c[hash] = []byte(content)
	return Part{Hash: hash, Size: int64(len(content)), Name: name, Type: media}
}

func (c cabinet) open(hash string) (io.ReadCloser, error) {
	b, ok := c[hash]
	if !ok {
		return nil, errors.New("it is gone")
	}
	return io.NopCloser(iotest.OneByteReader(bytes.NewReader(b))), nil
}

// outgoing makes an attempt of a message in the form of its source: LF lines.
func outgoing(t testing.TB, eml string, a Additions) Outgoing {
	t.Helper()
	header, body, err := SplitHeader(strings.NewReader(strings.ReplaceAll(eml, "\n", "\r\n")), 0)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return Outgoing{Message: Message{ID: "0123456789abcdef", Plan: Plan{Additions: a}}, Final: header, BodySize: int64(len(text)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }}
}

// read returns the message that leaves, after checking that its size is right and that it is the same each time.
func read(t testing.TB, o Outgoing) string {
	t.Helper()
	var texts [2]string
	for i := range texts {
		in, err := o.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		texts[i] = string(o.Final) + string(b)
		if int64(len(b)) != o.BodySize {
			t.Fatalf("the body has %d octets, BodySize says %d", len(b), o.BodySize)
		}
	}
	if texts[0] != texts[1] {
		t.Fatal("read twice, it is two messages")
	}
	return texts[0]
}

// outline writes the parts of a message as another parser sees them: indented types, and what texts say.
func outline(t testing.TB, eml string) string {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(eml))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	outlinePart(t, &b, "", textproto.MIMEHeader(m.Header), m.Body)
	return b.String()
}

func outlinePart(t testing.TB, b *strings.Builder, indent string, h textproto.MIMEHeader, body io.Reader) {
	t.Helper()
	media, params := "text/plain", map[string]string{}
	if ct := h.Get("Content-Type"); ct != "" {
		var err error
		if media, params, err = mime.ParseMediaType(ct); err != nil {
			t.Fatalf("Content-Type %q: %v", ct, err)
		}
	}
	fmt.Fprintf(b, "%s%s", indent, media)
	if strings.HasPrefix(media, "multipart/") {
		b.WriteByte('\n')
		r := multipart.NewReader(body, params["boundary"])
		for {
			p, err := r.NextRawPart()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			outlinePart(t, b, indent+"  ", p.Header, p)
		}
	}
	switch strings.ToLower(h.Get("Content-Transfer-Encoding")) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	if cs := params["charset"]; cs != "" && cs != "utf-8" {
		enc, err := ianaindex.MIME.Encoding(cs)
		if err != nil {
			t.Fatal(err)
		}
		if text, err = enc.NewDecoder().Bytes(text); err != nil {
			t.Fatal(err)
		}
	}
	if d, p, _ := mime.ParseMediaType(h.Get("Content-Disposition")); d != "" {
		fmt.Fprintf(b, " %s %s", d, p["filename"])
	}
	if enc := h.Get("Content-Transfer-Encoding"); enc != "" {
		fmt.Fprintf(b, " %s", enc)
	}
	fmt.Fprintf(b, " %q\n", text)
}

const (
	plainFooter = "--\nContoso Ltd, Seattle\n"
	wideFooter  = "--\nB\u00fccher M\u00fcller, 5 \u20ac\n"
	htmlFooter  = "<p>Contoso</p>\n"
)

// additions makes what a scenario adds; "" is none.
func additions(t testing.TB, c cabinet, text, html string, files ...string) Additions {
	t.Helper()
	var a Additions
	if text != "" {
		f, err := FooterOfText([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		p := c.part(f, "", "")
		a.FooterText = &p
	}
	if html != "" {
		f, err := FooterOfHTML([]byte(html))
		if err != nil {
			t.Fatal(err)
		}
		p := c.part(f, "", "")
		a.FooterHTML = &p
	}
	for _, f := range files {
		a.Attach = append(a.Attach, c.part("content of "+f, f, "application/pdf"))
	}
	return a
}

const multi = "MIME-Version: 1.0\nContent-Type: multipart/%s; boundary=b\n\n%s\n--b--\n"

func parts(kind string, all ...string) string {
	var b strings.Builder
	for i, p := range all {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString("--b\n" + p)
	}
	return fmt.Sprintf(multi, kind, b.String())
}

func TestExtend(t *testing.T) {
	for _, tc := range []struct {
		name, eml, text, html string
		attach                []string
		want                  string // the outline; "" for a message that leaves as it came
	}{
		{"a text gets the footer at its end", "Subject: s\n\nHello\n", plainFooter, "", nil, "text/plain \"Hello\\r\\n--\\r\\nContoso Ltd, Seattle\\r\\n\"\n"},
		{"a text without a last line end gets one first", "Subject: s\n\nHello", plainFooter, "", nil, "text/plain \"Hello\\r\\n--\\r\\nContoso Ltd, Seattle\\r\\n\"\n"},
		{"a message without text gets the footer alone", "Subject: s\n\n", plainFooter, "", nil, "text/plain \"--\\r\\nContoso Ltd, Seattle\\r\\n\"\n"},
		{"US-ASCII becomes UTF-8 where the footer needs it", "Subject: s\n\nHello = 1\n", wideFooter, "", nil,
			"text/plain quoted-printable \"Hello = 1\\r\\n--\\r\\nBücher Müller, 5 €\\r\\n\"\n"},
		{"undeclared UTF-8 is taken for it", "Subject: s\n\nGr\u00fc\u00dfe\n", wideFooter, "", nil,
			"text/plain quoted-printable \"Grüße\\r\\n--\\r\\nBücher Müller, 5 €\\r\\n\"\n"},
		{"other undeclared octets are taken for Windows-1252", "Subject: s\n\nGr\xfc\xdfe \x80\n", wideFooter, "", nil,
			"text/plain quoted-printable \"Grüße €\\r\\n--\\r\\nBücher Müller, 5 €\\r\\n\"\n"},
		{"a charset that has the letters keeps them", "Content-Type: text/plain; charset=iso-8859-15\nContent-Transfer-Encoding: 8bit\n\nGr\xfc\xdfe \xa4\n", wideFooter, "", nil,
			"text/plain 8bit \"Grüße €\\r\\n--\\r\\nBücher Müller, 5 €\\r\\n\"\n"},
		{"8bit that is not used becomes quoted-printable", "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nHello\n", wideFooter, "", nil,
			"text/plain quoted-printable \"Hello\\r\\n--\\r\\nBücher Müller, 5 €\\r\\n\"\n"},
		{"a charset that lacks one becomes UTF-8", "MIME-Version: 1.0\nContent-Type: text/plain; charset=iso-8859-1; format=flowed\nContent-Transfer-Encoding: 8bit\n\nGr\xfc\xdfe\n", wideFooter, "", nil,
			"text/plain quoted-printable \"Grüße\\r\\n--\\r\\nBücher Müller, 5 €\\r\\n\"\n"},
		{"7bit in ISO-8859-15 becomes quoted-printable", "Content-Type: text/plain; charset=iso-8859-15\n\nHello\n", wideFooter, "", nil,
			"text/plain quoted-printable \"Hello\\r\\n--\\r\\nBücher Müller, 5 €\\r\\n\"\n"},
		{"ISO-2022-JP becomes UTF-8", "Content-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B$3$s\x1b(B\n", wideFooter, "", nil,
			"text/plain quoted-printable \"こん\\r\\n--\\r\\nBücher Müller, 5 €\\r\\n\"\n"},
		{"UTF-8 in base64 stays so", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nR3LDvMOfZQ==\n", wideFooter, "", nil,
			"text/plain base64 \"Grüße\\r\\n--\\r\\nBücher Müller, 5 €\\r\\n\"\n"},
		{"quoted-printable stays so, its soft breaks undone", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=C3=\n=9Fe=20\n", plainFooter, "", nil,
			"text/plain quoted-printable \"Grüße \\r\\n--\\r\\nContoso Ltd, Seattle\\r\\n\"\n"},
		{"flowed text gets stuffed lines", "Content-Type: text/plain; format=flowed\n\nHello\n", "-- \nFrom us  \n>x\n", "", nil,
			"text/plain \"Hello\\r\\n-- \\r\\n From us\\r\\n >x\\r\\n\"\n"},
		{"HTML gets it before the body ends", "Content-Type: text/html; charset=utf-8\n\n<html><BODY>Hi</Body></html>\n", plainFooter, htmlFooter, nil,
			"text/html \"<html><BODY>Hi<p>Contoso</p>\\r\\n</Body></html>\\r\\n\"\n"},
		{"HTML without a body ends before its html does", "Content-Type: text/html\n\n<html>Hi</html>\n", "", htmlFooter, nil,
			"text/html \"<html>Hi<p>Contoso</p>\\r\\n</html>\\r\\n\"\n"},
		{"a piece of HTML gets it at its end", "Content-Type: text/html\n\nHi <b>there</b>\n", "", "<p>5 \u20ac</p>\n", nil,
			"text/html \"Hi <b>there</b>\\r\\n<p>5 &#8364;</p>\\r\\n\"\n"},
		{"HTML is found across soft line breaks", "Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n<body>Hi</bo=\ndy>\n", "", htmlFooter, nil,
			"text/html quoted-printable \"<body>Hi<p>Contoso</p>\\r\\n</body>\\r\\n\"\n"},
		{"both versions of an alternative get theirs", parts("alternative", "Content-Type: text/plain\n\nHi", "Content-Type: text/html\n\n<body>Hi</body>"), plainFooter, htmlFooter, nil,
			"multipart/alternative\n  text/plain \"Hi\\r\\n--\\r\\nContoso Ltd, Seattle\\r\\n\"\n  text/html \"<body>Hi<p>Contoso</p>\\r\\n</body>\"\n"},
		{"a file that is a text gets none", parts("mixed", "Content-Type: text/plain\n\nHi", "Content-Type: text/plain; name=a.txt\n\nfile"), plainFooter, "", nil,
			"multipart/mixed\n  text/plain \"Hi\\r\\n--\\r\\nContoso Ltd, Seattle\\r\\n\"\n  text/plain \"file\"\n"},
		{"text, picture, text: at the end", parts("mixed", "\nHi", "Content-Type: image/png\n\npicture", "\nBye"), plainFooter, "", nil,
			"multipart/mixed\n  text/plain \"Hi\"\n  image/png \"picture\"\n  text/plain \"Bye\\r\\n--\\r\\nContoso Ltd, Seattle\\r\\n\"\n"},
		{"a scanner's mail without text gets none", parts("mixed", "Content-Type: application/pdf\n\npdf"), plainFooter, htmlFooter, nil, ""},
		{"a signed part in a list's mail gets none", parts("mixed", "Content-Type: multipart/signed; boundary=c\n\n--c\n\nHi\n--c--"), plainFooter, "", nil, ""},
		{"a message within the message gets none", "Content-Type: message/rfc822\n\nSubject: s\n\nHi\n", plainFooter, htmlFooter, nil, ""},
		{"a signed message gets nothing", parts("signed; protocol=x", "\nHi", "Content-Type: application/pgp-signature\n\nsig"), plainFooter, htmlFooter, []string{"terms.pdf"}, ""},
		{"an encrypted message gets nothing", "Content-Type: application/pkcs7-mime\nContent-Transfer-Encoding: base64\n\nAAAA\n", plainFooter, htmlFooter, []string{"terms.pdf"}, ""},
		{"inline PGP gets no footer", "Subject: s\n\n-----BEGIN PGP SIGNED MESSAGE-----\nHi\n", plainFooter, "", nil, ""},
		{"broken base64 stays", "Content-Transfer-Encoding: base64\n\n!!!\n", plainFooter, "", nil, ""},
		{"an unknown transfer encoding stays", "Content-Transfer-Encoding: x-uuencode\n\nbegin\n", plainFooter, "", nil, ""},
		{"UTF-16 HTML stays", "Content-Type: text/html; charset=utf-16\n\n\x00a\n", plainFooter, htmlFooter, nil, ""},
		{"two Content-Type fields stay", "Content-Type: text/plain\nContent-Type: text/html\n\nHi\n", plainFooter, htmlFooter, nil, ""},

		{"a text with a file becomes a mixed one", "Subject: s\n\nHello\n", "", "", []string{"terms.pdf"},
			"multipart/mixed\n  text/plain \"Hello\\r\\n\"\n  application/pdf attachment terms.pdf base64 \"content of terms.pdf\"\n"},
		{"an alternative is wrapped with its fields", parts("alternative", "\nHi", "Content-Type: text/html\n\nHi"), "", "", []string{"a.pdf", "b.pdf"},
			"multipart/mixed\n  multipart/alternative\n    text/plain \"Hi\"\n    text/html \"Hi\"\n  application/pdf attachment a.pdf base64 \"content of a.pdf\"\n  application/pdf attachment b.pdf base64 \"content of b.pdf\"\n"},
		{"a mixed one gets another part", parts("mixed", "\nHi", "Content-Type: image/png\n\npicture"), "", "", []string{"terms.pdf"},
			"multipart/mixed\n  text/plain \"Hi\"\n  image/png \"picture\"\n  application/pdf attachment terms.pdf base64 \"content of terms.pdf\"\n"},
		{"a mixed one without an end gets one", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nHi\n", "", "", []string{"terms.pdf"},
			"multipart/mixed\n  text/plain \"Hi\\r\\n\"\n  application/pdf attachment terms.pdf base64 \"content of terms.pdf\"\n"},
		{"an empty mixed one gets its first part", "Content-Type: multipart/mixed; boundary=b\n\n--b--\n", "", "", []string{"terms.pdf"},
			"multipart/mixed\n  application/pdf attachment terms.pdf base64 \"content of terms.pdf\"\n"},
		{"the boundary of a part within does not end it", parts("mixed", "Content-Type: multipart/alternative; boundary=bb\n\n--bb\n\nHi\n--bb--", "Content-Type: image/png\n\n--b-\n--bx\n --b--"), plainFooter, "", []string{"terms.pdf"},
			"multipart/mixed\n  multipart/alternative\n    text/plain \"Hi\\r\\n--\\r\\nContoso Ltd, Seattle\\r\\n\"\n  image/png \"--b-\\r\\n--bx\\r\\n --b--\"\n  application/pdf attachment terms.pdf base64 \"content of terms.pdf\"\n"},
		{"footer and file together", "Subject: s\n\nHello", wideFooter, htmlFooter, []string{"Gesch\u00e4ftsbedingungen.pdf"},
			"multipart/mixed\n  text/plain quoted-printable \"Hello\\r\\n--\\r\\nBücher Müller, 5 €\\r\\n\"\n  application/pdf attachment Geschäftsbedingungen.pdf base64 \"content of Geschäftsbedingungen.pdf\"\n"},
		{"a message that is a file is wrapped", "MIME-Version: 1.0\nContent-Type: application/pdf; name=x.pdf\nContent-Disposition: attachment; filename=x.pdf\nContent-Transfer-Encoding: base64\n\nAAAA\n", plainFooter, "", []string{"terms.pdf"},
			"multipart/mixed\n  application/pdf attachment x.pdf base64 \"\\x00\\x00\\x00\"\n  application/pdf attachment terms.pdf base64 \"content of terms.pdf\"\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := cabinet{}
			in := outgoing(t, tc.eml, additions(t, c, tc.text, tc.html, tc.attach...))
			out, err := in.Extend(t.Context(), c.open)
			if err != nil {
				t.Fatal(err)
			}
			got := read(t, out)
			if tc.want == "" {
				if was := read(t, in); got != was {
					t.Errorf("changed:\n%s\nwas:\n%s", got, was)
				}
				return
			}
			if o := outline(t, got); o != tc.want {
				t.Errorf("outline:\n%s\nwant:\n%s\nmessage:\n%s", o, tc.want, got)
			}
			if tc.want != "" && strings.Contains(got, "quoted-printable") && !strings.Contains(tc.eml, "quoted-printable") && !strings.Contains(strings.ToLower(got), "mime-version: 1.0") && strings.Contains(got, "utf-8") {
				t.Errorf("MIME without its version:\n%s", got)
			}
			for line := range strings.SplitSeq(got, "\r\n") {
				if len(line) > maxLine || strings.Contains(line, "\n") {
					t.Errorf("a bad line: %.80q", line)
				}
			}
		})
	}
}

func TestExtendKeepsTheOctetsOfTheRest(t *testing.T) {
	c := cabinet{}
	inner := "Content-Type: image/png\nX-Odd :  kept\n\n\x00\xff raw \xe4\n\n"
	eml := parts("mixed", "Content-Type: text/plain\n\nHi", inner) + "epilogue\n"
	out, err := outgoing(t, eml, additions(t, c, plainFooter, "", "terms.pdf")).Extend(t.Context(), c.open)
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, out)
	if !strings.Contains(got, "--b\r\n"+strings.ReplaceAll(inner, "\n", "\r\n")+"\r\n--b\r\n") || !strings.HasSuffix(got, "\r\n--b--\r\nepilogue\r\n") {
		t.Errorf("other parts changed:\n%q", got)
	}
}

func TestExtendSaysWhatFailed(t *testing.T) {
	c := cabinet{}
	in := outgoing(t, "Subject: s\n\nHi\n", additions(t, c, plainFooter, "", "terms.pdf"))
	broken := errors.New("the disk is on fire")
	for _, tc := range []struct {
		name     string
		body     func(context.Context) (io.ReadCloser, error)
		contents Contents
		want     error
	}{
		{"the contents are gone", in.Open, func(string) (io.ReadCloser, error) { return nil, broken }, broken},
		{"the body cannot be opened", func(context.Context) (io.ReadCloser, error) { return nil, broken }, c.open, broken},
		{"the body cannot be read", func(context.Context) (io.ReadCloser, error) { return io.NopCloser(iotest.ErrReader(broken)), nil }, c.open, broken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := in
			o.Open = tc.body
			if _, err := o.Extend(t.Context(), tc.contents); !errors.Is(err, tc.want) {
				t.Errorf("Extend = %v, want %v", err, tc.want)
			}
		})
	}
	t.Run("a kept file is cut", func(t *testing.T) {
		for hash, b := range c {
			c[hash] = b[:len(b)-1]
		}
		if _, err := in.Extend(t.Context(), c.open); err == nil {
			t.Error("nil, want an error")
		}
	})
}

func TestFooterFiles(t *testing.T) {
	if got, err := FooterOfText([]byte("\ufeffa\r\nb\n\n")); err != nil || got != "a\r\nb\r\n" {
		t.Errorf("FooterOfText = %q, %v", got, err)
	}
	for _, bad := range []string{"\xff", "a\x00b", "a\rb"} {
		if got, err := FooterOfText([]byte(bad)); err == nil {
			t.Errorf("FooterOfText(%q) = %q, want an error", bad, got)
		}
	}
	if got := FooterHTMLOfText("1 < 2 \u20ac\r\nb\r\n"); got != "<p>1 &lt; 2 &#8364;<br>\r\nb</p>\r\n" {
		t.Errorf("FooterHTMLOfText = %q", got)
	}
}

// FuzzExtend holds that whatever comes, the size is right, the result is the same each time, a text footer stands in a
// plain text, and no octet of a message without additions changes.
func FuzzExtend(f *testing.F) {
	for _, eml := range []string{"Subject: s\n\nHi", parts("mixed", "\nHi", "Content-Type: text/html\n\nHi"), parts("alternative", "Content-Transfer-Encoding: base64\n\nSGk="),
		"Content-Type: multipart/mixed; boundary=b\n\n--b\nX", "Content-Type: text/html; charset=iso-2022-jp\n\n</body", "Content-Transfer-Encoding: quoted-printable\n\n=\n=4",
		"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=\"b-\"\n\n--b--\n--b-\n"} {
		f.Add(eml, wideFooter)
	}
	f.Fuzz(func(t *testing.T, eml, footer string) {
		text, err := FooterOfText([]byte(footer))
		if err != nil {
			return
		}
		header, body, err := SplitHeader(strings.NewReader(eml), 0)
		if err != nil {
			return
		}
		stored, _ := io.ReadAll(body)
		c := cabinet{}
		part := c.part(text, "", "")
		web := c.part(FooterHTMLOfText(text), "", "")
		in := Outgoing{Message: Message{ID: "0123456789abcdef"}, Final: header, BodySize: int64(len(stored)),
			Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(stored)), nil }}
		in.Plan.Additions = Additions{FooterText: &part, FooterHTML: &web, Attach: []Part{c.part("file", "f.bin", "application/octet-stream")}}
		out, err := in.Extend(t.Context(), c.open)
		if err != nil {
			t.Fatal(err)
		}
		got := read(t, out)
		if _, err := ParseHeader(out.Final); err != nil {
			t.Fatalf("the header cannot be read any more: %v\n%q", err, out.Final)
		}
		h, err := ParseHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		if !h.IsProtected() && !strings.Contains(got, "ZmlsZQ==") {
			t.Errorf("the file is not there:\n%q", got)
		}
	})
}
