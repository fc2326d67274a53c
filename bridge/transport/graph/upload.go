package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/bridge/message"
	"postern/bridge/reply"
)

// The sizes of the large route ("Attach large files to Outlook messages", November 2026).
const (
	maxRequest  = 3_900_000 // octets of a JSON request; the limit is 4 MB
	smallFile   = 3_000_000 // from here on a file needs an upload session
	sliceSize   = 12 * 320 << 10
	uploadTries = 6 // requests in a row that bring an upload no further
)

// uploads are the files of a rebuilt message that its first request does not carry.
type uploads struct {
	single  []*message.File // one request each
	session []*message.File // a session each
	broken  bool            // an upload session was lost: the draft must be made again
}

// rebuild takes the message apart.
func (l *letter) rebuild(ctx context.Context) (*message.Rebuilt, error) {
	return message.Rebuild(l.header, func() (io.ReadCloser, error) { return l.out.Open(ctx) })
}

// cannot is the outcome of a message that cannot be taken apart, or not be read.
func (l *letter) cannot(err error) reply.Outcome {
	var why *message.CannotRebuild
	if !errors.As(err, &why) {
		return l.t.ours("the message could not be read", err)
	}
	return l.t.cannotCarry(int64(len(l.header))+l.out.BodySize, why)
}

func (t *Transport) cannotCarry(size int64, why *message.CannotRebuild) reply.Outcome {
	return reply.Outcome{
		Verdict: reply.Failed, Owner: reply.Message, Transport: name, Size: reply.OverRequest,
		Reply: reply.Reply{Code: 554, Enhanced: "5.6.1",
			Text: fmt.Sprintf("larger than Graph takes as MIME (%d octets, at most %d), and it cannot be sent in parts: %v", size, MaxMIME, why)},
		Remedy: fmt.Sprintf(`let large mail go by SMTP: transport = "auto" for account %q`, t.o.Account),
	}
}

// properties is the message without its files, as Graph's JSON has it.
func (l *letter) properties(m *message.Rebuilt) map[string]any {
	kind := "text"
	if m.HTML {
		kind = "html"
	}
	all := map[string]any{"subject": m.Subject, "body": map[string]string{"contentType": kind, "content": m.Text}}
	if len(m.From) > 0 {
		all["from"] = person(m.From[0]) // Graph fills in sender itself
	}
	for key, list := range map[string][]message.Mailbox{"toRecipients": m.To, "ccRecipients": m.Cc, "replyTo": m.ReplyTo} {
		var some []any
		for _, one := range list {
			some = append(some, person(one))
		}
		if some != nil {
			all[key] = some
		}
	}
	if len(l.hidden) > 0 {
		all["bccRecipients"] = people(l.hidden)
	}
	if m.MessageID != "" {
		all["internetMessageId"] = m.MessageID
	}
	if m.Importance != "" {
		all["importance"] = m.Importance
	}
	if m.ReadReceipt {
		all["isReadReceiptRequested"] = true
	}
	var headers []any
	for _, p := range m.Extra {
		headers = append(headers, map[string]string{"name": p.Name, "value": p.Value})
	}
	if headers != nil {
		all["internetMessageHeaders"] = headers
	}
	if x := extended(m); x != nil {
		all["singleValueExtendedProperties"] = x
	}
	return all
}

// extendedIDs are the properties that Exchange writes into these fields (MS-OXCMAIL section 2.1.3, MS-OXPROPS).
var extendedIDs = map[string]string{"In-Reply-To": "String 0x1042", "References": "String 0x1039",
	"Thread-Topic": "String 0x0070", "Thread-Index": "Binary 0x0071"}

// sensitivities are the values of PidTagSensitivity.
var sensitivities = map[string]string{"Personal": "1", "Private": "2", "Company-Confidential": "3"}

func extended(m *message.Rebuilt) (list []any) {
	for _, p := range m.Threads {
		list = append(list, map[string]string{"id": extendedIDs[p.Name], "value": p.Value})
	}
	if v := sensitivities[m.Sensitivity]; v != "" {
		list = append(list, map[string]string{"id": "Integer 0x0036", "value": v})
	}
	return list
}

