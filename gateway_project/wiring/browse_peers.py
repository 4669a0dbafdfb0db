"""What the pages of peers show: who is known, what each may do, whether it answers, and what is kept open to it."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

from gateway_project.core.models import AuditEvent
from gateway_project.core.options import option
from gateway_project.core.selectors import audit_tail_of
from gateway_project.wiring.browse_connections import Ended, Live, ended_shown, live_shown
from gateway_project.wiring.cursor import cursor_read, cursor_write
from gateway_project.wiring.words import actor_words, count_words
from network.dimse.scu.pool_file import PoolLine
from network.models import CommitmentRequest, RemoteAE
from network.selectors import associations_live, associations_page
from network.selectors.peers import commitments_latest, peers_counted, peers_page
from network.selectors.pools import pool_lines

CHANGES_SHOWN = 10
COMMITMENTS_SHOWN = 10
RIGHTS = (
    ("may_store", "store", "send objects to us"),
    ("may_query", "query", "ask which studies we have"),
    ("may_retrieve", "retrieve", "have studies sent"),
    ("may_commit", "commit", "ask for storage commitment"),
)


@dataclass(frozen=True)
class Right:
    word: str
    meaning: str
    allowed: bool


@dataclass(frozen=True)
class Standing:
    icon: str
    tone: str
    word: str


@dataclass(frozen=True)
class PeerRow:
    """One peer: what it may do, whether it answers, how many associations it has open with us now."""

    remote: RemoteAE
    rights: list[Right]
    sees: str
    standing: Standing
    live: int

    @property
    def address(self) -> str:
        host = f"[{self.remote.host}]" if ":" in self.remote.host else self.remote.host
        return f"{host}:{self.remote.port}" if host else ""


@dataclass(frozen=True)
class Summary:
    tone: str
    sentence: str
    detail: str = ""


@dataclass(frozen=True)
class PeersView:
    summary: Summary
    rows: list[PeerRow]
    pool: list[PoolLine]
    pool_words: str
    newer: str
    older: str


@dataclass(frozen=True)
class Change:
    at: datetime
    words: str
    fields: list[tuple[str, str, str]]
    actor: str


@dataclass(frozen=True)
class PeerView:
    row: PeerRow
    we_are: str
    limits: list[tuple[str, str]]
    live: list[Live]
    pool: list[PoolLine]
    commitments: list[CommitmentRequest]
    history: list[Ended]
    newer: str
    older: str
    changes: list[Change] = field(default_factory=list)


def peers_view(*, before: str, after: str) -> PeersView:
    """The list, in three queries; `before` and `after` are AE titles at the edge of the page."""
    page = peers_page(before=before, after=after)
    found = associations_live()
    live = Counter(one.calling_ae_title for one in found.associations)
    rows = [_row(remote, live[remote.ae_title]) for remote in page.rows]
    pool = pool_lines()
    return PeersView(
        summary=_summary(),
        rows=rows,
        pool=pool,
        pool_words=_pool_words(pool),
        newer=quote(rows[0].remote.ae_title, safe="") if page.newer and rows else "",
        older=quote(rows[-1].remote.ae_title, safe="") if page.older and rows else "",
    )


def peer_view(remote: RemoteAE, *, before: str, after: str) -> PeerView:
    """One peer, in three queries. Raises ValueError for a cursor that is none."""
    title = remote.ae_title
    page = associations_page(
        source=title,
        before=cursor_read(before) if before else None,
        after=cursor_read(after) if after else None,
    )
    live = [live_shown(one) for one in associations_live().associations if one.calling_ae_title == title]
    return PeerView(
        row=_row(remote, len(live)),
        we_are=remote.calling_ae_title or str(option("DICOM.AE_TITLE")),
        limits=_limits(remote),
        live=live,
        pool=[line for line in pool_lines() if line.called_ae_title == title],
        commitments=commitments_latest(remote, limit=COMMITMENTS_SHOWN),
        history=[ended_shown(record) for record in page.rows],
        newer=cursor_write(page.rows[0].closed_at, page.rows[0].pk) if page.newer and page.rows else "",
        older=cursor_write(page.rows[-1].closed_at, page.rows[-1].pk) if page.older and page.rows else "",
        changes=[_change(event) for event in audit_tail_of(f"remote:{title}", limit=CHANGES_SHOWN)[::-1]],
    )


def _row(remote: RemoteAE, live: int) -> PeerRow:
    return PeerRow(
        remote=remote,
        rights=[Right(word, meaning, getattr(remote, name)) for name, word, meaning in RIGHTS],
        sees=sees_words(remote),
        standing=_standing(remote, live),
        live=live,
    )


def sees_words(remote: RemoteAE) -> str:
    """Which studies it gets to see."""
    if not (remote.may_query or remote.may_retrieve):
        return "no study"
    limits = (remote.visible_sources, remote.visible_modalities, remote.visible_conditions)
    return "some studies" if any(text.strip() for text in limits) else "every study"


def _standing(remote: RemoteAE, live: int) -> Standing:
    if not remote.enabled:
        return Standing("deleted", "", "switched off")
    if remote.last_error:
        return Standing("stop", "bad", "does not answer")
    if live:
        return Standing("uploading", "run", "connected")
    if not remote.host:
        return Standing("settled", "", "only calls us")
    if remote.last_echo_at:
        return Standing("uploaded", "ok", "answers")
    return Standing("settled", "", "not tried yet")


def _summary() -> Summary:
    counts = peers_counted()
    if not counts.known:
        may = "echo and store" if option("DICOM.ACCEPT_UNKNOWN_CALLING") else "do nothing"
        return Summary("ok", "No peer is known by name.", f"Devices that are not known may {may}; nobody may query.")
    detail = f"{count_words(counts.may_query, 'may query', 'may query')}, {counts.may_retrieve:,} may retrieve; "
    detail += f"{counts.callable:,} can be called by us."
    if counts.failing:
        named = ", ".join(counts.failing_titles)
        more = f" and {counts.failing - 3:,} more" if counts.failing > 3 else ""
        verb = "does" if counts.failing == 1 else "do"
        return Summary("warn", f"{named}{more} {verb} not answer us.", detail)
    verb = "is" if counts.known == 1 else "are"
    return Summary("ok", f"{count_words(counts.known, 'peer')} {verb} known; none of them is in trouble.", detail)


def _pool_words(lines: list[PoolLine]) -> str:
    in_use, idle = sum(line.in_use for line in lines), sum(line.idle for line in lines)
    if not lines:
        return "Nothing was kept open to any peer since the start."
    if not in_use + idle:
        return "Nothing is open to any peer at this moment."
    number = count_words(in_use + idle, "association is", "associations are")
    return f"{number} open to peers: {in_use:,} in use, {idle:,} kept for what comes next."


def _limits(remote: RemoteAE) -> list[tuple[str, str]]:
    found = [
        ("Sources", ", ".join(remote.visible_sources.replace("\n", ",").split(",")) or "any"),
        ("Modalities", remote.visible_modalities or "all"),
        ("Conditions", "; ".join(remote.visible_conditions.splitlines()) or "none"),
        ("Calls from", ", ".join(remote.networks.split()) or "anywhere"),
        (
            "Certificates",
            count_words(len(remote.certificates.split()), "certificate") if remote.certificates else "none",
        ),
    ]
    if remote.may_commit:
        found.append(("Commitment means", remote.get_commit_level_display()))
        found.append(("Its deadline", f"{remote.commit_minutes:,} minutes"))
    return found


def _change(event: AuditEvent) -> Change:
    changed = event.detail.get("changed")
    fields = (
        [(name.replace("_", " "), str(pair[0]), str(pair[1])) for name, pair in changed.items() if len(pair) == 2]
        if isinstance(changed, dict)
        else []
    )
    words = str(event.detail.get("action", event.event)).replace("remote AE ", "").capitalize()
    return Change(event.at, words, fields, actor_words(event.actor) or "the gateway")
