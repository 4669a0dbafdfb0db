"""A peer is tried step by step: its name, the connection, TLS, the association, an echo, and what it offers."""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from network.dimse.contexts import VERIFICATION
from network.dimse.errors import DimseError
from network.dimse.normalized.ports import STORAGE_COMMITMENT
from network.dimse.scu.association import ClientAssociation, Timeouts, associate_on
from network.dimse.scu.commitment import ASKING
from network.dimse.scu.echo import VERIFICATION_PROPOSAL, echo_on
from network.dimse.scu.link import Link, link_connect, link_resolve, link_secure
from network.dimse.scu.negotiation import Proposal, associate_request
from network.dimse.scu.pool import PeerAddress

_PLAIN: Final = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
_STORAGE: Final = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "digital X-ray": "1.2.840.10008.5.1.4.1.1.1.1",
    "ultrasound": "1.2.840.10008.5.1.4.1.1.6.1",
    "secondary capture": "1.2.840.10008.5.1.4.1.1.7",
    "PDF": "1.2.840.10008.5.1.4.1.1.104.1",
}
_FIND: Final = {"Study Root": "1.2.840.10008.5.1.4.1.2.2.1", "Patient Root": "1.2.840.10008.5.1.4.1.2.1.1"}
_MOVE: Final = {"Study Root": "1.2.840.10008.5.1.4.1.2.2.2", "Patient Root": "1.2.840.10008.5.1.4.1.2.1.2"}
_GET: Final = {"Study Root": "1.2.840.10008.5.1.4.1.2.2.3", "Patient Root": "1.2.840.10008.5.1.4.1.2.1.3"}
_SERVICES: Final = {
    "store": ("Takes objects (C-STORE)", _STORAGE),
    "query": ("Answers queries (C-FIND)", _FIND),
    "move": ("Sends to a third (C-MOVE)", _MOVE),
    "get": ("Sends back to us (C-GET)", _GET),
    "commit": ("Commits to storage", {"storage commitment": STORAGE_COMMITMENT}),
}
_Result = TypeVar("_Result")
Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Step:
    """One step: what it was, how it ended, and in words what that means; `code` of a failure is that of its error."""

    name: str
    outcome: Outcome
    words: str = ""
    code: str = ""
    seconds: float = 0.0

    @property
    def took(self) -> str:
        return f"{self.seconds * 1000:,.0f} ms" if self.seconds >= 0.001 else "under 1 ms"


@dataclass(frozen=True)
class Offer:
    """One service, and which of its contexts the peer has accepted."""

    key: str
    label: str
    accepted: list[str] = field(default_factory=list)

    @property
    def is_offered(self) -> bool:
        return bool(self.accepted)


@dataclass(frozen=True)
class Trial:
    """How far it went. `offers` is empty when there was no association."""

    steps: list[Step]
    offers: list[Offer] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """No step failed."""
        return all(step.outcome != "failed" for step in self.steps)

    @property
    def failure(self) -> Step | None:
        return next((step for step in self.steps if step.outcome == "failed"), None)

    def offers_service(self, key: str) -> bool:
        return any(offer.is_offered for offer in self.offers if offer.key == key)


STEPS: Final = ("Find its address", "Connect", "TLS handshake", "Associate", "Echo")


def trial_run(peer: PeerAddress, *, timeouts: Timeouts) -> Trial:
    """Every step until one fails; takes as long as the timeouts allow and never raises for what the peer does.

    Nothing is stored, asked or moved: only contexts are proposed, and one C-ECHO is sent. Raises ConfigurationError for
    an AE title that is none.
    """
    run, proposals = _Run(), _proposals()
    request = associate_request(proposals, calling=peer.calling_ae_title, called=peer.called_ae_title)
    try:
        link = _connect(run, peer, timeouts)
        opened = run.step(
            STEPS[3],
            lambda: associate_on(link, request, proposals, timeouts),
            lambda _opened: f"{peer.called_ae_title} accepts us as {peer.calling_ae_title}.",
        )
    except DimseError:
        return Trial(run.all_steps())
    try:
        offers = [_offer(opened, key) for key in _SERVICES]
        if opened.context(VERIFICATION) is None:
            run.steps.append(Step(STEPS[4], "skipped", "It does not offer verification, so no echo can be tried."))
            return Trial(run.all_steps(), offers)
        try:
            run.step(STEPS[4], lambda: echo_on(opened), lambda _none: "It answers.")
        except DimseError:
            return Trial(run.all_steps(), offers)
    finally:
        opened.release()
    return Trial(run.all_steps(), offers)


def _connect(run: "_Run", peer: PeerAddress, timeouts: Timeouts) -> Link:
    """The first three steps. Raises DimseError, which `run` has noted."""
    places = run.step(
        STEPS[0],
        lambda: link_resolve(peer.address, peer.port, reach=peer.reach),
        lambda found: ", ".join(dict.fromkeys(str(one[4][0]) for one in found[:4])),
    )
    deadline = time.monotonic() + timeouts.connect_seconds
    connection = run.step(
        STEPS[1],
        lambda: link_connect(places, peer.address, peer.port, deadline),
        lambda found: f"{found.getpeername()[0]} takes connections on port {peer.port}.",
    )
    if peer.tls is None:
        run.steps.append(Step(STEPS[2], "skipped", "It is called without TLS."))
        return link_secure(connection, peer.address, deadline)
    return run.step(
        STEPS[2],
        lambda: link_secure(connection, peer.address, deadline, tls=peer.tls),
        lambda _link: _tls_words(peer.tls),
    )


def _tls_words(tls: ssl.SSLContext | None) -> str:
    checked = tls is not None and tls.check_hostname
    return (
        f"Its certificate is trusted{' and names the host that we call' if checked else '; its name is not checked'}."
    )


class _Run:
    """The steps so far."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def step(self, name: str, work: Callable[[], _Result], words: Callable[[_Result], str]) -> _Result:
        started = time.monotonic()
        try:
            result = work()
        except DimseError as error:
            self.steps.append(Step(name, "failed", str(error), error.code, time.monotonic() - started))
            raise
        self.steps.append(Step(name, "passed", words(result), seconds=time.monotonic() - started))
        return result

    def all_steps(self) -> list[Step]:
        """With those that were not come to."""
        return [*self.steps, *(Step(name, "skipped", "Not come to.") for name in STEPS[len(self.steps) :])]


def _proposals() -> list[Proposal]:
    uids = [uid for key, (_label, wanted) in _SERVICES.items() if key != "commit" for uid in wanted.values()]
    return [VERIFICATION_PROPOSAL, *(Proposal(uid, _PLAIN) for uid in uids), ASKING]


def _offer(opened: ClientAssociation, key: str) -> Offer:
    label, wanted = _SERVICES[key]
    return Offer(key, label, [name for name, uid in wanted.items() if opened.context(uid) is not None])
