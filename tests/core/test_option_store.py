"""Changing options in the database: judged, audited, versioned, seen; and the command and check that show them."""

from io import StringIO
from typing import Any
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection, transaction

from gateway_project.core.models import AuditEvent, ConfigOverride, ConfigVersion
from gateway_project.core.option_checks import environment_names_check
from gateway_project.core.option_store import DjangoOverrideStore, option_clear, option_set
from gateway_project.core.options import (
    REGISTRY,
    Kind,
    Option,
    OptionError,
    OptionLockedError,
    OptionRegistry,
    StoreUnavailableError,
    option,
)

TOKEN = Option("TEST.TOKEN", Kind.STR, "", help="Token.", secret=True)


@pytest.fixture(autouse=True)
def _fresh(db: None) -> Any:
    """Neither this test nor the next one sees what another left in the cache."""
    REGISTRY.bind(DjangoOverrideStore())
    yield
    REGISTRY.bind(DjangoOverrideStore())


def audited() -> list[tuple[str, str, dict[str, Any]]]:
    return list(AuditEvent.objects.order_by("id").values_list("subject", "actor", "detail"))


def test_change_is_seen_at_once_here_and_audited_with_both_values() -> None:
    assert option("INSTANCE.ID") == "gateway-01"
    option_set("INSTANCE.ID", "gw-2", actor="user:anna")
    option_set("INSTANCE.ID", "gw-3", actor="user:anna")
    assert option("INSTANCE.ID") == "gw-3"
    assert option_clear("INSTANCE.ID", actor="user:anna") is True
    assert option("INSTANCE.ID") == "gateway-01"
    assert option_clear("INSTANCE.ID", actor="user:anna") is False
    steps = [(None, "gw-2"), ("gw-2", "gw-3"), ("gw-3", None)]
    assert audited() == [
        ("option:INSTANCE.ID", "user:anna", {"option": "INSTANCE.ID", "before": before, "after": after})
        for before, after in steps
    ]


def test_another_process_sees_a_change_by_its_version() -> None:
    other = OptionRegistry(environ={}, poll_seconds=0)
    other.register([REGISTRY.get("INSTANCE.ID")])
    other.bind(DjangoOverrideStore())
    assert other.value("INSTANCE.ID") == "gateway-01"
    option_set("INSTANCE.ID", "gw-2", actor="x")
    assert other.value("INSTANCE.ID") == "gw-2"


def test_value_that_does_not_fit_changes_nothing() -> None:
    with pytest.raises(OptionError):
        option_set("UPLOAD.MAX_ATTEMPTS", -1, actor="x")
    assert not ConfigOverride.objects.exists()
    assert audited() == []


def test_option_that_the_environment_sets_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_UPLOAD__MAX_ATTEMPTS", "4")
    with pytest.raises(OptionLockedError, match="GATEWAY_UPLOAD__MAX_ATTEMPTS"):
        option_set("UPLOAD.MAX_ATTEMPTS", 3, actor="x")
    with pytest.raises(OptionLockedError):
        option_clear("UPLOAD.MAX_ATTEMPTS", actor="x")
    assert option("UPLOAD.MAX_ATTEMPTS") == 4


def test_secret_is_nowhere_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY._options, TOKEN.key, TOKEN)
    option_set("TEST.TOKEN", "hunter2", actor="x")
    option_set("TEST.TOKEN", "hunter3", actor="x")
    assert option("TEST.TOKEN") == "hunter3"
    printed = StringIO()
    call_command("optionlist", stdout=printed)
    assert "TEST.TOKEN\tset\toverride\t-\t" in printed.getvalue().splitlines()
    kept = f"{printed.getvalue()}{list(ConfigOverride.objects.values())}{audited()}"
    assert "hunter" not in kept
    assert audited()[1][2] == {"option": "TEST.TOKEN", "before": "set", "after": "set"}


def test_change_that_is_rolled_back_and_a_later_one_never_share_a_version() -> None:
    option_set("INSTANCE.ID", "gw-1", actor="x")
    versions = set()
    for _ in range(5):
        try:
            with transaction.atomic():
                option_set("INSTANCE.ID", "gw-2", actor="x")
                versions.add(ConfigVersion.objects.get(pk=1).version)
                raise KeyError  # the caller's transaction fails
        except KeyError:
            continue
    assert len(versions) == 5
    REGISTRY.invalidate()
    assert option("INSTANCE.ID") == "gw-1"


def test_before_migrate_there_are_no_overrides_and_no_failing_query() -> None:
    store = DjangoOverrideStore()
    with patch.object(connection.introspection, "table_names", return_value=["auth_user"]):
        before = store.version()
        assert store.load() == {}
    assert store.version() != before, "the table that appears is seen"


def test_database_that_is_down_is_told_as_such() -> None:
    store = DjangoOverrideStore()
    store.version()
    with patch.object(connection, "cursor", side_effect=OperationalError("down")), pytest.raises(StoreUnavailableError):
        store.version()


def test_command_lists_every_option_and_prints_the_page_of_settings() -> None:
    printed = StringIO()
    call_command("optionlist", stdout=printed)
    lines = printed.getvalue().splitlines()
    assert [line.split("\t")[0] for line in lines] == [one.key for one in REGISTRY.all()]
    assert "INSTANCE.ID\tgateway-01\tdefault\t-\t" in lines
    page = StringIO()
    call_command("optionlist", "--markdown", stdout=page)
    assert page.getvalue().startswith("# Settings\n")


def test_check_warns_of_a_mistyped_variable_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment_names_check() == []
    monkeypatch.setenv("GATEWAY_UPLOAD__MAX_ATTEMPT", "value-not-shown")
    (warning,) = environment_names_check()
    assert warning.id == "core.W001"
    assert "GATEWAY_UPLOAD__MAX_ATTEMPTS" in (warning.hint or "")
    assert "value-not-shown" not in str(warning)
