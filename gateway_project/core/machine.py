"""Which set of processes this is: one data directory on one machine. Several sets may share a database."""

import hashlib
import socket
from pathlib import Path

from django.conf import settings
from django.db import connection


def database_is_shared() -> bool:
    """Whether other machines may work on the same database; an SQLite file is this data directory's own."""
    return bool(connection.vendor != "sqlite")


def machine_name() -> str:
    """The host's name, and four digits that tell several data directories of one host apart."""
    digest = hashlib.sha256(str(settings.DATA_DIR).encode()).hexdigest()
    return f"{socket.gethostname()[:40]}-{digest[:4]}"


def machine_key(key: str) -> str:
    """The key of an alert about this machine alone, so that no other machine heals it for seeing itself well."""
    return f"{key}@{machine_name()}" if database_is_shared() else key


def machine_words(words: str) -> str:
    """The same for its words."""
    return f"On {machine_name()}: {words}" if database_is_shared() else words


def keys_directory() -> Path:
    """Where this machine's key files lie (GATEWAY_KEYS_DIR); all sets of one database have the same in them."""
    return Path(settings.KEYS_DIR or Path(settings.DATA_DIR) / "keys")
