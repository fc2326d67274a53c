package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeQueue is the part of a service that tests ask for.
type fakeQueue struct {
	fakeService
	query   QueueQuery
	change  QueueChange
	by      string
	fail    error // of a stream
	already int   // octets that were streamed before
}

func (f *fakeQueue) QueueRows(_ context.Context, q QueueQuery) ([]QueueRow, error) {
	f.query = q
	return []QueueRow{{ID: "06ab3c9d0e1f2g3h", Recipients: []QueueRecipient{{Address: "a@b.test", State: "held"}}}}, nil
}

func (f *fakeQueue) QueueShow(_ context.Context, id string) (QueueDetail, error) {
	if id != "06ab3c9d0e1f2g3h" {
		return QueueDetail{}, errors.New(id + ": no such message")
	}
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	return QueueDetail{QueueRow: QueueRow{ID: id, NextAttempt: &at}, Header: "Subject: x\r\n\r\n"}, nil
}

func (f *fakeQueue) QueueChange(ctx context.Context, c QueueChange) (QueueChanged, error) {
	f.change, f.by = c, Caller(ctx)
	return QueueChanged{Changed: 1, Refused: []QueueRefused{{ID: "x", Text: "no"}}}, nil
}

func (f *fakeQueue) QueueExport(_ context.Context, _ string, to io.Writer) error {
	if _, err := io.CopyN(to, strings.NewReader(strings.Repeat("x", f.already)), int64(f.already)); err != nil {
		return err
	}
	return f.fail
}

func (f *fakeQueue) Backup(ctx context.Context, to io.Writer) error {
	return f.QueueExport(ctx, "", to)
}

func TestClientReachesTheQueue(t *testing.T) {
	svc := &fakeQueue{}
	c, err := Dial(t.Context(), serve(t, svc))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := QueueQuery{IDs: []string{"06ab3c9d0e1f2g3h"}, Account: "erp", State: "held", All: true, After: "x"}
	rows, err := c.QueueRows(t.Context(), want)
	if err != nil || len(rows) != 1 || rows[0].Recipients[0].State != "held" || !cmp.Equal(svc.query, want) {
		t.Errorf("QueueRows = %+v, %v; the service was asked %+v", rows, err, svc.query)
	}
	if d, err := c.QueueShow(t.Context(), "06ab3c9d0e1f2g3h"); err != nil || d.Header == "" || d.NextAttempt == nil {
		t.Errorf("QueueShow = %+v, %v", d, err)
	}
	var refusal *Error
	if _, err := c.QueueShow(t.Context(), "../accounts"); !errors.As(err, &refusal) || refusal.Text != "../accounts: no such message" {
		t.Errorf("QueueShow of nothing = %v; want the service's own words", err)
	}
	change := QueueChange{Action: "retry", Today: true, QueueQuery: QueueQuery{Account: "erp"}}
	done, err := c.QueueChange(t.Context(), change)
	if err != nil || done.Changed != 1 || len(done.Refused) != 1 || !cmp.Equal(svc.change, change) {
		t.Errorf("QueueChange = %+v, %v; the service was asked %+v", done, err, svc.change)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" && svc.by != me.Username {
		t.Errorf("the caller is %q; want %q, as the kernel says", svc.by, me.Username)
	}
}

// TestDamagedMessageIsGiven: all of it that can be read arrives, and what is wrong with it.
func TestDamagedMessageIsGiven(t *testing.T) {
	for _, already := range []int{1, 1000, 100_000} {
		c, err := Dial(t.Context(), serve(t, &fakeQueue{already: already, fail: fmt.Errorf("read: %w", &Damaged{"an octet\nis wrong"})}))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var b bytes.Buffer
		var damaged *Damaged
		if err = c.QueueExport(t.Context(), "06ab3c9d0e1f2g3h", &b); !errors.As(err, &damaged) || err.Error() != "an octet is wrong" || b.Len() != already {
			t.Errorf("QueueExport = %v, %d octets; want %d", err, b.Len(), already)
		}
	}
}

// TestStreamIsWholeOrAnError: half a backup must never look like one.
func TestStreamIsWholeOrAnError(t *testing.T) {
	for _, tc := range []struct {
		name    string
		already int
		fail    error
		want    string // part of the error, "" for none
	}{
		{"a whole stream", 100_000, nil, ""},
		{"nothing at all", 0, nil, ""},
		{"a refusal before the first octet", 0, errors.New("the disk is full"), "the disk is full"},
		{"a failure in the midst", 100_000, errors.New("the disk is full"), "broke off"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Dial(t.Context(), serve(t, &fakeQueue{already: tc.already, fail: tc.fail}))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var b bytes.Buffer
			err = c.Backup(t.Context(), &b)
			switch {
			case tc.want == "" && (err != nil || b.Len() != tc.already):
				t.Errorf("Backup = %v, %d octets; want %d", err, b.Len(), tc.already)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("Backup = %v; want %q", err, tc.want)
			}
		})
	}
}
