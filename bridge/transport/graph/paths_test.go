package graph

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/sandbox"
)

// The ways that a message goes by Graph.
const (
	byMail   = "sendMail"
	byDraft  = "draft"
	byUpload = "upload"
)

// faultRow is one fault on the way of one message.
type faultRow struct {
	name    string
	faults  []sandbox.Fault
	set     sandbox.Switches
	hang    sandbox.Where // no answer comes: the client gives up there
	big     bool          // the message is larger than a socket takes unread
	session bool          // it has a file that needs an upload session
	files   []int         // sizes of its files, none of which needs one
	paths   []string
}

func at(where sandbox.Where, f sandbox.Fault) []sandbox.Fault {
	f.Where = where
	return []sandbox.Fault{f}
}

var update = flag.Bool("update", false, "rewrite the golden files")

// TestFaultsByEachPath: what breaks where, and what comes of it: the outcomes of the attempts, and the copies that arrive.
// No path leaves a draft behind, and on the draft path no second copy is ever made. The table is testdata/faults.txt.
func TestFaultsByEachPath(t *testing.T) {
	rows := faultRows()
	lines := make([][]string, len(rows)) // each subtest writes its own
	t.Run("faults", func(t *testing.T) {
		for i, row := range rows {
			lines[i] = make([]string, len(row.paths))
			for j, path := range row.paths {
				t.Run(row.name+", by "+path, func(t *testing.T) {
					t.Parallel()
					outcomes, copies, drafts := row.run(t, path)
					most := map[string]int{byMail: 2, byDraft: 1, byUpload: 1}[path]
					if drafts != 0 || copies > most {
						t.Errorf("%d copies, %d drafts left behind; want at most %d, and none", copies, drafts, most)
					}
					lines[i][j] = fmt.Sprintf("%-66s | %-8s | %-38s | %6d | %d\n", row.name, path, outcomes, copies, drafts)
				})
			}
		}
	})
	table := fmt.Sprintf("%-66s | %-8s | %-38s | copies | drafts left behind\n", "fault", "path", "outcomes of the attempts")
	for _, some := range lines {
		table += strings.Join(some, "")
	}
	t.Logf("\n%s", table)
	const golden = "testdata/faults.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(table, "\n")); diff != "" {
		t.Errorf("the table has changed (-want +got); -update rewrites it:\n%s", diff)
	}
}

// largeBody has a file that needs an upload session.
var largeBody = sync.OnceValue(func() string { return large(100, 3_200_000) })

// run sends one message by that path and returns its outcomes and copies, and how many drafts are left.
func (r faultRow) run(t *testing.T, path string) (outcomes string, copies, drafts int) {
	giveUp := make(chan struct{}, 1)
	var once sync.Once
	step := func(at sandbox.Where) {
		if at == r.hang {
			once.Do(func() { giveUp <- struct{}{} })
		}
	}
	b := newDraftBenchAt(t, sandbox.Options{Switches: r.set, Step: step}, func(o *Options) {
		if path == byMail {
			o.Drafts = DraftsNever
		}
		o.HTTP = &http.Client{Transport: impatient{&http.Transport{}, giveUp}}
	})
	for _, f := range r.faults {
		if err := b.box.Fault(f); err != nil {
			t.Fatal(err)
		}
	}
	q := b.message(draftHeader, "hello\r\n", "ann@example.test", "hidden@example.test")
	if r.big {
		q = b.message(draftHeader, strings.Repeat("0123456789\r\n", 220_000), "ann@example.test", "hidden@example.test")
	}
	b.rebuilds = path == byUpload
	sizes := r.files
	if r.session {
		sizes = []int{100, 3_200_000}
		q = b.message(largeHeader, largeBody(), "ann@example.test", "bob@example.test", "hidden@example.test")
	} else if sizes != nil {
		q = b.message(largeHeader, large(sizes...), "ann@example.test", "bob@example.test", "hidden@example.test")
	}
	outcomes = strings.Join(b.run(q), ", ")
	for _, line := range b.sink.lines {
		if strings.Contains(line, "authtoken") || strings.Contains(line, "AttachmentSessions") {
			t.Errorf("the upload URL is in the log: %s", line)
		}
	}
	for _, got := range b.box.Received() {
		if sizes != nil {
			checkRebuilt(t, got, sizes)
		}
		if r.set == (sandbox.Switches{}) && bytes.Contains(got.Raw, []byte("hidden@")) && path != byMail {
			t.Errorf("a hidden recipient shows:\n%.500s", got.Raw)
		}
	}
	return outcomes, len(b.box.Received()), len(b.box.Drafts())
}

