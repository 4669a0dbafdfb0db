"""A store of the test's own for everything that goes from the wire into the index."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from studies.dicom.spool import Intake, Store
from tests.studies.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "store")
    yield house
    house.receiver.close()
    house.intake.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    made.prepare()
    return made


@pytest.fixture
def intake(store: Store) -> Iterator[Intake]:
    made = Intake(store, owner="recv", batch_objects=4)
    yield made
    made.close()
