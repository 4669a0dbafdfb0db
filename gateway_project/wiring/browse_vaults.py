"""What the pages of vaults show: how each lane stands, what waits, what runs, and whose key it is sealed for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway_project.core.models import AuditEvent, JobState
from gateway_project.core.options import option
from gateway_project.core.selectors import audit_tail_of
from gateway_project.wiring.cursor import number_read
from gateway_project.wiring.lane_words import Standing, vault_standing
from gateway_project.wiring.words import actor_words, ago_words, count_words, size_words
from uploads.models import Transport, UploadAttempt, UploadJob, Vault
from uploads.selectors import deletion_allowed, pinned_key_ids
from uploads.selectors.lines import AttemptPage, Line, attempts_page, uploads_in_line, uploads_under_way, vaults_all
from uploads.services.limits import vault_parallel
from uploads.services.pins import fingerprint_shown
from uploads.services.vaults import vault_locked

CHANGES_SHOWN = 10


@dataclass(frozen=True)
class VaultCard:
    """One vault as the list shows it."""

    vault: Any
    standing: Standing
    waiting: Line
    given_up: int
    running: list[UploadJob]

    @property
    def sealed(self) -> bool:
        return bool(self.vault.transport == Transport.GVE1)

    @property
    def proved(self) -> bool:
        """A canary for the pinned key was opened."""
        return self.vault.recipient_key_id in self.vault.proved_keys


@dataclass(frozen=True)
class Summary:
    tone: str
    sentence: str
    detail: str = ""


@dataclass(frozen=True)
class VaultsView:
    summary: Summary
    cards: list[VaultCard]


@dataclass(frozen=True)
class Key:
    """A pinned key for people: who has it, its fingerprint, and a word about it."""

    owner: str
    fingerprint: str
    words: str
    tone: str = ""


@dataclass(frozen=True)
class Change:
    at: datetime
    words: str
    actor: str


@dataclass(frozen=True)
class VaultView:
    card: VaultCard
    keys: list[Key]
    limits: list[tuple[str, str]]
    attempts: list[UploadAttempt]
    newer: str
    older: str
    deletion: bool
    canaries: list[str]
    changes: list[Change] = field(default_factory=list)


def vaults_view(now: datetime) -> VaultsView:
    """Every vault in four queries."""
    cards = _cards(list(vaults_all()), uploads_under_way(), now)
    return VaultsView(_summary(cards, now), cards)


def vault_view(vault: Any, *, before: str, after: str, now: datetime) -> VaultView:
    """One vault, from `vaults_all()`, in six queries. Raises ValueError for a cursor that is none."""
    page: AttemptPage = attempts_page(
        vault, before=number_read(before) if before else 0, after=number_read(after) if after else 0
    )
    card = _cards([vault], uploads_under_way(vault), now)[0]
    return VaultView(
        card=card,
        keys=_keys(vault) if card.sealed else [],
        limits=_limits(vault),
        attempts=page.rows,
        newer=str(page.rows[0].pk) if page.newer and page.rows else "",
        older=str(page.rows[-1].pk) if page.older and page.rows else "",
        deletion=deletion_allowed(vault) if card.sealed else vault.deletion_allowed,
        canaries=_canaries(vault) if card.sealed else [],
        changes=[_change(event) for event in audit_tail_of(f"vault:{vault.pk}", limit=CHANGES_SHOWN)[::-1]],
    )


def _cards(vaults: list[Any], running: list[UploadJob], now: datetime) -> list[VaultCard]:
    line: Mapping[tuple[int, str], Line] = uploads_in_line()
    return [
        VaultCard(
            vault=vault,
            standing=vault_standing(vault, now),
            waiting=line.get((vault.pk, JobState.READY), Line()),
            given_up=line.get((vault.pk, JobState.PARKED), Line()).count,
            running=[job for job in running if job.vault_id == vault.pk],
        )
        for vault in vaults
    ]


def _summary(cards: list[VaultCard], now: datetime) -> Summary:
    on = [card for card in cards if card.vault.enabled]
    if not on:
        return Summary("warn", "No vault is set up: studies are received and wait here.")
    if not option("UPLOAD.ENABLED"):
        return Summary("warn", "Uploads are switched off (UPLOAD.ENABLED); everything waits here.", _waiting(on, now))
    for tone in ("bad", "warn"):
        troubled = [card for card in on if card.standing.tone == tone]
        if troubled:
            named = ", ".join(card.vault.name for card in troubled[:3])
            more = f" and {len(troubled) - 3} more" if len(troubled) > 3 else ""
            verb = "is stopped and needs a hand" if tone == "bad" else "needs a look"
            if len(troubled) > 1:
                verb = "are stopped and need a hand" if tone == "bad" else "need a look"
            return Summary(tone, f"{named}{more} {verb}.", _waiting(on, now))
    given_up = sum(card.given_up for card in on)
    if given_up:
        return Summary("bad", f"{count_words(given_up, 'upload')} given up; a person is needed.", _waiting(on, now))
    moving = sum(len(card.running) for card in on)
    which = "The vault takes" if len(on) == 1 else f"All {len(on)} vaults take"
    now_words = f"{which} uploads; {count_words(moving, 'is', 'are')} under way." if moving else f"{which} uploads."
    return Summary("run" if moving else "ok", now_words, _waiting(on, now))


def _waiting(cards: list[VaultCard], now: datetime) -> str:
    waiting = sum(card.waiting.count for card in cards)
    oldest = min((card.waiting.oldest_at for card in cards if card.waiting.oldest_at is not None), default=None)
    if not waiting or oldest is None:
        return "Nothing waits for its upload."
    verb = "upload waits" if waiting == 1 else "uploads wait"
    return f"{waiting:,} {verb}; the oldest was planned {ago_words(oldest, now)}."


def _keys(vault: Vault) -> list[Key]:
    proved = [key_id in vault.proved_keys for key_id in pinned_key_ids(vault)]
    found = [
        Key("recipient", fingerprint_shown(vault.recipient_jwk), *_proof(proved[0])),
        Key("vault's receipts", fingerprint_shown(vault.receipt_jwk), "Receipts are verified with it."),
    ]
    if vault.recovery_jwk:
        words, tone = _proof(proved[1])
        shown = fingerprint_shown(vault.recovery_jwk)
        found.append(Key("recovery", shown, f"A second key that opens; kept offline. {words}", tone))
    else:
        found.append(Key("recovery", "none", "If the recipient loses its key, nothing can be opened.", "warn"))
    if vault.signing_jwk:
        found.append(Key("recipient's signature", fingerprint_shown(vault.signing_jwk), "May announce another key."))
    return found


def _proof(proved: bool) -> tuple[str, str]:
    if proved:
        return "Proved: its holder has opened a canary.", "ok"
    return "Not proved yet: no canary was opened with it.", "warn"


def _canaries(vault: Vault) -> list[str]:
    """The commands that send what is still to be opened before a receipt may allow deletion."""
    unproved = [key_id not in vault.proved_keys for key_id in pinned_key_ids(vault)]
    commands = [f"manage.py vaultcanary {vault.name} {option}" for option in ("--send", "--recovery --send")]
    return [command for command, missing in zip(commands, unproved, strict=False) if missing]


def _limits(vault: Vault) -> list[tuple[str, str]]:
    rate = f"{size_words(vault.bytes_per_second)}/s" if vault.bytes_per_second else "no limit"
    return [
        ("Studies at once", str(vault_parallel(vault))),
        ("Time windows", vault.windows or "always"),
        ("Rate", rate),
        ("Certificate", "one authority of its own" if vault.ca else "the well-known authorities"),
        ("Proxy", "set" if vault.proxy else "none of its own"),
        ("Token", "set" if vault.token else "not set"),
        *([("Address and token", "held by the settings (VAULT.BASE_URL)")] if vault_locked(vault) else []),
    ]


def _change(event: AuditEvent) -> Change:
    words = str(event.detail.get("action", event.event))
    return Change(event.at, words, actor_words(event.actor) or "the gateway")
