package message

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
)

// partOverhead is more than what stands around an attachment, and what a footer grows by in the worst encoding.
const partOverhead = 2 << 10

// Octets returns how many octets a message grows by at most, but for a text part that must be encoded anew for a footer.
func (a Additions) Octets() (n int64) {
	for _, p := range a.Attach {
		n += (p.Size+56)/57*(base64Line+2) + partOverhead
	}
	for _, p := range []*Part{a.FooterText, a.FooterHTML} {
		if p != nil {
			n += 3*p.Size + partOverhead
		}
	}
	return n
}

// Contents opens what the parts of a plan name by their hash. The caller closes it. An error means that it is gone.
type Contents func(hash string) (io.ReadCloser, error)

// Extend returns the attempt with what its plan adds to the body: Final, BodySize and Open are those of the message that
// leaves. The body is read for it two to four times and never held in memory, and so whenever Open is called. The same
// plan, header and body give the same octets each time. A message that is signed or encrypted stays as it is, a text
// that is none gets no footer. An error is one of the body or of the contents; nothing was sent.
//
// Attachments go into a multipart/mixed that is there, else the message becomes the first part of one (RFC 2046 section
// 5.1.3), its octets as they were. A footer goes to the end of each version of the text, in its charset and transfer
// encoding where those can hold it; else that part becomes UTF-8 in quoted-printable.
func (o Outgoing) Extend(ctx context.Context, contents Contents) (Outgoing, error) {
	if o.Plan.Additions.IsZero() {
		return o, nil
	}
	header, err := ParseHeader(o.Final)
	if err != nil {
		return o, err
	}
	if header.IsProtected() {
		return o, nil
	}
	x := &extension{out: o, header: header, contents: contents}
	if err := x.plan(ctx); err != nil {
		return o, fmt.Errorf("additions of message %s: %w", o.ID, err)
	}
	if len(x.patches) == 0 {
		return o, nil
	}
	o.Final = x.header.Bytes()
	body := x.out.Open
	o.Open = func(ctx context.Context) (io.ReadCloser, error) {
		in, err := body(ctx)
		if err != nil {
			return nil, err
		}
		return &patched{in: in, patches: slices.Clone(x.patches), contents: contents}, nil
	}
	if o.BodySize, err = measure(ctx, o.Open); err != nil {
		return o, fmt.Errorf("additions of message %s: %w", o.ID, err)
	}
	return o, nil
}

func measure(ctx context.Context, open func(context.Context) (io.ReadCloser, error)) (int64, error) {
	in, err := open(ctx)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	return io.Copy(io.Discard, in)
}

// extension is the making of one Extend.
type extension struct {
	out      Outgoing
	header   Header
	contents Contents
	patches  []patch // in the order of their places
}

// patch replaces octets of the stored body.
type patch struct {
	from, to int64 // -1: at the end
	content  func(old io.Reader, contents Contents) (io.Reader, error)
}

func literal(at, to int64, b []byte) patch {
	return patch{at, to, func(io.Reader, Contents) (io.Reader, error) { return bytes.NewReader(b), nil }}
}

func (x *extension) plan(ctx context.Context) error {
	top, err := x.walk(ctx)
	if err != nil {
		return err
	}
	if top != nil {
		if err := x.addFooter(ctx, top); err != nil {
			return err
		}
	}
	if len(x.out.Plan.Additions.Attach) > 0 {
		x.addAttachments(top)
	}
	return nil
}

// walk finds the parts; nil where there are too many to tell.
func (x *extension) walk(ctx context.Context) (*entity, error) {
	in, err := x.out.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	top, err := walk(x.header, in)
	if errors.Is(err, errTooManyParts) {
		return nil, nil
	}
	return top, err
}

// maxTexts is how many versions of its text a message may have to get a footer: the body is read anew for each.
const maxTexts = 10

// addFooter changes the text parts.
func (x *extension) addFooter(ctx context.Context, top *entity) error {
	texts := top.texts()
	if len(texts) > maxTexts {
		return nil
	}
	for _, e := range texts {
		part := x.out.Plan.Additions.FooterText
		if e.media == "text/html" {
			part = x.out.Plan.Additions.FooterHTML
		}
		if part == nil || e.touching {
			continue
		}
		footer, err := x.read(*part)
		if err != nil {
			return err
		}
		source := &trackedSource{open: func() (io.ReadCloser, error) { return x.section(ctx, e.body, e.end) }}
		change, err := planText(e, footer, source.section)
		if source.err != nil {
			return source.err
		}
		if err != nil {
			continue // its transfer encoding is broken, or it is signed: it leaves as it came
		}
		x.changeText(top, e, change)
	}
	return nil
}

