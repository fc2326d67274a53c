package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"postern/auth/diagnosis"
	"postern/auth/signin"
	"postern/auth/token"
	"postern/bridge/control"
)

// browserTime is how long the browser may take.
const browserTime = 5 * time.Minute

// signInFlow is one run of signin: the person is here, and the service speaks to the provider.
type signInFlow struct {
	*cli
	svc     control.Service
	account string
	offer   control.Offer
}

// errGivenUp says that the person ended it.
var errGivenUp = errors.New("given up; nothing was stored")

// byBrowser is the authorization code on a loopback address (RFC 8252 section 7.3).
func (f *signInFlow) byBrowser(ctx context.Context) error {
	back, err := signin.Listen()
	if err != nil {
		return fmt.Errorf("%w; use: postern signin %s --device", err, f.account)
	}
	defer back.Close()
	attempt := back.Attempt
	address, err := attempt.URL(f.offer.Authorize)
	if err != nil {
		return err
	}
	if err := openBrowser(address); err != nil {
		fmt.Fprintf(f.out, "No browser could be opened (%v). Open this address on this machine:\n", err)
	} else {
		fmt.Fprintln(f.out, "A browser opens. If it does not, open this address on this machine:")
	}
	fmt.Fprintf(f.out, "\n%s\n\nWaiting %d minutes. Without a browser here: postern signin %s --device\n", address, browserTime/time.Minute, f.account)
	waiting, cancel := context.WithTimeoutCause(ctx, browserTime, signin.ErrExpired)
	defer cancel()
	code, err := back.Wait(waiting)
	if err != nil {
		err = f.explain(waiting, err)
		back.Show(false, sentence(err))
		return err
	}
	in, err := f.redeem(ctx, token.Proof{Code: code, Verifier: attempt.Verifier, RedirectURI: attempt.RedirectURI},
		signin.Pace{Interval: 2 * time.Second, Expires: browserTime, AtOnce: true})
	if err != nil {
		back.Show(false, sentence(err))
		return err
	}
	who := in.As
	if who == "" {
		who = f.offer.Login
	}
	back.Show(true, "Postern sends mail as "+who+" now.")
	return f.tell(in, &f.offer)
}

