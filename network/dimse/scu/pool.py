"""Associations kept for the next piece of work: by peer and contexts, looked at before use, counted, never too many."""

import contextlib
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from network.dimse.contexts import VERIFICATION
from network.dimse.errors import AssociationError
from network.dimse.scu.association import DEFAULT_TIMEOUTS, ClientAssociation, Timeouts, associate
from network.dimse.scu.echo import echo_on
from network.dimse.scu.negotiation import Proposal
from network.dimse.scu.reach import ANYWHERE, Reach

ECHO_AFTER_SECONDS: Final = 15.0
"""An association idle for longer is asked by C-ECHO first, where it has a context for it: a firewall may have let go of
it without a word.
"""
RELEASE_SECONDS: Final = 2.0
"""How long a peer may take to answer the release of one that nobody needs: others wait meanwhile."""
_STALE = frozenset({"connection-lost", "association-aborted", "response-timeout", "connection-failed"})
_FULL = frozenset({"temporary-congestion", "local-limit-exceeded"})
_NOTICE_SECONDS: Final = (0.05, 0.25, 1.0)
_TAKEN_SECONDS: Final = 2.0
"""How long somebody of ours who is let in at the same time may take to say so."""
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class PeerAddress:
    """Whom to call, and as whom. `tls` is compared by identity: contexts are made once for their settings."""

    address: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    tls: ssl.SSLContext | None = None
    reach: Reach = ANYWHERE


@dataclass(frozen=True)
class PoolState:
    """What a page shows of the associations to one peer."""

    peer: PeerAddress
    idle: int
    in_use: int
    opened: int
    reused: int
    failed: int


@dataclass
class _Idle:
    association: ClientAssociation
    since: float


Key = tuple[PeerAddress, tuple[Proposal, ...]]


class PoolFullError(AssociationError):
    """Every association that may be had to this peer is in use (code `pool-full`)."""

    def __init__(self) -> None:
        super().__init__(
            "All associations that are allowed to this peer are in use: try again shortly, or allow more.",
            code="pool-full",
        )


