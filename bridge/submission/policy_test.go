package submission

import (
	"strings"
	"testing"

	"postern/bridge/envelope"
	"postern/bridge/envelope/envelopetest"
	"postern/bridge/message"
)

var address = envelopetest.Address

// policy is one case: what the configuration says, what the application hands in, and what leaves.
type policy struct {
	name string

	// The configuration. Account is "erp" (mailbox erp@c.test) unless it is "svc" (mailbox shared@c.test, login
	// svc@c.test) or "any" (mailbox *@c.test).
	account   string
	userAddr  string
	maySendAs []string
	sender    Sender
	to        string // sender.address

	// The submission: header lines, and the reverse-path ("" is app@c.test, "<>" the null one).
	header      []string
	reversePath string

	// What leaves: the unfolded values, "" for no such field, and the reverse-path. Or the reply.
	from, senderField, replyTo, outPath string
	reply                               string
}

var policies = []policy{
	// keep
	{name: "keep leaves the account's own address as it is", header: []string{"From: \"ERP\" <ERP@C.test>"}, from: "\"ERP\" <ERP@C.test>", outPath: "ERP@C.test"},
	{name: "keep without a list allows the user's address", userAddr: "nav@c.test", header: []string{"From: nav@c.test"}, from: "nav@c.test", outPath: "nav@c.test"},
	{name: "keep refuses an address that is nobody's", header: []string{"From: boss@c.test"}, reply: "550 5.7.1"},
	{name: "keep allows a listed address", maySendAs: []string{"boss@c.test"}, header: []string{"From: boss@c.test"}, from: "boss@c.test", outPath: "boss@c.test"},
	{name: "a list replaces the default", maySendAs: []string{"boss@c.test"}, header: []string{"From: erp@c.test"}, reply: "550 5.7.1"},
	{name: "an empty list allows nobody", maySendAs: []string{}, header: []string{"From: erp@c.test"}, reply: "550 5.7.1"},
	{name: "a domain covers its addresses", maySendAs: []string{"*@c.test"}, header: []string{"From: Anyone <anyone@C.TEST>"}, from: "Anyone <anyone@C.TEST>", outPath: "anyone@C.TEST"},
	{name: "a domain does not cover its sub-domains", maySendAs: []string{"*@c.test"}, header: []string{"From: a@sub.c.test"}, reply: "550 5.7.1"},
	{name: "a domain does not cover a longer name", maySendAs: []string{"*@c.test"}, header: []string{"From: a@evilc.test"}, reply: "550 5.7.1"},
	{name: "a star covers everybody", maySendAs: []string{"*"}, header: []string{"From: a@other.test"}, from: "a@other.test", outPath: "a@other.test"},
	{name: "IDNA forms are one domain", maySendAs: []string{"*@b\u00fccher.test"}, header: []string{"From: a@XN--BCHER-KVA.test"}, from: "a@XN--BCHER-KVA.test", outPath: "a@XN--BCHER-KVA.test"},
	{name: "a look-alike domain is another", maySendAs: []string{"*@c.test"}, header: []string{"From: a@\u0441.test"}, reply: "550 5.7.1"},
	{name: "a trailing dot is another domain", maySendAs: []string{"*@c.test"}, header: []string{"From: a@c.test."}, reply: "550 5.7.1"},
	{name: "the reverse-path follows From", header: []string{"From: erp@c.test"}, reversePath: "garbage@printer.local", from: "erp@c.test", outPath: "erp@c.test"},
	{name: "a null reverse-path stays null", header: []string{"From: erp@c.test"}, reversePath: "<>", from: "erp@c.test", outPath: ""},
	{name: "a display name can be given", sender: Sender{Name: "M\u00fcller, ERP"}, header: []string{"From: Old <erp@c.test>"}, from: "=?utf-8?b?TcO8bGxlciwgRVJQ?= <erp@c.test>", outPath: "erp@c.test"},
	{name: "a missing From is the reverse-path where that is allowed", maySendAs: []string{"*@c.test"}, header: []string{"Subject: s"}, reversePath: "app@c.test", from: "app@c.test", outPath: "app@c.test"},
	{name: "a missing From is else the account", header: []string{"Subject: s"}, reversePath: "www-data@web01.local", from: "erp@c.test", outPath: "erp@c.test"},
	{name: "a missing From with a null reverse-path is the account", header: []string{"Subject: s"}, reversePath: "<>", from: "erp@c.test", outPath: ""},
	{name: "an empty From is a missing one", header: []string{"From: "}, from: "erp@c.test", outPath: "erp@c.test"},
	{name: "a local part alone gets the default domain", maySendAs: []string{"*@c.test"}, header: []string{"From: root (Cron Daemon)"}, from: "Cron Daemon <root@c.test>", outPath: "root@c.test"},
	{name: "a local part alone is judged with it", header: []string{"From: root"}, reply: "550 5.7.1"},
	{name: "an obsolete form is written again", header: []string{"From : \"E\" < erp @ c.test >"}, from: "\"E\" <erp@c.test>", outPath: "erp@c.test"},
	{name: "a source route is judged by its address and leaves", header: []string{"From: <@boss.test:erp@c.test>"}, from: "erp@c.test", outPath: "erp@c.test"},
	{name: "reply_to original has nothing to do where From stays", sender: Sender{ReplyTo: "original"}, header: []string{"From: erp@c.test"}, from: "erp@c.test", outPath: "erp@c.test"},

	// What is refused whatever the mode.
	{name: "two From fields are refused", maySendAs: []string{"*"}, header: []string{"From: erp@c.test", "From: erp@c.test"}, reply: "550 5.6.0"},
	{name: "a second From that is disguised is refused", maySendAs: []string{"*"}, header: []string{"From: erp@c.test", "FROM\t: boss@c.test"}, reply: "550 5.6.0"},
	{name: "two addresses are refused", maySendAs: []string{"*"}, header: []string{"From: erp@c.test, boss@c.test"}, reply: "550 5.6.0"},
	{name: "two addresses are refused where they would be replaced", sender: Sender{Mode: AsAccount}, header: []string{"From: erp@c.test, boss@c.test", "Sender: erp@c.test"}, reply: "550 5.6.0"},
	{name: "two addresses on two lines are refused", maySendAs: []string{"*"}, header: []string{"From: erp@c.test,\r\n boss@c.test"}, reply: "550 5.6.0"},
	{name: "a group is refused", maySendAs: []string{"*"}, header: []string{"From: Us: erp@c.test;"}, reply: "550 5.6.0"},
	{name: "an empty group is refused", sender: Sender{Mode: SendAs}, to: "noreply@c.test", header: []string{"From: Us:;"}, reply: "550 5.6.0"},

	// What a spoofer writes.
	{name: "an unquoted address as a name is refused", header: []string{"From: boss@c.test <erp@c.test>"}, reply: "550 5.7.1"},
	{name: "a quoted address as a name is a name", header: []string{"From: \"boss@c.test\" <erp@c.test>"}, from: "\"boss@c.test\" <erp@c.test>", outPath: "erp@c.test"},
	{name: "an encoded word in the address is refused", maySendAs: []string{"*@c.test"}, header: []string{"From: =?utf-8?q?boss=40evil.test=3e?=@c.test"}, reply: "550 5.7.1"},
	{name: "a quoted local part that holds an address is one address", maySendAs: []string{"*@c.test"}, header: []string{"From: \"erp@c.test\"@evil.test"}, reply: "550 5.7.1"},
	{name: "a comment that holds an address is a comment", header: []string{"From: boss@c.test (erp@c.test)"}, reply: "550 5.7.1"},
	{name: "text after the address is refused", header: []string{"From: <erp@c.test> <boss@c.test>"}, reply: "550 5.7.1"},
	{name: "From after a line that is no field is body", header: []string{"Subject: s", "no field", "From: boss@c.test"}, from: "erp@c.test", outPath: "erp@c.test"},
	{name: "Resent-From is not From", header: []string{"Resent-From: erp@c.test", "From: boss@c.test"}, reply: "550 5.7.1"},

	// Sender in keep.
	{name: "a foreign Sender leaves", header: []string{"From: erp@c.test", "Sender: boss@c.test"}, from: "erp@c.test", outPath: "erp@c.test"},
	{name: "a Sender that is the account stays", maySendAs: []string{"*"}, header: []string{"From: boss@c.test", "Sender: ERP@c.test"}, from: "boss@c.test", senderField: "ERP@c.test", outPath: "boss@c.test"},
	{name: "a Sender that is the login stays", account: "svc", maySendAs: []string{"*"}, header: []string{"From: boss@c.test", "Sender: svc@c.test"}, from: "boss@c.test", senderField: "svc@c.test", outPath: "boss@c.test"},
	{name: "two Senders leave", header: []string{"From: erp@c.test", "Sender: erp@c.test", "Sender: boss@c.test"}, from: "erp@c.test", outPath: "erp@c.test"},
	{name: "a Sender that is no address leaves", header: []string{"From: erp@c.test", "Sender: Scanner"}, from: "erp@c.test", outPath: "erp@c.test"},

	// otherwise
	{name: "otherwise the account, with the original as Reply-To", sender: Sender{Otherwise: UseAccount}, header: []string{"From: Boss <boss@c.test>"}, from: "Boss <erp@c.test>", replyTo: "Boss <boss@c.test>", outPath: "erp@c.test"},
	{name: "otherwise leaves a Reply-To that is there", sender: Sender{Otherwise: UseAccount}, header: []string{"From: boss@c.test", "Reply-To: desk@c.test"}, from: "erp@c.test", replyTo: "desk@c.test", outPath: "erp@c.test"},
	{name: "otherwise with reply_to none keeps no original", sender: Sender{Otherwise: UseAccount, ReplyTo: "none"}, header: []string{"From: boss@c.test"}, from: "erp@c.test", outPath: "erp@c.test"},
	{name: "otherwise does nothing where the sender is allowed", sender: Sender{Otherwise: UseAccount}, header: []string{"From: erp@c.test"}, from: "erp@c.test", outPath: "erp@c.test"},
	{name: "otherwise takes garbage and keeps its text as the name", sender: Sender{Otherwise: UseAccount}, header: []string{"From: Office Scanner"}, from: "Office Scanner <erp@c.test>", outPath: "erp@c.test"},
	{name: "garbage is refused by default", header: []string{"From: Office Scanner"}, reply: "550 5.7.1"},
	{name: "otherwise refuses two addresses all the same", sender: Sender{Otherwise: UseAccount}, header: []string{"From: boss@c.test, erp@c.test"}, reply: "550 5.6.0"},
	{name: "a comma in a name without quotes is garbage, not two addresses", sender: Sender{Otherwise: UseAccount}, header: []string{"From: Doe, John <erp@c.test>"}, from: "John <erp@c.test>", outPath: "erp@c.test"},
	{name: "a comma in a name without quotes is refused by default", header: []string{"From: Doe, John <erp@c.test>"}, reply: "550 5.7.1"},

	// account
	{name: "account replaces the address and keeps the name", sender: Sender{Mode: AsAccount}, header: []string{"From: =?iso-8859-1?Q?M=FCller?= <boss@c.test>"}, from: "=?iso-8859-1?Q?M=FCller?= <erp@c.test>", outPath: "erp@c.test"},
	{name: "account is not judged", sender: Sender{Mode: AsAccount}, maySendAs: []string{}, header: []string{"From: anyone@evil.test"}, reversePath: "x@evil.test", from: "erp@c.test", outPath: "erp@c.test"},
	{name: "account takes garbage", sender: Sender{Mode: AsAccount}, header: []string{"From: <>"}, from: "erp@c.test", outPath: "erp@c.test"},
	{name: "account adds a missing From", sender: Sender{Mode: AsAccount, Name: "ERP"}, header: []string{"Subject: s"}, from: "ERP <erp@c.test>", outPath: "erp@c.test"},
	{name: "account uses the shared mailbox, not the login", account: "svc", sender: Sender{Mode: AsAccount}, header: []string{"From: a@b.test"}, from: "shared@c.test", outPath: "shared@c.test"},
	{name: "account removes a Sender", sender: Sender{Mode: AsAccount}, header: []string{"From: a@b.test", "Sender: a@b.test"}, from: "erp@c.test", outPath: "erp@c.test"},

	// send-as
	{name: "send-as replaces the address", sender: Sender{Mode: SendAs}, to: "noreply@c.test", header: []string{"From: Boss <boss@c.test>"}, from: "Boss <noreply@c.test>", outPath: "noreply@c.test"},
	{name: "send-as with a name", sender: Sender{Mode: SendAs, Name: "Contoso"}, to: "noreply@c.test", header: []string{"From: Boss <boss@c.test>"}, from: "Contoso <noreply@c.test>", outPath: "noreply@c.test"},
	{name: "send-as with the original as Reply-To", sender: Sender{Mode: SendAs, ReplyTo: "original"}, to: "noreply@c.test", header: []string{"From: Boss <boss@c.test>"}, from: "Boss <noreply@c.test>", replyTo: "Boss <boss@c.test>", outPath: "noreply@c.test"},
	{name: "send-as leaves a Reply-To that is there", sender: Sender{Mode: SendAs, ReplyTo: "original"}, to: "noreply@c.test", header: []string{"From: boss@c.test", "Reply-To: desk@c.test"}, from: "noreply@c.test", replyTo: "desk@c.test", outPath: "noreply@c.test"},
	{name: "send-as with reply_to none", sender: Sender{Mode: SendAs, ReplyTo: "none"}, to: "noreply@c.test", header: []string{"From: boss@c.test", "Reply-To: desk@c.test"}, from: "noreply@c.test", outPath: "noreply@c.test"},
	{name: "send-as with an address as Reply-To", sender: Sender{Mode: SendAs, ReplyTo: "desk@c.test"}, to: "noreply@c.test", header: []string{"From: boss@c.test", "Reply-To: old@c.test"}, from: "noreply@c.test", replyTo: "desk@c.test", outPath: "noreply@c.test"},
	{name: "send-as serves a scanner that writes no address", sender: Sender{Mode: SendAs, ReplyTo: "original"}, to: "scan@c.test", header: []string{"From: Office Scanner"}, from: "Office Scanner <scan@c.test>", outPath: "scan@c.test"},
	{name: "send-as removes a Sender that is the account", sender: Sender{Mode: SendAs}, to: "noreply@c.test", header: []string{"From: boss@c.test", "Sender: erp@c.test"}, from: "noreply@c.test", outPath: "noreply@c.test"},
	{name: "send-as keeps a null reverse-path", sender: Sender{Mode: SendAs}, to: "noreply@c.test", header: []string{"From: boss@c.test"}, reversePath: "<>", from: "noreply@c.test", outPath: ""},
	{name: "send-as to an IDN writes its IDNA form", sender: Sender{Mode: SendAs}, to: "noreply@b\u00fccher.test", header: []string{"From: boss@c.test"}, from: "noreply@xn--bcher-kva.test", outPath: "noreply@b\u00fccher.test"},

	// on-behalf
	{name: "on-behalf of the given address", sender: Sender{Mode: OnBehalf}, to: "buyer@c.test", header: []string{"From: App <boss@c.test>"}, from: "App <buyer@c.test>", senderField: "erp@c.test", outPath: "buyer@c.test"},
	{name: "on-behalf with a login as Sender", account: "svc", sender: Sender{Mode: OnBehalf}, to: "buyer@c.test", header: []string{"From: boss@c.test"}, from: "buyer@c.test", senderField: "svc@c.test", outPath: "buyer@c.test"},
	{name: "on-behalf of the application's own address", sender: Sender{Mode: OnBehalf}, maySendAs: []string{"*@c.test"}, header: []string{"From: boss@c.test"}, from: "boss@c.test", senderField: "erp@c.test", outPath: "boss@c.test"},
	{name: "on-behalf judges the application's own address", sender: Sender{Mode: OnBehalf}, header: []string{"From: boss@c.test"}, reply: "550 5.7.1"},
	{name: "on-behalf otherwise the account has no Sender", sender: Sender{Mode: OnBehalf, Otherwise: UseAccount}, header: []string{"From: boss@c.test", "Sender: boss@c.test"}, from: "erp@c.test", replyTo: "boss@c.test", outPath: "erp@c.test"},
	{name: "on-behalf replaces a foreign Sender", sender: Sender{Mode: OnBehalf}, to: "buyer@c.test", header: []string{"From: boss@c.test", "Sender: boss@c.test"}, from: "buyer@c.test", senderField: "erp@c.test", outPath: "buyer@c.test"},
	{name: "on-behalf of the account itself has no Sender", sender: Sender{Mode: OnBehalf}, header: []string{"From: erp@c.test"}, from: "erp@c.test", outPath: "erp@c.test"},

	// current-user
	{name: "current-user is the application's From", userAddr: "nav@c.test", sender: Sender{Mode: CurrentUser}, maySendAs: []string{"*@c.test"}, header: []string{"From: Ann <ann@c.test>"}, from: "Ann <ann@c.test>", outPath: "ann@c.test"},
	{name: "current-user without From is the user's address", userAddr: "nav@c.test", sender: Sender{Mode: CurrentUser}, maySendAs: []string{"*@c.test"}, header: []string{"Subject: s"}, from: "nav@c.test", outPath: "nav@c.test"},
	{name: "current-user judges the application's From", userAddr: "nav@c.test", sender: Sender{Mode: CurrentUser}, header: []string{"From: boss@c.test"}, reply: "550 5.7.1"},
	{name: "current-user refuses garbage", userAddr: "nav@c.test", sender: Sender{Mode: CurrentUser}, header: []string{"From: Office Scanner"}, reply: "550 5.7.1"},

	// an account for many mailboxes
	{name: "many mailboxes: the final From's", account: "any", header: []string{"From: ann@c.test"}, from: "ann@c.test", outPath: "ann@c.test"},
	{name: "many mailboxes: none of another domain", account: "any", maySendAs: []string{"*"}, header: []string{"From: ann@other.test"}, reply: "550 5.7.1"},
	{name: "many mailboxes: account is the user's address", account: "any", userAddr: "nav@c.test", sender: Sender{Mode: AsAccount}, header: []string{"From: ann@other.test"}, from: "nav@c.test", outPath: "nav@c.test"},
	{name: "many mailboxes: no From and no address", account: "any", header: []string{"Subject: s"}, reversePath: "<>", reply: "550 5.7.1"},
}