// impatient is a client whose time is over when it is told so, and not by a clock.
type impatient struct {
	*http.Transport
	giveUp <-chan struct{}
}

func (i impatient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	var over atomic.Bool
	go func() {
		defer cancel()
		select {
		case <-i.giveUp:
			over.Store(true)
		case <-ctx.Done(): // whoever asked ends the request's context
		}
	}()
	resp, err := i.Transport.RoundTrip(req.WithContext(ctx))
	if err != nil && over.Load() {
		err = context.DeadlineExceeded
	}
	return resp, err
}

func faultRows() []faultRow {
	drafts := []string{byDraft, byUpload}
	all := []string{byMail, byDraft, byUpload}
	send := func(f sandbox.Fault) []sandbox.Fault { return at(sandbox.AtSend, f) }
	create := func(f sandbox.Fault) []sandbox.Fault { return at(sandbox.AtCreate, f) }
	verdict := func(outcome string) []sandbox.Fault { return at(sandbox.AtDot, sandbox.Fault{Outcome: outcome}) }
	return append([]faultRow{
		{name: "nothing breaks", paths: all},

		{name: "the sending: the connection is reset before the body is read", faults: send(sandbox.Fault{Drop: true}), paths: all},
		{name: "the sending: no answer before the body is read", faults: send(sandbox.Fault{Delay: sandbox.Duration{Duration: time.Hour}, Drop: true}), hang: sandbox.AtSend, paths: all},
		{name: "the sending: the connection is reset after the body", faults: verdict("drop-before"), paths: all},
		{name: "the sending: no answer, and the mail was sent", faults: send(sandbox.Fault{Delay: sandbox.Duration{Duration: time.Hour}, Drop: true, Late: true}), hang: sandbox.Kept, paths: all},
		{name: "the sending: a lost 202", faults: verdict("drop-after"), paths: all},
		{name: "the sending: 200 with nothing sent", faults: verdict("ok200"), paths: all},
		{name: "the sending: 401", faults: send(sandbox.Fault{Status: 401, Code: "InvalidAuthenticationToken"}), paths: all},
		{name: "the sending: 403 ErrorAccessDenied", faults: send(sandbox.Fault{Status: 403, Code: "ErrorAccessDenied"}), paths: all},
		{name: "the sending: 403 ErrorSendAsDenied", faults: send(sandbox.Fault{Status: 403, Code: "ErrorSendAsDenied"}), paths: all},
		{name: "the sending: 403 ErrorAccountDisabled", faults: send(sandbox.Fault{Status: 403, Code: "ErrorAccountDisabled"}), paths: all},
		{name: "the sending: 404 MailboxNotEnabledForRESTAPI", faults: send(sandbox.Fault{Status: 404, Code: "MailboxNotEnabledForRESTAPI"}), paths: all},
		{name: "the sending: 404 ErrorItemNotFound", faults: send(sandbox.Fault{Status: 404, Code: "ErrorItemNotFound"}), paths: all},
		{name: "the sending: 404 ResourceNotFound", faults: send(sandbox.Fault{Status: 404, Code: "ResourceNotFound"}), paths: all},
		{name: "the sending: 404 Request_ResourceNotFound", faults: send(sandbox.Fault{Status: 404, Code: "Request_ResourceNotFound"}), paths: drafts},
		{name: "the sending: 404 with the mail sent, and the draft is not found", faults: append(send(sandbox.Fault{Status: 404, Code: "ErrorItemNotFound", Late: true}),
			at(sandbox.AtLook, sandbox.Fault{Status: 404, Code: "ErrorItemNotFound", Times: 4})...), set: sandbox.Switches{SentLag: 2}, paths: drafts},
		{name: "the sending: 403 as a page of a proxy", faults: send(sandbox.Fault{Status: 403}), paths: all},
		{name: "the sending: 404 as a page of a proxy", faults: send(sandbox.Fault{Status: 404}), paths: all},
		{name: "the sending: 409", faults: send(sandbox.Fault{Status: 409, Code: "ErrorIrresolvableConflict"}), paths: all},
		{name: "the sending: 413", faults: send(sandbox.Fault{Status: 413, Code: "RequestEntityTooLarge"}), paths: all},
		{name: "the sending: 429", faults: send(sandbox.Fault{Status: 429, Code: "ApplicationThrottled", RetryAfter: "2"}), paths: all},
		{name: "the sending: 500", faults: send(sandbox.Fault{Status: 500, Code: "UnknownError"}), paths: all},
		{name: "the sending: 500 as a page of HTML", faults: verdict("html"), paths: all},
		{name: "the sending: 502", faults: send(sandbox.Fault{Status: 502}), paths: all},
		{name: "the sending: 503 ErrorServerBusy", faults: send(sandbox.Fault{Status: 503, Code: "ErrorServerBusy"}), paths: all},
		{name: "the sending: 503 without a verdict", faults: send(sandbox.Fault{Status: 503}), paths: all},
		{name: "the sending: 504 with nothing sent", faults: verdict("gateway"), paths: all},
		{name: "the sending: 504 with the mail sent", faults: verdict("doubt"), paths: all},
		{name: "the sending: 504 with the mail sent, which shows late", faults: verdict("doubt"), set: sandbox.Switches{SentLag: 2}, paths: drafts},
		{name: "the sending: 504 twice with nothing sent", faults: send(sandbox.Fault{Status: 504, Times: 2}), paths: []string{byMail}},
		{name: "the sending: an invalid recipient", faults: verdict("invalid"), paths: all},
		{name: "the sending: larger than the mailbox sends", faults: verdict("toolarge"), paths: all},
	}, slices.Concat(creationRows(create, drafts), attachmentRows(), uploadRows())...)
}

