package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
)

// Errors that every Store returns, wrapped.
var (
	ErrNotFound = errors.New("no such message in the queue")
	ErrNoBody   = errors.New("its body was deleted")                 // of a relayed message, see Item.DropBody
	ErrDamaged  = errors.New("its stored copy is damaged")           // what was read does not match what was written
	ErrFull     = errors.New("the disk is full")                     // nothing was written; later it may be
	ErrNewer    = errors.New("the store is of a newer version")      // a person must run the newer program
	ErrClosed   = errors.New("the store is closed")                  //
	ErrExists   = errors.New("a message of that ID is in the queue") //

	// ErrBody is the ErrDamaged of one message's body. Nothing is said about the rest of the store.
	ErrBody = fmt.Errorf("%w: its octets are not those that were written", ErrDamaged)
)

// Entry is one message with all that the queue knows of it.
type Entry struct {
	Item       Item
	Message    message.Message // its Header is only filled by Claim and Get
	BodySize   int64           // octets after the header block
	HeaderSize int64           // octets of the header block
	HasBody    bool

	// Damage says why the entry cannot be relayed although the store works: its documents, its header or its item cannot
	// be read back (Item.Damage). The message can be held and named, and the others are not touched by it.
	Damage error
}

// Filter selects messages. The zero value selects all.
type Filter struct {
	Account string
	State   State       // the message's: the least final of its recipients'
	After   envelope.ID // the page after this ID
	Limit   int         // at most so many, oldest first; 0 is no limit
}

// Count says how many messages of an account are in a state.
type Count struct {
	Account string
	State   State
	N       int
	Kept    int // of those that have failed, how many have their body: a person can have them sent, or drop them
}

// Store keeps messages. What a method changed is durable (it survives a power cut) when it returns nil, and nothing was
// changed when it returns an error. One process uses a store; within it all methods are safe for concurrent use. The
// decisions are the queue's: a store hands an Item to a function of the queue and writes down what that made of it.
// Such a function may be called more than once for one change, sees a fresh item each time, must be quick and must not
// call the store. An item that cannot be read back is handed to it as far as it can be (Item.Damage), and then written
// whole: so what was damaged beyond its meaning can still be set aside.
//
// A change that was handed to the store is carried through although ctx ends: its caller must know how it ended.
//
// Implementations: package sqlite, and queuetest.Memory. Package queuetest holds the suite that both pass.
type Store interface {
	// Add takes a new message: item as given, m with its header, and the body until io.EOF. It reads the body without
	// holding back other changes. An error of the reader is returned wrapped and leaves nothing behind.
	Add(ctx context.Context, item Item, m message.Message, body io.Reader) error

	// Claim picks messages of the account whose Next is not after now, and lets take change each, until it has leased as
	// many as the limit or has seen scan of them. Those that were tried before (Item.Tried) and those that were not come
	// by turns (ByTurns), of each kind the earliest first: neither starves the other. It returns all that it saw, as
	// changed; those that were not leased without their header.
	Claim(ctx context.Context, c Claim) ([]Entry, error)

	// NextDue returns the earliest Next of the account's messages, zero where none waits for a time.
	NextDue(ctx context.Context, account string) (time.Time, error)

	// Update lets change alter one item. An error of change is returned as it is, and then nothing is changed.
	Update(ctx context.Context, id envelope.ID, change func(*Item) error) error

	// UpdateAll lets change alter several items in one transaction. An ID that is not there is left out. An error of
	// change is returned as it is, and then none of them is changed.
	UpdateAll(ctx context.Context, ids []envelope.ID, change func(*Item) error) error

	// Find returns the IDs of the messages that s selects, in an order of its own that is the same each time.
	Find(ctx context.Context, s Selection) ([]envelope.ID, error)

	// Usage returns how much each user's messages that are not final hold.
	Usage(ctx context.Context) (map[string]Usage, error)

	// Purge deletes a few of the bodies and messages that nobody needs any more, and gives some of their room back to
	// the file system. more says that there is something left to do.
	Purge(ctx context.Context, p Purge) (more bool, err error)

	// SetNote keeps a small document beside the messages, "" deletes it. Notes returns those whose key begins so.
	SetNote(ctx context.Context, key, value string) error
	Notes(ctx context.Context, prefix string) (map[string]string, error)

	// Open returns the body, a stream of BodySize octets. It ends with ErrBody, never with a silent io.EOF, where the stored
	// octets are fewer, more or others: a cut message must not be relayed. The caller closes it.
	Open(ctx context.Context, id envelope.ID) (io.ReadCloser, error)

	// Get returns one message.
	Get(ctx context.Context, id envelope.ID) (Entry, error)

	// List returns messages by order of their IDs, which is that of acceptance, without headers.
	List(ctx context.Context, f Filter) ([]Entry, error)

	// Counts returns how many messages there are by account and state, those of a removed account too.
	Counts(ctx context.Context) ([]Count, error)

	// Close waits for what was begun and gives the store back. Later changes get ErrClosed.
	Close() error
}

// Claim is what Store.Claim is asked for.
type Claim struct {
	Account string
	Now     time.Time
	Limit   int               // at least 1
	Scan    int               // at least Limit, or it counts as Limit
	Tried   bool              // begin with what was tried before
	Take    func(*Item) error // an error ends the whole claim, and nothing is changed
}

// ByTurns returns what c sees of the messages that are due: the first of those that were never tried, the first of those
// that were, and so on, while there are both.
func ByTurns[E any](c Claim, fresh, tried []E) []E {
	if c.Tried {
		fresh, tried = tried, fresh
	}
	var all []E
	for i := range max(len(fresh), len(tried)) {
		if i < len(fresh) {
			all = append(all, fresh[i])
		}
		if i < len(tried) {
			all = append(all, tried[i])
		}
	}
	return all[:min(max(c.Scan, c.Limit), len(all))]
}

// Selection says which messages Store.Find looks for.
type Selection struct {
	Which  Which
	Before time.Time // for Watched; for Later and Ahead the time that they are due after

	Account, Sender string      // for OfSender; Account for Later and Ahead too
	After           envelope.ID // for OfSender, Later and Ahead: the page after this ID
	Limit           int         // at least 1
}

// Which is the rule of a Selection.
type Which int

// The rules. A store answers each from an index, however long the queue and its history are.
const (
	Leased   Which = iota // Item.Lease is set
	Ahead                 // like Later, in whatever state
	Suspects              // Item.Suspect is set; those of the fewest Deaths first, so that kills from outside fall on all alike
	Watched               // Item.Watch is not after Selection.Before, the earliest first
	Owing                 // Item.Owed is set
	OfSender              // deferred, of that account and sender, by ID
	Later                 // queued, of that account, and due later, by ID
)

// Usage is what the messages of a user hold.
type Usage struct {
	Messages int
	Bytes    int64 // of headers and bodies as they came
}

// Purge says what Store.Purge may delete. Zero times delete nothing.
type Purge struct {
	History time.Time // messages finished before
	Failed  time.Time // bodies of failed messages that were finished before
	Relayed time.Time // bodies of relayed messages that were finished before
	Short   bool      // the disk is short: no room is kept for new mail
}
