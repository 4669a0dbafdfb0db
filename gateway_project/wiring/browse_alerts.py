"""What the page of alerts shows: what is open, who was told, what has healed, and by which ways alerts travel."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from django.urls import reverse

from gateway_project.core.models import Alert, JobState, Lane, NoticeKind, NoticeWay, Severity
from gateway_project.core.options import option
from gateway_project.core.selectors import SEVEREST_FIRST, alerts_healed_page, alerts_open, alerts_with_notices
from gateway_project.core.services.notice_ways import ways_set_up
from gateway_project.core.services.notices import lane_name, quiet_now
from gateway_project.wiring.cursor import cursor_read, cursor_write
from gateway_project.wiring.lane_words import Standing, lane_standing
from gateway_project.wiring.words import actor_words, ago_words, count_words
from uploads.models import UploadJob, Vault

OPEN_SHOWN = 200
TONES = {Severity.CRITICAL: "bad", Severity.WARNING: "warn", Severity.INFO: "calm"}


@dataclass(frozen=True)
class Told:
    """One message about an alert: by which way, and what became of it."""

    way: str
    word: str
    at: datetime | None


@dataclass(frozen=True)
class Row:
    alert: Alert
    tone: str
    link: str
    told: list[Told]
    acknowledged_by: str

    @property
    def severity(self) -> str:
        return Severity(self.alert.severity).label


@dataclass(frozen=True)
class Way:
    """One way that alerts travel: where to, and how its lane stands."""

    label: str
    where: str
    standing: Standing


@dataclass(frozen=True)
class Summary:
    tone: str
    sentence: str
    detail: str = ""


@dataclass(frozen=True)
class AlertsView:
    summary: Summary
    pressing: list[Row]
    seen: list[Row]
    unseen: int
    more: int
    history: list[Row]
    newer: str
    older: str
    ways: list[Way]
    quiet: bool


def alerts_view(*, before: str, after: str, now: datetime) -> AlertsView:
    """The whole page in at most eight queries. Raises ValueError for a cursor that is none."""
    found = list(alerts_with_notices(alerts_open().order_by(SEVEREST_FIRST, "-opened_at", "-pk"))[:OPEN_SHOWN])
    page = alerts_healed_page(
        before=cursor_read(before) if before else None, after=cursor_read(after) if after else None
    )
    links = _links([*found, *page.rows])
    rows = [_row(alert, links) for alert in found]
    pressing = [row for row in rows if row.alert.acknowledged_at is None]
    more = alerts_open().count() - len(rows) if len(rows) == OPEN_SHOWN else 0
    return AlertsView(
        summary=_summary(pressing, len(rows) - len(pressing), page.rows, now, more=more),
        pressing=pressing,
        seen=[row for row in rows if row.alert.acknowledged_at is not None],
        unseen=alerts_open().filter(acknowledged_at=None).count() if more else len(pressing),
        more=more,
        history=[_row(alert, links) for alert in page.rows],
        newer=_cursor(page.rows[0]) if page.newer and page.rows else "",
        older=_cursor(page.rows[-1]) if page.older and page.rows else "",
        ways=ways(now),
        quiet=quiet_now(now),
    )


def _cursor(alert: Alert) -> str:
    return cursor_write(alert.healed_at or alert.opened_at, alert.pk)


def _row(alert: Alert, links: dict[int, str]) -> Row:
    told = [
        Told(
            NoticeWay(item.notice.way).label,
            _told_word(item.kind, item.notice.state, item.notice.dropped),
            item.notice.ended_at,
        )
        for item in alert.notice_items.all()
    ]
    tone = "ok" if alert.healed_at is not None else TONES[Severity(alert.severity)]
    who = actor_words(alert.acknowledged_by) or alert.acknowledged_by
    return Row(alert, tone, links.get(alert.pk, ""), told[-4:], who)


def _told_word(kind: str, state: str, dropped: bool) -> str:
    what = "its healing" if kind == NoticeKind.HEALED else "it"
    if state == JobState.DONE and not dropped:
        return f"told of {what}"
    if state == JobState.PARKED:
        return f"could not be told of {what}"
    if dropped or state == JobState.CANCELLED:
        return f"not told of {what}"
    return f"waits to be told of {what}"


def _summary(pressing: list[Row], seen: int, healed: list[Alert], now: datetime, *, more: int) -> Summary:
    if more:
        tone = "bad" if any(row.tone == "bad" for row in pressing) else "warn"
        return Summary(tone, f"{seen + len(pressing) + more:,} alerts are open.", "The most severe are shown.")
    latest = f"The last one healed {ago_words(healed[0].healed_at, now)}." if healed and healed[0].healed_at else ""
    acknowledged = (
        f"{count_words(seen, 'acknowledged alert is', 'acknowledged alerts are')} still open." if seen else ""
    )
    if not pressing:
        sentence = "Nothing needs you." if seen else "Nothing is wrong."
        return Summary("ok", sentence, " ".join(filter(None, (acknowledged, latest))))
    critical = sum(row.alert.severity == Severity.CRITICAL for row in pressing)
    if critical:
        rest = len(pressing) - critical
        others = f" {count_words(rest, 'other needs', 'others need')} a look." if rest else ""
        return Summary(
            "bad", f"{count_words(critical, 'thing needs', 'things need')} a hand now.{others}", acknowledged
        )
    return Summary("warn", f"{count_words(len(pressing), 'thing needs', 'things need')} a look.", acknowledged)


def ways(now: datetime) -> list[Way]:
    """The ways that are set up. One query."""
    set_up = ways_set_up()
    lanes = {lane.name: lane for lane in Lane.objects.filter(name__in=[lane_name(way) for way in set_up])}
    found = []
    for way in set_up:
        lane = lanes.get(lane_name(way), Lane(name=lane_name(way)))
        standing = lane_standing(lane, now)
        if standing.tone == "ok":
            standing = Standing("uploaded", "ok", "ready")
        found.append(Way(way.label, _where(way), standing))
    return found


def _where(way: NoticeWay) -> str:
    """For administrators; never a token, which a webhook's path may hold."""
    if way == NoticeWay.EMAIL:
        recipients = count_words(len(option("ALERT.EMAIL_TO")), "recipient")
        return f"{recipients} through {option('ALERT.EMAIL_HOST')}:{option('ALERT.EMAIL_PORT')}"
    return urlsplit(option("ALERT.WEBHOOK_URL")).hostname or ""


