"""Which associations to peers this gateway holds open, over all its processes on this machine."""

from pathlib import Path

from django.conf import settings

from network.dimse.scu.pool_file import PoolLine, pools_read


def pools_directory() -> Path:
    """Where each process tells what it holds."""
    return Path(settings.DATA_DIR) / "run"


def pool_lines() -> list[PoolLine]:
    """One line for each process and peer that it has called, by peer. No query."""
    return pools_read(pools_directory())
