# Makes the corpus: messages of real SMTP clients, captured as they come in DATA, and oddities made by hand. Run it in this
# folder; it needs swaks, msmtp, s-nail, mutt, curl, node with nodemailer (NODE_PATH), php with PHPMailer, openssl and gpg.
# envelopes.txt then says for each file to whom it goes. Dates and Message-IDs differ with each run; the tests do not mind.
import base64, os, smtplib, socket, socketserver, subprocess, sys, tempfile, threading
from email.message import EmailMessage
from email.policy import SMTP as POLICY

got = []

class Sink(socketserver.StreamRequestHandler):
    def handle(self):
        say = lambda s: self.wfile.write(s.encode() + b"\r\n")
        say("220 sink ESMTP")
        rcpts = []
        while True:
            line = self.rfile.readline()
            if not line:
                return
            word = line[:4].upper()
            if word == b"EHLO":
                say("250-sink\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n250 SMTPUTF8")
            elif word == b"AUTH":
                if len(line.split()) < 3:
                    say("334 VXNlcm5hbWU6"); self.rfile.readline(); say("334 UGFzc3dvcmQ6"); self.rfile.readline()
                say("235 ok")
            elif word == b"RCPT":
                rcpts.append(line.split(b"<", 1)[1].split(b">")[0].decode()); say("250 ok")
            elif word == b"DATA":
                say("354 go")
                data = b""
                while True:
                    l = self.rfile.readline()
                    if l == b".\r\n":
                        break
                    data += l[1:] if l.startswith(b".") else l
                got.append((data, rcpts)); rcpts = []
                say("250 ok")
            elif word == b"QUIT":
                say("221 bye"); return
            else:
                say("250 ok")

server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Sink)
threading.Thread(target=server.serve_forever, daemon=True).start()
host, port = server.server_address
work = tempfile.mkdtemp()
names, n = [], 0

def keep(name, data, rcpts):
    global n
    n += 1
    file = "%03d-%s.eml" % (n, name)
    open(file, "wb").write(data)
    names.append((file, rcpts))

def client(name, args, stdin=b"", env=None):
    before = len(got)
    subprocess.run(args, input=stdin, env=dict(os.environ, HOST=host, PORT=str(port), **(env or {})), check=True, stdout=subprocess.DEVNULL, timeout=20)
    for data, rcpts in got[before:]:
        keep(name, data, rcpts)

A, B, C = "ann@example.test", "bob@example.test", "cleo@example.org"
F = "app@erp.local"
pdf = os.path.join(work, "Rechnung ü.pdf"); open(pdf, "wb").write(b"%PDF-1.7\n" + bytes(range(256)) * 8)
png = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
pngfile = os.path.join(work, "logo.png"); open(pngfile, "wb").write(png)

# swaks
S = ["swaks", "--server", host, "--port", str(port), "--from", F, "--silent", "3"]
client("swaks-plain", S + ["--to", A])
client("swaks-two", S + ["--to", A + "," + B, "--body", "two\n"])
client("swaks-umlaut-raw", S + ["--to", A, "--h-Subject", "Größe", "--body", "Grüße\n"])
client("swaks-attach", S + ["--to", A, "--attach-type", "application/pdf", "--attach", "@" + pdf])
client("swaks-attach-two", S + ["--to", A, "--attach-type", "text/plain", "--attach-body", "body", "--attach", "@" + pdf, "--attach-type", "image/png", "--attach", "@" + pngfile])
client("swaks-headers", S + ["--to", A, "--add-header", "X-Printer: HP", "--add-header", "X-Printer: again", "--add-header", "x-lower:no blank"])
client("swaks-dots", S + ["--to", A, "--body", ".\n..\n...\n.x\n"])
client("swaks-hidden", S + ["--to", A + "," + B, "--h-To", A])
client("swaks-priority", S + ["--to", A, "--add-header", "X-Priority: 1 (Highest)", "--add-header", "Importance: High"])

