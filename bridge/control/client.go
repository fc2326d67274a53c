package control

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
	"time"

	"postern/auth/token"
)

// hostName is the Host of every request; there is no DNS name behind it.
const hostName = "postern.control"

// Client asks a running daemon. It is a Service.
type Client struct {
	http *http.Client
	key  token.Secret
}

// patience is how long a daemon may take to show that it answers at all; what it is asked for then may take longer.
const patience = 5 * time.Second

// Dial returns a client for the daemon that runs on dataDir and answers, or an error wrapping ErrNotRunning or ErrSilent.
// Close it when done.
func Dial(ctx context.Context, dataDir string) (*Client, error) {
	dial, key, err := dialer(dataDir)
	if err != nil {
		return nil, err
	}
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	conn.Close()
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	c := &Client{http: &http.Client{Transport: t}, key: key}
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch err := c.do(soon, "HEAD", "/", nil, nil); {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, errors.Join(fmt.Errorf("the daemon on %s (data_dir) %w; run: postern service restart", dataDir, ErrSilent), c.Close())
	case ctx.Err() != nil:
		return nil, errors.Join(err, c.Close())
	}
	return c, nil // there is nothing at /, and it has said so
}

// Close drops the connection.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Accounts asks for the accounts' states.
func (c *Client) Accounts(ctx context.Context) (list []Account, err error) {
	return list, c.do(ctx, "GET", "/accounts", nil, &list)
}

// SignIn hands a refresh token over.
func (c *Client) SignIn(ctx context.Context, account string, refresh token.Secret) (in SignedIn, err error) {
	return in, c.do(ctx, "POST", "/signin", signinRequest{account, refresh.Reveal()}, &in)
}

// Secrets asks for the names of the client secrets.
func (c *Client) Secrets(ctx context.Context) (list []Secret, err error) {
	return list, c.do(ctx, "GET", "/secrets", nil, &list)
}

// SetSecret hands a client secret over.
func (c *Client) SetSecret(ctx context.Context, name string, value token.Secret) error {
	return c.do(ctx, "POST", "/secrets", secretRequest{name, value.Reveal()}, nil)
}

// RemoveSecret asks to remove one.
func (c *Client) RemoveSecret(ctx context.Context, name string) error {
	return c.do(ctx, "DELETE", "/secrets/"+url.PathEscape(name), nil, nil)
}

func (c *Client) do(ctx context.Context, method, path string, send, into any) error {
	resp, err := c.ask(ctx, method, path, send)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// ask returns a good answer; its body is the caller's to close. The daemon's refusal is an *Error.
func (c *Client) ask(ctx context.Context, method, path string, send any) (*http.Response, error) {
	var body io.Reader
	if send != nil {
		b, err := json.Marshal(send)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+hostName+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Postern-Key", c.key.Reveal())
	req.Header.Set("TE", "trailers") // RFC 9110 section 10.1.4: see stream
	resp, err := c.http.Do(req)
	if err != nil {
		// A url.Error would print the made-up host.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	e := &Error{}
	if json.NewDecoder(io.LimitReader(resp.Body, maxRequest)).Decode(e) != nil || e.Text == "" {
		return nil, fmt.Errorf("the daemon answered %s", resp.Status)
	}
	return nil, e
}
