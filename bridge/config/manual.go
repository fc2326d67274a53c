package config

import "slices"

// manual lists the keys of each kind of table of the file, in the order in which they are read.
func manual() map[string][]string {
	keys := map[string][]string{}
	f := &file{x: &index{}, out: &report{}} // nobody looks at what an empty table lacks
	add := func(kind string, read func(*table)) {
		t := newTable(f, kind, kind, map[string]any{})
		read(t)
		keys[kind] = t.known
	}
	add("bridge", func(t *table) { readBridge(t) })
	add("log", func(t *table) { readLog(t) })
	add("listener", func(t *table) { readListener(t) })
	add("provider", func(t *table) { readProvider(t) })
	add("account", func(t *table) { readAccount(t) })
	add("user", func(t *table) { readUser(t) })
	add("user.sender", func(t *table) { readSender(t) })
	add("scenario", func(t *table) { readScenario(t) })
	add("scenario.match", func(t *table) { readMatch(t) })
	add("scenario.footer", func(t *table) { readFooter(t, &Scenario{}) })
	add("queue", func(t *table) { readQueue(t) })
	add("notify", func(t *table) { readNotify(t) })
	return keys
}

// homesOf returns the tables that have the key, as they are written.
func (r *report) homesOf(key string) []string {
	if r.manual == nil {
		r.manual = manual()
	}
	var homes []string
	for kind, array := range isArray {
		if slices.Contains(r.manual[kind], key) {
			if array {
				kind = "[" + kind + "]"
			}
			homes = append(homes, "["+kind+"]")
		}
	}
	slices.Sort(homes)
	return homes
}
