// Package diagnosis is the word for what a vendor's refusal means: one table from OAuth error, AADSTS number, Graph code
// and SMTP reply to what happened and what the administrator must do, in plain words, with the command or the place in
// the portal. It never decides anything: auth/entra and the transports decide on error, status and reply, and look the
// words up here for accounts, check --live, the log and reports. What stands not here has no words, and the caller's own
// must do. Nothing in it fails.
package diagnosis

import (
	"slices"
	"strconv"
	"strings"
)

// Row explains one cause. The texts have placeholders, which Fill replaces.
type Row struct {
	// Signs are what shows the cause: "AADSTS700082", an OAuth error, a Graph code in lower case, an HTTP status of Graph's
	// as "graph 507", "graph page" for a refusal that is not Graph's, or "smtp " and a name that transport/smarthost gives to
	// a reply.
	Signs   []string
	OAuth   string // the OAuth error that comes with an AADSTS number, "" where it varies
	Means   string // what happened; continues "provider contoso: " or stands alone
	Remedy  string // what to do, "" where nothing need be done
	AppOnly string // what to do where no person signs in; "": the same
}

// Find returns the row that one of the signs shows, by the first sign that is known.
func Find(signs ...string) (Row, bool) {
	for _, sign := range signs {
		for _, rows := range [][]Row{entraRows, graphRows, smtpRows} {
			i := slices.IndexFunc(rows, func(r Row) bool { return slices.Contains(r.Signs, sign) })
			if i >= 0 && sign != "" {
				return rows[i], true
			}
		}
	}
	return Row{}, false
}

// AADSTS is the sign of a number.
func AADSTS(number int) string { return "AADSTS" + strconv.Itoa(number) }

// GraphCode is the sign of a Graph error code, whose case does not matter.
func GraphCode(code string) string {
	code = strings.ToLower(code)
	if strings.HasPrefix(code, "errormimecontent") { // the family has several members
		return "errormimecontent"
	}
	return code
}

// All returns every row, for tests and documents.
func All() []Row { return slices.Concat(entraRows, graphRows, smtpRows) }

// Fill replaces placeholders, given as name and value by turns: {provider}, {account}, {login}, {mailbox}, {from},
// {tenant}, {client_id}, {secret} and {certificate}. {'login'} and the like stand in a command and are quoted for
// PowerShell.
func (r Row) Fill(values ...string) Row {
	pairs := make([]string, 0, 2*len(values))
	for i := 0; i+1 < len(values); i += 2 {
		name, value := values[i], values[i+1]
		pairs = append(pairs, "{"+name+"}", value, "{'"+name+"'}", quotePowerShell(value))
	}
	fill := strings.NewReplacer(pairs...)
	r.Means, r.Remedy, r.AppOnly = fill.Replace(r.Means), fill.Replace(r.Remedy), fill.Replace(r.AppOnly)
	return r
}

// For returns the remedy for an account that a person signs in for, or for one that is app-only.
func (r Row) For(appOnly bool) string {
	if appOnly && r.AppOnly != "" {
		return r.AppOnly
	}
	return r.Remedy
}

// quotePowerShell makes one argument of s: an address comes from an application, and must not become a command. All of
// these end a single-quoted string in PowerShell, and doubled stand for themselves.
func quotePowerShell(s string) string {
	return "'" + strings.NewReplacer("'", "''", "\u2018", "\u2018\u2018", "\u2019", "\u2019\u2019",
		"\u201a", "\u201a\u201a", "\u201b", "\u201b\u201b").Replace(s) + "'"
}
