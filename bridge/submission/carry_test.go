package submission

import (
	"errors"
	"io"
	"strings"
	"testing"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// fixedCapacity is a Carrier that knows one answer.
type fixedCapacity Capacity

func (f fixedCapacity) Capacity(string) Capacity { return Capacity(f) }

func TestCarry(t *testing.T) {
	loses := func(_ []byte, body io.Reader) error { return &message.CannotRebuild{Field: "List-Id"} } // without reading
	fine := func(_ []byte, body io.Reader) error { _, err := io.Copy(io.Discard, body); return err }
	broken := func(_ []byte, body io.Reader) error { return errors.New("something else") }
	for _, tc := range []struct {
		name     string
		capacity Capacity
		size     int
		want     string // a part of the refusal, "" for none
	}{
		{"a route that carries all", Capacity{}, 5000, ""},
		{"small enough to go whole", Capacity{Whole: 10_000, Parts: loses}, 5000, ""},
		{"larger, and nothing goes in parts", Capacity{Whole: 1000}, 5000, "neither SMTP nor drafts"},
		{"larger, and a field would be lost", Capacity{Whole: 1000, Parts: loses}, 5000, "List-Id would be lost"},
		{"larger, and goes in parts", Capacity{Whole: 1000, Parts: fine}, 5000, ""},
		{"larger, and nobody can say", Capacity{Whole: 1000, Parts: broken}, 5000, ""},
		{"over what the mailbox was found to send", Capacity{Max: 4000}, 5000, "was found to send"},
		{"under what the mailbox was found to send", Capacity{Max: 9000}, 5000, ""},
		{"the fields that are added count", Capacity{Whole: 5030}, 5000, "neither SMTP nor drafts"},
		{"what the header grows by when it leaves counts", Capacity{Whole: 6000, Header: func(header []byte, _ []envelope.Address) int64 {
			return int64(len(header)) + 1000
		}}, 5000, "neither SMTP nor drafts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &submission{Desk: &Desk{carrier: fixedCapacity(tc.capacity)}, size: &meter{}}
			s.message.Header = []byte("From: a@c.test\r\n\r\n")
			s.message.Plan.Edits = []message.Edit{{Op: message.Prepend, Name: "X-Postern-Id", Value: "0123456789abcdef"}}
			body, stop := s.checkCarry(strings.NewReader(strings.Repeat("x", tc.size)))
			n, err := io.Copy(io.Discard, body)
			stop()
			var refusal *reply.Error
			switch {
			case tc.want == "" && (err != nil || n != int64(tc.size)):
				t.Errorf("%d octets, %v; want all of it", n, err)
			case tc.want != "" && (!errors.As(err, &refusal) || refusal.Code < 550 || !strings.Contains(refusal.Text, tc.want)):
				t.Errorf("%v; want a refusal with %q", err, tc.want)
			case tc.want != "" && s.size.err != err:
				t.Errorf("the desk would not answer with %v but with %v", err, s.size.err)
			}
		})
	}
}

// TestCarryOfABodyThatBreaks: who looks for what would be lost is stopped too.
func TestCarryOfABodyThatBreaks(t *testing.T) {
	ended := make(chan error, 1)
	parts := func(_ []byte, body io.Reader) error { _, err := io.Copy(io.Discard, body); ended <- err; return err }
	s := &submission{Desk: &Desk{carrier: fixedCapacity{Whole: 1, Parts: parts}}, size: &meter{}}
	s.message.Header = []byte("From: a@c.test\r\n\r\n")
	body, stop := s.checkCarry(io.MultiReader(strings.NewReader("half"), brokenReader{}))
	if _, err := io.Copy(io.Discard, body); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v; want the body's own error", err)
	}
	stop()
	if err := <-ended; err == nil {
		t.Error("the check took half a body for a whole one")
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }
