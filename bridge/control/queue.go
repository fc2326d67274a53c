package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Queue is the part of Service that looks into the queue, changes it, and copies it.
type Queue interface {
	// QueueRows returns the messages that q selects, oldest first, at most RowsAtOnce; the next page begins after the
	// last one's ID. An ID that no message has selects none.
	QueueRows(ctx context.Context, q QueueQuery) ([]QueueRow, error)
	// QueueShow returns one message with all that is known of it.
	QueueShow(ctx context.Context, id string) (QueueDetail, error)
	// QueueChange does what a person asks for, and writes an audit line for each message.
	QueueChange(ctx context.Context, c QueueChange) (QueueChanged, error)
	// QueueExport writes the message as it came, after header fields with its envelope. After a *Damaged all is written that
	// can be read of it.
	QueueExport(ctx context.Context, id string, to io.Writer) error
	// Backup writes a tar archive of a consistent copy of the store and the vault.
	Backup(ctx context.Context, to io.Writer) error
}

// RowsAtOnce is the most that QueueRows returns.
const RowsAtOnce = 500

// QueueQuery selects messages. Account and State narrow the choice; without IDs it is the whole queue.
type QueueQuery struct {
	IDs     []string `json:"ids,omitempty"`
	Account string   `json:"account,omitempty"`
	State   string   `json:"state,omitempty"`
	All     bool     `json:"all,omitempty"` // those too that are relayed
	After   string   `json:"after,omitempty"`
}

// QueueRow is one message. The JSON names are a contract with scripts.
type QueueRow struct {
	ID          string           `json:"id"`
	MessageID   string           `json:"message_id"`
	User        string           `json:"user"`
	Account     string           `json:"account"`
	State       string           `json:"state"`       // the least final of its recipients'
	WaitingFor  string           `json:"waiting_for"` // rate, pause, parked, sender, doubt, trial; "" where it waits for its time
	ReversePath string           `json:"reverse_path"`
	HeaderFrom  string           `json:"header_from"`
	Recipients  []QueueRecipient `json:"recipients"`
	Size        int64            `json:"size"` // octets of header and body as they came
	Attempts    int              `json:"attempts"`
	AcceptedAt  time.Time        `json:"accepted_at"`
	NextAttempt *time.Time       `json:"next_attempt_at"` // null where nothing is due by time
}

// QueueRecipient is the fate of one recipient.
type QueueRecipient struct {
	Address string `json:"address"`
	State   string `json:"state"`
	Reply   string `json:"reply"` // what the next server said last
}

// QueueDetail is a row with what only one message is asked for.
type QueueDetail struct {
	QueueRow
	Scenario string   `json:"scenario,omitempty"`
	Listener string   `json:"listener,omitempty"`
	Remote   string   `json:"remote,omitempty"`
	HasBody  bool     `json:"has_body"`
	Damage   string   `json:"damage,omitempty"` // what of it cannot be read back
	Why      []Reason `json:"why,omitempty"`    // one for each recipient that has one
	Header   string   `json:"header,omitempty"` // as it came
}

// Reason says why a recipient is in its state.
type Reason struct {
	Address   string `json:"address"`
	Transport string `json:"transport,omitempty"`
	Text      string `json:"text,omitempty"`
	Remedy    string `json:"remedy,omitempty"`
}

// QueueChange is what a person asks for.
type QueueChange struct {
	Action string `json:"action"` // retry, hold, release, drop, sent
	Today  bool   `json:"today,omitempty"`
	QueueQuery
}

// QueueChanged says what became of a change.
type QueueChanged struct {
	Changed int            `json:"changed"`
	Refused []QueueRefused `json:"refused,omitempty"` // of those that were named; of others the first for each reason
}

// QueueRefused is a message that was left as it is.
type QueueRefused struct {
	ID   string `json:"id"`
	Text string `json:"error"`
	More int    `json:"more,omitempty"` // others that were left so for the same reason
}

// Damaged is the error of a message that cannot be read back as it was written.
type Damaged struct{ Text string }

