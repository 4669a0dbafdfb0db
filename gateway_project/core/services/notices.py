"""Telling people of alerts: once when one opens, once when it becomes more severe, once when it heals.

An alert is marked as told in the transaction that writes its messages; from there on the messages' rows are the truth,
and they are sent at least once. Alerts about the sending itself are shown on pages and never sent.
"""

import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.timezone import localtime

from gateway_project.core.errors import JobFault
from gateway_project.core.models import (
    Alert,
    AlertNotice,
    AlertNoticeItem,
    AuditEventType,
    JobState,
    Lane,
    NoticeKind,
    NoticeWay,
    Severity,
)
from gateway_project.core.notice_text import Event
from gateway_project.core.options import option
from gateway_project.core.queues import NOTICE_QUEUE, REGISTRY
from gateway_project.core.reach import NoticeError
from gateway_project.core.services.alerts import SEVERITY_RANKS, alert_heal, alert_open
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.bell import ring
from gateway_project.core.services.jobs import job_retry, job_subject
from gateway_project.core.services.lanes import lane_ensure
from gateway_project.core.services.notice_ways import LANE_TITLES, hand_over, sender, ways_set_up
from gateway_project.core.windows import window_closes, windows_parse

logger = logging.getLogger(__name__)

AT_ONCE = 500
KEPT = timedelta(days=90)
GIVEN_UP_FOR_GOOD = timedelta(days=1)
ALERT_RECIPIENTS = "notices:recipients"
# Alerts that tell of the sending itself.
OF_ITSELF = Q(key__startswith="lane:notices:") | Q(key__startswith="job:notices:") | Q(key__startswith="notices:")


@dataclass(frozen=True)
class News:
    """What is to be told of one alert."""

    alert: Alert
    kind: NoticeKind


def notices_write(now: datetime) -> int:
    """Writes the messages that are due, one for each way, and marks their alerts as told; answers how many alerts.

    May be repeated and may race: rows are locked while that is decided, and what another holds is left to it.
    """
    ways = ways_set_up()
    _ways_left(ways)
    if not ways:
        return 0
    with transaction.atomic():
        news = _news(now)
        if not _any_due(news, now):
            return 0
        for way in ways:
            _message(way, news, now)
        for each in news:
            _told(each, now)
    ring(NOTICE_QUEUE)
    AlertNotice.objects.filter(state=JobState.DONE, ended_at__lt=now - KEPT).delete()
    logger.info("notices written", extra={"alerts": len(news), "ways": [str(way) for way in ways]})
    return len(news)


def _ways_left(ways: Iterable[NoticeWay]) -> None:
    """A way that was switched off has no messages to send and no fault to tell of."""
    for way in set(NoticeWay) - set(ways):
        waiting = AlertNotice.objects.filter(way=way, state__in=(JobState.READY, JobState.PARKED))
        for pk in list(waiting.values_list("pk", flat=True)):
            AlertNotice.objects.filter(pk=pk).update(state=JobState.CANCELLED, dropped=True)
            alert_heal(f"job:{NOTICE_QUEUE}:{pk}")
        name = lane_name(way)
        if Lane.objects.filter(name=name, faults__gt=0).update(
            faults=0, open_until=None, fault_code="", fault_words=""
        ):
            alert_heal(f"lane:{name}")


def lane_name(way: NoticeWay) -> str:
    return f"notices:{way}"


def quiet_now(now: datetime) -> bool:
    """Whether only critical alerts are sent at this moment."""
    return window_closes(windows_parse(option("ALERT.QUIET_HOURS")), localtime(now)) is not None


def _news(now: datetime) -> list[News]:
    least = Severity.CRITICAL if quiet_now(now) else Severity(option("ALERT.MIN_SEVERITY"))
    told_of = [each for each in Severity if SEVERITY_RANKS[each] >= SEVERITY_RANKS[least]]
    alerts = Alert.objects.select_for_update(skip_locked=True, no_key=True).exclude(OF_ITSELF).order_by("pk")
    return [*_opened(alerts, told_of), *_healed(alerts, told_of)][:AT_ONCE]


