"""What must be known before Django's settings: where the state lives, the engine under it, the secret key.

Nothing here imports Django.
"""

import ipaddress
import os
import secrets
import sqlite3 as system_sqlite
import sys
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# https://sqlite.org/wal.html "the WAL-reset bug": fixed in 3.51.3 and in the two maintained branches below.
WAL_FIXED = ((3, 51, 3),)
WAL_FIXED_BRANCHES = {(3, 44): 6, (3, 50): 7}


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


def secret_key_read(data_dir: Path) -> str:
    """The key that signs sessions and task payloads: made once, 0600, the same for every process of this gateway."""
    path = directory_private(data_dir / "keys") / "django.key"
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
