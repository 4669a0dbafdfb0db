"""A store of the test's own for everything that goes from the wire into the index."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.studies.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "store")
    yield house
    house.receiver.close()
    house.intake.close()
