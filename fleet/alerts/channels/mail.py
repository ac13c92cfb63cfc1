# SPDX-License-Identifier: Apache-2.0
"""Alerts by e-mail, many in one message.

Owns the text of the mail and the talk with the mail server. A certificate is always
verified where there is TLS. Names of features come from devices, so control characters
are taken out before they reach a header.
"""

import hashlib
import smtplib
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any, Final

from fleet.alerts.channels.channel import DeliveryError
from fleet.config import EmailConfig

_MOST_SUBJECT: Final = 150
_TLS, _STARTTLS = "tls", "starttls"


class MailChannel:
    """Implements ``Channel`` over SMTP.

    Args:
        config: Server and recipients; ``host`` is not empty.
    """

    name = "email"
    batch = 50

    def __init__(self, config: EmailConfig) -> None:
        self._config = config

    def send(self, events: Sequence[dict[str, Any]]) -> None:
        """Mail events; the mail server's answer to the end of data counts.

        Raises:
            DeliveryError: The server is not reached, not trusted, or refuses.
        """
        config = self._config
        message = write_mail(events, config.sender, config.recipients)
        try:
            with self._open() as smtp, _Deadline(smtp, config.timeout_seconds):
                self._talk(smtp, message)
        except (OSError, smtplib.SMTPException, ValueError) as error:
            text = f"email: {config.host}:{config.port}: not taken: {error}"
            step = "check alerts.email in fleet.yaml and the mail server's log"
            raise DeliveryError(text, next_step=step) from error

    def _open(self) -> smtplib.SMTP:
        config = self._config
        where = (config.host, config.port)
        if config.security == _TLS:
            return smtplib.SMTP_SSL(
                *where, timeout=config.timeout_seconds, context=self._context()
            )
        return smtplib.SMTP(*where, timeout=config.timeout_seconds)

    def _talk(self, smtp: smtplib.SMTP, message: EmailMessage) -> None:
        config = self._config
        if config.security == _STARTTLS:
            smtp.starttls(context=self._context())
        if config.username:
            password = Path(config.password_file).read_text(encoding="utf-8").strip()
            smtp.login(config.username, password)
        refused = smtp.send_message(message)
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._config.ca_file or None)


def write_mail(
    events: Sequence[dict[str, Any]], sender: str, recipients: Sequence[str]
) -> EmailMessage:
    """Return the mail about ``events``; sent again, it has the same id."""
    first = events[0]["alert"]
    subject = f"[{first['fleet']}] {events[0]['event']}: {first['title']}"
    if len(events) > 1:
        subject = f"{len(events)} alerts, first {subject}"
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = _plain(subject)[:_MOST_SUBJECT]
    message["Date"] = formatdate(usegmt=True)
    names = "\n".join(one["id"] for one in events)
    digest = hashlib.sha256(names.encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@edge-fleet.invalid>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n".join(_describe(one) for one in events))
    return message


def _describe(event: dict[str, Any]) -> str:
    alert = event["alert"]
    lines = [
        f"{event['event'].upper()} {_plain(alert['title'])}",
        f"  {alert['level']}, rule {alert['rule']}, fleet {alert['fleet']}",
    ]
    if event["event"] == "opened":
        lines.append(f"  next: {_plain(alert['next_step'])}")
        lines.append(f"  edge-fleet alert show {alert['id']}")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)


class _Deadline:
    """Ends a talk that takes too long, however slowly the other side goes on."""

    def __init__(self, smtp: smtplib.SMTP, seconds: float) -> None:
        self._smtp = smtp
        self._timer = threading.Timer(seconds, self._cut)

    def _cut(self) -> None:
        with suppress(OSError, AttributeError):
            self._smtp.sock.shutdown(SHUT_RDWR)  # type: ignore[union-attr]

    def __enter__(self) -> None:
        self._timer.daemon = True
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