func creationRows(create func(sandbox.Fault) []sandbox.Fault, drafts []string) []faultRow {
	hour := sandbox.Duration{Duration: time.Hour}
	return []faultRow{
		{name: "the creation: the connection is reset before the body is read", faults: create(sandbox.Fault{Drop: true}), paths: drafts},
		{name: "the creation: no answer before the body is read", faults: create(sandbox.Fault{Delay: hour, Drop: true}), hang: sandbox.AtCreate, paths: drafts},
		{name: "the creation: the connection is reset during the body", faults: create(sandbox.Fault{Drop: true}), big: true, paths: drafts},
		{name: "the creation: the answer is lost", faults: create(sandbox.Fault{Drop: true, Late: true}), paths: drafts},
		{name: "the creation: no answer, and the draft is there", faults: create(sandbox.Fault{Delay: hour, Drop: true, Late: true}), hang: sandbox.Made, paths: drafts},
		{name: "the creation: 200", faults: create(sandbox.Fault{Status: 200}), paths: drafts},
		{name: "the creation: 401", faults: create(sandbox.Fault{Status: 401, Code: "InvalidAuthenticationToken"}), paths: drafts},
		{name: "the creation: 403", faults: create(sandbox.Fault{Status: 403, Code: "ErrorAccessDenied"}), paths: drafts},
		{name: "the creation: 404", faults: create(sandbox.Fault{Status: 404, Code: "MailboxNotEnabledForRESTAPI"}), paths: drafts},
		{name: "the creation: 409", faults: create(sandbox.Fault{Status: 409, Code: "ErrorIrresolvableConflict"}), paths: drafts},
		{name: "the creation: 413", faults: create(sandbox.Fault{Status: 413, Code: "RequestEntityTooLarge"}), paths: drafts},
		{name: "the creation: 429", faults: create(sandbox.Fault{Status: 429, Code: "ApplicationThrottled"}), paths: drafts},
		{name: "the creation: 500 as a page of HTML", faults: create(sandbox.Fault{Status: 500}), paths: drafts},
		{name: "the creation: 500, and the draft is there", faults: create(sandbox.Fault{Status: 500, Code: "UnknownError", Late: true}), paths: drafts},
		{name: "the creation: 504, and the draft is there", faults: create(sandbox.Fault{Status: 504, Late: true}), paths: drafts},
		{name: "hidden recipients: 503", faults: at(sandbox.AtPatch, sandbox.Fault{Status: 503, Code: "ErrorServerBusy"}), paths: []string{byDraft}},
		{name: "hidden recipients: 503, and the draft cannot be removed", faults: append(at(sandbox.AtPatch, sandbox.Fault{Status: 503, Code: "ErrorServerBusy"}),
			at(sandbox.AtDelete, sandbox.Fault{Status: 503, Code: "ErrorServerBusy"})...), paths: []string{byDraft}},
		{name: "hidden recipients: 404 ErrorItemNotFound", faults: at(sandbox.AtPatch, sandbox.Fault{Status: 404, Code: "ErrorItemNotFound"}), paths: []string{byDraft}},
		{name: "hidden recipients: 404 ResourceNotFound", faults: at(sandbox.AtPatch, sandbox.Fault{Status: 404, Code: "ResourceNotFound"}), paths: []string{byDraft}},
		{name: "hidden recipients: 404 MailboxNotEnabledForRESTAPI", faults: at(sandbox.AtPatch, sandbox.Fault{Status: 404, Code: "MailboxNotEnabledForRESTAPI"}), paths: []string{byDraft}},
		{name: "the look at a draft in doubt: 503", faults: append(at(sandbox.AtSend, sandbox.Fault{Status: 504, Late: true}),
			at(sandbox.AtLook, sandbox.Fault{Status: 503, Code: "ErrorServerBusy"})...), paths: []string{byDraft}},
	}
}