def _links(alerts: Iterable[Alert]) -> dict[int, str]:
    """Where each alert's subject has its page; two queries at most."""
    alerts = list(alerts)
    jobs = {pk: alert for alert in alerts if (pk := _number_after(alert.key, "job:upload:"))}
    studies = dict(UploadJob.objects.filter(pk__in=jobs).values_list("pk", "revision__study_id")) if jobs else {}
    names = {alert.key.removeprefix("lane:vault:") for alert in alerts if alert.key.startswith("lane:vault:")}
    vaults = dict(Vault.objects.filter(name__in=names).values_list("name", "pk")) if names else {}
    return {alert.pk: _link(alert, studies, vaults) for alert in alerts}


def _number_after(key: str, prefix: str) -> int:
    rest = key.removeprefix(prefix)
    return int(rest) if key.startswith(prefix) and rest.isascii() and rest.isdecimal() and len(rest) < 19 else 0


def _link(alert: Alert, studies: dict[int, int], vaults: dict[str, int]) -> str:
    if alert.link.startswith("/") and not alert.link.startswith("//"):
        return alert.link
    study = studies.get(_number_after(alert.key, "job:upload:"))
    if study is not None:
        return reverse("study", args=(study,))
    vault = vaults.get(alert.key.removeprefix("lane:vault:"))
    if vault is not None:
        return reverse("vault", args=(vault,))
    if alert.key.startswith("endpoint:"):
        return reverse("connections")
    if alert.key.startswith("peer-identity:"):
        return f"{reverse('connections')}?outcome=rejected"
    return ""
