"""The ticker: one leader that only rings. It does no work itself, so nothing can keep it."""

import logging
import os
import socket
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import close_old_connections

from gateway_project.core import logs
from gateway_project.core.clock import database_now
from gateway_project.core.processes import stop_on_signals
from gateway_project.core.queues import REGISTRY
from gateway_project.core.selectors import rings_stuck
from gateway_project.core.services.bell import ring, ring_periodics
from gateway_project.core.services.jobs import jobs_ready
from gateway_project.core.services.leases import lease_give_up, lease_take

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15
READY_SECONDS = 5
SWEEP_SECONDS = 60
RING_LIFE_SECONDS = 3600


@dataclass
class Ticker:
    """`beat(now, elapsed)` is one look; everything it does may be repeated and skipped without harm."""

    holder: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}")
    due_at: dict[str, float] = field(default_factory=dict)

    def beat(self, now: datetime, *, elapsed: float) -> None:
        """Rings for what is due, if we lead. `elapsed`: seconds of a clock that never goes back."""
        if not lease_take("ticker", holder=self.holder, now=now, seconds=LEASE_SECONDS):
            return
        names = [p.name for p in REGISTRY.periodics.values() if self._due(f"periodic:{p.name}", p.seconds(), elapsed)]
        if names:
            ring_periodics(names)
        if self._due("ready", READY_SECONDS, elapsed):
            for queue in REGISTRY.queues.values():
                if jobs_ready(queue, now=now).exists():
                    ring(queue.name)
        if self._due("sweep", SWEEP_SECONDS, elapsed):
            self._sweep(now)

    def _due(self, name: str, seconds: float, elapsed: float) -> bool:
        if elapsed < self.due_at.get(name, 0.0):
            return False
        self.due_at[name] = elapsed + max(seconds, 0.5)
        return True

    def _sweep(self, now: datetime) -> None:
        """A ring that a killed worker left locked is only noise after an hour: the rows tell what there is to do."""
        rings_stuck(now, older_seconds=RING_LIFE_SECONDS).delete()
        logs.logs_rotate_due(settings.DATA_DIR / "logs")


def run() -> None:
    """Beats every second until SIGTERM; a failing beat is logged and the next one tries again."""
    stop = stop_on_signals()
    ticker = Ticker()
    logger.info("ticker started", extra={"holder": ticker.holder})
    while not stop.is_set():
        try:
            ticker.beat(database_now(), elapsed=time.monotonic())
        except Exception:  # the outermost loop of the ticker
            logger.exception("ticker beat failed")
        finally:
            close_old_connections()
        stop.wait(1.0)
    lease_give_up("ticker", holder=ticker.holder)
    logger.info("ticker stopped")
