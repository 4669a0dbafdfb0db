"""What messages about alerts say: a mail's subject and text, and the webhook's document. Pure: no Django."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

SCHEMA = "gateway-alerts/1"
LISTED = 50
HEADINGS = {
    "critical": "NEEDS A HAND NOW",
    "warning": "NEEDS A LOOK",
    "info": "FOR YOUR INFORMATION",
    "healed": "WELL AGAIN",
    "test": "A TEST",
}
COUNTED = {
    "critical": ("1 needs a hand now", "{} need a hand now"),
    "warning": ("1 needs a look", "{} need a look"),
    "info": ("1 is for your information", "{} are for your information"),
    "healed": ("1 is well again", "{} are well again"),
}


@dataclass(frozen=True)
class Event:
    """What is told of one alert. `event`: opened, worse, healed or test; times are aware, in the machine's zone."""

    uid: str
    event: str
    alert: int
    key: str
    code: str
    severity: str
    words: str
    opened_at: datetime
    at: datetime
    count: int
    healed_at: datetime | None
    address: str = ""
    times: int = 1

    @property
    def group(self) -> str:
        if self.event in ("healed", "test"):
            return self.event
        return "healed" if self.healed_at is not None else self.severity


@dataclass(frozen=True)
class Sender:
    """Who we are: the gateway's name and version, and where its pages are (empty if nobody has said so)."""

    gateway: str
    version: str
    public_url: str = ""

    def address(self, path: str) -> str:
        return f"{self.public_url.rstrip('/')}{path}" if self.public_url and path.startswith("/") else ""


def message_id(events: Sequence[Event]) -> str:
    """The same for the same events, whenever and however often they are sent."""
    return hashlib.sha256("\n".join(sorted(event.uid for event in events)).encode()).hexdigest()[:32]


def collapsed(events: Sequence[Event]) -> list[Event]:
    """What a person wants to read: the latest about each thing, with how often it came up meanwhile."""
    alerts: dict[str, set[int]] = {}
    latest: dict[str, Event] = {}
    for event in events:
        alerts.setdefault(event.key, set()).add(event.alert)
        latest[event.key] = event
    return [replace(event, times=len(alerts[key])) for key, event in latest.items()]


def subject_words(events: Sequence[Event], sender: Sender) -> str:
    """`[gateway-01] Needs a hand now: ...`, or how many there are of each kind."""
    if len(events) == 1:
        event = events[0]
        return f"[{sender.gateway}] {HEADINGS[event.group].capitalize()}: {event.words}"
    counts = Counter(event.group for event in events)
    parts = [
        (one if counts[group] == 1 else many.format(counts[group]))
        for group, (one, many) in COUNTED.items()
        if counts[group]
    ]
    return f"[{sender.gateway}] {len(events)} alerts: {', '.join(parts)}"


def mail_text(events: Sequence[Event], sender: Sender) -> str:
    """Plain text, the most severe first; more than fifty are counted."""
    lines = [f"Gateway {sender.gateway} tells of {'an alert' if len(events) == 1 else f'{len(events)} alerts'}.", ""]
    order = list(HEADINGS)
    listed = sorted(events, key=lambda event: (order.index(event.group), event.at))
    shown = ""
    for event in listed[:LISTED]:
        if event.group != shown:
            shown = event.group
            lines += [HEADINGS[shown], ""]
        lines += [f"  {' '.join(event.words.split())}", f"  {_since(event)}"]
        if event.address:
            lines.append(f"  {event.address}")
        lines.append("")
    if len(listed) > LISTED:
        lines += [f"and {len(listed) - LISTED} more.", ""]
    alerts = sender.address("/alerts/")
    lines.append(f"All alerts: {alerts}" if alerts else "All alerts are on the gateway's page Alerts.")
    lines.append("The settings ALERT.* of the gateway say who gets this. Nobody reads an answer to it.")
    return "\n".join(lines) + "\n"


def _since(event: Event) -> str:
    parts = [f"since {_moment(event.opened_at)}"]
    if event.event == "worse":
        parts.append(f"more severe since {_moment(event.at)}")
    if event.healed_at is not None:
        parts.append(f"well again since {_moment(event.healed_at)}")
    if event.times > 1:
        parts.append(f"came up {event.times:,} times")
    elif event.count > 1:
        parts.append(f"seen {event.count:,} times")
    return ", ".join(parts)


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}".strip()


def webhook_document(events: Sequence[Event], sender: Sender, *, now: datetime) -> bytes:
    """The JSON document of docs/alerts.md, as it travels."""
    document = {
        "schema": SCHEMA,
        "id": message_id(events),
        "gateway": sender.gateway,
        "version": sender.version,
        "sentAt": _utc(now),
        "address": sender.address("/alerts/") or None,
        "events": [_event(event) for event in events],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _event(event: Event) -> dict[str, Any]:
    return {
        "id": event.uid,
        "event": event.event,
        "alert": event.alert,
        "key": event.key,
        "code": event.code,
        "severity": event.severity,
        "words": event.words,
        "count": event.count,
        "at": _utc(event.at),
        "openedAt": _utc(event.opened_at),
        "healedAt": _utc(event.healed_at) if event.healed_at is not None else None,
        "address": event.address or None,
    }


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
