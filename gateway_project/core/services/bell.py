"""The bell: tells a cluster that there is work. Losing a ring loses no work, the ticker rings again."""

import logging
import time
from typing import cast

from django.conf import settings
from django.db import transaction
from django_q.tasks import async_task

from gateway_project.core.queues import CONTROL_CLUSTER, REGISTRY
from gateway_project.core.selectors import rings_waiting

logger = logging.getLogger(__name__)

DRAIN = "gateway_project.core.tasks.drain"
TICK = "gateway_project.core.tasks.tick"
DEAF_SECONDS = 5.0  # the ticker's own interval: it rings again as soon as the bell can be heard


class _Bell:
    """What this process knows of Redis: while it does not answer, nobody who commits waits for it again."""

    deaf_until = 0.0


def ring(queue_name: str) -> None:
    """Rings for a queue once the business transaction has committed; with enough rings waiting it does nothing."""
    cluster = REGISTRY.queues[queue_name].cluster
    transaction.on_commit(lambda: _ring(DRAIN, queue_name, cluster=cluster))


def ring_periodics(names: list[str]) -> None:
    """Rings the control cluster for periodic work that is due, all of it in one ring."""
    _ring(TICK, names, cluster=CONTROL_CLUSTER)


def _ring(task: str, argument: str | list[str], *, cluster: str) -> None:
    """Task arguments are names of ours only: no ids of patients, no PHI, nothing a forged row could make dangerous."""
    if time.monotonic() < _Bell.deaf_until:
        return
    try:
        clusters = cast("dict[str, dict[str, int]]", settings.Q_CLUSTER["ALT_CLUSTERS"])
        if rings_waiting(cluster) < 2 * clusters[cluster]["workers"] + 2:
            async_task(task, argument, cluster=cluster)
    except Exception as error:  # noqa: BLE001 - the work is safe in its row; the ticker rings again within 5 s
        if _is_of_redis(error):
            _Bell.deaf_until = time.monotonic() + DEAF_SECONDS
        logger.warning("ring failed", extra={"cluster": cluster, "error": type(error).__name__})


def _is_of_redis(error: Exception) -> bool:
    """Its client is loaded where it is used only: a tenth of what a process loads at its start."""
    from redis import RedisError

    return isinstance(error, RedisError)
