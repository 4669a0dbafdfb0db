"""How a lane stands, in words, and the button that helps: the same on every page."""

from dataclasses import dataclass
from datetime import datetime

from django.urls import reverse

from gateway_project.core.models import Lane
from gateway_project.core.options import option
from uploads.models import Vault
from uploads.services.limits import vault_parallel


@dataclass(frozen=True)
class Standing:
    """Shape, word and colour; `words` say why; `until` is counted down. `button`: resume, pause or none."""

    icon: str
    tone: str
    word: str
    words: str = ""
    code: str = ""
    until: datetime | None = None
    button: str = ""

    @property
    def resumes(self) -> bool:
        return self.button in ("Resume", "Try now")

    @property
    def is_trouble(self) -> bool:
        """Whether a person should know: neither what flows, nor what was switched off or waits for its time window."""
        return self.tone in ("bad", "warn")


def vault_standing(vault: Vault, now: datetime) -> Standing:
    """How the way to a vault stands, what its own row and the options say included."""
    if not vault.enabled:
        return Standing("deleted", "calm", "switched off", "Nothing is sent to it; what was planned waits.")
    stopped = _stopped(vault.lane)
    if stopped is None and not option("UPLOAD.ENABLED"):
        words = "UPLOAD.ENABLED is off: studies settle and wait here. Nothing is lost."
        return Standing("hand", "warn", "uploads are switched off", words, button="Pause")
    return lane_standing(vault.lane, now, parallel=vault_parallel(vault))


def lane_or_vault_standing(lane: Lane, now: datetime) -> Standing:
    """The same for any lane; for that of a vault as the vault has it (no query if it was read with the lane)."""
    vault: Vault | None = getattr(lane, "vault", None)
    return lane_standing(lane, now) if vault is None else vault_standing(vault, now)


def lane_address(lane: Lane) -> str:
    """The page where what is wrong with it is told in full and put right; empty for a lane without one."""
    vault: Vault | None = getattr(lane, "vault", None)
    return "" if vault is None else reverse("vault", args=(vault.pk,))


def lane_standing(lane: Lane, now: datetime, *, parallel: int | None = None) -> Standing:
    """The one thing that a person has to know of the lane; what needs a hand first."""
    stopped = _stopped(lane)
    if stopped is not None:
        return stopped
    if lane.open_until is not None and lane.open_until > now:
        words = f"{lane.fault_words} It is tried again by itself; nothing is lost."
        return Standing("again", "warn", "waits after a fault", words, lane.fault_code, lane.open_until, "Try now")
    if lane.faults:
        words = f"{lane.fault_words} The next try comes by itself; nothing is lost."
        return Standing("again", "warn", "tries again", words, lane.fault_code, button="Pause")
    if lane.max_parallel == 0 if parallel is None else parallel == 0:
        words = "Studies at once are 0 here (the vault's own number, or UPLOAD.PARALLEL_STUDIES): all of them wait."
        return Standing("hand", "warn", "allows no upload", words, button="Pause")
    if lane.waits_until is not None and lane.waits_until > now:
        return Standing("settled", "calm", "outside its time window", until=lane.waits_until, button="Pause")
    return Standing("uploaded", "ok", "takes uploads", button="Pause")


def _stopped(lane: Lane) -> Standing | None:
    if lane.held:
        words = f"{lane.fault_words} No retry can mend that: put it right, then resume. Nothing is lost."
        return Standing("stop", "bad", "stopped, waits for a person", words, lane.fault_code, button="Resume")
    if lane.paused:
        words = "Paused by a person: what is under way ends, nothing new begins. Nothing is lost."
        return Standing("hand", "warn", "paused", words, button="Resume")
    return None
