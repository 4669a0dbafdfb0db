"""Tells of a source that is silent against its own usual week, and heals that when it sends again."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.timezone import get_current_timezone, localtime

from gateway_project.core.models import Alert, Severity
from gateway_project.core.options import option
from gateway_project.core.services.alerts import alert_heal, alert_open
from studies.activity import arrivals_behind, source_hours, sources_quiet, sources_speaking, sources_watched
from studies.models import SourceActivity, SourcePolicy
from studies.services.policy import source_policy_save
from studies.silence import ALERT_SOURCE, CODE_SOURCE, Verdict, judge

ALERT_MANY = CODE_MANY = "sources-silent"
QUIET_LEAST = timedelta(hours=1)
MANY_LEAST = 3


@dataclass(frozen=True)
class Judged:
    source: SourceActivity
    verdict: Verdict

    @property
    def late(self) -> bool:
        """Half way to being silent: counts when it is decided whether all of them are."""
        return self.verdict.known and self.verdict.missed >= self.verdict.bound / 2


def silence_watch(now: datetime) -> None:
    """Opens an alert for each silent source and heals the others'. May be repeated.

    When three or more are late, and twice as many as have sent within the hour, it is a holiday or a fault in between,
    not a device: then one alert tells of all of them, and none of its own is opened for any. Nothing is judged while
    the rollup is behind, as after an upgrade: its latest objects are then old ones.
    """
    if not option("SILENCE.ENABLED"):
        _heal_all_but(set(), many=False)
        return
    if arrivals_behind():
        return
    judged = [Judged(source, source_judge(source, now)) for source in _watched(sources_quiet(now - QUIET_LEAST))]
    silent = [each for each in judged if each.verdict.silent]
    late = sum(each.late for each in judged)
    if silent and late >= MANY_LEAST and late >= 2 * sources_speaking(now - QUIET_LEAST):
        told = {ALERT_SOURCE + each.source.calling_ae_title for each in silent}
        _heal_all_but(told, many=True)
        _many_tell(silent, late)
        return
    for each in silent:
        _tell(each)
    _heal_all_but({ALERT_SOURCE + each.source.calling_ae_title for each in silent}, many=False)


def source_judge(source: SourceActivity, now: datetime) -> Verdict:
    """One query over at most SILENCE.WEEKS weeks of its hours."""
    weeks = option("SILENCE.WEEKS")
    return judge(
        source_hours(source, source.last_at - timedelta(weeks=weeks)),
        first_at=source.first_at,
        last_at=source.last_at,
        now=now,
        least=option("SILENCE.MISSED_HOURS"),
        history_days=option("SILENCE.HISTORY_DAYS"),
        weeks=weeks,
        zone=get_current_timezone(),
    )


def silence_heal(titles: Iterable[str]) -> None:
    """These have just sent something."""
    for title in titles:
        alert_heal(ALERT_SOURCE + title)


def silence_switch(title: str, *, watched: bool, actor: str) -> None:
    """A person says whether this source is to be watched; audited. Off heals its alert at once."""
    policy = SourcePolicy.objects.filter(calling_ae_title=title).first() or SourcePolicy(calling_ae_title=title)
    policy.silence_watched = watched
    source_policy_save(policy, actor=actor)
    if not watched:
        alert_heal(ALERT_SOURCE + title)


def _watched(sources: Iterable[SourceActivity]) -> list[SourceActivity]:
    decided, by_default = sources_watched()
    return [source for source in sources if decided.get(source.calling_ae_title, by_default)]


def _tell(each: Judged) -> None:
    title = each.source.calling_ae_title
    alert_open(
        ALERT_SOURCE + title,
        code=CODE_SOURCE,
        words=f"{title or 'A sender without a name'} has sent nothing since {localtime(each.source.last_at):%a %H:%M}, "
        f"{localtime(each.source.last_at):%Y-%m-%d}. By its usual week it has missed {each.verdict.missed:.0f} hours "
        "in which it sends. Look at the device, its network and its send queue.",
        severity=Severity.WARNING,
        link="/",
    )


def _many_tell(silent: list[Judged], late: int) -> None:
    names = ", ".join(each.source.calling_ae_title or "(no name)" for each in silent[:5])
    alert_open(
        ALERT_MANY,
        code=CODE_MANY,
        words=f"{late} sources are late at once, {len(silent)} of them silent against their usual week: {names}"
        f"{' and others' if len(silent) > 5 else ''}. A holiday, or something between them and the gateway.",
        severity=Severity.WARNING,
        link="/",
    )


def _heal_all_but(told: set[str], *, many: bool) -> None:
    opened = Alert.objects.filter(code=CODE_SOURCE, healed_at__isnull=True).exclude(key__in=told)
    for key in list(opened.values_list("key", flat=True)):
        alert_heal(key)
    if not many:
        alert_heal(ALERT_MANY)
