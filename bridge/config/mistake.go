package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Mistake is one thing that is wrong in the configuration, or worth a warning.
type Mistake struct {
	File string // relative to the folder of the main file, with slashes: "postern.toml", "conf.d/users.toml"
	Line int    // counted from 1; 0 where no line can be named (something is missing altogether)
	Key  string // "listener[0].address"; counted within its file; "" for a mistake of the TOML itself
	Text string // what is wrong and what to do; never a line or a value of the file
}

// String returns the mistake as one line: "postern.toml:12: listener[0].adress: unknown key; did you mean address?".
func (m Mistake) String() string {
	var b strings.Builder
	b.WriteString(m.File)
	if m.Line > 0 {
		fmt.Fprintf(&b, ":%d", m.Line)
	}
	b.WriteString(": ")
	if m.Key != "" {
		b.WriteString(m.Key + ": ")
	}
	b.WriteString(m.Text)
	return b.String()
}

// Mistakes is the error of Load for a wrong configuration. It is not a fault of the system: the administrator must edit
// the file (exit status 78).
type Mistakes struct {
	List []Mistake // at least one; sorted by file and line
}

// Error returns one line for each mistake.
func (m *Mistakes) Error() string {
	lines := make([]string, len(m.List))
	for i, one := range m.List {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// sortMistakes sorts by file, line and key.
func sortMistakes(list []Mistake) {
	slices.SortStableFunc(list, func(a, b Mistake) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.Key, b.Key))
	})
}