// fileJSON is a file without its content, up to the content's first octet.
func fileJSON(f *message.File) ([]byte, error) {
	all := map[string]any{"@odata.type": "#microsoft.graph.fileAttachment", "name": f.Name, "contentType": f.Type, "isInline": f.Inline}
	if f.ContentID != "" {
		all["contentId"] = f.ContentID
	}
	b, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	return append(b[:len(b)-1], `,"contentBytes":"`...), nil
}

// compose decides which request carries which file, and returns the body of the first one: properties, and the small
// files as far as they fit in.
func (u *uploads) compose(l *letter, m *message.Rebuilt) (func(context.Context) (io.ReadCloser, int64, error), error) {
	*u = uploads{}
	head, err := plainJSON(l.properties(m))
	if err != nil {
		return nil, err
	}
	if len(head) > maxRequest {
		return nil, &message.CannotRebuild{What: "its text does not fit into a request of 4 MB"}
	}
	size := int64(len(head))
	var with []*message.File
	for _, f := range m.Files {
		b, err := fileJSON(f)
		if err != nil {
			return nil, err
		}
		need := int64(len(b)) + encodedSize(f.Size) + 32
		switch {
		case f.Size >= smallFile:
			u.session = append(u.session, f)
		case size+need > maxRequest:
			u.single = append(u.single, f)
		default:
			size += need
			with = append(with, f)
		}
	}
	if len(with) == 0 {
		return fixed(head), nil
	}
	return l.filesBody(append(head[:len(head)-1], `,"attachments":[`...), with, "]}"), nil
}

// plainJSON is JSON without the escapes for browsers, which make an HTML text several times as large.
func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func fixed(b []byte) func(context.Context) (io.ReadCloser, int64, error) {
	return func(context.Context) (io.ReadCloser, int64, error) {
		return io.NopCloser(strings.NewReader(string(b))), int64(len(b)), nil
	}
}

// filesBody is JSON with the content of files, read from the store while it is sent.
func (l *letter) filesBody(before []byte, files []*message.File, after string) func(context.Context) (io.ReadCloser, int64, error) {
	return func(ctx context.Context) (io.ReadCloser, int64, error) {
		stored, err := l.out.Open(ctx)
		if err != nil {
			return nil, 0, &sourceError{"the stored body", err}
		}
		from := message.NewFileReader(stored)
		size := int64(len(before) + len(after))
		parts := []io.Reader{strings.NewReader(string(before))}
		for i, f := range files {
			b, err := fileJSON(f)
			if err != nil {
				stored.Close()
				return nil, 0, err
			}
			if i > 0 {
				b = append([]byte(","), b...)
			}
			size += int64(len(b)) + encodedSize(f.Size) + 2
			parts = append(parts, strings.NewReader(string(b)), &lazy{open: func() (io.Reader, error) {
				content, err := from.Open(f)
				if err != nil {
					return nil, &sourceError{"the stored body", err}
				}
				return newBody(nil, io.NopCloser(content), f.Size, func() error { return nil }), nil
			}}, strings.NewReader(`"}`))
		}
		return &guarded{r: io.MultiReader(append(parts, strings.NewReader(after))...), c: stored}, size, nil
	}
}

// lazy opens its reader when it is read.
type lazy struct {
	open func() (io.Reader, error)
	r    io.Reader
}

func (l *lazy) Read(p []byte) (n int, err error) {
	if l.r == nil {
		if l.r, err = l.open(); err != nil {
			return 0, err
		}
	}
	return l.r.Read(p)
}

// guarded lets nobody read after Close: the HTTP client reads a body in a goroutine of its own, also after the answer.
type guarded struct {
	mu     sync.Mutex // guards all below
	r      io.Reader
	c      io.Closer // nil: what is read stays open
	n      int64     // octets read
	closed bool
}

func (g *guarded) Read(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, errClosed
	}
	n, err := g.r.Read(p)
	g.n += int64(n)
	return n, err
}

func (g *guarded) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.c == nil {
		g.closed = true
		return nil
	}
	g.closed = true
	return g.c.Close()
}

// run adds the other files to the draft.
func (u *uploads) run(ctx context.Context, l *letter, id string) (reply.Outcome, bool) {
	for _, f := range u.single {
		if o, ok := l.attach(ctx, id, f); !ok {
			return o, false
		}
	}
	for _, f := range u.session {
		o, ok := u.upload(ctx, l, id, f)
		if !ok {
			return o, false
		}
	}
	return reply.Outcome{}, true
}

