package event

// Numbered is an event with its number in the Windows event log. A number never changes its meaning: monitoring is set up
// by it.
type Numbered struct {
	Number  uint32 // 1 to 1000
	Kind    Kind
	Meaning string // for the administrator, one line
}

// Numbers lists every event in the order of the numbers: 100 to 199 the service, 200 to 299 listeners and logins, 300 to
// 399 messages, 400 to 499 the queue, 500 to 599 accounts and sign-in, 600 to 699 the servers that mail goes to, 700 to
// 799 whom Postern tells.
func Numbers() []Numbered {
	return []Numbered{
		{100, ServiceStarted, "Postern relays mail"},
		{101, ServiceStopped, "Postern has stopped; an Error where it could not go on"},
		{102, ServiceHangs, "a part of Postern does not answer; the service manager's watchdog restarts it"},
		{110, ConfigurationReloaded, "the changed configuration is in force"},
		{111, ConfigurationBad, "the configuration has a mistake; at a start nothing runs, at a reload the former one stays in force"},
		{112, ConfigurationWarning, "the configuration works, and has something that should be looked at"},
		{120, LogDropped, "lines of the log could not be written"},
		{200, ListenerStarted, "a listener takes connections"},
		{201, ListenerStopped, "a listener takes no more connections: a reload has removed it"},
		{210, ConnectionOpened, "an application has connected"},
		{211, ConnectionRefused, "an application was not let in: its address, or too many connections"},
		{212, ConnectionClosed, "a connection has ended; a Warning where something was wrong with it"},
		{220, AuthSucceeded, "an application has logged in"},
		{221, AuthFailed, "an application could not log in"},
		{300, MessageAccepted, "a message was taken, and is safe on the disk"},
		{301, MessageRefused, "a message was refused; the application knows why"},
		{310, MessageRelayed, "the next server took a message"},
		{311, MessageDeferred, "a message could not be relayed now and is tried again"},
		{312, MessageInDoubt, "nobody can tell whether a message went out; Postern looks"},
		{313, MessageHeld, "a message waits for a person"},
		{314, MessageFailed, "a message was given up"},
		{315, MessageLeft, "a draft of a message that is not sent any more may be left in the mailbox; a Warning where a person has to remove it"},
		{400, QueueFailed, "the queue could not be read or written"},
		{401, DiskShort, "the disk of data_dir is almost full, and mail is refused until there is room"},
		{402, DiskEnough, "there is room again"},
		{403, QueueSalvaged, "the queue was damaged, and what could be saved was"},
		{404, QueueHeld, "all mail is held: data_dir is a copy, or has one"},
		{405, QueueTried, "Postern has died or was killed; what it was sending then is tried one message at a time"},
		{410, QueueChanged, "a person has changed messages of the queue"},
		{411, BackupWritten, "a backup was written"},
		{500, AccountParked, "mail of an account waits for a person; the remedy says what to do"},
		{501, AccountPaused, "mail of an account waits for a known time"},
		{502, AccountResumed, "mail of an account goes on"},
		{503, AccountLimited, "the mailbox sends less than max_message says"},
		{504, AccountNearLimit, "a mailbox has sent to 80 or 100 % of the recipients that it may have in 24 hours"},
		{505, SenderParked, "mail of an account that leaves as one From waits for a right; the remedy says how to grant it"},
		{506, SenderResumed, "such mail goes on, or nothing of it waits any more"},
		{510, AccountSignedIn, "a person has signed an account in"},
		{511, AccountSignedOut, "a person has signed an account out"},
		{520, TokenRefreshed, "an account has a new access token"},
		{521, TokenFailed, "an account gets no new access token; an Error where a person must act"},
		{522, TokenNotStored, "a new refresh token cannot be written to the vault, and is lost if Postern stops now"},
		{523, TokenStored, "that refresh token is in the vault now"},
		{530, ExpiryNear, "a secret, a certificate or an unused sign-in ends soon, or has ended"},
		{540, SecretStored, "a person has stored a client secret in the vault"},
		{541, SecretRemoved, "a person has removed a client secret from the vault"},
		{542, VaultRekeyed, "a person has had the vault sealed again under a new key"},
		{600, SmarthostOpened, "connected and authenticated to the account's SMTP server"},
		{601, SmarthostFailed, "the account's SMTP server could not be reached, or did not let us in"},
		{610, GraphCalled, "Microsoft Graph has answered"},
		{611, GraphFailed, "Microsoft Graph could not be called, or refused"},
		{700, ReportQueued, "a sender is told what became of a message"},
		{701, NoticeQueued, "[notify] is told of something"},
		{702, NoticeFailed, "[notify] could not be told"},
	}
}

// NumberOf returns a kind's number, 1000 for one that the table lacks. It is safe for concurrent use.
func NumberOf(k Kind) uint32 {
	for _, n := range Numbers() {
		if n.Kind == k {
			return n.Number
		}
	}
	return 1000
}