# smtplib and package email
def py(name, m, to=(A,), policy=POLICY, frm=F):
    before = len(got)
    with smtplib.SMTP(host, port) as s:
        s.sendmail(frm, list(to), m.as_bytes(policy=policy) if hasattr(m, "as_bytes") else m, mail_options=[])
    for data, rcpts in got[before:]:
        keep(name, data, rcpts)

def new(subject="s", to=A, **extra):
    m = EmailMessage()
    m["From"], m["To"], m["Subject"] = F, to, subject
    for k, v in extra.items():
        m[k.replace("_", "-")] = v
    return m

m = new("plain"); m.set_content("hello\n"); py("smtplib-plain", m)
m = new("Grüße"); m.set_content("Grüße\n"); py("smtplib-utf8", m)
m = new("8bit"); m.set_content("Grüße\n", cte="8bit"); py("smtplib-8bit", m)
m = new("qp"); m.set_content("Grüße = " + "x" * 200 + "\n", cte="quoted-printable"); py("smtplib-qp", m)
m = new("b64"); m.set_content("Grüße\n", cte="base64"); py("smtplib-b64", m)
for cs in ("iso-8859-1", "windows-1252", "iso-8859-15"):
    m = new(cs); m.set_content("Grüße zu 5\n", charset=cs); py("smtplib-" + cs, m)
m = new("koi8-r"); m.set_content("Привет\n", charset="koi8-r"); py("smtplib-koi8-r", m)
m = new("jp"); m.set_content("こんにちは\n", charset="iso-2022-jp"); py("smtplib-iso-2022-jp", m)
m = new("gb"); m.set_content("你好\n", charset="gb2312"); py("smtplib-gb2312", m)
m = new("alt"); m.set_content("text\n"); m.add_alternative("<p>html</p>\n", subtype="html"); py("smtplib-alternative", m)
m = new("inline"); m.set_content("text\n"); m.add_alternative('<img src="cid:a">\n', subtype="html")
m.get_payload()[1].add_related(png, "image", "png", cid="<a>"); py("smtplib-inline", m)
m.add_attachment(open(pdf, "rb").read(), maintype="application", subtype="pdf", filename="Rechnung ü.pdf"); py("smtplib-inline-attach", m)
m = new("names"); m.set_content("x\n"); m.add_attachment(b"1,2\n", maintype="text", subtype="csv", filename="ein sehr langer Name mit Umlauten äöü und noch viel mehr Text dahinter, damit er geteilt wird.csv"); py("smtplib-rfc2231", m)
inner = new("inner"); inner.set_content("nested\n"); m = new("outer"); m.set_content("x\n"); m.add_attachment(inner); py("smtplib-nested", m)
mid = new("mid"); mid.set_content("x\n"); mid.add_attachment(inner); m = new("deep"); m.set_content("x\n"); m.add_attachment(mid); py("smtplib-nested-twice", m)
m = new("cal"); m.set_content("x\n"); m.add_alternative("BEGIN:VCALENDAR\nMETHOD:REQUEST\nEND:VCALENDAR\n", subtype="calendar", params={"method": "REQUEST"}); py("smtplib-calendar", m)
m = new("cc", Cc=B); m.set_content("x\n"); py("smtplib-cc", m, (A, B))
m = new("bcc", Bcc=B); m.set_content("x\n"); py("smtplib-bcc", m, (A, B))
m = new("fewer", to=A + ", " + B); m.set_content("x\n"); py("smtplib-fewer-than-header", m, (A,))
m = new("other", to=A); m.set_content("x\n"); py("smtplib-other-than-header", m, (C,))
m = new("names", to='"Müller, Jürgen" <' + A + '>, Bob <' + B + '>'); m.set_content("x\n"); py("smtplib-display-names", m, (A, B))
m = new("reply", Reply_To="desk@erp.local", In_Reply_To="<1@x>", References="<0@x> <1@x>"); m.set_content("x\n"); py("smtplib-thread", m)
m = new("list", List_Unsubscribe="<mailto:u@erp.local>", List_Id="<l.erp.local>"); m.set_content("x\n"); py("smtplib-list", m)
m = new("long " * 60); m.set_content("x\n"); py("smtplib-long-subject", m)
m = new("ä" * 200); m.set_content("x\n"); py("smtplib-long-encoded-subject", m)
m = new("many"); m.set_content("x\n"); py("smtplib-thirty-recipients", m, ["r%d@example.test" % i for i in range(30)])
m = new("lf"); m.set_content("x\ny\n"); py("smtplib-lf-policy", m, policy=POLICY.clone(linesep="\n"))
m = new("receipt", Disposition_Notification_To=F, Sensitivity="Private", Importance="low"); m.set_content("x\n"); py("smtplib-receipt", m)
m = new("zip"); m.set_content("x\n"); m.add_attachment(os.urandom(40000), maintype="application", subtype="zip", filename="a.zip"); py("smtplib-zip-40k", m)
m = new("tnef"); m.set_content("x\n"); m.add_attachment(bytes.fromhex("789f3e22") + b"\1\2\3" * 50, maintype="application", subtype="ms-tnef", filename="winmail.dat"); py("winmail-dat", m)

