"""The ways that alerts are told by: what the options say of them, and handing one message over."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway_project import __version__
from gateway_project.core.mail import MailWay, mail_make, mail_send
from gateway_project.core.models import NoticeWay
from gateway_project.core.notice_text import (
    Event,
    Sender,
    collapsed,
    mail_text,
    message_id,
    subject_words,
    webhook_document,
)
from gateway_project.core.options import option
from gateway_project.core.reach import NoticeError
from gateway_project.core.webhook import WebhookWay, webhook_post

LANE_TITLES = {NoticeWay.EMAIL: "Alerts by e-mail", NoticeWay.WEBHOOK: "Alerts by webhook"}


@dataclass(frozen=True)
class Handed:
    """A message that was taken; `refused` are how many recipients the mail server did not take."""

    refused: int = 0


def ways_set_up() -> list[NoticeWay]:
    """The ways that are configured now."""
    email = option("ALERT.EMAIL_HOST") and option("ALERT.EMAIL_TO")
    webhook = option("ALERT.WEBHOOK_URL")
    return [way for way, wanted in ((NoticeWay.EMAIL, email), (NoticeWay.WEBHOOK, webhook)) if wanted]


def sender() -> Sender:
    return Sender(gateway=option("INSTANCE.ID"), version=__version__, public_url=option("WEB.PUBLIC_URL"))


def hand_over(way: NoticeWay, events: Sequence[Event], *, now: datetime) -> Handed:
    """Sends one message about these events and returns when it was taken. Raises NoticeError."""
    if way == NoticeWay.EMAIL:
        return _mail(events)
    _webhook(events, now)
    return Handed()


def _mail(events: Sequence[Event]) -> Handed:
    recipients = tuple(option("ALERT.EMAIL_TO"))
    way = MailWay(
        host=option("ALERT.EMAIL_HOST"),
        port=option("ALERT.EMAIL_PORT"),
        tls=option("ALERT.EMAIL_TLS"),
        user=option("ALERT.EMAIL_USER"),
        password=option("ALERT.EMAIL_PASSWORD"),
        sender=option("ALERT.EMAIL_FROM") or recipients[0],
        recipients=recipients,
        ca=option("ALERT.CA"),
        seconds=option("ALERT.SEND_SECONDS"),
    )
    who, told = sender(), collapsed(events)
    mail = mail_make(way, subject=subject_words(told, who), text=mail_text(told, who), message_id=message_id(events))
    return Handed(refused=len(mail_send(way, mail)))


def _webhook(events: Sequence[Event], now: datetime) -> None:
    way = WebhookWay(
        url=option("ALERT.WEBHOOK_URL"),
        token=option("ALERT.WEBHOOK_TOKEN"),
        allow_loopback=option("ALERT.WEBHOOK_ALLOW_LOOPBACK"),
        ca=option("ALERT.CA"),
        seconds=option("ALERT.SEND_SECONDS"),
    )
    if not way.token and not way.url.startswith("https:"):
        raise NoticeError(
            "token-missing", "Over plain http the receiver cannot know us: set ALERT.WEBHOOK_TOKEN, or use https."
        )
    webhook_post(
        way,
        webhook_document(events, sender(), now=now),
        message_id=message_id(events),
        timestamp=int(now.timestamp()),
        agent=f"gateway/{__version__}",
    )
