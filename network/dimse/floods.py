"""Against floods: how many connections an address may make, and what was refused, counted instead of listed."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

ADDRESSES_MAX = 4096
KEYS_MAX = 256
SAMPLES_MAX = 5
OTHERS = "others"


class RateLimit:
    """At most `per_second` connections from one address in the long run, twice as many in a burst; 0 = no limit.

    Memory is bounded: the address that was quiet longest is forgotten first. One thread only.
    """

    def __init__(self, per_second: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str) -> bool:
        """Count one connection; False when it is one too many."""
        if self.per_second <= 0:
            return True
        now = self._monotonic()
        burst = max(1.0, 2 * self.per_second)
        level, since = self._buckets.pop(address, (0.0, now))
        level = max(0.0, level - (now - since) * self.per_second)
        allowed = level + 1 <= burst
        self._buckets[address] = (level + 1 if allowed else level, now)
        if len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)
        return allowed


@dataclass(frozen=True)
class Refusal:
    """So often was somebody refused for this reason since the last look; AE titles as sent, a few of them."""

    address: str
    reason: str
    count: int
    calling_ae_titles: tuple[str, ...] = ()
    called_ae_titles: tuple[str, ...] = ()
    port: int = 0
    tls: bool = False


class Refusals:
    """What was refused since it was last taken, by address and reason; bounded, whatever comes. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: dict[tuple[str, str], Refusal] = {}

    def count(
        self, address: str, reason: str, *, calling: str = "", called: str = "", port: int = 0, tls: bool = False
    ) -> None:
        """One more. Beyond the bound, addresses that are new are counted together."""
        with self._lock:
            key = (address, reason)
            if key not in self._counted and len(self._counted) >= KEYS_MAX:
                key = (OTHERS, reason)
            known = self._counted.get(key, Refusal(*key, 0))
            self._counted[key] = Refusal(
                *key,
                known.count + 1,
                _sampled(known.calling_ae_titles, calling),
                _sampled(known.called_ae_titles, called),
                port or known.port,
                tls or known.tls,
            )

    def take(self) -> list[Refusal]:
        """All of it, and begin anew."""
        with self._lock:
            taken, self._counted = list(self._counted.values()), {}
        return taken


def _sampled(known: tuple[str, ...], title: str) -> tuple[str, ...]:
    return known if not title or title in known or len(known) >= SAMPLES_MAX else (*known, title)
