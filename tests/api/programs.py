"""Clients that come as programs do: with a token, JSON, and no cookie."""

from typing import Any

from django.core.cache import cache
from django.test import Client
from django.utils.timezone import now

from gateway_project.core.models import ApiToken
from gateway_project.core.services.tokens import token_create
from tests.web.factories import number

PROBLEM = "application/problem+json"
ROLES = ("viewer", "operator", "administrator", "integration")


def token_text(role: str, *, days: int = 1, name: str = "") -> str:
    name = name or f"{role}-{number()}"
    return token_create(name, role=role, days=days, actor="test:api", now=now())[1]


def program(role: str = "", *, token: str = "", **extra: Any) -> Client:
    """From another machine than the gateway's."""
    cache.clear()
    text = token or (token_text(role) if role else "")
    headers = {"Authorization": f"Bearer {text}"} if text else {}
    return Client(headers=headers, **{"REMOTE_ADDR": "10.1.2.3", **extra})


def post(client: Client, path: str, body: Any = None, **extra: Any) -> Any:
    return client.post(path, body if body is not None else {}, content_type="application/json", **extra)


def problem_of(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The problem details, checked for what every one of them has."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, answer["Content-Type"], body["code"]) == (status, PROBLEM, code), body
    assert body["status"] == status
    assert body["correlation_id"] == answer["X-Correlation-ID"]
    assert set(body) - {"errors"} == {"type", "title", "status", "code", "detail", "correlation_id"}
    return body


def last_token() -> ApiToken:
    return ApiToken.objects.latest("pk")
