"""One django-q2 cluster that either works whole or ends whole.

django-q2's own sentinel replaces a killed worker, but such a worker may have held the lock of the shared queue, and
then the cluster is silent for ever. Here its pusher, workers and monitor are forked by a guard of ours, which takes no
lock that they take while it guards, and waits for none longer than the grace when it stops:

    guard (main thread) -+- pusher    broker -> task queue
                         +- worker    task queue -> task -> result queue      (as many as the settings say)
                         +- monitor   result queue -> acknowledge

Any of them killed ends the cluster with exit code 70, for `runworkers` to start anew; the guard killed, all end.
Before that the other workers' tasks are asked to stop: the job beside one that kills its worker is not to blame.
No scheduler, and no statistics in the cache: the ticker rings, and the job rows tell what there is to see.
"""

import gc
import logging
import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import ForkProcess
from multiprocessing.sharedctypes import RawValue
from typing import Any

from django.db import connections

from gateway_project.core.processes import (
    StopFlag,
    descendants_kill,
    die_with_parent,
    orphans_adopt,
    process_name_set,
    signals_leave_to_parent,
    stop_on_signals,
    stop_wait,
    stopping,
)

__all__ = ["EXIT_BROKEN", "GRACE_SECONDS", "cluster_run", "stop_wait", "stopping"]

logger = logging.getLogger(__name__)

EXIT_BROKEN = 70  # EX_SOFTWARE of sysexits.h
GRACE_SECONDS = 15.0  # less than the 25 s that runworkers waits, which is less than the supervisor's 30 s
BROKEN_GRACE_SECONDS = 10.0
OVERRUN_SECONDS = 30.0
STABLE_SECONDS = 10.0
PUSHER, WORKER, MONITOR = "pusher", "worker", "monitor"

_FORK = multiprocessing.get_context("fork")


def cluster_run(*, grace_seconds: float = GRACE_SECONDS, overrun_seconds: float = OVERRUN_SECONDS) -> int:
    """Serves the queue that the environment's Q_CLUSTER_NAME chose; when it answers, none of its processes lives.

    0: SIGTERM or SIGINT asked for it; tasks had `grace_seconds` to see `stopping()` and end, the rest was SIGKILLed.
    70: a process of the cluster was killed or failed, or a task outran its timeout by `overrun_seconds`; at once when
    no task is under way, else within 10 s.
    Tasks cut off leave their ring locked in the broker. Must be called in the main thread, once in a process.
    """
    stop = stop_on_signals()
    orphans_adopt()
    return _Cluster(stop, grace_seconds=grace_seconds, overrun_seconds=overrun_seconds).run()


@dataclass(frozen=True)
class _Member:
    role: str
    process: ForkProcess
    started_at: float
    busy_since: Any  # a shared double: time.monotonic() when the task under way began, 0 when idle


@dataclass(frozen=True)
class _Intake:
    """The task queue as the pusher sees it: a wait for room ends with the stop, when no worker may be left to make it.

    The ring that finds none stays locked in the broker.
    """

    tasks: "multiprocessing.Queue[Any]"
    stop: StopFlag

    def put(self, task: Any) -> None:
        while not (_put(self.tasks, task, seconds=0.1) or self.stop.is_set()):
            continue


