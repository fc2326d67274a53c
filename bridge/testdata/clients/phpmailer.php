<?php
// Sends one message with PHPMailer, as Debian packages it.
require '/usr/share/php/libphp-phpmailer/autoload.php';

$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
$mail->Host = getenv('HOST');
$mail->Port = (int) getenv('PORT');
$mail->SMTPAuth = true;
$mail->SMTPAutoTLS = false;
$mail->Username = getenv('USER_NAME');
$mail->Password = getenv('PASSWORD');
$mail->CharSet = 'UTF-8';
$mail->setFrom(getenv('FROM'), 'Buchhaltung Größe');
$mail->addAddress(getenv('TO'), 'Jürgen Müller');
$mail->Subject = getenv('SUBJECT');
$mail->Body = "Grüße aus der Buchhaltung.\n.\nEine Zeile mit Punkt steht darüber.\n";
$mail->addAttachment(getenv('ATTACHMENT'), 'Rechnung ü.pdf');
$mail->send();
