"""Programs with a token of each role, and a gateway whose set-up is finished."""

from collections.abc import Callable

import pytest
from django.test import Client

from tests.api.programs import program
from tests.web.factories import user_make, vault_make
from uploads.models import Vault


@pytest.fixture
def as_role(db: None) -> Callable[..., Client]:
    """`as_role("viewer")`: a client that sends a token of that role; "" sends none."""
    user_make("administrator", username="first", superuser=True)
    return program


@pytest.fixture
def vault(db: None) -> Vault:
    return vault_make()
