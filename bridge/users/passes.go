package users

import (
	"crypto/rand"
	"crypto/subtle"
	"slices"
	"strings"
	"sync"
	"time"
)

// passFor is how long a password of Passes is good.
const passFor = time.Minute

// Passes are passwords that are made for one login, for the verbs that hand in mail as a user of the file. The zero value
// is ready. Safe for concurrent use.
type Passes struct {
	mu   sync.Mutex // guards list
	list []pass
}

type pass struct {
	user, password string
	until          time.Time
}

// Make returns a password for the user that is good for one minute.
func (p *Passes) Make(user string, now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = slices.DeleteFunc(p.list, func(old pass) bool { return !now.Before(old.until) })
	fresh := pass{user, rand.Text(), now.Add(passFor)}
	p.list = append(p.list, fresh)
	return fresh.password
}

// User returns the user that the password was made for, if that is the one who gives it.
func (p *Passes) User(name, password string, now time.Time) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.list {
		if strings.EqualFold(one.user, name) && now.Before(one.until) && subtle.ConstantTimeCompare([]byte(one.password), []byte(password)) == 1 {
			return one.user, true
		}
	}
	return "", false
}
