"""What a vault's row allows: how many studies at once, when, and how fast."""

import time
from datetime import datetime

from django.utils.timezone import localtime

from gateway_project.core.errors import LaneWaitsError
from gateway_project.core.models import Lane
from gateway_project.core.options import option
from gateway_project.core.queues import LaneLimits
from gateway_project.core.windows import window_closes, window_opens, windows_parse
from uploads.client import BLOCK_BYTES, SLOWEST_BYTES_PER_SECOND
from uploads.models import Vault
from uploads.services.pace import Pace

FILES_AT_ONCE_MOST = 4


def vault_parallel(vault: Vault) -> int:
    """Studies that may be under way to it at once."""
    return int(option("UPLOAD.PARALLEL_STUDIES")) if vault.parallel_studies is None else vault.parallel_studies


def vault_opens(vault: Vault, *, now: datetime) -> datetime | None:
    """When its next time window begins; None while one is open, or if it has none."""
    return window_opens(windows_parse(vault.windows), localtime(now))


def lane_limits(lane: Lane, *, now: datetime) -> LaneLimits:
    """The limits of a vault's lane at that moment; a lane without a vault goes by its own row."""
    vault = Vault.objects.filter(lane=lane).only("parallel_studies", "windows").first()
    if vault is None:
        return LaneLimits(lane.max_parallel)
    return LaneLimits(vault_parallel(vault), vault_opens(vault, now=now))


def vault_share(vault: Vault) -> float | None:
    """Bytes a second for one upload: the vault's rate is shared by as many studies as may be under way to it."""
    return vault.bytes_per_second / max(vault_parallel(vault), 1) if vault.bytes_per_second else None


def vault_slowest(vault: Vault) -> float:
    """Bytes a second below which a transfer counts as stuck: half of what its own limit leaves to one file of it."""
    share = vault_share(vault)
    return SLOWEST_BYTES_PER_SECOND if share is None else min(SLOWEST_BYTES_PER_SECOND, share / FILES_AT_ONCE_MOST / 2)


def vault_block_bytes(vault: Vault) -> int:
    """So much is handed to the network at once: with a rate what goes in a second, as each block is followed by the
    pause that it costs, and a receiver takes a long pause for a silence.
    """
    share = vault_share(vault)
    return BLOCK_BYTES if share is None else min(BLOCK_BYTES, int(share))


class Limits:
    """The limits of one upload under way, for its threads to ask: no database is touched after the making."""

    def __init__(self, vault: Vault, *, now: datetime) -> None:
        self.pace = Pace(vault_share(vault))
        windows = windows_parse(vault.windows)
        closes = window_closes(windows, localtime(now))
        opens = window_opens(windows, localtime(closes)) if closes is not None else None
        self._opens = opens if opens is not None else closes
        self._closes_at = None if closes is None else time.monotonic() + (closes - now).total_seconds()

    def check(self) -> None:
        """Raises LaneWaitsError once the time window has closed."""
        if self._closes_at is not None and self._opens is not None and time.monotonic() >= self._closes_at:
            raise LaneWaitsError(self._opens)
