# Sends one message with Python's smtplib, as a script on an ERP host would.
import os
import smtplib
from email.message import EmailMessage

e = os.environ
message = EmailMessage()
message["From"] = "Buchhaltung Größe <" + e["FROM"] + ">"
message["To"] = "Jürgen Müller <" + e["TO"] + ">"
message["Subject"] = e["SUBJECT"]
message.set_content("Grüße aus der Buchhaltung.\n.\nEine Zeile mit Punkt steht darüber.\n")
with open(e["ATTACHMENT"], "rb") as f:
    message.add_attachment(f.read(), maintype="application", subtype="pdf", filename="Rechnung ü.pdf")
with smtplib.SMTP(e["HOST"], int(e["PORT"]), timeout=30) as server:
    server.login(e["USER_NAME"], e["PASSWORD"])
    server.send_message(message, e["FROM"], [e["TO"]])
