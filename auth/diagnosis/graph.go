package diagnosis

const grantSendAs = "in Exchange Online PowerShell: Add-RecipientPermission -Identity {'from'} -Trustee {'login'} -AccessRights SendAs " +
	"(it takes up to two hours), or change the sender"

// graphRows are Graph's error codes, and statuses that came without one. {login} is the mailbox whose rights and limits
// count. Sources: "Microsoft Graph error responses and resource types" and Exchange's list of response codes, read in
// November 2026.
var graphRows = []Row{
	// The token and the app's rights.
	{Signs: []string{"invalidauthenticationtoken", "unauthenticated", "insufficient_claims", "graph 401"},
		Means: "Microsoft Graph refuses the access token, also a fresh one", Remedy: signIn,
		AppOnly: "check the app registration's secret or certificate, then run: postern check --live"},
	{Signs: []string{"erroraccessdenied", "accessdenied", "authorization_requestdenied"},
		Means:  "the app may not use this mailbox",
		Remedy: "consent to the permission Mail.Send (Mail.Send.Shared for a shared mailbox), then " + signIn,
		AppOnly: "grant the application permission Mail.Send with admin consent, and let the application access policy or " +
			"RBAC scope include {mailbox}; a change takes up to two hours"},
	{Signs: []string{"errorsendasdenied"}, Means: "{login} may not send as {from}", Remedy: grantSendAs},

	// The mailbox.
	{Signs: []string{"errorquotaexceeded", "quotaexceeded", "quotalimitreached", "graph 507"}, Means: "the mailbox {login} is full",
		Remedy: "make room in the mailbox {login}: Sent Items and Drafts count too"},
	{Signs: []string{"errorexceededmessagelimit", "errorsubmissionquotaexceeded"}, Means: "{login} has sent as much as it may",
		Remedy: "the sending limit of {login} is used up: wait, spread the mail over more accounts, or raise the limit"},
	{Signs: []string{"erroraccountdisabled", "erroraccountsuspend", "errormessagesubmissionblocked"},
		Means:  "{login} is disabled, or blocked from sending",
		Remedy: "enable the account {login} in the Microsoft 365 admin center (Defender lists restricted entities)"},
	{Signs: []string{"mailboxnotenabledforrestapi", "mailboxnotsupportedforrestapi", "errorinvaliduser", "resourcenotfound", "request_resourcenotfound",
		"erroritemnotfound"},
		Means:  "there is no mailbox {login} at Exchange Online",
		Remedy: "give {login} an Exchange Online licence and mailbox; one on premises cannot be used"},

	// The message. Nobody can mend it but who writes it.
	{Signs: []string{"errormessagesizeexceeded", "requestentitytoolarge", "graph 413"}, Means: "the message is larger than the mailbox may send"},
	{Signs: []string{"errormimecontent", "errorcontentconversionfailed"}, Means: "Exchange cannot read the message as MIME"},
	{Signs: []string{"errorinvalidrecipients"}, Means: "a recipient is no address that Exchange takes, or there is none"},
	{Signs: []string{"invalidinternetmessageheader", "invalidinternetmessageheadercollection"}, Means: "Graph does not take one of the message's header fields"},

	// The way there.
	{Signs: []string{"graph 407"}, Means: "the HTTP proxy wants credentials",
		Remedy: "give the HTTP proxy's user and password in the environment variable HTTPS_PROXY, or exempt this machine at the proxy"},
	{Signs: []string{"graph 404", "graph 405", "graph page", "graph redirect"}, Means: "what answers there is not Microsoft Graph",
		Remedy: "check the provider's graph address and the proxy"},
	{Signs: []string{"applicationthrottled", "toomanyrequests", "activitylimitreached", "throttledrequest", "graph 429"},
		Means: "Microsoft Graph slows this mailbox down"},
	{Signs: []string{"errorserverbusy", "servicenotavailable", "errorinternalservertransienterror", "errorinternalservererror",
		"generalexception", "unknownerror", "errormailboxmoveinprogress", "errormailboxfailover", "errormailboxstoreunavailable",
		"errorconnectionfailed", "errortimeoutexpired", "erroradunavailable", "errornorespondingcasindestinationsite", "mailboxinfostale"},
		Means: "Exchange Online is busy or has trouble of its own"},
}