func (d *Damaged) Error() string { return d.Text }

func handleQueue(mux *http.ServeMux, svc Queue) {
	mux.HandleFunc("POST /queue/rows", func(w http.ResponseWriter, r *http.Request) {
		var q QueueQuery
		if ask(w, r, &q) {
			answer(w)(svc.QueueRows(r.Context(), q))
		}
	})
	mux.HandleFunc("GET /queue/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(svc.QueueShow(r.Context(), r.PathValue("id")))
	})
	mux.HandleFunc("POST /queue/change", func(w http.ResponseWriter, r *http.Request) {
		var c QueueChange
		if ask(w, r, &c) {
			answer(w)(svc.QueueChange(r.Context(), c))
		}
	})
	mux.HandleFunc("GET /queue/{id}/message", func(w http.ResponseWriter, r *http.Request) {
		stream(w, r, func(to io.Writer) error { return svc.QueueExport(r.Context(), r.PathValue("id"), to) })
	})
	mux.HandleFunc("GET /backup", func(w http.ResponseWriter, r *http.Request) {
		stream(w, r, func(to io.Writer) error { return svc.Backup(r.Context(), to) })
	})
}

// damagedTrailer follows a message of which something is wrong, and says what.
const damagedTrailer = "Postern-Damaged"

// stream answers with what write gives. A failure before the first octet is a refusal; a later one cuts the connection,
// so that half an answer is never taken for a whole one. Only who says that he reads trailers gets what is damaged.
func stream(w http.ResponseWriter, r *http.Request, write func(io.Writer) error) {
	s := &startedWriter{w: w}
	err := write(s)
	damaged := (*Damaged)(nil)
	switch {
	case errors.As(err, &damaged) && s.started && r.Header.Get("TE") == "trailers":
		if http.NewResponseController(w).Flush() == nil { // or a short answer would have its length, and no trailer
			w.Header().Set(http.TrailerPrefix+damagedTrailer, damaged.Text)
			return
		}
		panic(http.ErrAbortHandler)
	case err != nil && s.started:
		panic(http.ErrAbortHandler)
	case err != nil:
		refuse(w, http.StatusUnprocessableEntity, err)
	}
}

// startedWriter remembers that something was written.
type startedWriter struct {
	w       http.ResponseWriter
	started bool
}

func (s *startedWriter) Write(p []byte) (int, error) {
	if !s.started {
		s.w.Header().Set("Content-Type", "application/octet-stream")
		s.started = true
	}
	return s.w.Write(p)
}

// QueueRows asks for a page of messages.
func (c *Client) QueueRows(ctx context.Context, q QueueQuery) (rows []QueueRow, err error) {
	return rows, c.do(ctx, "POST", "/queue/rows", q, &rows)
}

// QueueShow asks for one message.
func (c *Client) QueueShow(ctx context.Context, id string) (d QueueDetail, err error) {
	return d, c.do(ctx, "GET", "/queue/"+url.PathEscape(id), nil, &d)
}

// QueueChange asks for a change.
func (c *Client) QueueChange(ctx context.Context, change QueueChange) (done QueueChanged, err error) {
	return done, c.do(ctx, "POST", "/queue/change", change, &done)
}

// QueueExport asks for the octets of a message.
func (c *Client) QueueExport(ctx context.Context, id string, to io.Writer) error {
	return c.copy(ctx, "/queue/"+url.PathEscape(id)+"/message", to)
}

// Backup asks for the archive.
func (c *Client) Backup(ctx context.Context, to io.Writer) error { return c.copy(ctx, "/backup", to) }

// copy writes what the daemon streams; an error where it did not end whole.
func (c *Client) copy(ctx context.Context, path string, to io.Writer) error {
	resp, err := c.ask(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if n, err := io.Copy(to, resp.Body); err != nil {
		return fmt.Errorf("the daemon's answer broke off after %d octets: %w", n, err)
	}
	if text := resp.Trailer.Get(damagedTrailer); text != "" {
		return &Damaged{text}
	}
	return nil
}