# msmtp sends a file as it is
for name, text in {
    "msmtp-plain": "From: %s\nTo: %s\nSubject: s\n\nx\n" % (F, A),
    "msmtp-no-subject": "From: %s\nTo: %s\n\nx\n" % (F, A),
    "msmtp-folded": "From: %s\nTo: %s\nSubject: one\n two\n\tthree\nX-Folded: a\n  b\n   c\n\nx\n" % (F, A),
    "msmtp-crlf": "From: %s\r\nTo: %s\r\nSubject: s\r\n\r\nx\r\n" % (F, A),
}.items():
    client(name, ["msmtp", "--host=" + host, "--port=%d" % port, "--auth=off", "--tls=off", "--from=" + F, A], text.encode())

# s-nail
N = ["s-nail", "-:/", "-Sv15-compat", "-Sttycharset=utf-8", "-Ssendcharsets=utf-8,iso-8859-1", "-Ssendwait", "-Smta=smtp://%s:%d" % (host, port), "-Ssmtp-config=-starttls", "-Ssmtp-auth=none", "-Sfrom=" + F, "-r", F]
client("s-nail-plain", N + ["-s", "plain", A], b"hello\n")
client("s-nail-umlaut", N + ["-s", "Größe", A], "Grüße\n.\n".encode())
client("s-nail-attach", N + ["-s", "a", "-a", pdf, A], b"x\n")
client("s-nail-cc-bcc", N + ["-s", "a", "-c", B, "-b", C, A], b"x\n")
client("s-nail-latin1", N + ["-Ssendcharsets=iso-8859-1", "-s", "Größe", A], "Grüße\n".encode())
client("s-nail-long-line", N + ["-s", "long", A], b"y" * 3000 + b"\n")

# curl
for name, extra in {"curl-plain": ["-F", "=hello"], "curl-file": ["-F", "=hello", "-F", "=@%s;encoder=base64" % pngfile], "curl-qp": ["-F", "=Gr\u00fc\u00dfe;encoder=quoted-printable"]}.items():
    client(name, ["curl", "--silent", "--show-error", "smtp://%s:%d/client.test" % (host, port), "--mail-from", F, "--mail-rcpt", A] + extra + ["-H", "From: " + F, "-H", "To: " + A, "-H", "Subject: curl"])

# nodemailer
for name, js in {
    "nodemailer-text": "text:'hello'", "nodemailer-html": "html:'<p>Grüße</p>'", "nodemailer-both": "text:'Grüße',html:'<p>Grüße</p>'",
    "nodemailer-inline": "html:'<img src=\"cid:a\">',attachments:[{filename:'ä.png',path:process.env.PNG,cid:'a'}]",
    "nodemailer-attach": "text:'x',attachments:[{filename:'Rechnung ü.pdf',path:process.env.PDF},{filename:'a.txt',content:'hello'}]",
    "nodemailer-ical": "text:'x',icalEvent:{method:'REQUEST',content:'BEGIN:VCALENDAR\\r\\nEND:VCALENDAR\\r\\n'}",
    "nodemailer-cc-bcc": "text:'x',cc:'%s',bcc:'%s'" % (B, C),
    "nodemailer-priority": "text:'x',priority:'high',headers:{'X-Key':'v'}",
    "nodemailer-idn": "text:'x',cc:'bob@b\u00fccher.test'",
    "nodemailer-group": "text:'x',cc:'Team: %s, %s;'" % (B, C),
    "nodemailer-amp": "text:'x',html:'<p>x</p>',amp:'<!doctype html><html amp4email></html>'",
    "nodemailer-list": "text:'x',list:{unsubscribe:'mailto:u@erp.local'}",
}.items():
    client(name, ["node", "-e", "require('nodemailer').createTransport({host:process.env.HOST,port:+process.env.PORT,ignoreTLS:true}).sendMail({from:'%s',to:'%s',subject:'Größe',%s}).catch(e=>{console.error(e);process.exit(1)})" % (F, A, js)], env={"PDF": pdf, "PNG": pngfile})

