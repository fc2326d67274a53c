package config

// This file is the one place for what the contract of the configuration has and this version has not. Each later change
// that makes something work deletes its line or its function here.

const noEffectText = "has no effect in this version"

// noEffect lists the keys that are read and checked but do nothing yet; who sets one is warned.
var noEffect = map[string]bool{
	"bridge.sendmail_user": true,
}

// refuseType refuses providers that are announced.
func refuseType(t *table, typ string) bool {
	if typ == "google" || typ == "generic" {
		t.mistake("type", "google and generic come in a later version; this one knows microsoft")
		return true
	}
	return false
}

// warnEventLog warns that the Windows event log is not written yet.
func warnEventLog(t *table) { t.warn("to", "eventlog "+noEffectText+"; the log goes to stderr") }
