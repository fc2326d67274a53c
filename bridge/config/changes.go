package config

import (
	"fmt"
	"reflect"
	"slices"
)

// KeepFixed returns fresh with what only a restart can change taken from the configuration at the start, and names the
// keys that differ.
func KeepFixed(fresh, start *Config) (*Config, []string) {
	cfg := *fresh
	restart := []string{} // [] in JSON, never null
	fixed := func(key string, value, was any) {
		v, w := reflect.ValueOf(value).Elem(), reflect.ValueOf(was).Elem()
		if !reflect.DeepEqual(v.Interface(), w.Interface()) {
			restart = append(restart, key)
			v.Set(w)
		}
	}
	s := *start
	fixed("bridge.hostname", &cfg.Bridge.Hostname, &s.Bridge.Hostname)
	fixed("bridge.data_dir", &cfg.Bridge.DataDir, &s.Bridge.DataDir)
	fixed("log.format", &cfg.Log.Format, &s.Log.Format)
	fixed("log.to", &cfg.Log.To, &s.Log.To)
	fixed("log.file", &cfg.Log.File, &s.Log.File)
	fixed("log.max_size", &cfg.Log.MaxSize, &s.Log.MaxSize)
	fixed("log.keep", &cfg.Log.Keep, &s.Log.Keep)
	fixed("[queue]", &cfg.Queue, &s.Queue)
	return &cfg, restart
}

// Changes says in words what differs between two configurations.
func Changes(was, is *Config) []string {
	list := []string{}
	list = append(list, changed("listener", unplaced(was.Listeners, listenerAt), unplaced(is.Listeners, listenerAt), func(l Listener) string { return l.Address })...)
	list = append(list, changed("provider", was.Providers, is.Providers, func(p Provider) string { return p.Name })...)
	list = append(list, changed("account", was.Accounts, is.Accounts, func(a Account) string { return a.Name })...)
	list = append(list, changed("user", was.Users, is.Users, func(u User) string { return u.Name })...)
	list = append(list, changed("scenario", unplaced(was.Scenarios, scenarioAt), unplaced(is.Scenarios, scenarioAt), func(s Scenario) string { return s.Name })...)
	if !reflect.DeepEqual(was.Bridge, is.Bridge) {
		list = append(list, "[bridge] changed")
	}
	if was.Log.Level != is.Log.Level {
		list = append(list, fmt.Sprintf("log level is %s now", is.Log.Level))
	}
	if !reflect.DeepEqual(was.Notify, is.Notify) {
		list = append(list, "[notify] changed")
	}
	return list
}

// unplaced is the tables without where they stand, which lines above them move.
func unplaced[T any](list []T, at func(*T) *Mistake) []T {
	list = slices.Clone(list)
	for i := range list {
		*at(&list[i]) = Mistake{}
	}
	return list
}

func listenerAt(l *Listener) *Mistake { return &l.At }
func scenarioAt(s *Scenario) *Mistake { return &s.At }

func changed[T any](kind string, was, is []T, name func(T) string) (list []string) {
	find := func(in []T, n string) int { return slices.IndexFunc(in, func(t T) bool { return name(t) == n }) }
	for _, t := range is {
		i := find(was, name(t))
		switch {
		case i < 0:
			list = append(list, fmt.Sprintf("%s %s added", kind, name(t)))
		case !reflect.DeepEqual(was[i], t):
			list = append(list, fmt.Sprintf("%s %s changed", kind, name(t)))
		}
	}
	for _, t := range was {
		if find(is, name(t)) < 0 {
			list = append(list, fmt.Sprintf("%s %s removed", kind, name(t)))
		}
	}
	return list
}
