"""Schemathesis asks every operation of the OpenAPI document, in process: what it says is what is answered."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, settings

from gateway_project.wiring.api import access
from gateway_project.wiring.api.fields import CURSOR
from gateway_project.wiring.api.schema import schema_document
from network.services import peers
from tests.api.operations import world_make
from tests.api.programs import token_text
from tests.core.notice_servers import options_set
from tests.web.factories import user_make

schema = schemathesis.openapi.from_dict(schema_document())
schema.app = WSGIHandler()


def no_made_up_cursor(given: Any) -> bool:
    """A cursor that only looks like one is refused (test_pages.py), and no schema can say which those are."""
    cursor = given.get("cursor") if isinstance(given, dict) else None
    return not (isinstance(cursor, str) and re.fullmatch(CURSOR, cursor))


QUICK = {"deadline": None, "suppress_health_check": list(HealthCheck), "max_examples": 8, "derandomize": True}


def ask(case: Any, token: str) -> None:
    if no_made_up_cursor(case.query) and no_made_up_cursor(case.body):
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def token(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """All requests of a test share its transaction, as with Django's own client; bad tokens are not throttled."""
    monkeypatch.setattr(access, "REFUSALS_ALLOWED", 1_000_000)
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    user_make("administrator", username="first", superuser=True)
    world_make()
    options_set(PEER_NETWORKS=["192.0.2.0/24"], PEER_ALLOW_LOOPBACK=False)  # nobody is called
    monkeypatch.setattr(peers, "TRIALS_A_MINUTE", 1_000_000)
    monkeypatch.setattr(peers, "ECHOES_A_MINUTE", 1_000_000)
    yield token_text("administrator")
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@schema.parametrize()
@settings(**QUICK)
@pytest.mark.timeout(300)
def test_short(case: Any, token: str) -> None:
    ask(case, token)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@schema.parametrize()
@settings(**QUICK | {"max_examples": 150, "derandomize": False})
def test_deep(case: Any, token: str) -> None:
    ask(case, token)
