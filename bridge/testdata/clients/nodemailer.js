// Sends one message with nodemailer.
const nodemailer = require("nodemailer");
const e = process.env;

nodemailer
  .createTransport({
    host: e.HOST,
    port: Number(e.PORT),
    secure: false,
    ignoreTLS: true,
    auth: { user: e.USER_NAME, pass: e.PASSWORD },
  })
  .sendMail({
    from: { name: "Buchhaltung Größe", address: e.FROM },
    to: { name: "Jürgen Müller", address: e.TO },
    subject: e.SUBJECT,
    text: "Grüße aus der Buchhaltung.\n.\nEine Zeile mit Punkt steht darüber.\n",
    html: "<p>Grüße aus der <b>Buchhaltung</b>.</p>",
    attachments: [{ filename: "Rechnung ü.pdf", path: e.ATTACHMENT }],
  })
  .catch((err) => {
    console.error(err.message);
    process.exit(1);
  });
