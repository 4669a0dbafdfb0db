"""Logged-in clients and a gateway whose set-up is finished."""

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from gateway_project.core.models import Lease
from gateway_project.wiring import figures
from network.selectors import LiveList
from studies.selectors import store_root
from studies.services.pictures import render_pool_close
from tests.studies.house import House
from tests.web.factories import user_make, vault_make
from uploads.models import Vault


@pytest.fixture
def client_as(db: None) -> Callable[..., Client]:
    """`client_as("viewer")`; an administrator exists besides, as in any gateway that is set up."""
    user_make("administrator", username="first", superuser=True)

    def log_in(role: str = "", **options: bool) -> Client:
        client = Client(**options)
        client.force_login(user_make(role))
        return client

    return log_in


@pytest.fixture
def viewer(client_as: Callable[..., Client]) -> Client:
    return client_as("viewer")


@pytest.fixture
def operator(client_as: Callable[..., Client]) -> Client:
    return client_as("operator")


@pytest.fixture
def administrator(client_as: Callable[..., Client]) -> Client:
    return client_as("administrator")


@pytest.fixture
def vault(db: None) -> Vault:
    return vault_make()


@pytest.fixture(autouse=True)
def everything_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listeners that answer and workers that are rung, as the pages' tests have none of their own."""
    monkeypatch.setattr(figures, "associations_live", lambda: LiveList(running=True))
    if request.node.get_closest_marker("django_db") is not None:
        request.getfixturevalue("transactional_db" if "live_server" in request.fixturenames else "db")
        Lease.objects.update_or_create(pk="ticker", defaults={"holder": "t", "until": now() + dt.timedelta(hours=1)})


@pytest.fixture
def stored(tmp_path: Path, settings: Any, db: None) -> Iterator[House]:
    """A store with real objects, where the pages look for it; its pictures are cached beside it."""
    settings.DATA_DIR = tmp_path
    house = House(store_root())
    yield house
    house.receiver.close()
    house.intake.close()


@pytest.fixture(scope="session", autouse=True)
def render_processes_end() -> Iterator[None]:
    yield
    render_pool_close()