func (x *extension) changeText(top, e *entity, c *textChange) {
	for _, name := range []string{"Content-MD5", "Content-Length", "Lines"} {
		if len(e.header.All(name)) > 0 {
			c.fields = append(c.fields, Edit{Op: Remove, Name: name})
		}
	}
	if e == top {
		for _, f := range c.fields {
			x.edit(f)
		}
		if len(c.fields) > 0 {
			x.declareMIME()
		}
	} else if len(c.fields) > 0 {
		h := Header{Fields: slices.Clone(e.header.Fields)}
		for _, f := range c.fields {
			// The values are ours and can be written.
			_ = h.apply(f)
		}
		x.patches = append(x.patches, literal(e.start, e.body, h.Bytes()))
	}
	c.last = e == top
	x.patches = append(x.patches, patch{e.body, e.end, func(old io.Reader, _ Contents) (io.Reader, error) { return c.reader(old) }})
}

// edit changes the message's own header by one of our edits, which can be written.
func (x *extension) edit(e Edit) { _ = x.header.apply(e) }

func (x *extension) declareMIME() {
	if len(x.header.All("MIME-Version")) == 0 {
		x.edit(Edit{Op: Add, Name: "MIME-Version", Value: "1.0"})
	}
}

// trackedSource tells trouble of the store from that of a part's encoding.
type trackedSource struct {
	open func() (io.ReadCloser, error)
	err  error
}

func (t *trackedSource) section() (io.ReadCloser, error) {
	in, err := t.open()
	if err != nil {
		t.err = err
		return nil, err
	}
	return &trackedReader{ReadCloser: in, err: &t.err}, nil
}

type trackedReader struct {
	io.ReadCloser
	err *error
}

func (t *trackedReader) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		*t.err = err
	}
	return n, err
}

// section opens the octets between two places of the stored body.
func (x *extension) section(ctx context.Context, from, to int64) (io.ReadCloser, error) {
	in, err := x.out.Open(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, in, from); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(in, to-from), in}, nil
}

// maxFooter is the largest footer that is read into memory.
const maxFooter = 1 << 20

// read takes a small content into memory.
func (x *extension) read(p Part) (string, error) {
	in, err := x.contents(p.Hash)
	if err != nil {
		return "", err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxFooter+1))
	if err == nil && int64(len(b)) != p.Size {
		err = errors.New("the kept footer is not what was planned")
	}
	return string(b), err
}

// addAttachments puts the files into the message. top is nil where its parts are not known.
func (x *extension) addAttachments(top *entity) {
	if top != nil && top.media == "multipart/mixed" && top.multipart() {
		at, end := top.closed, ""
		if top.touching {
			end = "\r\n"
		}
		if at < 0 { // it came without an end
			at, end = top.end, "\r\n"+string(top.delimiter)+"--\r\n"
		}
		x.patches = append(x.patches, x.attachments(at, string(top.delimiter), end))
		return
	}
	delimiter := "--=_postern_" + string(x.out.ID)
	inner := x.takeContentFields()
	x.edit(Edit{Op: Add, Name: "Content-Type", Value: formatMediaType("multipart/mixed", map[string]string{"boundary": delimiter[2:]})})
	x.declareMIME()
	// Before a change of the first part, which may begin at the same place.
	x.patches = slices.Insert(x.patches, 0, literal(0, 0, []byte(delimiter+"\r\n"+inner+"\r\n")))
	x.patches = append(x.patches, x.attachments(-1, delimiter, "\r\n"+delimiter+"--\r\n"))
}

// takeContentFields takes the fields that describe the content off the message and returns them as they were, for the
// part that it becomes (RFC 2045 section 3).
func (x *extension) takeContentFields() string {
	var inner strings.Builder
	x.header.Fields = slices.DeleteFunc(slices.Clone(x.header.Fields), func(f Field) bool {
		ours := len(f.Name) > 8 && strings.EqualFold(f.Name[:8], "Content-")
		if ours && !f.Is("Content-Length") {
			inner.Write(f.Raw)
		}
		return ours
	})
	return inner.String()
}

