"""`manage.py runworkers`: the django-q2 clusters and the ticker of this machine, each in a process of its own."""

import logging
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from gateway_project.core.processes import StopFlag, die_with_parent, process_name_set, session_kill, stop_on_signals
from gateway_project.core.schema import SchemaError, schema_check
from gateway_project.core.shared import SharedError, shared_check

logger = logging.getLogger(__name__)

TICKER = "ticker"
STOP_SECONDS = 25.0
BACKOFF_SECONDS = 1.0
BACKOFF_MAX_SECONDS = 30.0
STABLE_SECONDS = 60.0
LOOK_SECONDS = 0.2


class Command(BaseCommand):
    help = "Runs this machine's clusters and the ticker; a part that ends, for whatever reason, is started again."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("parts", nargs="*", help="clusters to run, or 'ticker' (default: all)")
        parser.add_argument("--only", metavar="PART", help="run this one part in this process, without restarting it")

    def handle(self, *_args: Any, parts: list[str], only: str | None, **_options: Any) -> None:
        known = [*cluster_names(settings.Q_CLUSTER), TICKER]
        if unknown := {*parts, *([only] if only else [])} - set(known):
            raise CommandError(f"There is no {', '.join(sorted(unknown))}; choose from {', '.join(known)}.")
        if only:
            sys.exit(part_run(only))
        try:
            schema_check()
            shared_check()
        except (SchemaError, SharedError) as error:
            raise CommandError(str(error)) from error
        finally:
            connection.close()
        sys.exit(Supervisor(parts or known).run())


def cluster_names(conf: Mapping[str, Any]) -> list[str]:
    """The clusters of a Q_CLUSTER setting: `cluster_name` where it is given, and ALT_CLUSTERS.

    `name` alone is the salt that signs rings; it is a cluster only when there is no other.
    """
    default = conf.get("cluster_name")
    alternatives = [name for name in conf.get("ALT_CLUSTERS", {}) if name != default]
    return [default, *alternatives] if default else alternatives or [conf["name"]]


def part_run(part: str) -> int:
    """Runs one part in this process until it is asked to stop; answers the exit code."""
    process_name_set(f"gw-{part}")
    if part == TICKER:
        from gateway_project.core import ticker

        ticker.run()
        return 0
    from django_q.conf import Conf

    from gateway_project.core.cluster import cluster_run

    if part != Conf.CLUSTER_NAME:  # django-q2 read the environment when Django started: too late to choose another
        os.execve(sys.executable, part_command(part), part_environment(part))  # noqa: S606 - this very program again
    return cluster_run()


def part_command(part: str) -> list[str]:
    program = sys.argv[0]
    start = [program] if Path(program).name == "manage.py" else ["-m", "django"]
    return [sys.executable, *start, "runworkers", "--only", part]


def part_environment(part: str) -> dict[str, str]:
    return {**os.environ, "Q_CLUSTER_NAME": part}


@dataclass
class Part:
    """One child. Its process id is also its session's, so whatever it leaves behind can be found."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    delay_seconds: float = BACKOFF_SECONDS

    def start(self, now: float) -> None:
        parent_pid = os.getpid()
        self.process = subprocess.Popen(
            part_command(self.name),
            env=part_environment(self.name),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent_pid),  # noqa: PLW1509 - this process has one thread
        )
        self.started_at = now
        logger.info("part started", extra={"part": self.name, "child": self.process.pid})

    def ended(self) -> bool:
        """Whether it ended, now that nothing of its session is left."""
        if self.process is None:
            return True
        if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        strays = session_kill(self.process.pid)
        code = self.process.wait()
        extra = {"part": self.name, "exit_code": code, "strays": strays}
        logger.log(logging.WARNING if code or strays else logging.INFO, "part ended", extra=extra)
        self.process = None
        return True

    def restart_plan(self, now: float) -> None:
        """Waits 1 s before the next start, doubling to 30 s, and from 1 s again after a minute of life."""
        if now - self.started_at >= STABLE_SECONDS:
            self.delay_seconds = BACKOFF_SECONDS
        self.start_at = now + self.delay_seconds
        self.delay_seconds = min(self.delay_seconds * 2, BACKOFF_MAX_SECONDS)


class Supervisor:
    """Keeps the parts alive until SIGTERM or SIGINT. None of their processes outlives it, even when it is SIGKILLed."""

    def __init__(self, names: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.parts = [Part(name) for name in names]
        self.clock = clock

    def run(self) -> int:
        stop: StopFlag = stop_on_signals()
        process_name_set("gw-workers")
        logger.info("workers started", extra={"parts": [p.name for p in self.parts]})
        try:
            while not stop.is_set():
                self.look()
                stop.wait(LOOK_SECONDS)
        finally:
            self.stop()
        return 0

    def look(self) -> None:
        """Starts what is due and plans the restart of what has ended."""
        for part in self.parts:
            now = self.clock()
            if part.process is not None and part.ended():
                part.restart_plan(now)
            if part.process is None and now >= part.start_at:
                try:
                    part.start(now)
                except OSError as error:  # no memory or no process left; the parts that live must not suffer
                    logger.error("part not started", extra={"part": part.name, "error": error.strerror})  # noqa: TRY400
                    part.restart_plan(now)

    def stop(self) -> None:
        """Asks all parts at once, gives them 25 s together, then SIGKILLs what is left."""
        for part in self.parts:
            if part.process is not None:
                os.kill(part.process.pid, signal.SIGTERM)  # not send_signal(), which may reap before ended() has looked
        give_up_at = time.monotonic() + STOP_SECONDS
        while (late := [p for p in self.parts if not p.ended()]) and time.monotonic() < give_up_at:
            time.sleep(0.05)
        for part in late:
            if part.process is not None:
                logger.warning("part killed", extra={"part": part.name, "strays": session_kill(part.process.pid)})
        logger.info("workers stopped", extra={"parts": [p.name for p in self.parts]})
