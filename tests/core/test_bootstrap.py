"""DATABASE_URL and REDIS_URL: what they mean, and what is refused."""

from pathlib import Path

import environ
import pytest
from django.db import connection

from gateway_project import bootstrap


def settings_of(url: str) -> dict[str, object]:
    return bootstrap.database_settings(environ.Env.db_url_config(url), journal_mode="WAL")


def test_postgres_gets_limits_and_a_name() -> None:
    found = settings_of("postgres://anna:secret@db.hospital.example:5433/gateway")
    assert (found["HOST"], found["PORT"], found["NAME"]) == ("db.hospital.example", 5433, "gateway")
    assert (found["CONN_MAX_AGE"], found["CONN_HEALTH_CHECKS"], found["ATOMIC_REQUESTS"]) == (600, True, False)
    options = found["OPTIONS"]
    assert isinstance(options, dict)
    assert options["application_name"] == "gateway"
    assert options["options"] == (
        "-c statement_timeout=120000 -c lock_timeout=30000 -c idle_in_transaction_session_timeout=300000"
    )


def test_the_address_may_say_otherwise() -> None:
    found = settings_of(
        "postgres://db/gateway?sslmode=verify-full&statement_timeout=5000&application_name=other&conn_max_age=0"
        "&options=-c%20search_path%3Dgateway"
    )
    options = found["OPTIONS"]
    assert isinstance(options, dict)
    assert (options["sslmode"], options["application_name"], found["CONN_MAX_AGE"]) == ("verify-full", "other", 0)
    assert "statement_timeout=5000 " in options["options"]
    assert options["options"].endswith(" -c search_path=gateway")
    assert "statement_timeout" not in options


def test_sqlite_is_as_it_was(tmp_path: Path) -> None:
    found = settings_of(f"sqlite:///{tmp_path}/gateway.sqlite3")
    options = found["OPTIONS"]
    assert isinstance(options, dict)
    assert options["transaction_mode"] == "IMMEDIATE"
    assert "synchronous=FULL" in options["init_command"]


@pytest.mark.parametrize("url", ["mysql://db/gateway", "oracle://db/gateway"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(SystemExit, match="DATABASE_URL"):
        settings_of(url)


@pytest.mark.parametrize("url", ["localhost:6379", "http://redis/", "postgres://db/x"])
def test_what_is_no_redis_is_refused(url: str) -> None:
    with pytest.raises(SystemExit, match="REDIS_URL"):
        bootstrap.redis_url_check(url)


def test_redis_carries_rings_and_cache_where_there_is_one(tmp_path: Path) -> None:
    assert bootstrap.broker_settings("") == {"orm": "default"}
    assert bootstrap.broker_settings("redis://r/0") == {"broker_class": bootstrap.REDIS_BROKER}
    assert bootstrap.cache_settings("", directory=tmp_path)["LOCATION"] == tmp_path
    assert bootstrap.cache_settings(bootstrap.redis_url_check("rediss://r/0"), directory=tmp_path)["LOCATION"] == (
        "rediss://r/0"
    )


def test_shared_keys_lie_in_a_directory_of_ours_alone(tmp_path: Path) -> None:
    assert bootstrap.keys_directory("") is None
    assert bootstrap.keys_directory(str(tmp_path / "keys")) == tmp_path / "keys"
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(SystemExit, match="chmod 700"):
        bootstrap.keys_directory(str(tmp_path / "keys"))


@pytest.mark.django_db
def test_the_limits_are_in_force_on_postgres() -> None:
    if connection.vendor != "postgresql":
        assert connection.vendor == "sqlite"
        return
    with connection.cursor() as cursor:
        shown = []
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "application_name"):
            cursor.execute(f"SHOW {name}")
            shown.append(cursor.fetchone()[0])
    assert shown == ["2min", "30s", "5min", "gateway"]
