"""Stands for the core's ticker."""

from gateway_project.core.processes import stop_on_signals
from tests.core.cluster_project.tasks import mark


def run() -> None:
    stop = stop_on_signals()
    mark("ticker")
    stop.wait(60)
    mark("ticker-stopped")
