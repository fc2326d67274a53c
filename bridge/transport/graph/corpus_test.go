package graph

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/bridge/message"
	"postern/bridge/reply"
	"postern/bridge/sandbox"
)

// takenApart is what a rebuilt message says, as text that can be compared. Names of files that had none differ.
func takenApart(t *testing.T, header, body []byte) ([]string, error) {
	t.Helper()
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	m, err := message.Rebuild(header, open)
	if err != nil {
		return nil, err
	}
	all := []string{fmt.Sprintf("html %v text %q", m.HTML, strings.TrimSpace(m.Text)), "subject " + m.Subject, "importance " + m.Importance,
		"sensitivity " + m.Sensitivity, fmt.Sprint("receipt ", m.ReadReceipt), fmt.Sprint("reply-to ", m.ReplyTo), fmt.Sprint("threads ", m.Threads), "id " + m.MessageID}
	files := message.NewFileReader(bytes.NewReader(body))
	var parts []string
	for _, f := range m.Files {
		r, err := files.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, fmt.Sprintf("file %s %s cid %q inline %v: %x", f.Name, f.Type, f.ContentID, f.Inline, data))
	}
	slices.Sort(parts)
	return append(all, parts...), nil
}

// TestCorpusRebuilt sends every message of the corpus as if it were too large, and compares what arrives part by part.
// What cannot be carried is refused before anything is made.
func TestCorpusRebuilt(t *testing.T) {
	list, err := os.ReadFile("../../testdata/corpus/envelopes.txt")
	if err != nil {
		t.Fatal(err)
	}
	b := newDraftBench(t, sandbox.Switches{}, nil)
	rebuilt, refused := 0, map[string]int{}
	for line := range strings.Lines(string(list)) {
		parts := strings.Split(strings.TrimSpace(line), "\t")
		raw, err := os.ReadFile(filepath.Join("../../testdata/corpus", parts[0]))
		if err != nil {
			t.Fatal(err)
		}
		raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		header, rest, err := message.SplitHeader(bytes.NewReader(raw), 0)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(rest)
		if err != nil {
			t.Fatal(err)
		}
		if header, err = message.Apply(header, []message.Edit{{Op: message.Set, Name: "From", Value: "erp@contoso.test"},
			{Op: message.Set, Name: "Message-ID", Value: "<" + parts[0] + "@x.test>"}, {Op: message.Prepend, Name: message.MarkerField, Value: parts[0]}}); err != nil {
			t.Fatal(err)
		}
		q := b.message(draftHeader, string(body), parts[1:]...)
		q.Final, q.BodySize = header, int64(len(body))
		before := len(b.box.Received())
		o, _ := b.tr.sendAsDraft(context.Background(), q.Outgoing, true)
		want, err := takenApart(t, header, body)
		var cannot *message.CannotRebuild
		switch {
		case errors.As(err, &cannot):
			refused[cannot.Error()]++
			if o.Verdict != reply.Failed || len(b.box.Received()) != before || len(b.box.Drafts()) != 0 {
				t.Errorf("%s cannot be carried (%v), and %+v", parts[0], cannot, o)
			}
			continue
		case err != nil || o.Verdict != reply.Relayed:
			t.Errorf("%s: %v, %+v", parts[0], err, o)
			continue
		}
		rebuilt++
		r := b.box.Received()[before]
		gotHeader, gotRest, err := message.SplitHeader(bytes.NewReader(r.Raw), 0)
		if err != nil {
			t.Fatal(err)
		}
		gotBody, err := io.ReadAll(gotRest)
		if err != nil {
			t.Fatal(err)
		}
		got, err := takenApart(t, gotHeader, gotBody)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v\n got %.1500q\nwant %.1500q", parts[0], err, got, want)
		}
		if len(r.Recipients) != len(parts)-1 {
			t.Errorf("%s: delivered to %v; want %v", parts[0], r.Recipients, parts[1:])
		}
	}
	t.Logf("%d rebuilt, refused: %v", rebuilt, refused)
	if rebuilt < 100 {
		t.Errorf("%d of the corpus were rebuilt; want at least 100", rebuilt)
	}
}
