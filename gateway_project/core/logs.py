"""Logging as every process of the gateway sets it up: JSON lines, free of PHI, on the console and in shared files.

Settings hand `logging_config(...)` to Django; `install_hooks()` follows at the start of each process.
"""

import logging
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from gateway_project.core.core_options import LOG_CONSOLE_LEVEL, LOG_FILE_LEVEL
from gateway_project.core.correlation import correlation, correlation_get, correlation_new, correlation_set
from gateway_project.core.log_files import ERRORS_NAME, LOG_NAME, ConsoleHandler, SharedFileHandler, lines_lost, rotate
from gateway_project.core.log_format import WITHHELD, JsonLineFormatter

__all__ = [
    "WITHHELD",
    "JsonLineFormatter",
    "SharedFileHandler",
    "correlation",
    "correlation_get",
    "correlation_new",
    "correlation_set",
    "install_hooks",
    "lines_lost",
    "log_levels_apply",
    "logging_config",
    "logs_rotate_due",
    "rotate",
]

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 20 * 1024 * 1024
# Their texts are withheld anyway; below WARNING they would only cost time (pynetdicom formats every PDU at DEBUG).
QUIET_LOGGERS = (
    "asyncio",
    "django",
    "django.server",
    "pydicom",
    "pynetdicom",
    "requests",
    "urllib3",
    "whitenoise",
    "csp",
    "django-q",  # two lines a ring otherwise; our own drains say what they do
)
SPEAKING_LOGGERS = ("gunicorn.error", "py.warnings")


def logging_config(
    *, directory: Path | None, console_level: str = LOG_CONSOLE_LEVEL.default, file_level: str = LOG_FILE_LEVEL.default
) -> dict[str, Any]:
    """The configuration for `logging.config.dictConfig`; without a directory only the console speaks.

    Also takes away the handlers that libraries bring along: Django's mails and console, gunicorn's and django-q2's own
    formats, all of which print texts that may hold PHI. Opens no file. Raises OptionError for a level that is none.
    """
    console_level = LOG_CONSOLE_LEVEL.validate(console_level)
    file_level = LOG_FILE_LEVEL.validate(file_level)
    levels = [console_level] if directory is None else [console_level, file_level]
    handlers: dict[str, Any] = {
        "console": {"()": f"{ConsoleHandler.__module__}.ConsoleHandler", "level": console_level}
    }
    if directory is not None:
        shared = f"{SharedFileHandler.__module__}.SharedFileHandler"
        errors_level = max("WARNING", file_level, key=_number)
        handlers["file"] = {"()": shared, "filename": str(directory / LOG_NAME), "level": file_level}
        handlers["errors"] = {"()": shared, "filename": str(directory / ERRORS_NAME), "level": errors_level}
    for handler in handlers.values():
        handler["formatter"] = "json"
    loggers = {name: {"handlers": [], "level": "WARNING", "propagate": True} for name in QUIET_LOGGERS}
    loggers |= {name: {"handlers": [], "level": "INFO", "propagate": True} for name in SPEAKING_LOGGERS}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": f"{JsonLineFormatter.__module__}.JsonLineFormatter"}},
        "handlers": handlers,
        "root": {"level": min(levels, key=_number), "handlers": list(handlers)},
        "loggers": loggers,
    }


def log_levels_apply() -> None:
    """Gives this process's handlers the levels that the options LOG.CONSOLE_LEVEL and LOG.FILE_LEVEL have now.

    `collect()` subscribes it, so a change works in every process that reads options, within two seconds.
    """
    from gateway_project.core.options import option

    root = logging.getLogger()
    file_level = option(LOG_FILE_LEVEL.key)
    wanted = {
        "console": option(LOG_CONSOLE_LEVEL.key),
        "file": file_level,
        "errors": max("WARNING", file_level, key=_number),
    }
    ours = [handler for handler in root.handlers if handler.name in wanted]
    for handler in ours:
        handler.setLevel(wanted[str(handler.name)])
    if ours:
        root.setLevel(min(handler.level for handler in ours))


def console_silence() -> None:
    """From now on this process logs to its files alone: for commands whose console is for people.

    An uncaught exception still says there that it came, and which log has its frames.
    """
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if handler.name == "console"]:
        root.removeHandler(handler)
    sys.excepthook = _uncaught_and_told


def logs_rotate_due(directory: Path) -> list[Path]:
    """Rotates full log files into `archive` beside them, keeping LOG.MAX_ARCHIVE_FILES of each kind; for the ticker."""
    from gateway_project.core.options import option

    keep = option("LOG.MAX_ARCHIVE_FILES")
    return rotate(directory, max_bytes=MAX_FILE_BYTES, archive_directory=directory / "archive", max_archive_files=keep)


def install_hooks() -> None:
    """From now on no uncaught exception, warning or failing log call prints its own words. May be repeated.

    Covers the main thread, other threads, what the interpreter cannot raise, warnings, and logging before or without a
    configuration.
    """
    logging.raiseExceptions = False
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(JsonLineFormatter())
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def _uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        logger.info("interrupted")
        return
    logger.critical("uncaught exception", exc_info=(kind, error, traceback))


def _uncaught_and_told(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """For a console without log lines: the kind of the error, never its words."""
    _uncaught(kind, error, traceback)
    if not issubclass(kind, KeyboardInterrupt) and sys.stderr is not None:
        files = [
            str(handler.path) for handler in logging.getLogger().handlers if isinstance(handler, SharedFileHandler)
        ]
        where = f"its frames are in {files[-1]}" if files else "there is no log to tell more"
        sys.stderr.write(f"Ended by an unexpected {kind.__name__}: {where}\n")


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if issubclass(args.exc_type, SystemExit):
        return
    error = args.exc_value or args.exc_type()
    logger.critical("uncaught exception in thread", exc_info=(args.exc_type, error, args.exc_traceback))


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    error = unraisable.exc_value or unraisable.exc_type()
    where = type(unraisable.object).__name__
    logger.error(
        "unraisable exception", exc_info=(unraisable.exc_type, error, unraisable.exc_traceback), extra={"met_in": where}
    )


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level]
