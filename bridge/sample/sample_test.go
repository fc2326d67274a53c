package sample

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const offer = "From: Nav <nav@erp.local>\nTo: a@example.test, A@example.test\nCc: root\nSubject: Offer 7\n\nDear customer,\r\nhere it is.\n"

func TestMake(t *testing.T) {
	for _, tc := range []struct {
		name           string
		m              Message
		from, to, data string // envelope, and the whole message
	}{
		{"a file as it would come over SMTP, to those whom it names", Message{File: strings.NewReader(offer), DefaultDomain: "contoso.test"},
			"nav@erp.local", "a@example.test root@contoso.test",
			"From: Nav <nav@erp.local>\r\nTo: a@example.test, A@example.test\r\nCc: root\r\nSubject: Offer 7\r\n\r\nDear customer,\r\nhere it is.\r\n"},
		{"a file read octet by octet", Message{File: iotest.OneByteReader(strings.NewReader("To: a@example.test\n\n1\n2\r\n")), To: []string{"b@example.test"}},
			"", "b@example.test", "To: a@example.test\r\n\r\n1\r\n2\r\n"},
		{"fields of the question alone", Message{From: "nav@erp.local", To: []string{"a@example.test", "b", "a@example.test"}, Subject: "s", Header: []string{"X-Kind: po"}, DefaultDomain: "contoso.test"},
			"nav@erp.local", "a@example.test b@contoso.test",
			"To: a@example.test,\r\n b,\r\n a@example.test\r\nFrom: nav@erp.local\r\nSubject: s\r\nX-Kind: po\r\n\r\n"},
		{"fields of the question go before those of the file", Message{File: strings.NewReader("To: a@example.test\n\nx"), Subject: "other", Size: 60},
			"", "a@example.test", "To: a@example.test\r\nSubject: other\r\n\r\nxxxxxxxxxxxxxxxxxxxxxx"},
		{"a size below the header's is none", Message{To: []string{"a@example.test"}, Size: 1}, "", "a@example.test", "To: a@example.test\r\n\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data, env, err := tc.m.Make()
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(data)
			if err != nil {
				t.Fatal(err)
			}
			var to []string
			for _, a := range env.Recipients {
				to = append(to, a.String())
			}
			if string(b) != tc.data || env.ReversePath.String() != tc.from || strings.Join(to, " ") != tc.to {
				t.Errorf("from %q to %q:\n%q\nwant from %q to %q:\n%q", env.ReversePath, to, b, tc.from, tc.to, tc.data)
			}
			if tc.m.Size > 1 && int64(len(b)) != tc.m.Size {
				t.Errorf("%d octets; want %d", len(b), tc.m.Size)
			}
		})
	}
}

func TestMakeSaysWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		name string
		m    Message
		want string
	}{
		{"nobody to send to", Message{From: "nav@erp.local"}, "to whom?"},
		{"a recipient without a domain", Message{To: []string{"root"}}, `recipient "root"`},
		{"a field without a colon", Message{To: []string{"a@example.test"}, Header: []string{"X-Kind"}}, `header "X-Kind" is not like "X-Kind: po"`},
		{"a field that would be two", Message{To: []string{"a@example.test"}, Header: []string{"X-Kind: po\r\nBcc: b@example.test"}}, "the message asked about: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, _, err := tc.m.Make(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Make = %v; want %q", err, tc.want)
			}
		})
	}
}
