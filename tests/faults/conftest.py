"""The store and receiver that the faults are tried on, and the house's own handlers behind the wire."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from network.handlers import StorageHandlers
from studies.services.indexer import Indexer
from studies.services.receive import InstanceReceiver
from tests.faults.wire_peers import HONEST, neighbour
from tests.network.dimse_fixtures import LocalReceiver
from tests.studies.conftest import house
from tests.studies.datasets import CT, EXPLICIT
from tests.studies.house import House, content

__all__ = ["handlers", "house", "wired"]

Wired = Callable[..., AbstractContextManager[LocalReceiver]]


@pytest.fixture
def handlers(house: House) -> Iterator[StorageHandlers]:
    """What the gateway keeps objects with; at the end all is indexed, and rows and files agree."""
    indexer = Indexer(house.store, house.intake)
    indexer.start()
    yield StorageHandlers(InstanceReceiver(house.store, house.intake, indexer), indexer)
    indexer.stop(timeout_seconds=20)
    house.check()


@pytest.fixture
def wired(handlers: StorageHandlers) -> Wired:
    """A receiver with those handlers; another peer's objects are stored and indexed throughout the block."""

    @contextlib.contextmanager
    def opened(**config: Any) -> Iterator[LocalReceiver]:
        honest = {"dataset": content(HONEST, "1.2.77", "1.2.78"), "contexts": ((CT, (EXPLICIT,)),)}
        with LocalReceiver(handlers, **config) as local, neighbour(local, **honest):  # type: ignore[arg-type]
            yield local

    return opened
