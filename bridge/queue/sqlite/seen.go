package sqlite

// seen knows which IDs the tables cannot have, so that hardly ever they must be asked. Those of new messages are greater than
// all that were there when the store was opened.
type seen struct {
	above string          // no ID above it is in the tables, but for those in since
	since map[string]bool // written, or tried, by this process
}

// maxSeen bounds it; after so many it begins anew.
const maxSeen = 4096

func (s *seen) add(id string) {
	if id <= s.above {
		return
	}
	if len(s.since) >= maxSeen {
		for i := range s.since {
			s.above = max(s.above, i)
		}
		clear(s.since)
	}
	s.since[id] = true
}

// excludes reports whether the tables do not have the ID.
func (s *seen) excludes(id string) bool { return id > s.above && !s.since[id] }