class _Cluster:
    """The guard's view: who serves, and the two queues between them. Its order of stopping is django-q2's own."""

    def __init__(self, stop: StopFlag, *, grace_seconds: float, overrun_seconds: float) -> None:
        from django_q.conf import Conf

        self.stop = stop
        self.grace_seconds = grace_seconds
        self.name: str = Conf.CLUSTER_NAME
        self.workers: int = int(Conf.WORKERS)
        self.daemons: bool = Conf.DAEMONIZE_WORKERS
        self.cycle_seconds: float = Conf.GUARD_CYCLE
        self.timeout: int | None = Conf.TIMEOUT
        self.task_limit_seconds = self.timeout + overrun_seconds if self.timeout else None
        self.tasks: multiprocessing.Queue[Any] = _FORK.Queue(Conf.QUEUE_LIMIT or 0)
        self.results: multiprocessing.Queue[Any] = _FORK.Queue()
        self.members: list[_Member] = []

    def run(self) -> int:
        logger.info("cluster started", extra={"cluster": self.name, "workers": self.workers})
        asked = clean = False
        gc.collect()
        gc.freeze()  # what all members share: walking through it again and again would cost them much, and copy it
        try:
            for role in (*[WORKER] * self.workers, MONITOR, PUSHER):
                self._spawn(role)
            asked = self._guard()
            clean = self._wind_down() if asked else self._give_up()
        finally:
            killed = self._kill()
            extra = {"cluster": self.name, "asked": asked, "clean": clean, "killed": killed}
            logger.log(logging.INFO if clean else logging.WARNING, "cluster ended", extra=extra)
        return 0 if asked else EXIT_BROKEN

    def _spawn(self, role: str) -> None:
        connections.close_all()  # a forked database connection must not be shared
        busy_since = RawValue("d", 0.0)
        process = _FORK.Process(
            target=_member_run,
            args=(self._job_of(role), role, os.getpid(), busy_since),
            name=f"{self.name}-{role}",
            daemon=self.daemons if role == WORKER else True,
        )
        process.start()
        self.members.append(_Member(role, process, time.monotonic(), busy_since))

    def _job_of(self, role: str) -> Callable[[], None]:
        from django_q.monitor import monitor
        from django_q.pusher import pusher
        from django_q.worker import worker

        if role == WORKER:
            return lambda: worker(self.tasks, self.results, _FORK.Value("f", -1), self.timeout)
        if role == PUSHER:
            return lambda: pusher(_Intake(self.tasks, self.stop), self.stop)
        return lambda: monitor(self.results)

    def _guard(self) -> bool:
        """Keeps the members complete until a stop is asked (true) or the cluster can no longer be trusted (false)."""
        while not self.stop.is_set():
            connection.wait([self.stop.fileno(), *(m.process.sentinel for m in self.members)], self.cycle_seconds)
            for member in list(self.members):
                if member.process.exitcode is not None and not self._replace(member):
                    return False
                if self._overran(member):
                    logger.error("cluster task overran", extra={"cluster": self.name, "child": member.process.pid})
                    return False
        return True

    def _replace(self, member: _Member) -> bool:
        """Replaces a member that ended in order: a recycled worker, or a helper whose database was away for a while."""
        code = member.process.exitcode
        lived_seconds = time.monotonic() - member.started_at
        in_order = code == 0 or (
            code is not None and code > 0 and member.role != WORKER and lived_seconds > STABLE_SECONDS
        )
        extra = {"cluster": self.name, "role": member.role, "child": member.process.pid, "exit_code": code}
        if self.stop.is_set():
            return True
        if not in_order:
            logger.error("cluster process died", extra=extra)
            return False
        logger.info("cluster process replaced", extra=extra)
        self.members.remove(member)
        self._spawn(member.role)
        return True

    def _overran(self, member: _Member) -> bool:
        since = member.busy_since.value
        return bool(self.task_limit_seconds and since and time.monotonic() - since > self.task_limit_seconds)

    def _wind_down(self) -> bool:
        """Lets what was taken from the broker be finished and acknowledged; false when the grace was too short."""
        give_up_at = time.monotonic() + self.grace_seconds
        if not self._joined(PUSHER, give_up_at):
            return False
        pills = self.workers
        while self._living(WORKER):
            remaining = give_up_at - time.monotonic()
            if remaining <= 0:
                return False
            if pills:
                pills -= _put(self.tasks, "STOP", seconds=min(remaining, 0.1))
            else:
                connection.wait([m.process.sentinel for m in self._living(WORKER)], min(remaining, 0.1))
        self.results.put("STOP")
        return self._joined(MONITOR, give_up_at)

    def _give_up(self) -> bool:
        """Asks the tasks under way to end; nothing else of a broken cluster can be trusted to. Never clean."""
        self.stop.set()
        give_up_at = time.monotonic() + min(BROKEN_GRACE_SECONDS, self.grace_seconds)
        while time.monotonic() < give_up_at and any(m.busy_since.value for m in self._living(WORKER)):
            time.sleep(0.05)
        return False

    def _living(self, role: str) -> list[_Member]:
        return [m for m in self.members if m.role == role and m.process.exitcode is None]

    def _joined(self, role: str, give_up_at: float) -> bool:
        for member in self._living(role):
            member.process.join(max(0.0, give_up_at - time.monotonic()))
        return not self._living(role)

    def _kill(self) -> int:
        """After this nothing that the cluster started is left, and our own exit waits for nobody."""
        self.tasks.cancel_join_thread()
        self.results.cancel_join_thread()
        killed = descendants_kill()
        for member in self.members:
            member.process.join(1.0)
        return killed


def _put(tasks: "multiprocessing.Queue[Any]", task: Any, *, seconds: float) -> bool:
    try:
        tasks.put(task, timeout=seconds)
    except queue.Full:
        return False
    return True


def _member_run(job: Callable[[], None], role: str, parent_pid: int, busy_since: Any) -> None:
    die_with_parent(parent_pid)
    signals_leave_to_parent()
    process_name_set(f"gw-{role}")
    if role == WORKER:
        _task_watch(busy_since)
    job()


def _task_watch(busy_since: Any) -> None:
    """Tells the guard how long a task runs, and keeps the text of its errors, which may name a patient, in here.

    What django-q2 then stores and logs of a failed task is where it failed: the frames of its traceback.
    """
    from django_q.signals import post_execute_in_worker, pre_execute

    def begun(**_: Any) -> None:
        busy_since.value = time.monotonic()

    def ended(*, task: dict[str, Any], **_: Any) -> None:
        busy_since.value = 0.0
        if not task["success"]:
            task["result"] = "\n".join(["task raised", *_frames(str(task["result"]))])

    pre_execute.connect(begun, weak=False)
    post_execute_in_worker.connect(ended, weak=False)


def _frames(trace: str) -> Iterator[str]:
    return (line.strip() for line in trace.splitlines() if line.startswith('  File "'))
