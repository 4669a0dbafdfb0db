"""Who asked for what: a record of the audit trail for each query, written in groups beside the answers."""

import logging
import queue
import threading
from dataclasses import dataclass, field, replace
from typing import Any, Final

from django.db import Error, close_old_connections, connection, transaction

from gateway_project.core.correlation import correlation_set
from gateway_project.core.models import AuditEventType
from gateway_project.core.services.audit import audit_record

logger = logging.getLogger(__name__)
GROUP_SECONDS: Final = 0.5
WAITING: Final = 2_000
_RETRY_SECONDS: Final = 2.0
_STOP: Final = None


@dataclass(frozen=True)
class Asked:
    """One query as the trail keeps it (PS3.15 A.5.3.10). `keys`: what was to match, PHI that nothing but the trail
    holds.
    """

    association_id: str
    calling_ae_title: str
    address: str
    outcome: str
    model: str = ""
    level: str = ""
    code: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    answers: int = 0
    count: int = 1


class QueryTrail:
    """Writes what it is given within half a second, many records in one transaction, so that neither a query nor what
    is being received waits for the disk. What is waiting when the process is killed is lost; `stop` writes it.

    Refusals of one peer that come at once share a record, which counts them. A database that is away is tried again;
    when too much waits for it, queries wait too: none goes unrecorded.
    """

    def __init__(self) -> None:
        self._waiting: queue.Queue[Asked | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="query trail", daemon=True)
        self._over = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def add(self, asked: Asked) -> None:
        """Write this soon."""
        self._waiting.put(asked)

    def stop(self, *, timeout_seconds: float = 10.0) -> None:
        """Write what is waiting, then end."""
        self._over.set()
        self._waiting.put(_STOP)
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            while (first := self._waiting.get()) is not None:
                self._over.wait(GROUP_SECONDS)
                self._write(self._group(first))
        finally:
            connection.close()

    def _group(self, first: Asked) -> list[Asked]:
        found = [first]
        while not self._waiting.empty():
            asked = self._waiting.get_nowait()
            if asked is None:
                self._waiting.put(_STOP)
                break
            found.append(asked)
        return coalesced(found)

    def _write(self, group: list[Asked]) -> None:
        while True:
            try:
                close_old_connections()
                trail_write(group)
            except Error as error:
                logger.error("queries could not be recorded, trying again", extra={"exception": type(error).__name__})  # noqa: TRY400
                if self._over.wait(_RETRY_SECONDS):
                    return
            else:
                return


def coalesced(group: list[Asked]) -> list[Asked]:
    """Refusals that say the same become one; their order is that of the first of each."""
    found: dict[Any, Asked] = {}
    for number, asked in enumerate(group):
        key: Any = number
        if asked.outcome == "refused":
            key = (asked.calling_ae_title, asked.address, asked.code)
        known = found.get(key)
        found[key] = asked if known is None else replace(known, count=known.count + 1)
    return list(found.values())


def trail_write(group: list[Asked]) -> None:
    """All of them, in one transaction."""
    with transaction.atomic():
        for asked in group:
            correlation_set(asked.association_id)
            detail = {
                "address": asked.address,
                "model": asked.model,
                "level": asked.level,
                "keys": asked.keys,
                "answers": asked.answers,
                "code": asked.code,
                "count": asked.count,
            }
            audit_record(
                AuditEventType.QUERY,
                actor=f"ae:{asked.calling_ae_title}",
                subject=f"association:{asked.association_id[:40]}",
                detail={name: value for name, value in detail.items() if value not in ("", {})},
                outcome=asked.outcome,
            )
