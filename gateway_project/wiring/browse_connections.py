"""What the page of connections shows: who is connected now, where we listen, and who was here."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.timezone import localtime

from gateway_project.core.models import Alert
from gateway_project.core.selectors import alerts_of
from gateway_project.wiring.association_words import reason_words
from gateway_project.wiring.cursor import cursor_read, cursor_write
from gateway_project.wiring.words import count_words, size_words
from network.dimse.live import LiveAssociation
from network.models import AssociationOutcome, AssociationRecord
from network.selectors import (
    LiveList,
    association_sources,
    associations_ended_since,
    associations_live,
    associations_page,
    local_aes_enabled,
)
from network.services.associations import ae_title_shown

FILTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "served": ("served", (AssociationOutcome.RELEASED,)),
    "broken": ("broken off", (AssociationOutcome.ABORTED, AssociationOutcome.LOST)),
    "rejected": ("rejected", (AssociationOutcome.REJECTED,)),
}
MARKS = {
    AssociationOutcome.RELEASED: ("uploaded", "ok", "released"),
    AssociationOutcome.ABORTED: ("again", "warn", "aborted"),
    AssociationOutcome.LOST: ("again", "warn", "connection lost"),
    AssociationOutcome.REJECTED: ("stop", "bad", "rejected"),
}


@dataclass(frozen=True)
class Listening:
    """One endpoint: `fault` says why it does not listen; `known` is False while no listener answers."""

    name: str
    ae_title: str
    address: str
    tls: bool
    fault: str
    known: bool


@dataclass(frozen=True)
class Live:
    """One connection that is open now, its titles printable."""

    one: LiveAssociation
    calling: str
    called: str
    rate: str

    @property
    def can_end(self) -> bool:
        return bool(self.one.association_id)


@dataclass(frozen=True)
class Ended:
    record: AssociationRecord
    icon: str
    tone: str
    word: str
    reason: str


@dataclass(frozen=True)
class Summary:
    tone: str
    sentence: str
    detail: str


@dataclass(frozen=True)
class ConnectionsView:
    summary: Summary
    running: bool
    live: list[Live]
    endpoints: list[Listening]
    history: list[Ended]
    newer: str
    older: str
    sources: list[str]


def connections_view(*, outcome: str, source: str, before: str, after: str, now: datetime) -> ConnectionsView:
    """Everything on the page, in five queries. Raises ValueError for a filter or a cursor that is none."""
    if outcome and outcome not in FILTERS:
        raise ValueError("not a filter")
    found = associations_live()
    live = [live_shown(one) for one in found.associations]
    endpoints = _endpoints(found)
    sources = association_sources()
    if source and source not in sources:
        raise ValueError("not a source")
    page = associations_page(
        outcomes=FILTERS[outcome][1] if outcome else (),
        source=source,
        before=cursor_read(before) if before else None,
        after=cursor_read(after) if after else None,
    )
    return ConnectionsView(
        summary=_summary(found, live, endpoints, now),
        running=found.running,
        live=live,
        endpoints=endpoints,
        history=[ended_shown(record) for record in page.rows],
        newer=cursor_write(page.rows[0].closed_at, page.rows[0].pk) if page.newer and page.rows else "",
        older=cursor_write(page.rows[-1].closed_at, page.rows[-1].pk) if page.older and page.rows else "",
        sources=sources,
    )


def live_shown(one: LiveAssociation) -> Live:
    rate = f"{size_words(one.bytes_per_second)}/s" if one.bytes_per_second >= 1 else "quiet"
    return Live(one, ae_title_shown(one.calling_ae_title), ae_title_shown(one.called_ae_title), rate)


def _endpoints(found: LiveList) -> list[Listening]:
    faults = {alert.key.partition(":")[2]: _fault(alert) for alert in alerts_of("endpoint:")}
    return [
        Listening(
            name=row.name,
            ae_title=row.ae_title,
            address=f"[{row.host}]:{row.port}" if ":" in row.host else f"{row.host}:{row.port}",
            tls=row.tls,
            fault=faults.get(row.name, ""),
            known=found.running,
        )
        for row in local_aes_enabled().order_by("pk")
    ]


def _fault(alert: Alert) -> str:
    return alert.words.partition("does not listen. ")[2] or alert.words


def ended_shown(record: AssociationRecord) -> Ended:
    icon, tone, word = MARKS[AssociationOutcome(record.outcome)]
    return Ended(record, icon, tone, word, reason_words(record.reason))


def _summary(found: LiveList, live: list[Live], endpoints: list[Listening], now: datetime) -> Summary:
    if not found.running:
        return Summary(
            "bad",
            "The listeners do not answer: nothing can be received.",
            "Devices are told that nobody listens, and most of them try again by themselves. Start the gateway with "
            "make run; if it runs, manage.py runlisteners or the log says what stops it.",
        )
    today = _today(now)
    faults = [each for each in endpoints if each.fault]
    if faults:
        which = count_words(len(faults), "endpoint does", "endpoints do")
        return Summary("bad" if len(faults) == len(endpoints) else "warn", f"{which} not listen.", today)
    asked = [each for each in live if each.can_end]
    if not asked:
        return Summary("ok", "Nobody is connected; the gateway listens.", today)
    who = sorted({each.calling for each in asked})
    named = ", ".join(who[:3]) + (f" and {len(who) - 3} more" if len(who) > 3 else "")
    rate = sum(each.one.bytes_per_second for each in live)
    together = f" {size_words(rate)}/s together." if rate >= 1 else " Nothing moves at this moment."
    number = count_words(len(asked), "association is", "associations are")
    return Summary("run", f"{number} open: {named}.{together}", today)


def _today(now: datetime) -> str:
    midnight = localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    found = associations_ended_since(max(midnight, now - timedelta(days=1)))
    counts = dict(found.times)
    rejected = counts.pop(AssociationOutcome.REJECTED, 0)
    broken = counts.get(AssociationOutcome.ABORTED, 0) + counts.get(AssociationOutcome.LOST, 0)
    ended = sum(counts.values())
    words = ("At least " if found.cut else "") + count_words(ended, "association has", "associations have")
    words += " ended today"
    words += f", {broken:,} of {'the latest' if found.cut else 'them'} broken off" if broken else ""
    least = "at least " if found.rejections_cut else ""
    return f"{words}; {least}{count_words(rejected, 'was', 'were')} rejected." if rejected else f"{words}."