# PHPMailer
for name, php in {
    "phpmailer-text": "", "phpmailer-html": "$m->isHTML(true);$m->Body='<p>Grüße</p>';$m->AltBody='Grüße';",
    "phpmailer-attach": "$m->addAttachment(getenv('PDF'),'Rechnung ü.pdf');", "phpmailer-embedded": "$m->isHTML(true);$m->addEmbeddedImage(getenv('PNG'),'a');$m->Body='<img src=\"cid:a\">';",
    "phpmailer-bcc": "$m->addCC('%s');$m->addBCC('%s');" % (B, C), "phpmailer-latin1": "$m->CharSet='iso-8859-1';$m->Body=\"Gr\\xfc\\xdfe\";",
    "phpmailer-8bit": "$m->Encoding='8bit';", "phpmailer-reply-to": "$m->addReplyTo('desk@erp.local','Desk, Front');$m->Priority=1;",
    "phpmailer-ical": "$m->AltBody='x';$m->isHTML(true);$m->Ical=\"BEGIN:VCALENDAR\\r\\nMETHOD:REQUEST\\r\\nEND:VCALENDAR\\r\\n\";",
}.items():
    client(name, ["php", "-r", "require '/usr/share/php/libphp-phpmailer/autoload.php';$m=new PHPMailer\\PHPMailer\\PHPMailer(true);$m->isSMTP();$m->Host=getenv('HOST');$m->Port=(int)getenv('PORT');$m->SMTPAutoTLS=false;$m->CharSet='UTF-8';$m->setFrom('%s','Größe');$m->addAddress('%s','Jürgen');$m->Subject='Größe';$m->Body=\"Grüße\\n.\\nEnde\";%s$m->send();" % (F, A, php)], env={"PDF": pdf, "PNG": pngfile})

# Signed and encrypted
h = "From: %s\r\nTo: %s\r\nSubject: signed\r\n" % (F, A)
text = os.path.join(work, "t"); open(text, "wb").write(b"Content-Type: text/plain\r\n\r\nsigned text \r\n")
key, crt = os.path.join(work, "k"), os.path.join(work, "c")
run = lambda *a, **k: subprocess.run(a, check=True, capture_output=True, **k).stdout
run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", crt, "-days", "3650", "-subj", "/CN=app/emailAddress=" + F)
crlf = lambda b: b.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
keep("smime-signed", h.encode() + crlf(run("openssl", "cms", "-sign", "-in", text, "-signer", crt, "-inkey", key)), [A])
keep("smime-opaque", h.encode() + crlf(run("openssl", "cms", "-sign", "-nodetach", "-in", text, "-signer", crt, "-inkey", key)), [A])
keep("smime-encrypted", h.encode() + crlf(run("openssl", "cms", "-encrypt", "-aes256", "-in", text, crt)), [A, B])
gnupg = {"GNUPGHOME": os.path.join(work, "g")}; os.mkdir(gnupg["GNUPGHOME"], 0o700)
env = dict(os.environ, **gnupg)
run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", F, "ed25519", "sign", env=env)
sig = crlf(run("gpg", "--batch", "--armor", "--detach-sign", text, env=env) if False else subprocess.run(["gpg", "--batch", "--armor", "--detach-sign", "--output", "-", text], check=True, capture_output=True, env=env).stdout)
keep("pgp-mime", h.encode() + b"MIME-Version: 1.0\r\nContent-Type: multipart/signed; micalg=pgp-sha512;\r\n protocol=\"application/pgp-signature\"; boundary=b\r\n\r\n--b\r\n" + open(text, "rb").read() + b"\r\n--b\r\nContent-Type: application/pgp-signature\r\n\r\n" + sig + b"\r\n--b--\r\n", [A])
clear = crlf(subprocess.run(["gpg", "--batch", "--clearsign", "--output", "-", text], check=True, capture_output=True, env=env).stdout)
keep("pgp-inline", h.encode() + b"\r\n" + clear, [A])
subprocess.run(["gpgconf", "--kill", "all"], env=env)

