package diagnosis

const (
	lessAtOnce  = "send less, or raise the mailbox's limit: Set-Mailbox -Identity {'login'} -MaxSendSize 150MB"
	askSupport  = "see the mailbox under Restricted entities in Microsoft Defender, or ask Microsoft's support to lift the block"
	checkSignIn = "run: postern check --live; check that SMTP.Send (app-only: SMTP.SendAsApp and the Exchange service principal) " +
		"is granted, that {login} is the one who signed in, and that SMTP AUTH is on for it"
	appSignIn = "run: postern check --live; check that SMTP.SendAsApp has admin consent, that New-ServicePrincipal was given the " +
		"object id of the Enterprise application (not of the app registration), and that it has FullAccess to {mailbox}"
)

// smtpRows are Exchange Online's and Gmail's replies, by names that transport/smarthost gives them. Sources: Exchange
// Online's documentation and published logs, read in November 2026; none was checked against a live tenant.
var smtpRows = []Row{
	// Signing in.
	{Signs: []string{"smtp auth-off-tenant"}, Means: "SMTP AUTH is switched off for the whole tenant", // 535 5.7.139
		Remedy: "run in Exchange Online PowerShell: Set-TransportConfig -SmtpClientAuthenticationDisabled $false, or for this mailbox alone: " +
			"Set-CASMailbox -Identity {'login'} -SmtpClientAuthenticationDisabled $false"},
	{Signs: []string{"smtp auth-off-mailbox"}, Means: "SMTP AUTH is switched off for the mailbox {login}", // 535 5.7.139
		Remedy: "run in Exchange Online PowerShell: Set-CASMailbox -Identity {'login'} -SmtpClientAuthenticationDisabled $false"},
	{Signs: []string{"smtp auth-policy"}, Means: "a policy refuses SMTP AUTH to {login}", // 535 5.7.139
		Remedy: "look at the sign-in log of {login} in Entra: security defaults or Conditional Access refuse SMTP AUTH"},
	{Signs: []string{"smtp not-signed-in"}, Means: "the smarthost does not take the sign-in of {login}", // 535 5.7.3, 530 5.7.57
		Remedy: checkSignIn, AppOnly: appSignIn},
	{Signs: []string{"smtp federation"}, Means: "the tenant's federation service cannot be reached by Microsoft"}, // 535 5.7.139

	{Signs: []string{"smtp helo"}, Means: "the smarthost does not take the name that this machine gives itself", // 550 5.7.506
		Remedy: "set hostname in [bridge] to a full name of this machine, as in DNS"},

	// The sender.
	{Signs: []string{"smtp send-as"}, Means: "{login} may not send as {from}", // 554 5.2.252, 550 5.7.60
		Remedy: "run " + grantSendAs},
	{Signs: []string{"smtp domain"}, Means: "the sender's domain is not one of the tenant's", // 550 5.7.750
		Remedy: "register the sender's domain in the tenant as an accepted domain"},

	// The mailbox and the tenant.
	{Signs: []string{"smtp throttled-errors"}, Means: "Exchange has stopped {login} because its mail kept failing", // 550 5.2.251 to 255
		Remedy: "mend what makes the errors, then wait: Exchange lifts this by itself, support cannot"},
	{Signs: []string{"smtp spam"}, Means: "Exchange blocks {login} or the tenant as a source of spam", Remedy: askSupport}, // 550 5.1.8, 5.7.501 to 503, 5.7.705, 5.7.708
	{Signs: []string{"smtp full"}, Means: "the mailbox {login} is full", // 554 5.2.2
		Remedy: "empty the mailbox of {login}: its Sent Items are full"},
	{Signs: []string{"smtp day-limit"}, Means: "{login} or the tenant has sent as much as it may in 24 hours"}, // 550 5.1.90, 5.7.232, 5.4.5
	{Signs: []string{"smtp concurrency"}, Means: "more connections at once than the mailbox may have"},         // 432 4.3.2
	{Signs: []string{"smtp busy"}, Means: "the smarthost is busy or slows us down"},                            // 421, 451 4.7.x

	// The message.
	{Signs: []string{"smtp too-many"}, Means: "the message has more recipients than the smarthost takes at once"},       // 5.5.3
	{Signs: []string{"smtp receive-limit"}, Means: "the recipient's mailbox has received as much as it may in an hour"}, // 5.2.121, 5.2.122
	{Signs: []string{"smtp size"}, Means: "the message is larger than the mailbox may send", Remedy: lessAtOnce},        // 552 5.3.4
	{Signs: []string{"smtp size-unknown"}, Means: "the message is larger than the smarthost takes", Remedy: "send less at once"},
}