// attachmentRows are about a file that does not fit into the first request and has one of its own. What nobody answered may
// be there, and is never added a second time.
func attachmentRows() []faultRow {
	attach := func(name string, faults ...sandbox.Fault) faultRow {
		for i := range faults {
			if faults[i].Where == "" {
				faults[i].Where = sandbox.AtAttach
			}
		}
		return faultRow{name: "the attachment: " + name, faults: faults, files: []int{1_600_000, 1_700_000}, paths: []string{byUpload}}
	}
	return []faultRow{
		attach("the connection is reset before the body is read", sandbox.Fault{Drop: true}),
		attach("the connection is reset within the body", sandbox.Fault{Drop: true, After: 100_000}),
		attach("a lost 201", sandbox.Fault{Drop: true, Late: true}),
		attach("a lost 201, and the draft cannot be removed", sandbox.Fault{Drop: true, Late: true}, sandbox.Fault{Where: sandbox.AtDelete, Status: 503, Code: "ErrorServerBusy"}),
		attach("500, and the file is there", sandbox.Fault{Status: 500, Code: "UnknownError", Late: true}),
		attach("503 ErrorServerBusy", sandbox.Fault{Status: 503, Code: "ErrorServerBusy"}),
		attach("401", sandbox.Fault{Status: 401, Code: "InvalidAuthenticationToken"}),
		attach("404 ErrorItemNotFound", sandbox.Fault{Status: 404, Code: "ErrorItemNotFound"}),
		attach("413", sandbox.Fault{Status: 413, Code: "ErrorAttachmentSizeLimitExceeded"}),
		attach("429", sandbox.Fault{Status: 429, Code: "ApplicationThrottled"}),
		attach("a lost 201, each time", sandbox.Fault{Drop: true, Late: true, Times: restarts + 1}),
	}
}

func uploadRows() []faultRow {
	slice := func(f sandbox.Fault) []sandbox.Fault { return at(sandbox.AtUpload, f) }
	return []faultRow{
		{name: "the upload: a slice is refused with 503", faults: slice(sandbox.Fault{Status: 503, Code: "x", RetryAfter: "1"}), session: true, paths: []string{byUpload}},
		{name: "the upload: a slice is cut off", faults: slice(sandbox.Fault{Drop: true}), session: true, paths: []string{byUpload}},
		{name: "the upload: the answer to a slice is lost", faults: slice(sandbox.Fault{Drop: true, Late: true}), session: true, paths: []string{byUpload}},
		{name: "the upload: the range steps back", faults: append(slice(sandbox.Fault{Outcome: "back"}), slice(sandbox.Fault{Outcome: "back"})...), session: true, paths: []string{byUpload}},
		{name: "the upload: the session expires", faults: slice(sandbox.Fault{Outcome: "expire"}), session: true, paths: []string{byUpload}},
		{name: "the upload: the session expires, and the draft cannot be removed", faults: append(slice(sandbox.Fault{Outcome: "expire"}),
			at(sandbox.AtDelete, sandbox.Fault{Status: 503, Code: "ErrorServerBusy"})...), session: true, paths: []string{byUpload}},
		{name: "the upload: the session is refused with 401", faults: at(sandbox.AtSession, sandbox.Fault{Status: 401, Code: "InvalidAuthenticationToken"}), session: true, paths: []string{byUpload}},
		{name: "the upload: the session is refused with 404", faults: at(sandbox.AtSession, sandbox.Fault{Status: 404, Code: "ErrorItemNotFound"}), session: true, paths: []string{byUpload}},
		{name: "the upload: the session is refused with 429", faults: at(sandbox.AtSession, sandbox.Fault{Status: 429, Code: "ApplicationThrottled"}), session: true, paths: []string{byUpload}},
		{name: "the upload: the upload host is down", faults: slice(sandbox.Fault{Status: 503, Code: "x", Times: 2 * uploadTries}), session: true, paths: []string{byUpload}},
	}
}
