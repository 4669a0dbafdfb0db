"""When a source counts as silent against its own usual week: arithmetic alone, without a database.

The rule, in plain words. Every hour of the week (Monday 9 to 10, say) has a weight for this source: in how many of
the last weeks something came in that hour, from 0 (never) to 1 (every week). The hours since its latest object are
added up by these weights: those are the *missed hours*, the hours in which something should have come. A night, a
weekend or a weekly pause weighs nothing. The source is silent when it has missed `least` hours or more, and half as
much again as in nearly all (95 %) of its own earlier pauses. A source that is too new, or sends too rarely for a
profile, is never called silent.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

ALERT_SOURCE = "source-silent:"  # and the calling AE title: the key of a source's alert
CODE_SOURCE = "source-silent"
HOUR = timedelta(hours=1)
WEEK = timedelta(weeks=1)
ACTIVE_HOURS_LEAST = 20
USUAL_SHARE = 0.95
BEYOND_USUAL = 1.5


@dataclass(frozen=True)
class Verdict:
    """`known`: there is enough history to judge. `missed`: hours of usual sending since its latest object;
    `bound`: from how many on it counts as silent."""

    known: bool
    missed: float = 0.0
    bound: float = 0.0

    @property
    def silent(self) -> bool:
        return self.known and self.missed >= self.bound


class Profile:
    """A source's usual week: the weight of each of its 168 hours, by the clock on the wall."""

    def __init__(self, hours: Iterable[datetime], *, weeks: int, zone: tzinfo) -> None:
        self._zone = zone
        counted = Counter(self._slot(hour) for hour in hours)
        self._weights = {slot: min(count / weeks, 1.0) for slot, count in counted.items()}

    def missed(self, after: datetime, before: datetime) -> float:
        """The weights of all whole hours between two moments, added up."""
        first = _hour_of(after) + HOUR
        whole = max(int((before - first) / HOUR), 0)
        weeks, rest = divmod(whole, 168)
        missed = weeks * sum(self._weights.values())
        for number in range(rest):
            missed += self._weights.get(self._slot(first + number * HOUR), 0.0)
        return missed

    def _slot(self, moment: datetime) -> int:
        local = moment.astimezone(self._zone)
        return local.weekday() * 24 + local.hour


def judge(
    hours: Sequence[datetime],
    *,
    first_at: datetime,
    last_at: datetime,
    now: datetime,
    least: float,
    history_days: float,
    weeks: int,
    zone: tzinfo,
) -> Verdict:
    """Whether a source is silent at `now`. `hours`: those in which something came, ascending, in UTC.

    Its profile is made of the `weeks` before its latest object, so that a long silence does not become the usual.
    """
    begin = max(last_at - weeks * WEEK, _hour_of(first_at))
    usual = [hour for hour in hours if begin <= hour <= last_at]
    spanned = math.floor((last_at - begin) / WEEK)
    if (last_at - first_at).total_seconds() < history_days * 86_400 or spanned < 1 or len(usual) < ACTIVE_HOURS_LEAST:
        return Verdict(known=False)
    profile = Profile(usual, weeks=math.ceil((last_at - begin) / WEEK), zone=zone)
    bound = max(least, BEYOND_USUAL * _usual_pause(profile, usual))
    return Verdict(known=True, missed=profile.missed(last_at, now), bound=bound)


def _usual_pause(profile: Profile, hours: Sequence[datetime]) -> float:
    """What 95 of 100 pauses between two of its active hours did not exceed, in missed hours."""
    pauses = sorted(profile.missed(hour, later) for hour, later in itertools.pairwise(hours))
    return pauses[min(math.ceil(USUAL_SHARE * len(pauses)), len(pauses)) - 1]


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
