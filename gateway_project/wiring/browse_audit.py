"""What the page of the audit trail shows: who did what when, whether the chain holds, and its export."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.utils.timezone import get_current_timezone

from gateway_project.core.models import AuditEvent, AuditEventType
from gateway_project.core.roles import actor_of
from gateway_project.core.selectors import (
    AuditFilters,
    audit_chain,
    audit_matching,
    audit_of,
    audit_page,
    seals_before,
)
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.audit_check import VERIFIED, audit_holds
from gateway_project.wiring.cursor import number_read
from gateway_project.wiring.words import ago_words

EXPORT_CHUNK = 1000
DETAIL_CHARACTERS = 300
OUTCOMES = ("success", "failure", "refused")


@dataclass(frozen=True)
class Row:
    """`holds`: the record is what its link says; None while it waits for its link."""

    event: AuditEvent
    action: str
    details: list[tuple[str, str]]
    holds: bool | None
    failed: bool
    link: str


@dataclass(frozen=True)
class Chain:
    tone: str
    sentence: str
    detail: str


@dataclass(frozen=True)
class AuditView:
    chain: Chain
    rows: list[Row]
    newer: str
    older: str


def audit_view(filters: AuditFilters, *, before: str, after: str, now: datetime) -> AuditView:
    """One page in five queries. Raises ValueError for a cursor that is none."""
    page = audit_page(filters, before=number_read(before) if before else 0, after=number_read(after) if after else 0)
    previous = seals_before(page.rows)
    rows = [_row(event, previous) for event in page.rows]
    return AuditView(
        chain=_chain(rows, now),
        rows=rows,
        newer=str(page.rows[0].pk) if page.newer and page.rows else "",
        older=str(page.rows[-1].pk) if page.older and page.rows else "",
    )


def _row(event: AuditEvent, previous: Mapping[int, str]) -> Row:
    detail = dict(event.detail)
    action = str(detail.pop("action", ""))
    return Row(
        event=event,
        action=action,
        details=[(name.replace("_", " "), _shown(value)) for name, value in detail.items() if value not in ("", None)],
        holds=_holds(event, previous),
        failed=event.outcome != "success",
        link=_link(event.subject),
    )


def _holds(event: AuditEvent, previous: Mapping[int, str]) -> bool | None:
    if not hasattr(event, "seal"):
        return None
    if event.seal.sequence == 1:
        return audit_holds(event, "0" * 64)
    before = previous.get(event.seal.sequence - 1)
    return before is not None and audit_holds(event, before)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= DETAIL_CHARACTERS else f"{text[:DETAIL_CHARACTERS]}…"


def _link(subject: str) -> str:
    kind, _colon, number = subject.partition(":")
    pages = {"study": "/studies/{}/", "vault": "/vaults/{}/", "quarantine": "/quarantine/{}/"}
    usable = kind in pages and number.isascii() and number.isdecimal() and len(number) < 19
    return pages[kind].format(number) if usable else ""


def _chain(rows: list[Row], now: datetime) -> Chain:
    state = audit_chain()
    broken = [row for row in rows if row.holds is False]
    verified = audit_of(VERIFIED).order_by("-id").first()
    if verified is None:
        checked = "The whole chain has not been recomputed from here yet."
    elif verified.outcome == "success":
        checked = (
            f"All {verified.detail.get('records', 0):,} links were recomputed {ago_words(verified.at, now)} and held."
        )
    else:
        checked = (
            f"Recomputed {ago_words(verified.at, now)}: it does not hold from {verified.detail.get('broken_at')} on."
        )
    if broken or (verified is not None and verified.outcome != "success"):
        return Chain("bad", "The audit trail does not hold: a record was changed or removed.", checked)
    if state.sealed_at is None:
        return Chain("run", "No record is sealed yet; the first links are made within half a minute.", checked)
    many = "waits for its link" if state.waiting == 1 else "wait for their link"
    waiting = f"; {state.waiting:,} newer {many}" if state.waiting else ""
    written = ago_words(state.sealed_at, now)
    sealed = f"The trail is sealed up to record {state.sequence:,}, which was written {written}{waiting}."
    return Chain("ok", sealed, f"{checked} The records on this page were compared with their links just now.")


# -- filters -----------------------------------------------------------------------------------------------------------


def filters_read(given: Mapping[str, str]) -> AuditFilters:
    """The filters of an address. Raises ValueError for what is none."""
    event, outcome = given.get("event", ""), given.get("outcome", "")
    if event and event not in AuditEventType.values:
        raise ValueError("not an event")
    if outcome and outcome not in OUTCOMES:
        raise ValueError("not an outcome")
    first, last = given.get("first", ""), given.get("last", "")
    return AuditFilters(
        event=event,
        outcome=outcome,
        actor=given.get("actor", "")[:150],
        subject=given.get("subject", "")[:160],
        since=_midnight(first) if first else None,
        until=_midnight(last, days=1) if last else None,
    )


def is_day(text: str) -> bool:
    try:
        _midnight(text, days=1)
    except ValueError:
        return False
    return True


def _midnight(text: str, *, days: int = 0) -> datetime:
    try:
        day = date.fromisoformat(text) + timedelta(days=days)
        return datetime.combine(day, time(0), get_current_timezone()).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("not a day") from error


def actor_known(text: str) -> str:
    """The actor as the trail has it, from what a person typed (`anna`, `ae:CT_1`); "" when nobody of it did anything.

    Only what is in the trail ever stands in an address: what was typed may be anything, a patient's name too.
    """
    names = [text] if ":" in text else [f"{kind}:{text}" for kind in ("user", "ae", "process", "command")]
    return next((name for name in names if AuditEvent.objects.filter(actor=name).exists()), "")


def subject_known(text: str) -> str:
    """The same for what was acted on: `study:12`, or 12 for a study."""
    name = f"study:{text}" if text.isascii() and text.isdecimal() else text
    return name if AuditEvent.objects.filter(subject=name).exists() else ""


# -- export ------------------------------------------------------------------------------------------------------------


def audit_export(filters: AuditFilters, *, shown: Mapping[str, str], user: Any) -> Iterator[str]:
    """One JSON line for each record, oldest first, with its link; the export is itself recorded before its first line.

    Ends with what was there when it began.
    """
    newest = audit_matching(filters).order_by("-pk").values_list("pk", flat=True).first() or 0
    audit_record(
        "Data Export",
        actor=actor_of(user),
        subject="audit:trail",
        detail={"action": "audit trail exported", "filters": dict(shown), "up_to": newest},
    )
    return _lines(filters, newest)


def _lines(filters: AuditFilters, newest: int) -> Iterator[str]:
    last = 0
    while True:
        found = audit_matching(filters).filter(pk__gt=last, pk__lte=newest).select_related("seal").order_by("pk")
        events = list(found[:EXPORT_CHUNK])
        if not events:
            return
        for event in events:
            yield json.dumps(_line(event), ensure_ascii=False, separators=(",", ":")) + "\n"
        last = events[-1].pk


def _line(event: AuditEvent) -> dict[str, Any]:
    seal = getattr(event, "seal", None)
    return {
        "uid": str(event.uid),
        "at": event.at.astimezone(UTC).isoformat(),
        "event": event.event,
        "outcome": event.outcome,
        "actor": event.actor,
        "subject": event.subject,
        "detail": event.detail,
        "correlation_id": event.correlation_id,
        "sequence": seal.sequence if seal is not None else None,
        "hash": seal.hash if seal is not None else None,
    }
