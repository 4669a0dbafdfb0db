"""Tokens: made and shown once, known by their hash, ended by time or by a person; and their commands."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils.timezone import now

from gateway_project.core.models import ApiToken, AuditEvent
from gateway_project.core.services.tokens import TokenError, token_create, token_revoke, token_used, token_verified

pytestmark = pytest.mark.django_db


def made(name: str = "pacs", role: str = "integration", days: int = 7) -> tuple[ApiToken, str]:
    return token_create(name, role=role, days=days, actor="command:test", now=now())


def test_text_is_kept_nowhere_and_only_it_verifies() -> None:
    token, text = made()
    secret = text[21:]
    assert len(text) == len("gwt_") + 16 + 1 + 43
    row = ApiToken.objects.filter(pk=token.pk).values().get()
    assert not [value for value in row.values() if secret in str(value)]
    assert token_verified(text, now=now()) == token
    for wrong in (text[:-1], text + "x", text[:-1] + ("A" if text[-1] != "A" else "B"), "", "gwt__", text.upper()):
        assert token_verified(wrong, now=now()) is None, wrong


def test_secret_of_one_token_opens_no_other() -> None:
    _first, one = made("one")
    _second, two = made("two")
    assert token_verified(one[:21] + two[21:], now=now()) is None


def test_ends_by_time_and_by_a_person() -> None:
    token, text = made(days=7)
    assert token_verified(text, now=now() + timedelta(days=7, seconds=1)) is None
    assert token_revoke(token, actor="user:anna", now=now()) is True
    assert token_verified(text, now=now()) is None
    assert token_revoke(token, actor="user:bert", now=now()) is False
    token.refresh_from_db()
    assert token.revoked_by == "user:anna"


def test_making_and_revoking_are_audited_without_the_secret() -> None:
    token, text = made()
    token_revoke(token, actor="user:anna", now=now())
    events = list(AuditEvent.objects.filter(subject="token:pacs").order_by("pk"))
    assert [event.detail["action"] for event in events] == ["token made", "token revoked"]
    assert not [event for event in events if text[21:] in str(event.detail)]


def test_use_is_noted_once_a_minute_at_most(django_assert_num_queries) -> None:
    token, _text = made()
    moment = now()
    token_used(token, now=moment)
    token.refresh_from_db()
    assert token.last_used_at == moment
    with django_assert_num_queries(0):
        token_used(token, now=moment + timedelta(seconds=59))
    token_used(token, now=moment + timedelta(seconds=60))
    token.refresh_from_db()
    assert token.last_used_at == moment + timedelta(seconds=60)


@pytest.mark.parametrize(
    ("name", "role", "days"),
    [("", "viewer", 1), ("a b", "viewer", 1), ("../x", "viewer", 1), ("a" * 65, "viewer", 1), ("a", "root", 1),
     ("a", "viewer", 0), ("a", "viewer", 3651)],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(name: str, role: str, days: int) -> None:
    with pytest.raises(TokenError):
        token_create(name, role=role, days=days, actor="command:test", now=now())
    assert not ApiToken.objects.exists()


def test_name_is_never_used_again() -> None:
    token, _text = made()
    token_revoke(token, actor="user:anna", now=now())
    with pytest.raises(TokenError, match="already"):
        made()


def test_commands_make_list_and_revoke() -> None:
    out, err = StringIO(), StringIO()
    call_command("tokencreate", "pacs", "--role", "viewer", "--days", "30", stdout=out, stderr=err)
    text = out.getvalue().strip()
    assert token_verified(text, now=now()) is not None
    assert "not shown again" in err.getvalue()
    listed = StringIO()
    call_command("tokenlist", stdout=listed)
    assert listed.getvalue().split("\t")[:3] == ["pacs", "viewer", "valid"]
    assert text[21:] not in listed.getvalue()
    told = StringIO()
    call_command("tokenrevoke", "pacs", stdout=told)
    call_command("tokenrevoke", "pacs", stdout=told)
    assert token_verified(text, now=now()) is None
    assert told.getvalue().splitlines() == ["Token pacs is revoked.", "Token pacs was revoked before."]
    call_command("tokenlist", stdout=listed)
    assert "revoked" in listed.getvalue()


def test_commands_say_what_is_wrong() -> None:
    with pytest.raises(CommandError, match="no token"):
        call_command("tokenrevoke", "nobody")
    with pytest.raises(CommandError, match="days"):
        call_command("tokencreate", "pacs", "--days", "0", stdout=StringIO(), stderr=StringIO())
    told = StringIO()
    call_command("tokenlist", stdout=StringIO(), stderr=told)
    assert "tokencreate" in told.getvalue()