func TestPolicy(t *testing.T) {
	for _, tc := range policies {
		t.Run(tc.name, func(t *testing.T) {
			q := &queue{}
			d := tc.desk(t, q)
			env := envelope.Envelope{ReversePath: address(t, "app@c.test"), Recipients: []envelope.Address{address(t, "to@d.test")}}
			switch tc.reversePath {
			case "":
			case "<>":
				env.ReversePath = envelope.Address{}
			default:
				env.ReversePath = address(t, tc.reversePath)
			}
			id, err := d.Submit(t.Context(), session, env, strings.NewReader(strings.Join(tc.header, "\r\n")+"\r\n\r\nbody\r\n"))
			if tc.reply != "" {
				checkReply(t, err, tc.reply)
				if len(q.messages) > 0 || id != "" {
					t.Errorf("refused, and queued as %q", id)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			m := q.messages[0]
			out, err := message.Apply(m.Header, m.Plan.Edits)
			if err != nil {
				t.Fatal(err)
			}
			h, err := message.ParseHeader(out)
			if err != nil {
				t.Fatal(err)
			}
			for field, want := range map[string]string{"From": tc.from, "Sender": tc.senderField, "Reply-To": tc.replyTo} {
				if all := h.All(field); h.Get(field) != want || len(all) > 1 || (len(all) == 1) != (want != "") {
					t.Errorf("%s is %q (%d fields), want %q", field, h.Get(field), len(all), want)
				}
			}
			account := tc.account
			if account == "" {
				account = "erp"
			}
			if got := m.Plan.ReversePath.String(); got != tc.outPath || m.Plan.Account != account {
				t.Errorf("reverse-path %q of account %q, want %q of %q", got, m.Plan.Account, tc.outPath, account)
			}
			if entries := h.All("From")[0].Addresses().Entries(); len(entries) != 1 || entries[0].Address.Key() != m.Plan.HeaderFrom.Key() {
				t.Errorf("the plan says From %q, the header %+v", m.Plan.HeaderFrom, entries)
			}
			if m.Envelope.ReversePath != env.ReversePath {
				t.Errorf("the envelope's reverse-path became %q", m.Envelope.ReversePath)
			}
		})
	}
}

// desk makes the desk of a case.
func (tc policy) desk(t *testing.T, q Enqueuer) *Desk {
	t.Helper()
	o := options(t, q)
	tc.sender.Address = address(t, tc.to)
	o.Users = []User{{Name: "nav", Account: tc.account, Address: address(t, tc.userAddr), MaySendAs: tc.maySendAs, Sender: &tc.sender}}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
