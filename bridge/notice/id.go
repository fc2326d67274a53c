package notice

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"postern/bridge/envelope"
)

// reportID is the ID of the report of that kind about a message: the same each time it is asked for, so that a crash
// between "queued" and "written down" makes no second one. It has the form of every queue ID.
func reportID(original envelope.ID, kind string, since time.Time) envelope.ID {
	ms := uint64(since.UnixMilli())
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", original, kind, ms))
	var b [10]byte
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], ms)
	copy(b[:6], at[2:])
	copy(b[6:], sum[:4])
	return envelope.ID(strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])))
}
