"""The options that the core itself declares (the registry is `options.py`)."""

import re

from gateway_project.core import alert_options
from gateway_project.core.option_types import Kind, Option

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
INSTANCE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _instance_id_check(value: str) -> None:
    if not INSTANCE_PATTERN.fullmatch(value):
        raise ValueError(
            "must be 1 to 64 letters, digits, dots, hyphens or underscores, beginning with a letter or digit"
        )


INSTANCE_ID = Option(
    "INSTANCE.ID",
    Kind.STR,
    "gateway-01",
    help="The name of this gateway: in the banner, in /health and in messages to the vault.",
    check=_instance_id_check,
)
LOG_CONSOLE_LEVEL = Option(
    "LOG.CONSOLE_LEVEL",
    Kind.STR,
    "INFO",
    help="The least severe events that are printed on the console.",
    choices=LEVELS,
)
LOG_FILE_LEVEL = Option(
    "LOG.FILE_LEVEL", Kind.STR, "INFO", help="The least severe events that are written to gateway.log.", choices=LEVELS
)
LOG_MAX_ARCHIVE_FILES = Option(
    "LOG.MAX_ARCHIVE_FILES",
    Kind.INT,
    14,
    help="How many full log files of each kind are kept; older ones are deleted.",
    minimum=1,
    maximum=10_000,
)
QUEUE_LEASE_SECONDS = Option(
    "QUEUE.LEASE_SECONDS",
    Kind.FLOAT,
    60.0,
    help="How long a job under way may show no progress before it is taken from its worker.",
    minimum=1,
)
OPTIONS: tuple[Option, ...] = (
    INSTANCE_ID,
    LOG_CONSOLE_LEVEL,
    LOG_FILE_LEVEL,
    LOG_MAX_ARCHIVE_FILES,
    QUEUE_LEASE_SECONDS,
    *alert_options.OPTIONS,
)