// attachments writes the files as parts; at is -1 for the end of the body.
func (x *extension) attachments(at int64, delimiter, end string) patch {
	return patch{at, at, func(_ io.Reader, contents Contents) (io.Reader, error) {
		var all []io.Reader
		for _, p := range x.out.Plan.Additions.Attach {
			all = append(all, strings.NewReader("\r\n"+delimiter+"\r\n"+attachmentHeader(p)),
				newEncoder(&content{open: contents, part: p}, "base64"))
		}
		return io.MultiReader(append(all, strings.NewReader(end))...), nil
	}}
}

func attachmentHeader(p Part) string {
	h := Header{}
	for _, e := range []Edit{
		{Add, "Content-Type", formatMediaType(p.Type, map[string]string{"name": p.Name})},
		{Add, "Content-Disposition", formatMediaType("attachment", map[string]string{"filename": p.Name})},
		{Add, "Content-Transfer-Encoding", "base64"},
	} {
		_ = h.apply(e) // the name was checked when the plan was made
	}
	return string(h.Bytes())
}

// formatMediaType writes a media type; the octet stream where it cannot be written with those parameters.
func formatMediaType(media string, params map[string]string) string {
	if s := mime.FormatMediaType(media, params); s != "" {
		return s
	}
	return "application/octet-stream"
}

// content reads a file that the plan names; it is opened at its turn.
type content struct {
	open Contents
	part Part
	in   io.ReadCloser
	left int64
	err  error
}

func (c *content) Read(p []byte) (int, error) {
	if c.in == nil && c.err == nil {
		c.in, c.err = c.open(c.part.Hash)
		c.left = c.part.Size
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.in.Read(p)
	c.left -= int64(n)
	if err == io.EOF && c.left != 0 || c.left < 0 {
		err = fmt.Errorf("the kept copy of %q is not what was planned", c.part.Name)
	}
	c.err = err
	return n, err
}

// patched reads a body with its patches.
type patched struct {
	in       io.ReadCloser
	patches  []patch
	contents Contents
	opened   []io.Closer
	at       int64             // octets of in that were read
	current  io.Reader         // of the patch that is being read
	old      *io.LimitedReader // what it replaces
}

// Read implements io.Reader.
func (r *patched) Read(p []byte) (int, error) {
	for {
		if r.current != nil {
			n, err := r.current.Read(p)
			if err != io.EOF {
				return n, err
			}
			if err := r.endPatch(); err != nil {
				return n, err
			}
			if n > 0 {
				return n, nil
			}
			continue
		}
		if len(r.patches) > 0 && r.patches[0].from == r.at {
			if err := r.beginPatch(); err != nil {
				return 0, err
			}
			continue
		}
		n, err := r.in.Read(p[:r.room(len(p))])
		r.at += int64(n)
		if err == io.EOF && len(r.patches) > 0 {
			if r.patches[0].from >= 0 {
				return n, io.ErrUnexpectedEOF // the body is shorter than when the parts were found
			}
			r.patches[0].from = r.at // the patch for the end
			if n == 0 {
				continue
			}
			err = nil
		}
		return n, err
	}
}

// room returns how much may be read before the next patch.
func (r *patched) room(want int) int {
	if len(r.patches) == 0 || r.patches[0].from < 0 {
		return want
	}
	return int(min(int64(want), r.patches[0].from-r.at))
}

func (r *patched) beginPatch() (err error) {
	p := r.patches[0]
	r.old = &io.LimitedReader{R: r.in, N: max(0, p.to-p.from)}
	r.current, err = p.content(r.old, r.open)
	return err
}

// endPatch passes over what the patch did not read of what it replaces.
func (r *patched) endPatch() error {
	if _, err := io.Copy(io.Discard, r.old); err != nil {
		return err
	}
	p := r.patches[0]
	if r.old.N > 0 {
		return io.ErrUnexpectedEOF
	}
	r.at = max(r.at, p.to)
	r.patches, r.current = r.patches[1:], nil
	return nil
}

// open opens a content that Close closes.
func (r *patched) open(hash string) (io.ReadCloser, error) {
	in, err := r.contents(hash)
	if err == nil {
		r.opened = append(r.opened, in)
	}
	return in, err
}

// Close implements io.Closer.
func (r *patched) Close() error {
	err := r.in.Close()
	for _, c := range r.opened {
		err = errors.Join(err, c.Close())
	}
	r.opened = nil
	return err
}