class AssociationPool:
    """For any number of threads; each association is used by one at a time.

    `idle_seconds`: kept at most so long unused, 0: not at all; `per_peer`: open at once to one peer, in use and idle
    together; `total`: idle ones in all. Whoever finds all in use waits up to `wait_seconds`, then gets PoolFullError.
    """

    def __init__(
        self,
        *,
        idle_seconds: float = 60.0,
        per_peer: int = 4,
        total: int = 32,
        wait_seconds: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.idle_seconds, self.per_peer, self.total, self.wait_seconds = idle_seconds, per_peer, total, wait_seconds
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._idle: dict[Key, deque[_Idle]] = {}
        self._in_use: Counter[PeerAddress] = Counter()
        self._working: Counter[PeerAddress] = Counter()  # those of them that stand
        self._returned: Counter[PeerAddress] = Counter()
        self._opened: Counter[PeerAddress] = Counter()
        self._reused: Counter[PeerAddress] = Counter()
        self._failed: Counter[PeerAddress] = Counter()
        self._closed = False

    def run(
        self,
        peer: PeerAddress,
        proposals: Sequence[Proposal],
        work: Callable[[ClientAssociation], _Result],
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> _Result:
        """`work` on an association that stands. When a kept one turns out to be dead before the peer has answered
        anything on it, the work begins again on a fresh one; it must bear that. Raises AssociationError.
        """
        with self.use(peer, proposals, timeouts=timeouts) as opened:
            reused = opened.reused
            try:
                return work(opened)
            except AssociationError as error:
                if not (reused and not opened.answered and error.code in _STALE):
                    raise
        with self.use(peer, proposals, timeouts=timeouts, fresh=True) as opened:
            return work(opened)

    @contextlib.contextmanager
    def use(
        self,
        peer: PeerAddress,
        proposals: Sequence[Proposal],
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        fresh: bool = False,
    ) -> Iterator[ClientAssociation]:
        """One association for the block; kept afterwards if it still stands, aborted when the block raises."""
        key = (peer, tuple(proposals))
        opened = self._take(key, timeouts, fresh=fresh)
        try:
            yield opened
        except BaseException:
            opened.abort()
            self._give_back(key, opened)
            raise
        self._give_back(key, opened)

    def _take(self, key: Key, timeouts: Timeouts, *, fresh: bool) -> ClientAssociation:
        peer = key[0]
        self._wait_for_place(peer)
        try:
            opened = self._had(key, timeouts, fresh=fresh)
        except BaseException:
            with self._changed:
                self._failed[peer] += 1
                self._leave(peer)
            raise
        with self._changed:
            self._working[peer] += 1
            self._changed.notify_all()
        return opened

    def _had(self, key: Key, timeouts: Timeouts, *, fresh: bool) -> ClientAssociation:
        """A kept one, else a new one. While the peer says that it has too many, and one of ours is in use there, that
        is waited for: the peer may take no more than one at a time.
        """
        deadline = self._monotonic() + self.wait_seconds
        while True:
            kept = None if fresh else self._kept(key, timeouts)
            if kept is not None:
                return kept
            returned = self._returned[key[0]]
            try:
                opened = self._opened_for(*key, timeouts)
            except AssociationError as error:
                if error.reason not in _FULL or not self._one_returned(key[0], returned, deadline):
                    raise
            else:
                with self._changed:
                    self._opened[key[0]] += 1
                return opened

    def _one_returned(self, peer: PeerAddress, returned: int, deadline: float) -> bool:
        """Whether an association to this peer came back after `returned` had; waits for those that are in use."""
        with self._changed:
            # another thread may just get the one for which we were rejected
            self._changed.wait_for(
                lambda: self._working[peer] or self._returned[peer] != returned or self._in_use[peer] <= 1,
                _TAKEN_SECONDS,
            )
            while self._working[peer] and self._returned[peer] == returned and not self._closed:
                left = deadline - self._monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return False
            in_time = self._monotonic() < deadline
            return in_time and self._returned[peer] != returned and not self._closed

    def _opened_for(self, peer: PeerAddress, proposals: Sequence[Proposal], timeouts: Timeouts) -> ClientAssociation:
        """A fresh one. A peer that says it has too many gets back what is kept of it, and is asked again until it has
        noticed.
        """
        freed = self._make_room(peer, self.per_peer) > 0
        for pause in (*_NOTICE_SECONDS, None):
            try:
                return _associate(peer, proposals, timeouts)
            except AssociationError as error:
                freed = freed or (error.reason in _FULL and self._make_room(peer, 0) > 0)
                if pause is None or not freed or error.reason not in _FULL:
                    raise
                time.sleep(pause)
        raise PoolFullError

    def _make_room(self, peer: PeerAddress, most: int) -> int:
        """Release the longest idle ones of this peer until at most `most` are open, those in use counted; how many."""
        ended = []
        with self._changed:
            keys = [key for key in self._idle if key[0] == peer]
            open_now = self._in_use[peer] + sum(len(self._idle[key]) for key in keys)
            while open_now > most and any(self._idle[key] for key in keys):
                oldest = min((key for key in keys if self._idle[key]), key=lambda key: self._idle[key][0].since)
                ended.append(self._idle[oldest].popleft().association)
                open_now -= 1
        for one in ended:
            one.release(seconds=RELEASE_SECONDS)
        return len(ended)

    def _wait_for_place(self, peer: PeerAddress) -> None:
        deadline = self._monotonic() + self.wait_seconds
        with self._changed:
            while self._in_use[peer] >= self.per_peer:
                left = deadline - self._monotonic()
                if left <= 0 or self._closed or not self._changed.wait(left):
                    raise PoolFullError
            self._in_use[peer] += 1

    def _kept(self, key: Key, timeouts: Timeouts) -> ClientAssociation | None:
        """An idle one that still stands; the dead ones before it are closed."""
        while (idle := self._pop(key)) is not None:
            opened, age = idle.association, self._monotonic() - idle.since
            opened.timeouts, opened.answered, opened.reused = timeouts, 0, True
            if age < self.idle_seconds and opened.is_quiet() and self._answers(opened, age):
                with self._changed:
                    self._reused[key[0]] += 1
                return opened
            if opened.is_quiet():
                opened.release(seconds=RELEASE_SECONDS)
            else:
                opened.abort()
        return None

    def _pop(self, key: Key) -> _Idle | None:
        with self._changed:
            waiting = self._idle.get(key)
            return waiting.pop() if waiting else None

    @staticmethod
    def _answers(opened: ClientAssociation, age: float) -> bool:
        if age < ECHO_AFTER_SECONDS or opened.context(VERIFICATION) is None:
            return True
        try:
            echo_on(opened)
        except AssociationError:
            return False
        opened.answered = 0
        return True

    def _give_back(self, key: Key, opened: ClientAssociation) -> None:
        surplus: list[ClientAssociation] = []
        with self._changed:
            keeps = self.idle_seconds > 0 and not self._closed
            if keeps and opened.is_established and opened.accepted.contexts:
                self._idle.setdefault(key, deque()).append(_Idle(opened, self._monotonic()))
                surplus = self._surplus(key[0])
            else:
                surplus.append(opened)
            self._working[key[0]] -= 1
            self._returned[key[0]] += 1
            self._leave(key[0])
        for one in surplus:
            one.release(seconds=RELEASE_SECONDS)

    def _leave(self, peer: PeerAddress) -> None:
        self._in_use[peer] -= 1
        self._changed.notify_all()

    def _surplus(self, peer: PeerAddress) -> list[ClientAssociation]:
        """The longest idle ones beyond what may be kept; the lock is held."""
        found = []
        of_peer = sum(len(idle) for (one, _proposals), idle in self._idle.items() if one == peer)
        everywhere = sum(len(idle) for idle in self._idle.values())
        while of_peer > self.per_peer or everywhere > self.total:
            keys = [key for key, idle in self._idle.items() if idle and (of_peer <= self.per_peer or key[0] == peer)]
            oldest = min(keys, key=lambda key: self._idle[key][0].since)
            found.append(self._idle[oldest].popleft().association)
            of_peer -= oldest[0] == peer
            everywhere -= 1
        return found

    def sweep(self) -> None:
        """Release what has been idle for too long; to be called now and then."""
        ended: list[ClientAssociation] = []
        with self._changed:
            limit = self._monotonic() - self.idle_seconds
            for key in list(self._idle):
                idle = self._idle[key]
                while idle and idle[0].since <= limit:
                    ended.append(idle.popleft().association)
                if not idle:
                    del self._idle[key]
        for one in ended:
            one.release(seconds=RELEASE_SECONDS)

    def close(self) -> None:
        """Release every idle one and keep none from now on. May be repeated."""
        with self._changed:
            self._closed = True
            ended = [one.association for idle in self._idle.values() for one in idle]
            self._idle.clear()
            self._changed.notify_all()
        for one in ended:
            one.release(seconds=RELEASE_SECONDS)

    def state(self) -> list[PoolState]:
        """Each peer that was called since the start, in no order."""
        with self._changed:
            peers = {*self._opened, *self._failed, *self._in_use}
            idle: Counter[PeerAddress] = Counter()
            for (peer, _proposals), waiting in self._idle.items():
                idle[peer] += len(waiting)
            return [
                PoolState(p, idle[p], self._in_use[p], self._opened[p], self._reused[p], self._failed[p]) for p in peers
            ]


def _associate(peer: PeerAddress, proposals: Sequence[Proposal], timeouts: Timeouts) -> ClientAssociation:
    return associate(
        proposals,
        address=peer.address,
        port=peer.port,
        calling_ae_title=peer.calling_ae_title,
        called_ae_title=peer.called_ae_title,
        timeouts=timeouts,
        tls=peer.tls,
        reach=peer.reach,
    )


def pool_of_none() -> AssociationPool:
    """One that keeps nothing: an association for each piece of work."""
    return AssociationPool(idle_seconds=0)
