"""How a lane stands, in words, and the button that helps."""

from dataclasses import dataclass
from datetime import datetime

from gateway_project.core.models import Lane


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


def lane_standing(lane: Lane, now: datetime, *, switched_on: bool = True, parallel: int | None = None) -> Standing:
    """The one thing that a person has to know of the lane; what needs a hand first."""
    if not switched_on:
        return Standing("deleted", "calm", "switched off", "Nothing is sent to it; what was planned waits.")
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
        return Standing("hand", "warn", "allows no upload", "Its limit of parallel studies is 0.", button="Pause")
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
