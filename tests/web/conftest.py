"""Logged-in clients and a gateway whose set-up is finished."""

from collections.abc import Callable

import pytest
from django.test import Client

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
