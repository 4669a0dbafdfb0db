"""What the pages of the quarantine show, and deciding about many of its objects at once."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from gateway_project.core.options import option
from gateway_project.wiring.cursor import cursor_read, cursor_write
from gateway_project.wiring.words import actor_words, ago_words, count_words, size_words
from studies.dicom.spool import SpoolError
from studies.errors import QuarantineError
from studies.models import QuarantinedObject, QuarantineState
from studies.options import GB
from studies.selectors import (
    quarantine_kinds,
    quarantine_matching,
    quarantine_page,
    quarantine_totals,
    store_open,
)
from studies.services.accept import quarantine_accept
from studies.services.quarantine import quarantine_discard

STATES = {"open": "to be decided", "accepted": "accepted", "discarded": "discarded", "all": "all"}
MARKS = {
    QuarantineState.OPEN: ("again", "warn"),
    QuarantineState.ACCEPTED: ("uploaded", "ok"),
    QuarantineState.DISCARDED: ("deleted", "calm"),
}
# Accepting copies and reads every byte while the page is waited for; discarding does not. The form that confirms it has
# a field for each object, and a form may hold 500 (DATA_UPLOAD_MAX_NUMBER_FIELDS).
AT_ONCE = {"accept": 50, "discard": 400}


@dataclass(frozen=True)
class Filters:
    """What is shown: a state of STATES, a code and a calling AE title ("" for any)."""

    state: str = "open"
    code: str = ""
    source: str = ""

    def rows(self) -> QuerySet[QuarantinedObject]:
        state = "" if self.state == "all" else self.state
        return quarantine_matching(state=state, code=self.code, source=self.source)


@dataclass(frozen=True)
class Row:
    row: QuarantinedObject
    icon: str
    tone: str

    @property
    def is_open(self) -> bool:
        return self.row.state == QuarantineState.OPEN

    @property
    def decided_by(self) -> str:
        return actor_words(self.row.decided_by) or "the gateway"


@dataclass(frozen=True)
class Summary:
    tone: str
    sentence: str
    detail: str = ""


@dataclass(frozen=True)
class QuarantineView:
    summary: Summary
    rows: list[Row]
    newer: str
    older: str
    codes: list[str]
    sources: list[str]
    any_open: bool


@dataclass(frozen=True)
class Choice:
    """What a person is about to decide about: how many, how large, from whom."""

    pks: list[int]
    size_bytes: int
    sources: str
    beyond: int
    unkept: int


@dataclass(frozen=True)
class Outcome:
    done: int
    refusals: list[tuple[str, int]]


def quarantine_view(filters: Filters, *, before: str, after: str, now: datetime) -> QuarantineView:
    """One page in five queries. Raises ValueError for a filter or a cursor that is none."""
    codes, sources = quarantine_kinds()
    known = filters.state in STATES and filters.code in ("", *codes) and filters.source in ("", *sources)
    if not known:
        raise ValueError("not a filter")
    page = quarantine_page(
        filters.rows(),
        before=cursor_read(before) if before else None,
        after=cursor_read(after) if after else None,
    )
    rows = [row_view(row) for row in page.rows]
    return QuarantineView(
        summary=_summary(now),
        rows=rows,
        newer=cursor_write(page.rows[0].latest_at, page.rows[0].pk) if page.newer and page.rows else "",
        older=cursor_write(page.rows[-1].latest_at, page.rows[-1].pk) if page.older and page.rows else "",
        codes=codes,
        sources=sources,
        any_open=any(row.is_open for row in rows),
    )


def row_view(row: QuarantinedObject) -> Row:
    icon, tone = MARKS[QuarantineState(row.state)]
    return Row(row, icon, tone)


def _summary(now: datetime) -> Summary:
    totals = quarantine_totals()
    room = int(option("STORAGE.QUARANTINE_GB") * GB)
    kept = f"{size_words(totals.kept_bytes)} of {size_words(room)} are used."
    if not totals.waiting or totals.oldest_at is None:
        return Summary(
            "ok", "Nothing waits in quarantine.", "Objects that cannot be taken in come here, with the reason."
        )
    waits = "object waits" if totals.waiting == 1 else "objects wait"
    return Summary(
        "warn",
        f"{totals.waiting:,} refused {waits} for a decision.",
        f"The oldest came {ago_words(totals.oldest_at, now)}. {kept}",
    )


def choice_of(pks: Sequence[int], *, decision: str) -> Choice:
    """Of these, what can still be decided about; no more than may be decided about at once."""
    return _choice(QuarantinedObject.objects.filter(pk__in=pks, state=QuarantineState.OPEN), decision)


def choice_of_all(filters: Filters, *, decision: str) -> Choice:
    """The same of everything that the filters show."""
    return _choice(filters.rows().filter(state=QuarantineState.OPEN), decision)


def _choice(rows: QuerySet[QuarantinedObject], decision: str) -> Choice:
    most = AT_ONCE[decision]
    found = list(rows.order_by("pk").values_list("pk", "size_bytes", "source_ae_title", "kept")[:most])
    beyond = rows.count() - len(found) if len(found) == most else 0
    senders = Counter(source or "an unnamed sender" for _pk, _size, source, _kept in found)
    named = ", ".join(name for name, _count in senders.most_common(3))
    return Choice(
        pks=[pk for pk, _size, _source, _kept in found],
        size_bytes=sum(size for _pk, size, _source, kept in found if kept),
        sources=named + (f" and {len(senders) - 3} more" if len(senders) > 3 else ""),
        beyond=beyond,
        unkept=sum(not kept for _pk, _size, _source, kept in found),
    )


def decide(pks: Sequence[int], *, decision: str, actor: str) -> Outcome:
    """Accepts or discards each of these apart: one that cannot be decided about keeps none of the others.

    Raises SpoolError when the store itself cannot be used.
    """
    acts: dict[str, Callable[..., object]] = {"accept": quarantine_accept, "discard": quarantine_discard}
    store, done, refusals = store_open(), 0, Counter[str]()
    for row in QuarantinedObject.objects.filter(pk__in=list(pks)[: AT_ONCE[decision]]).order_by("pk"):
        try:
            acts[decision](row, actor=actor, store=store)
        except (QuarantineError, SpoolError) as error:
            refusals[str(error)] += 1
        else:
            done += 1
    return Outcome(done, refusals.most_common())


def consequences(decision: str, count: int) -> str:
    """What a decision does, before it is done."""
    if decision == "accept":
        which = "It goes" if count == 1 else "They go"
        return (
            f"{which} into the study that the bytes name, byte for byte and flagged accepted-anyway, and travel to the "
            "vault in the next revision. What has no readable identity stays here and says so."
        )
    which = "Its bytes are" if count == 1 else "Their bytes are"
    return (
        f"{which} removed for good and cannot be had back; who decided, when and why it was refused stay in the audit "
        "trail. If the device sends the same again, it comes here again."
    )


def objects_words(count: int) -> str:
    return count_words(count, "object")
