"""What queues there are, who works them, and what the ticker rings: registered by each app as it starts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string

from gateway_project.core.options import option

if TYPE_CHECKING:
    from gateway_project.core.models import Lane, LeasedJob

CONTROL_CLUSTER = "control"
TRANSFER_CLUSTER = "transfer"
NOTICE_CLUSTER = "notices"
NOTICE_QUEUE = "notices"


@dataclass(frozen=True)
class LaneLimits:
    """What a lane allows at one moment: so many jobs under way at once, and none before `waits_until`."""

    max_parallel: int
    waits_until: datetime | None = None


@dataclass(frozen=True)
class Queue:
    """A kind of job: its rows, the function that does one, and the cluster whose workers may be kept waiting by it.

    `run` is the dotted name of `run(job)`, which raises JobFault; `changed` that of `changed(job)`, which is called
    inside the transaction of every transition of a job, so that what is derived from jobs is never behind them.
    `limits`, if any, is that of `limits(lane, now) -> LaneLimits`, asked inside the claim under the lane's lock.
    """

    name: str
    cluster: str
    model: str
    run: str
    changed: str
    delay: Callable[[int], float]
    max_attempts: Callable[[], int]
    enabled: Callable[[], bool] = lambda: True
    lease_seconds: Callable[[], float] = lambda: option("QUEUE.LEASE_SECONDS")
    limits: str = ""

    def model_class(self) -> "type[LeasedJob]":
        from django.apps import apps

        return apps.get_model(self.model)  # type: ignore[return-value]

    def run_function(self) -> Callable[[Any], None]:
        return import_string(self.run)

    def lane_limits(self, lane: "Lane", *, now: datetime) -> LaneLimits:
        if not self.limits:
            return LaneLimits(lane.max_parallel)
        limits: LaneLimits = import_string(self.limits)(lane, now)
        return limits

    def changed_function(self) -> Callable[[Any], None]:
        return import_string(self.changed)


@dataclass(frozen=True)
class Periodic:
    """Something the ticker rings on the control queue every `seconds()`; `function` is the dotted name of `f(now)`."""

    name: str
    function: str
    seconds: Callable[[], float]


@dataclass
class Registry:
    queues: dict[str, Queue] = field(default_factory=dict)
    periodics: dict[str, Periodic] = field(default_factory=dict)

    def add_queue(self, queue: Queue) -> None:
        if self.queues.setdefault(queue.name, queue) != queue:
            raise ValueError(f"queue {queue.name} is registered twice")

    def add_periodic(self, periodic: Periodic) -> None:
        if self.periodics.setdefault(periodic.name, periodic).function != periodic.function:
            raise ValueError(f"periodic {periodic.name} is registered twice")


REGISTRY = Registry()