def _opened(alerts: "QuerySet[Alert]", told_of: list[Severity]) -> list[News]:
    untold = Q(notified_at__isnull=True)
    for each in told_of:
        milder = [other for other in Severity if SEVERITY_RANKS[other] < SEVERITY_RANKS[each]]
        untold |= Q(severity=each, notified_severity__in=milder)
    found = alerts.filter(untold, healed_at__isnull=True, acknowledged_at__isnull=True, severity__in=told_of)
    return [
        News(alert, NoticeKind.OPENED if alert.notified_at is None else NoticeKind.WORSE) for alert in found[:AT_ONCE]
    ]


def _healed(alerts: "QuerySet[Alert]", told_of: list[Severity]) -> list[News]:
    """Only what somebody was told of is told to be well again."""
    found = alerts.filter(
        healed_at__isnull=False,
        notified_at__isnull=False,
        healed_notified_at__isnull=True,
        notified_severity__in=told_of,
    )
    return [News(alert, NoticeKind.HEALED) for alert in found[:AT_ONCE]]


def _any_due(news: list[News], now: datetime) -> bool:
    """What comes up together goes together: the first of it is waited with for a moment."""
    ripe = now - timedelta(seconds=option("ALERT.GROUP_SECONDS"))
    return any(_since(each) <= ripe for each in news)


def _since(news: News) -> datetime:
    if news.kind == NoticeKind.HEALED and news.alert.healed_at is not None:
        return news.alert.healed_at
    return news.alert.opened_at


def _message(way: NoticeWay, news: list[News], now: datetime) -> None:
    """Adds to the message that waits, also after it failed, or writes a new one: never more than one waits."""
    waiting = AlertNotice.objects.select_for_update(no_key=True).filter(way=way, state=JobState.READY)
    notice = waiting.order_by("pk").first()
    hurry = any(_is_pressing(way, each, now) for each in news)
    if notice is None:
        lane = lane_ensure(lane_name(way), title=LANE_TITLES[way])
        run_after = now if hurry else _next_turn(way, now)
        notice = AlertNotice.objects.create(queue=NOTICE_QUEUE, way=way, lane=lane, run_after=run_after, created_at=now)
    elif hurry:
        AlertNotice.objects.filter(pk=notice.pk).update(run_after=now)
    AlertNoticeItem.objects.bulk_create(
        AlertNoticeItem(
            notice=notice,
            alert=each.alert,
            kind=each.kind,
            severity=each.alert.severity,
            words=each.alert.words,
            at=now,
        )
        for each in news
    )


def _next_turn(way: NoticeWay, now: datetime) -> datetime:
    sent = AlertNotice.objects.filter(way=way, state=JobState.DONE, dropped=False).order_by("-pk").first()
    if sent is None or sent.ended_at is None:
        return now
    return max(now, sent.ended_at + timedelta(seconds=option("ALERT.SPACING_SECONDS")))


def _is_pressing(way: NoticeWay, news: News, now: datetime) -> bool:
    """Critical, and not the same thing again that was told a moment ago."""
    if news.kind == NoticeKind.HEALED or news.alert.severity != Severity.CRITICAL:
        return False
    lately = now - timedelta(seconds=option("ALERT.SPACING_SECONDS"))
    same = AlertNoticeItem.objects.filter(
        alert__key=news.alert.key, severity=Severity.CRITICAL, notice__way=way, at__gte=lately
    )
    return not same.exists()


def _told(news: News, now: datetime) -> None:
    row = Alert.objects.filter(pk=news.alert.pk)
    if news.kind == NoticeKind.HEALED:
        row.update(healed_notified_at=now)
    else:
        row.update(notified_at=now, notified_severity=news.alert.severity)


# -- sending -----------------------------------------------------------------------------------------------------------


