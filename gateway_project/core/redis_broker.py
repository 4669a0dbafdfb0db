"""Rings over Redis, for REDIS_URL: heard in milliseconds, by the clusters of every machine.

A ring taken by a worker that dies, and every ring of a Redis that is restarted or flushed, is lost: nobody keeps a
second copy. No work is: the job rows say what there is to do, and the ticker rings again within 5 s.
"""

import functools
import logging
from typing import Any

import redis
from django.conf import settings
from django_q.brokers import Broker

from gateway_project.core.processes import stop_wait

logger = logging.getLogger(__name__)

KEY = "gateway:rings:{cluster}"
LISTEN_SECONDS = 1
AWAY_SECONDS = 1.0
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0  # longer than LISTEN_SECONDS, for which the server may keep its answer back


@functools.cache
def redis_client() -> "redis.Redis":
    """This process's connections; a fork is noticed by the pool itself. A Redis that is silent is given up in time."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        health_check_interval=30,
        client_name="gateway",
    )


class RedisBroker(Broker):
    """django-q2's broker: a list for each cluster. `enqueue` and `queue_size` raise redis.RedisError."""

    def __init__(self, list_key: str | None = None) -> None:
        super().__init__(list_key)
        self.key = KEY.format(cluster=self.list_key)

    @staticmethod
    def get_connection(list_key: str | None = None) -> "redis.Redis":
        return redis_client()

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self.key = KEY.format(cluster=self.list_key)

    def enqueue(self, task: str) -> Any:
        return self.connection.rpush(self.key, task)

    def dequeue(self) -> list[tuple[None, str]] | None:
        """The next ring, or None after a second. While Redis is away the cluster waits for it, and lives."""
        try:
            found = self.connection.blpop([self.key], LISTEN_SECONDS)
        except redis.RedisError as error:
            logger.warning("rings cannot be heard", extra={"error": type(error).__name__})
            stop_wait(AWAY_SECONDS)
            return None
        if not found:
            return None
        try:
            return [(None, found[1].decode("ascii"))]  # django-q2 judges the signature, but dies of strange bytes
        except UnicodeDecodeError:
            logger.warning("ring dropped", extra={"error": "not ours"})
            return None

    def queue_size(self) -> int:
        return int(self.connection.llen(self.key))

    def purge_queue(self) -> Any:
        return self.connection.delete(self.key)

    delete_queue = purge_queue

    def ping(self) -> bool:
        return bool(self.connection.ping())

    def info(self) -> str:
        return "Redis"
