"""What must be known before Django's settings: where the state lives, the engine under it, the secret key.

Nothing here imports Django.
"""

import ipaddress
import os
import secrets
import sqlite3 as system_sqlite
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# https://sqlite.org/wal.html "the WAL-reset bug": fixed in 3.51.3 and in the two maintained branches below.
WAL_FIXED = ((3, 51, 3),)
WAL_FIXED_BRANCHES = {(3, 44): 6, (3, 50): 7}

# For PostgreSQL, beside what DATABASE_URL says itself (?statement_timeout=... and the others, in milliseconds).
# A statement of ours takes milliseconds; whatever takes minutes holds locks that others wait for. An upgrade has no
# limits (wiring.prepare). A job never keeps a transaction open while it waits for a peer.
POSTGRES_TIMEOUTS = {
    "statement_timeout": 120_000,
    "lock_timeout": 30_000,
    "idle_in_transaction_session_timeout": 300_000,
}
POSTGRES_OPTIONS = {
    "connect_timeout": 5,
    "application_name": "gateway",
    # a peer that is gone without a word (a switched-off machine, a firewall that forgets) is noticed in a minute
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
CONNECTION_SECONDS = 600
REDIS_BROKER = "gateway_project.core.redis_broker.RedisBroker"
REDIS_SCHEMES = ("redis", "rediss", "unix")


def sqlite_engine() -> str:
    """Puts pysqlite3's newer SQLite in place of the system's; answers the journal mode that is safe on the result.

    WAL only where the library does not carry the WAL-reset corruption bug; otherwise a rollback journal.
    """
    try:
        import pysqlite3
        import pysqlite3.dbapi2
    except ImportError:
        return journal_mode(system_sqlite.sqlite_version_info)
    sys.modules["sqlite3"] = pysqlite3
    sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2
    return journal_mode(pysqlite3.sqlite_version_info)


def journal_mode(version: tuple[int, ...]) -> str:
    fixed = version[:3] >= WAL_FIXED[0] or version[2] >= WAL_FIXED_BRANCHES.get((version[0], version[1]), 1_000_000)
    return "WAL" if fixed else "DELETE"


def database_settings(config: dict[str, Any], *, journal_mode: str) -> dict[str, Any]:
    """Django's settings for the database that DATABASE_URL names; ends the process for one that we do not know."""
    engine = str(config.get("ENGINE", ""))
    config["ATOMIC_REQUESTS"] = False  # a GET must never take SQLite's write lock
    if engine.endswith("sqlite3"):
        config["OPTIONS"] = {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": f"PRAGMA journal_mode={journal_mode};PRAGMA synchronous=FULL;"
            "PRAGMA journal_size_limit=67108864;PRAGMA cache_size=-20000;",
        }
    elif engine.endswith("postgresql"):
        _postgres_settings(config)
    else:
        raise SystemExit("DATABASE_URL must begin with sqlite:/// or postgres://; nothing else was tried.")
    return config


def _postgres_settings(config: dict[str, Any]) -> None:
    given = dict(config.get("OPTIONS", {}))
    timeouts = {name: given.pop(name, default) for name, default in POSTGRES_TIMEOUTS.items()}
    words = [f"-c {name}={value}" for name, value in timeouts.items()]
    given["options"] = " ".join([*words, *([given["options"]] if "options" in given else [])])
    config["OPTIONS"] = POSTGRES_OPTIONS | given
    config.setdefault("CONN_MAX_AGE", CONNECTION_SECONDS)
    config.setdefault("CONN_HEALTH_CHECKS", True)


def redis_url_check(url: str) -> str:
    """The address, "" for none; ends the process for what is no address of a Redis server."""
    if url and urlsplit(url).scheme not in REDIS_SCHEMES:
        raise SystemExit("REDIS_URL must begin with redis://, rediss:// (TLS) or unix://.")
    return url


def broker_settings(redis_url: str) -> dict[str, Any]:
    """Who carries the rings: Redis where there is one, else the database. A ring may be lost, work never is."""
    return {"broker_class": REDIS_BROKER} if redis_url else {"orm": "default"}


def cache_settings(redis_url: str, *, directory: Path) -> dict[str, Any]:
    """One cache for all processes of this machine, or in Redis for those of all machines."""
    if redis_url:
        return {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": redis_url,
            "KEY_PREFIX": "gateway",
            "OPTIONS": {"socket_connect_timeout": 2, "socket_timeout": 5, "health_check_interval": 30},
        }
    return {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": directory}


def time_zone_name() -> str:
    """The machine's time zone: TZ, else what /etc/localtime points to, else UTC."""
    linked = os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
    name = os.environ.get("TZ", "").lstrip(":") or linked
    try:
        return ZoneInfo(name).key if name else "UTC"
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"


def directory_private(path: Path) -> Path:
    """Makes a directory that only this user can enter (and its parents); answers it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def keys_directory(text: str) -> Path | None:
    """The directory of the key files that several machines share, ours alone; None when each has its own."""
    if not text:
        return None
    path = directory_private(Path(text).expanduser().resolve())
    if path.stat().st_mode & 0o077:
        raise SystemExit(f"{path} can be entered by others; run: chmod 700 {path}")
    return path


def secret_key_read(directory: Path) -> str:
    """The key that signs sessions and task payloads: made once, 0600, the same for every process of this gateway."""
    path = directory_private(directory) / "django.key"
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return _secret_key_wait(path)
    with os.fdopen(descriptor, "w") as stream:
        key = secrets.token_urlsafe(64)
        stream.write(key)
    return key


def _secret_key_wait(path: Path) -> str:
    if path.stat().st_mode & 0o077:
        raise SystemExit(f"{path} can be read by others; run: chmod 600 {path}")
    key = path.read_text()
    if len(key) < 64:
        raise SystemExit(f"{path} is damaged (too short). Remove it while the gateway is stopped; sessions will end.")
    return key


def networks_read(texts: list[str], *, variable: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Addresses and networks of a setting that the web cannot start without understanding."""
    try:
        return tuple(ipaddress.ip_network(text.strip()) for text in texts if text.strip())
    except ValueError:
        raise SystemExit(f"{variable} holds addresses or networks, such as 10.0.0.7 or 10.0.0.0/24.") from None
