package config

import (
	"slices"
	"testing"
)

// TestChangesOfAScenario: one whose line alone has moved is the same.
func TestChangesOfAScenario(t *testing.T) {
	at := func(line int, account string) *Config {
		c := Default()
		c.Scenarios = []Scenario{{Name: "sales", Account: account, At: Mistake{File: "postern.toml", Line: line}}}
		return &c
	}
	was := at(10, "erp")
	if got := Changes(was, at(12, "erp")); len(got) != 0 {
		t.Errorf("moved: %v; want nothing", got)
	}
	if got := Changes(was, at(10, "crm")); !slices.Equal(got, []string{"scenario sales changed"}) {
		t.Errorf("altered: %v", got)
	}
	if was.Scenarios[0].At.Line != 10 {
		t.Error("the configuration in force has lost where its scenario stands")
	}
	if _, restart := KeepFixed(was, was); restart == nil {
		t.Error("nothing needs a restart: JSON would have null; want an empty list")
	}
}