// attach adds one file by one request.
func (l *letter) attach(ctx context.Context, id string, f *message.File) (reply.Outcome, bool) {
	head, err := fileJSON(f)
	if err != nil {
		return l.t.ours("a file has no name that can be written", err), false
	}
	body := func(ctx context.Context) (io.ReadCloser, int64, error) {
		stored, err := l.out.Open(ctx)
		if err != nil {
			return nil, 0, &sourceError{"the stored body", err}
		}
		content, err := message.NewFileReader(stored).Open(f)
		if err != nil {
			stored.Close()
			return nil, 0, &sourceError{"the stored body", err}
		}
		encoded := newBody(nil, io.NopCloser(content), f.Size, func() error { return nil })
		return &guarded{r: io.MultiReader(strings.NewReader(string(head)), encoded, strings.NewReader(`"}`)), c: stored},
			int64(len(head)) + encodedSize(f.Size) + 2, nil
	}
	a, o, done := l.t.do(ctx, step{method: http.MethodPost, url: l.item(id) + "/attachments", draft: true, want: http.StatusCreated, out: l.out,
		header: map[string]string{"Content-Type": "application/json"}, body: body})
	// Without an answer nobody knows whether the file is there; a second one would be there twice.
	l.uploads.broken = !done && (a.status == 0 && a.released || a.status >= 500)
	return o, done
}

// upload adds one file by an upload session.
func (u *uploads) upload(ctx context.Context, l *letter, id string, f *message.File) (reply.Outcome, bool) {
	item := map[string]any{"attachmentType": "file", "name": f.Name, "size": f.Size, "contentType": f.Type, "isInline": f.Inline}
	if f.ContentID != "" {
		item["contentId"] = f.ContentID
	}
	a, o, done := l.t.do(ctx, step{method: http.MethodPost, url: l.item(id) + "/attachments/createUploadSession", draft: true, want: http.StatusCreated,
		out: l.out, header: map[string]string{"Content-Type": "application/json"}, body: jsonBody(map[string]any{"AttachmentItem": item})})
	if !done {
		if strings.EqualFold(readFault(a.body).Code, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize") {
			return l.attach(ctx, id, f) // it counts MB of 2^20
		}
		return o, false
	}
	var made struct {
		URL string `json:"uploadUrl"`
	}
	_ = json.Unmarshal(a.body, &made) // without a URL it is refused below
	if err := l.t.checkUploadURL(made.URL); err != nil {
		return reply.Outcome{Owner: reply.Account, Transport: name, Err: err, Reply: reply.Reply{Text: "Microsoft Graph wants a file at a host that is not the provider's"},
			Remedy: "check the provider's graph address and the proxy"}, false
	}
	s := &slicing{l: l, f: f, url: made.URL}
	defer s.close()
	o, ok, gone := s.run(ctx)
	u.broken = gone
	return o, ok
}

