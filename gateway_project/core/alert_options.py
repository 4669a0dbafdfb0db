"""The options of alerts: who is told of them, by which way, and when."""

import re
from urllib.parse import urlsplit

from gateway_project.core.option_types import Kind, Option
from gateway_project.core.windows import windows_parse

ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,250}")
HOST = re.compile(r"[A-Za-z0-9.:_-]{1,253}")


def address_check(text: str) -> None:
    """One plain ASCII mail address, or none."""
    if text and not ADDRESS.fullmatch(text):
        raise ValueError("must be a mail address such as radiology@hospital.example")


def addresses_check(texts: list[str]) -> None:
    for text in texts:
        address_check(text)


def host_check(text: str) -> None:
    if text and not HOST.fullmatch(text):
        raise ValueError("must be a host name or an address")


def url_check(text: str) -> None:
    """An http or https address without a user name in it, or none."""
    if not text:
        return
    parts = urlsplit(text)
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be an address such as https://host.example/path, without a user name")


def hours_check(text: str) -> None:
    windows_parse(text)


OPTIONS: tuple[Option, ...] = (
    Option("ALERT.EMAIL_HOST", Kind.STR, "", help="Mail server that takes alerts; empty: no e-mail.", check=host_check),
    Option("ALERT.EMAIL_PORT", Kind.INT, 587, help="Its port: 587 or 25, 465 with tls.", minimum=1, maximum=65535),
    Option(
        "ALERT.EMAIL_TLS",
        Kind.STR,
        "starttls",
        help="How the way to it is encrypted. A password is never sent without, except to this machine.",
        choices=("none", "starttls", "tls"),
    ),
    Option("ALERT.EMAIL_USER", Kind.STR, "", help="User name at the mail server; empty: no login."),
    Option("ALERT.EMAIL_PASSWORD", Kind.STR, "", help="Password at the mail server.", secret=True),
    Option(
        "ALERT.EMAIL_FROM", Kind.STR, "", help="Sender of the mails; empty: the first of EMAIL_TO.", check=address_check
    ),
    Option("ALERT.EMAIL_TO", Kind.LIST, (), help="Who gets the mails; empty: no e-mail.", check=addresses_check),
    Option(
        "ALERT.WEBHOOK_URL", Kind.STR, "", help="Address that alerts are posted to; empty: no webhook.", check=url_check
    ),
    Option(
        "ALERT.WEBHOOK_TOKEN",
        Kind.STR,
        "",
        help="Secret that signs what is posted (HMAC-SHA256), so that the receiver knows it is from us.",
        secret=True,
    ),
    Option(
        "ALERT.WEBHOOK_ALLOW_LOOPBACK",
        Kind.BOOL,
        False,
        help="The webhook may lie on this machine. Link-local addresses are refused in any case.",
    ),
    Option(
        "ALERT.CA",
        Kind.STR,
        "",
        help="PEM file of the authority that is trusted for mail server and webhook; empty: the well-known ones.",
    ),
    Option(
        "ALERT.MIN_SEVERITY",
        Kind.STR,
        "warning",
        help="The least severe alerts that are sent.",
        choices=("info", "warning", "critical"),
    ),
    Option(
        "ALERT.QUIET_HOURS",
        Kind.STR,
        "",
        help="Only critical alerts are sent then (22:00-06:00, in this machine's time zone); the others follow "
        "afterwards if they are still open.",
        check=hours_check,
    ),
    Option(
        "ALERT.GROUP_SECONDS",
        Kind.FLOAT,
        30.0,
        help="How long an alert is waited with, so that what opens together goes in one message, and what heals at "
        "once in none.",
        minimum=0,
        maximum=3600,
    ),
    Option(
        "ALERT.SPACING_SECONDS",
        Kind.FLOAT,
        300.0,
        help="The least time between two messages of one way; a critical alert that is new does not wait for it.",
        minimum=0,
        maximum=86_400,
    ),
    Option(
        "ALERT.SEND_SECONDS",
        Kind.FLOAT,
        20.0,
        help="How long mail server or webhook may take for one message, in all.",
        minimum=1,
        maximum=45,
    ),
    Option(
        "WEB.PUBLIC_URL",
        Kind.STR,
        "",
        help="Where browsers find these pages (https://gateway.hospital.example): for links in alerts.",
        check=url_check,
    ),
)