# By hand
def odd(name, data, to=(A,)):
    keep("odd-" + name, data if isinstance(data, bytes) else data.encode("utf-8"), list(to))
H = "From: %s\r\nTo: %s\r\nSubject: odd\r\n" % (F, A)
odd("no-headers", "just text\r\n")
odd("no-blank-line", "From: %s\r\nTo: %s\r\nthe body begins without a blank line\r\n" % (F, A))
odd("no-from", "To: %s\r\nSubject: s\r\n\r\nx\r\n" % A)
odd("bare-lf", H.replace("\r\n", "\n") + "\nline one\nline two\n.\nline three\n")
odd("mixed-line-ends", H + "\r\none\ntwo\r\nthree\n")
odd("8bit-without-mime", (H + "\r\n").encode() + b"Gr\xfc\xdfe \x80\xff\r\n")
odd("8bit-in-header", H.replace("odd", "x").encode()[:-2] + b" Gr\xfc\xdfe\r\n\r\nx\r\n")
odd("repeated-fields", H + "X-A: 1\r\nX-A: 2\r\nX-A: 1\r\nComments: a\r\nComments: b\r\n\r\nx\r\n")
odd("blanks-before-colon", H + "X-Odd : kept\r\n\r\nx\r\n")
odd("empty-field", H + "X-Empty:\r\nX-Blank: \r\n\r\nx\r\n")
odd("group", "From: %s\r\nTo: Team: %s, Bob <%s>;, %s\r\nSubject: s\r\n\r\nx\r\n" % (F, A, B, C), (A, B, C))
odd("undisclosed", "From: %s\r\nTo: undisclosed-recipients:;\r\nSubject: s\r\n\r\nx\r\n" % F, (A, B))
odd("long-line-998", H + "\r\n" + "a" * 998 + "\r\n")
odd("long-line-5000", H + "\r\n" + "a" * 5000 + "\r\n")
odd("long-header-line", H + "X-Long: " + "b" * 950 + "\r\n\r\nx\r\n")
odd("empty-body", H + "\r\n")
odd("header-only", H)
odd("blank-lines", H + "\r\n\r\n\r\n\r\n")
odd("trailing-blanks", H + "\r\nx  \t\r\n \r\n")
odd("dots", H + "\r\n.\r\n..\r\n.a\r\n...\r\n")
odd("from-line-in-body", H + "\r\nFrom the start\r\n>From here\r\n")
odd("mbox-line", "From app Fri Nov 20 10:00:00 2026\r\n" + H + "\r\nx\r\n")
odd("quoted-local-part", 'From: %s\r\nTo: "a b"@example.test\r\nSubject: s\r\n\r\nx\r\n' % F, ('"a b"@example.test',))
odd("encoded-words", "From: =?utf-8?q?Gr=C3=B6=C3=9Fe?= <%s>\r\nTo: =?iso-8859-1?q?J=FCrgen_M=FCller?= <%s>,\r\n =?utf-8?b?QsO2Yg==?=\r\n <%s>\r\nSubject: =?utf-8?b?R3LDtsOfZQ==?=\r\n =?utf-8?b?w7Y=?=\r\n\r\nx\r\n" % (F, A, B), (A, B))
odd("two-to-fields", "From: %s\r\nTo: %s\r\nTo: %s\r\nSubject: s\r\n\r\nx\r\n" % (F, A, B), (A, B))
odd("semicolons", "From: %s\r\nTo: %s; %s\r\nSubject: s\r\n\r\nx\r\n" % (F, A, B), (A, B))
odd("comments", "From: %s (the app)\r\nTo: (a) %s (b), Bob (c) <%s>\r\nSubject: s\r\n\r\nx\r\n" % (F, A, B), (A, B))
odd("case-of-fields", "FROM: %s\r\nto: %s\r\nsUbJeCt: s\r\nMIME-version: 1.0\r\n\r\nx\r\n" % (F, A))
odd("case-of-recipients", "From: %s\r\nTo: ANN@Example.TEST\r\nSubject: s\r\n\r\nx\r\n" % F)
odd("dkim", H + "DKIM-Signature: v=1; a=rsa-sha256; d=erp.local; s=x; h=from:to:subject;\r\n bh=AAAA; b=BBBB\r\n\r\nx\r\n")
odd("resent", H + "Resent-From: x@erp.local\r\nResent-To: y@erp.local\r\n\r\nx\r\n")
odd("received", "Received: from a by b; Fri, 20 Nov 2026 10:00:00 +0100\r\n" * 5 + H + "\r\nx\r\n")
odd("boundary-in-text", H + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_b\"\r\n\r\npreamble\r\n--=_b\r\n\r\n--=_bx is text\r\n--=_b\r\nContent-Type: text/plain\r\n\r\ntwo\r\n--=_b--\r\nepilogue\r\n")
odd("no-closing-boundary", H + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n")
odd("multipart-without-boundary", H + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n\r\nx\r\n")
odd("bad-base64", H + "MIME-Version: 1.0\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nAAA*A=A\r\nB\r\n")
odd("uuencode", H + "\r\nbegin 644 a.txt\r\n#86)C\r\n`\r\nend\r\n")
odd("format-flowed", H + "MIME-Version: 1.0\r\nContent-Type: text/plain; format=flowed\r\n\r\na \r\nb\r\n-- \r\nsig\r\n")
odd("utf16", (H + "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\n").encode() + base64.b64encode("Grüße".encode("utf-16")) + b"\r\n")
odd("message-partial", H + "MIME-Version: 1.0\r\nContent-Type: message/partial; id=a; number=1; total=2\r\n\r\nx\r\n")
odd("report", H + "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n--b--\r\n")
odd("digest", H + "MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: one\r\n\r\nx\r\n--b\r\n\r\nSubject: two\r\n\r\ny\r\n--b--\r\n")
odd("bcc-in-inner-part", H + "MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\nFrom: a@b\r\nBcc: inner@example.test\r\n\r\nx\r\n")
odd("tabs", "From:\t%s\r\nTo:\t%s\r\nSubject:\tone\r\n\ttwo\r\n\r\n\tx\r\n" % (F, A))

# mutt; last, because the names of the others have their numbers
muttrc = os.path.join(work, "muttrc"); open(muttrc, "w").write(
    "set smtp_url=smtp://%s:%d/ ssl_starttls=no ssl_force_tls=no copy=no use_from=yes envelope_from_address=%s use_envelope_from=yes\n"
    "set from=%s realname='Buchhaltung Größe' charset=utf-8 send_charset=us-ascii:iso-8859-1:utf-8 folder=%s\n" % (host, port, F, F, work))
M = ["mutt", "-n", "-F", muttrc]
client("mutt-plain", M + ["-s", "plain", "--", A], b"hello\n")
client("mutt-umlaut", M + ["-s", "Größe", "--", A], "Grüße\n.\nFrom here\n".encode())
client("mutt-euro", M + ["-s", "5 €", "--", A], ("5 € " + "x" * 1200 + "\n").encode())
client("mutt-attach", M + ["-s", "attach", "-a", pdf, pngfile, "--", A], b"two files\n")
client("mutt-cc-bcc", M + ["-s", "cc", "-c", B, "-b", C, "--", A], b"x\n")

with open("envelopes.txt", "w") as f:
    for file, rcpts in names:
        f.write(file + "\t" + "\t".join(rcpts) + "\n")
print(len(names), "messages")
