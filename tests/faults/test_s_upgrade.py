"""Faults of an upgrade: killed in mid migration, a database that is older or newer than the code, a torn history."""

from collections.abc import Iterator
from pathlib import Path

import pysqlite3
import pytest
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from gateway_project.core.packages import OUR_PACKAGES
from gateway_project.core.schema import SchemaError, schema_check
from gateway_project.wiring import prepare
from tests.gateway_harness import PREPARE, Gateway

KILLED = """
import os, signal
from django.db.migrations.recorder import MigrationRecorder
real, left = MigrationRecorder.record_applied, [{at}]
def record(self, app, name):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, app, name)
MigrationRecorder.record_applied = record
"""
REFUSALS = """
import importlib
from django.core.management import CommandError, call_command
from gateway_project.core.schema import SchemaError
def web():
    importlib.import_module("gateway_project.wsgi")
for start in {starts}:
    try:
        web() if start == "web" else call_command(start)
    except (CommandError, SchemaError) as error:
        print(start, error)
"""


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Gateway]:
    data = tmp_path / "empty"
    data.mkdir(mode=0o700)
    gateway = Gateway(data)
    yield gateway
    gateway.kill()


def schema(gateway: Gateway) -> list[tuple[str, ...]]:
    return sorted(gateway.rows("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"), key=repr)


def applied(gateway: Gateway) -> set[tuple[str, ...]]:
    return set(gateway.rows("SELECT app, name FROM django_migrations"))


def refusals(gateway: Gateway, *starts: str) -> dict[str, str]:
    """What each of these parts says instead of starting."""
    done = gateway.code(REFUSALS.format(starts=starts))
    assert done.returncode == 0, done.stderr
    told = [line.partition(" ") for line in done.stdout.splitlines() if line.startswith(starts)]
    return {start: words for start, _space, words in told if not words.startswith("/")}


@pytest.mark.parametrize("at", [25, 30])
def test_s18_upgrade_killed_in_mid_migration_is_refused_by_every_part_and_resumed(
    empty: Gateway, prepared_directory: Path, at: int
) -> None:
    """The migration under way leaves nothing, those before it stay, and the next start does the others. The second one
    has statements that Django leaves for the end.
    """
    assert empty.code(KILLED.format(at=at) + PREPARE).returncode == -9
    done = applied(empty)
    assert len(done) == at - 1
    told = refusals(empty, "runlisteners", "runworkers", "web")
    assert set(told) == {"runlisteners", "runworkers", "web"}
    assert all("not up to date" in words and "make run" in words for words in told.values())
    assert applied(empty) == done, "who refuses changes nothing"
    assert empty.code(PREPARE).returncode == 0
    whole = Gateway(prepared_directory)
    assert (schema(empty), applied(empty)) == (schema(whole), applied(whole))


def test_s18_database_of_a_newer_gateway_is_refused_by_every_part(gateway: Gateway) -> None:
    database = pysqlite3.connect(gateway.data / "gateway.sqlite3")
    with database:
        database.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('studies', '9001_x', '2030-01-01')"
        )
    database.close()
    before = schema(gateway)
    told = refusals(gateway, "rungateway", "runlisteners", "runworkers", "web")
    assert set(told) == {"rungateway", "runlisteners", "runworkers", "web"}
    for words in told.values():
        assert "newer version" in words
        assert "studies.9001_x" in words
        assert "backup" in words
    assert schema(gateway) == before


@pytest.mark.django_db
def test_s18_history_with_a_gap_is_refused() -> None:
    schema_check()
    MigrationRecorder(connection).record_unapplied("studies", "0001_initial")
    for migrating in (True, False):
        with pytest.raises(SchemaError) as caught:
            schema_check(migrating=migrating)
        assert (caught.value.code, "backup" in str(caught.value)) == ("database-history", True)


@pytest.mark.django_db
def test_s18_what_belongs_to_no_app_of_now_does_not_matter() -> None:
    MigrationRecorder(connection).record_applied("an_app_that_is_gone", "0001_initial")
    schema_check()


@pytest.mark.django_db
def test_s18_step_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OperationalError("database or disk is full")

    monkeypatch.setattr("gateway_project.wiring.prepare.call_command", full)
    with pytest.raises(prepare.PrepareError, match="start again"):
        prepare.database_upgrade()


@pytest.mark.django_db
def test_s18_every_migration_is_atomic() -> None:
    """So that one that is killed leaves nothing of itself, on SQLite as on PostgreSQL."""
    known = MigrationLoader(connection).disk_migrations.values()
    ours = [one for one in known if type(one).__module__.partition(".")[0] in OUR_PACKAGES]
    assert len(ours) >= 10
    assert [f"{one.app_label}.{one.name}" for one in ours if not one.atomic] == []
