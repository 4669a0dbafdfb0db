"""Keeps the acceptor in step with rows and options, writes down whom it refused, and answers other processes."""

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.db import close_old_connections, connection
from django.utils.timezone import now

from gateway_project.core.machine import database_is_shared
from gateway_project.wiring.setup import administrator_exists
from network.dimse.acceptor import Acceptor
from network.dimse.control import ControlServer
from network.dimse.floods import Refusal
from network.selectors import control_path
from network.services.access import RefusalLog, identity_alerts_heal, limits_current, policy_current
from network.services.endpoints import (
    endpoints_judge,
    endpoints_of_options,
    endpoints_seed,
    endpoints_wanted,
)

logger = logging.getLogger(__name__)
WATCH_SECONDS = 2.0


class ListenerWatch:
    """A thread beside the acceptor's own, so that no query and no full disk ever holds up a connection.

    Every two seconds: endpoints, rules and limits as they stand now; loopback alone until set-up
    is finished. A look that fails is logged and repeated; meanwhile what was known last rules.
    """

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._over = threading.Event()
        self._refusals = RefusalLog()
        self._seeded: dict[str, dict[str, object]] = {}
        self._refused: Counter[str] = Counter()
        self._is_restricted = True
        self._thread = threading.Thread(target=self._run, name="listener watch", daemon=True)
        self._control = ControlServer(control_path(), self._answer)

    def start(self) -> None:
        """Watch and answer from now on."""
        self._control.start()
        self._thread.start()

    def stop(self) -> None:
        """Write what was counted, then end; waits for a look under way."""
        self._control.stop()
        self._over.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._try_look()
                self._over.wait(WATCH_SECONDS)
            self._refusals.write(self._taken(), now=now(), all_of_it=True)
        except Exception as exc:  # noqa: BLE001 - the end of the thread: nothing is left but to say so
            logger.error("refusals could not be written", extra={"exception": type(exc).__name__})  # noqa: TRY400
        finally:
            connection.close()

    def _try_look(self) -> None:
        try:
            close_old_connections()
            self.look()
        except Exception as exc:  # noqa: BLE001 - the outermost loop: the database may be away for a while
            extra = {"exception": type(exc).__name__}
            logger.error("listeners could not be brought in step, trying again", extra=extra)  # noqa: TRY400

    def look(self) -> None:
        """Bring the acceptor in step once."""
        if self._is_restricted and administrator_exists():
            self._is_restricted = False
            logger.info("set-up is finished, listening as configured")
        options = endpoints_of_options()
        if options != self._seeded or not database_is_shared():  # other machines may have options of their own
            endpoints_seed()
            self._seeded = options
        wanted = endpoints_wanted(loopback_only=self._is_restricted)
        self._acceptor.rules_set(policy=policy_current(), limits=limits_current())
        self._acceptor.endpoints_set(wanted.endpoints)
        failed = {name: str(error) for name, error in self._acceptor.endpoints_failed().items()}
        endpoints_judge(wanted, failed)
        self._refusals.write(self._taken(), now=now())
        identity_alerts_heal(now())

    def _taken(self) -> Sequence[Refusal]:
        """The refusals since the last look, counted by reason for whoever asks; the reasons are words of ours."""
        taken = self._acceptor.refusals.take()
        for refusal in taken:
            self._refused[refusal.reason] += refusal.count
        return taken

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        command = request.get("command")
        if command == "live":
            rows = [_row(one) for one in self._acceptor.live()]
            return {"associations": rows, "totals": self._acceptor.totals(), "refused": dict(self._refused)}
        if command == "end":
            return {"found": self._acceptor.end(str(request.get("association_id", "")))}
        return {"error": "unknown command"}


def _row(one: Any) -> dict[str, Any]:
    return {**asdict(one), "connected_at": one.connected_at.isoformat()}
