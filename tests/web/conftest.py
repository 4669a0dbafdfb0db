"""Logged-in clients and a gateway whose set-up is finished."""

import datetime as dt
from collections.abc import Callable

import pytest
from django.test import Client
from django.utils.timezone import now

from gateway_project.core.models import Lease
from gateway_project.wiring import figures
from network.selectors import LiveList
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
