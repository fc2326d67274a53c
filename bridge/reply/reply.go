// Package reply is the word for answers: an SMTP code with its enhanced status (RFC 5321 section 4.2, RFC 3463), and
// the outcome of one attempt to relay, with the owner of the trouble. It knows no protocol and no policy; rooms return
// it at their door. Nothing in it fails.
package reply

import (
	"fmt"
	"time"
)

// Error is a refusal that an SMTP client may read. Text is for the application and its administrator: one line of
// printable US-ASCII, without secrets, hosts or paths. Err is for the log.
type Error struct {
	Code     int    // 400 to 599
	Enhanced string // "4.7.0"; its first digit equals Code's
	Text     string
	Err      error
}

// Error returns code, enhanced status and text, and the cause where there is one.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%d %s %s: %v", e.Code, e.Enhanced, e.Text, e.Err)
	}
	return fmt.Sprintf("%d %s %s", e.Code, e.Enhanced, e.Text)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Reply is what a server answered, kept for the log, the queue listing and the report.
type Reply struct {
	Code     int    `json:"code,omitempty"`     // SMTP reply code or HTTP status, 0 where no answer came
	Enhanced string `json:"enhanced,omitempty"` // "5.7.60", or Graph's error code such as "ErrorSendAsDenied"
	Text     string `json:"text,omitempty"`     // as OneLine makes it, without secrets
	ID       string `json:"id,omitempty"`       // the queue id or request-id that the server gave
}

// String returns the parts that are there, separated by blanks.
func (r Reply) String() string {
	s := ""
	if r.Code != 0 {
		s = fmt.Sprint(r.Code)
	}
	for _, p := range []string{r.Enhanced, r.Text} {
		if p != "" && s != "" {
			s += " "
		}
		s += p
	}
	return s
}

// Verdict is how one attempt ended for one recipient.
type Verdict int

const (
	Deferred Verdict = iota // not accepted; to be tried again. The zero value: an unknown failure is temporary
	Relayed                 // the next server took it: 250 to the final dot, or 202
	Failed                  // refused for good, with proof
	InDoubt                 // it may or may not have been accepted (design.md section 6, "In doubt")
)

// String returns the state's word.
func (v Verdict) String() string {
	return [...]string{"deferred", "relayed", "failed", "in doubt"}[v]
}

// Owner says whose trouble a failure is. Only a message's and a recipient's can end in a report at once; the others
// wait (design.md section 6, "Wait" and "Whose trouble").
type Owner int

const (
	Nobody    Owner = iota // it was relayed
	Message                // this message: its size, its MIME
	Recipient              // this recipient
	Sender                 // the pair of account and From: a missing Send As right
	Account                // the mailbox on this transport: full, disabled, SMTP AUTH off. A person must act
	Login                  // the token of the login: a person must sign in, or a secret expired
	Route                  // passes by itself: DNS, connection, TLS, throttling, token endpoint down
	Process                // ours: the store cannot be read, a panic
)

// String returns the owner's word.
func (o Owner) String() string {
	return [...]string{"nobody", "message", "recipient", "sender", "account", "login", "route", "process"}[o]
}

// Outcome is what a transport says of one attempt. Verdict and Owner speak of all recipients but those that Recipients
// names.
type Outcome struct {
	Verdict    Verdict
	Owner      Owner
	Reply      Reply
	Transport  string             // "graph" or "smtp"
	RetryAfter time.Duration      // the server's own wish, at most an hour; 0 where it had none
	Means      string             // what Reply means in an administrator's words, "" where nobody knows (auth/diagnosis)
	Remedy     string             // what a person can do, "" where nothing
	Err        error              // for the log
	Recipients map[string]Outcome // by envelope.Address.Key; only where one fared differently

	CanLook   bool // with InDoubt: the message can be looked for where it would lie once sent
	Duplicate bool // refused because its Message-ID was taken before, from whomever
	Size      Size // a refusal for its size

	TurnedBack bool      // no transport that it may take was open: nobody was asked to take it
	Since      time.Time // with TurnedBack: since when none was
	Guessed    bool      // with Account: no code says that it is the mailbox's; it may be this one message's doing
}

// Size says which limit a message was over.
type Size int

const (
	Fits        Size = iota
	OverRequest      // what one request of this transport can carry; another way may carry it
	OverMailbox      // what the mailbox may send (ErrorMessageSizeExceeded, 552 5.3.4)
)

// For returns the outcome of the recipient with that key.
func (o Outcome) For(key string) Outcome {
	if r, ok := o.Recipients[key]; ok {
		return r
	}
	o.Recipients = nil
	return o
}