// checkUploadURL refuses a host that is not known: whoever it is would get the file.
func (t *Transport) checkUploadURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil {
		return errors.New("the upload address is no URL") // never the URL itself: it is a credential
	}
	base, err := url.Parse(t.base)
	if err != nil {
		return err
	}
	if isLoopback(base.Hostname()) && isLoopback(u.Hostname()) {
		return nil
	}
	if u.Scheme != "https" || !slices.ContainsFunc(t.o.UploadHosts, func(h string) bool { return strings.EqualFold(h, u.Hostname()) }) {
		return fmt.Errorf("the upload host %q is not one of %v", u.Hostname(), t.o.UploadHosts)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// slicing is one upload session under way.
type slicing struct {
	l   *letter
	f   *message.File
	url string

	stored io.Closer // the open body, nil for none
	file   io.Reader // the file's content, at the octet pos
	pos    int64
}

// run sends slices from where the server wants them until it has all. gone says that the session was lost and perhaps
// the file is there.
func (s *slicing) run(ctx context.Context) (o reply.Outcome, ok, gone bool) {
	next, stalled := int64(0), 0
	for {
		a, o, done := s.put(ctx, next)
		if done && a.status == http.StatusCreated {
			return reply.Outcome{}, true, false
		}
		to, known := readRange(a.body)
		if !done || !known {
			s.close() // what was read of the file went nowhere
			if fromSource(a.err) || ctx.Err() != nil || a.status == http.StatusRequestEntityTooLarge {
				return o, false, false
			}
			if wait := max(o.RetryAfter, time.Duration(stalled)*time.Second); wait > 0 && (wait > time.Minute || !s.l.t.o.Pause(ctx, wait)) {
				return o, false, false
			}
			a, asked, answered := s.l.t.do(ctx, step{method: http.MethodGet, url: s.url, want: http.StatusOK, upload: true, out: s.l.out})
			if a.status == http.StatusNotFound || a.status == http.StatusGone {
				return asked, false, true
			}
			if to, known = readRange(a.body); !answered || !known {
				to = next
			}
		}
		if to < 0 || to >= s.f.Size {
			return reply.Outcome{Owner: reply.Route, Transport: name, Reply: reply.Reply{Text: "the upload host has all and does not say so"}}, false, true
		}
		if stalled++; to > next {
			stalled = 0
		}
		if next = to; stalled >= uploadTries {
			if o.Transport == "" {
				o = reply.Outcome{Owner: reply.Route, Transport: name, Reply: reply.Reply{Text: "the upload gets no further"}}
			}
			return o, false, false
		}
	}
}

// put sends the slice that begins at the octet at.
func (s *slicing) put(ctx context.Context, at int64) (answer, reply.Outcome, bool) {
	n := min(sliceSize, s.f.Size-at)
	var sent *guarded
	a, o, done := s.l.t.do(ctx, step{method: http.MethodPut, url: s.url, want: http.StatusOK, also: http.StatusCreated, upload: true, out: s.l.out,
		header: map[string]string{"Content-Type": "application/octet-stream", "Content-Range": fmt.Sprintf("bytes %d-%d/%d", at, at+n-1, s.f.Size)},
		body: func(ctx context.Context) (io.ReadCloser, int64, error) {
			if sent != nil { // a second try of the same request
				sent.Close()
				s.close()
			}
			if err := s.seek(ctx, at); err != nil {
				return nil, 0, &sourceError{"the stored body", err}
			}
			sent = &guarded{r: io.LimitReader(s.file, n)}
			return sent, n, nil
		}})
	if sent != nil {
		sent.Close() // from here on nobody else reads the file
		s.pos += sent.n
	}
	return a, o, done
}

// seek makes the file stand at that octet, from its beginning where it is past it.
func (s *slicing) seek(ctx context.Context, at int64) error {
	if s.file == nil || s.pos > at {
		s.close()
		stored, err := s.l.out.Open(ctx)
		if err != nil {
			return err
		}
		s.stored = stored
		if s.file, err = message.NewFileReader(stored).Open(s.f); err != nil {
			return err
		}
		s.pos = 0
	}
	n, err := io.CopyN(io.Discard, s.file, at-s.pos)
	s.pos += n
	return err
}

func (s *slicing) close() {
	if s.stored != nil {
		s.stored.Close()
	}
	s.stored, s.file, s.pos = nil, nil, 0
}

// readRange reads where the server wants the next slice: "0-", "2097152" or "2097152-4194303", the first of them.
func readRange(body []byte) (at int64, ok bool) {
	var v struct {
		Next []string `json:"nextExpectedRanges"`
	}
	if err := json.Unmarshal(body, &v); err != nil || len(v.Next) == 0 {
		return 0, false
	}
	from, _, _ := strings.Cut(v.Next[0], "-")
	at, err := strconv.ParseInt(from, 10, 64)
	return at, err == nil && at >= 0
}

// pause sleeps.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Splits reports whether messages over MaxMIME go in parts, as far as it is known what was granted.
func (t *Transport) Splits() bool { return t.usesDrafts() }

// CheckCarry says before a message over MaxMIME is accepted whether Graph can carry it in parts. header is the one that
// leaves; body is read to its end. The error is a *message.CannotRebuild, nil, or what body gave.
func (t *Transport) CheckCarry(header []byte, body io.Reader) error {
	return message.CheckRebuild(header, body)
}