// sentence makes a page's text of an error.
func sentence(err error) string {
	text := strings.TrimRight(err.Error(), ".")
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// byPaste is the same with a browser that cannot come back to this machine.
func (f *signInFlow) byPaste(ctx context.Context, redirect string) error {
	if redirect == "nativeclient" {
		redirect = f.offer.Native
	}
	attempt := signin.NewAttempt(redirect)
	address, err := attempt.URL(f.offer.Authorize)
	if err != nil {
		return err
	}
	fmt.Fprintf(f.out, `Open this address in a browser on any machine, and sign in as %s:

%s

The browser ends at an address that begins with
%s
and shows an error or an empty page; that is right. Copy that whole address,
or the code in it, and paste it here within ten minutes.
`, f.offer.Login, address, redirect)
	code, err := f.readPasted(attempt)
	if err != nil {
		return f.explain(ctx, err)
	}
	in, err := f.redeem(ctx, token.Proof{Code: code, Verifier: attempt.Verifier, RedirectURI: attempt.RedirectURI},
		signin.Pace{Interval: 2 * time.Second, Expires: browserTime, AtOnce: true})
	if err != nil {
		return err
	}
	return f.tell(in, &f.offer)
}

// readPasted asks again on a terminal, where the wrong thing is easily copied.
func (f *signInFlow) readPasted(attempt *signin.Attempt) (token.Secret, error) {
	const tries = 3
	for try := 1; ; try++ {
		text, err := f.readLineOf("Address or code (it is not shown): ")
		if err != nil {
			return "", err
		}
		code, err := attempt.Pasted(text)
		var refusal *signin.Refusal
		if err == nil || errors.As(err, &refusal) || !f.terminal() || try == tries {
			return code, err
		}
		fmt.Fprintf(f.err, "postern: %v\n", err)
	}
}

// readLineOf reads one line: on a terminal without echo and of any length, else what standard input has up to its first
// line end.
func (c *cli) readLineOf(prompt string) (string, error) {
	if c.terminal() {
		return c.readTyped(prompt)
	}
	line, err := bufio.NewReader(io.LimitReader(c.in, maxSecret+1)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	if len(line) > maxSecret {
		return "", fmt.Errorf("the line has more than %d bytes", maxSecret)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// byDevice is the device code (RFC 8628). Where the vendor refuses scopes of two resources at once there is a second round
// for what the first did not bring.
func (f *signInFlow) byDevice(ctx context.Context) error {
	in, covered, err := f.deviceRound(ctx, nil)
	if err != nil {
		return err
	}
	for _, name := range missing(in, covered) {
		fmt.Fprintf(f.out, "Signed in, and %s works. The provider wants a sign-in of its own for %s: the same\nonce more. Ctrl-C leaves it at that.\n\n",
			strings.Join(in.Works, ", "), name)
		second, _, err := f.deviceRound(ctx, []string{name})
		if err != nil {
			if !errors.Is(err, errGivenUp) {
				fmt.Fprintf(f.out, "no sign-in for %s: %v\n", name, err)
			}
			break
		}
		in = second
	}
	return f.tell(in, &f.offer)
}

// missing returns the transports that have no token and were not asked for in the first round.
func missing(in control.SignedIn, covered []string) (list []string) {
	for _, r := range in.Refused {
		name, _, _ := strings.Cut(r, ":")
		if !slices.Contains(covered, name) {
			list = append(list, name)
		}
	}
	return list
}

// deviceRound shows one code and waits for it; covered are the transports that it is for.
func (f *signInFlow) deviceRound(ctx context.Context, only []string) (in control.SignedIn, covered []string, err error) {
	d, err := f.svc.DeviceCode(ctx, f.account, only)
	if err != nil {
		return in, nil, err
	}
	fmt.Fprintf(f.out, `On any machine, open  %s
and enter the code    %s
Sign in there as %s within %d minutes.
Do so only if you ran this command yourself: who gets somebody else to enter
such a code gets the mailbox.

`, d.URI, d.UserCode, f.offer.Login, d.Expires/time.Minute)
	in, err = f.redeem(ctx, token.Proof{Device: token.Secret(d.Device)}, signin.Pace{Interval: d.Interval, Expires: d.Expires})
	return in, d.Transports, err
}

// redeem hands a code over until it is taken or refused. Trouble on the way is shown once.
func (f *signInFlow) redeem(ctx context.Context, p token.Proof, pace signin.Pace) (in control.SignedIn, err error) {
	shown := ""
	trouble := func(text string, after time.Duration) (signin.Answer, time.Duration, error) {
		if text != shown {
			fmt.Fprintf(f.err, "postern: %s; trying again\n", text)
			shown = text
		}
		return signin.Trouble, after, nil
	}
	err = signin.Poll(ctx, pace, func(ctx context.Context) (signin.Answer, time.Duration, error) {
		// What was begun is finished: a daemon would store the sign-in that the person has just been told was given up.
		turn, err := f.svc.Redeem(context.WithoutCancel(ctx), f.account, p)
		var refused *control.Error
		if _, remote := f.svc.(*control.Client); err != nil && remote && !errors.As(err, &refused) && ctx.Err() == nil {
			return trouble(err.Error(), 0) // the daemon restarts
		}
		switch {
		case err != nil:
			return 0, 0, err
		case turn.State == control.Pending:
			return signin.Pending, turn.RetryAfter, nil
		case turn.State == control.Slower:
			return signin.Slower, turn.RetryAfter, nil
		case turn.State == control.Trouble:
			return trouble(turn.Text, turn.RetryAfter)
		}
		in = turn.SignedIn
		return signin.Done, 0, nil
	})
	return in, f.explain(ctx, err)
}

// explain puts what the provider said on its page, or that nobody came, into words. ctx is the one that was waited under.
func (f *signInFlow) explain(ctx context.Context, err error) error {
	var refusal *signin.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		row, known := diagnosis.Find(diagnosis.AADSTS(refusal.Number), refusal.Code)
		if !known {
			return fmt.Errorf("%w; nothing was stored", err)
		}
		row = row.Fill("provider", f.offer.Provider, "tenant", f.offer.Tenant, "client_id", f.offer.ClientID, "account", f.account)
		text := row.Means
		if refusal.Number != 0 {
			text += fmt.Sprintf(" (AADSTS%d)", refusal.Number)
		}
		text = "provider " + f.offer.Provider + ": " + text + "; nothing was stored"
		if row.Remedy != "" {
			text += "; " + row.Remedy
		}
		return errors.New(text)
	case errors.Is(err, signin.ErrExpired), errors.Is(context.Cause(ctx), signin.ErrExpired):
		return fmt.Errorf("%w: postern signin %s", signin.ErrExpired, f.account)
	case errors.Is(err, context.Canceled):
		return errGivenUp
	}
	return err
}