def notice_send(notice: AlertNotice, *, now: datetime) -> None:
    """Sends one claimed message. A dead server is the way's fault and costs no attempt: JobFault.

    What somebody acknowledged meanwhile is left out; when nothing is left, nothing is sent.
    """
    way = NoticeWay(notice.way)
    items = [item for item in notice.items.select_related("alert").order_by("pk") if _worth_telling(item)]
    if not items or way not in ways_set_up():
        AlertNotice.objects.filter(pk=notice.pk, claim_id=notice.claim_id).update(dropped=True)
        logger.info("notice dropped", extra={"notice": notice.pk})
        return
    try:
        handed = hand_over(way, [_event(item) for item in items], now=now)
    except NoticeError as error:
        raise JobFault(
            str(error),
            code=f"notice-{error.code}",
            lane_fault=not error.ours,
            retry_after_seconds=error.retry_after_seconds,
        ) from error
    logger.info("notice sent", extra={"notice": notice.pk, "way": str(way), "alerts": len(items)})
    if way == NoticeWay.EMAIL:
        _recipients_judge(handed.refused)
    _given_up_again(way, now)


def _given_up_again(way: NoticeWay, now: datetime) -> None:
    """The way works: what was refused lately is tried anew, what is older is news no more."""
    queue = REGISTRY.queues[NOTICE_QUEUE]
    for notice in AlertNotice.objects.filter(queue=NOTICE_QUEUE, way=way, state=JobState.PARKED)[:20]:
        if notice.created_at < now - GIVEN_UP_FOR_GOOD:
            AlertNotice.objects.filter(pk=notice.pk, state=JobState.PARKED).update(
                state=JobState.CANCELLED, dropped=True
            )
            alert_heal(job_subject(notice))
        else:
            job_retry(queue, notice, now=now)


def _worth_telling(item: AlertNoticeItem) -> bool:
    return item.kind == NoticeKind.HEALED or item.alert.acknowledged_at is None


def _event(item: AlertNoticeItem) -> Event:
    alert = item.alert
    return Event(
        uid=str(item.uid),
        event=item.kind,
        alert=alert.pk,
        key=alert.key,
        code=alert.code,
        severity=item.severity,
        words=item.words,
        opened_at=localtime(alert.opened_at),
        at=localtime(item.at),
        count=alert.count,
        healed_at=localtime(alert.healed_at) if alert.healed_at is not None else None,
        address=sender().address(alert.link or f"/alerts/#alert-{alert.pk}"),
    )


def _recipients_judge(refused: int) -> None:
    if refused:
        words = f"The mail server refuses {refused} of the recipients in ALERT.EMAIL_TO; the others got the mail."
        alert_open(ALERT_RECIPIENTS, code="notice-recipients", words=words)
    else:
        alert_heal(ALERT_RECIPIENTS)


# -- the test ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """How one way took a test message, in words."""

    way: NoticeWay
    ok: bool
    words: str


def notices_try(*, actor: str, now: datetime) -> list[Tried]:
    """Sends a test by each way that is set up, at once, and says how each took it. Audited. Alerts are not touched."""
    tried = [_try(way, now) for way in ways_set_up()]
    audit_record(
        AuditEventType.APPLICATION_ACTIVITY,
        actor=actor,
        subject="alert:test",
        detail={"action": "test alert sent", "ways": {str(each.way): each.ok for each in tried}},
        outcome="success" if all(each.ok for each in tried) else "failure",
    )
    return tried


def _try(way: NoticeWay, now: datetime) -> Tried:
    event = Event(
        uid=str(uuid.uuid4()),
        event="test",
        alert=0,
        key="test",
        code="test",
        severity=Severity.INFO,
        words="This is a test: alerts of this gateway reach you this way.",
        opened_at=localtime(now),
        at=localtime(now),
        count=1,
        healed_at=None,
    )
    try:
        handed = hand_over(way, [event], now=now)
    except NoticeError as error:
        logger.warning("test notice failed", extra={"way": str(way), "code": error.code})
        return Tried(way, ok=False, words=str(error))
    if handed.refused:
        return Tried(way, ok=False, words=f"The mail server took it, but refuses {handed.refused} of the recipients.")
    taken = "The mail server took it; look into the mailbox." if way == NoticeWay.EMAIL else "The receiver took it."
    return Tried(way, ok=True, words=taken)
