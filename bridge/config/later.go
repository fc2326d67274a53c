package config

// This file is the one place for what the contract of the configuration has and this version has not. Each later change
// that makes something work deletes its line or its function here.

// refuseType refuses providers that are announced.
func refuseType(t *table, typ string) bool {
	if typ == "google" || typ == "generic" {
		t.mistake("type", "google and generic come in a later version; this one knows microsoft")
		return true
	}
	return false
}
