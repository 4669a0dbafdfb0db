"""Logs: one JSON line, no PHI, no flood. The mark stands for a patient's name and must never be printed."""

import datetime as dt
import json
import logging
import logging.config
import sys
import threading
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_project.core import correlation as correlations
from gateway_project.core import logs
from gateway_project.core.errors import GatewayError
from gateway_project.core.log_errors import exception_describe
from gateway_project.core.log_format import LINE_CHARACTERS_MAX, WITHHELD, JsonLineFormatter
from gateway_project.core.option_types import OptionError

MARK = "MARKED^PATIENT"


def formatted(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonLineFormatter().format(record)
    assert "\n" not in line
    assert line.isascii()
    assert line.isprintable()
    found: dict[str, Any] = json.loads(line)
    return found


def record(
    name: str,
    msg: object,
    *args: object,
    severity: int = logging.INFO,
    raising: BaseException | None = None,
    **extra: object,
) -> logging.LogRecord:
    exc_info = (type(raising), raising, raising.__traceback__) if raising else None
    made = logging.LogRecord(name, severity, "/x/module.py", 7, msg, args, exc_info)
    made.__dict__.update(extra)
    return made


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


# -- the line ----------------------------------------------------------------------------------------------------------


def test_line_holds_time_level_logger_event_ids_and_extra() -> None:
    made = record("studies.services", "study settled", study=12, revision=uuid.UUID(int=5))
    made.created = 1_700_000_000.1239
    with correlations.correlation("abc-1"):
        fields = formatted(made)
    assert fields.pop("pid") > 0
    assert fields == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "INFO",
        "logger": "studies.services",
        "event": "study settled",
        "correlation_id": "abc-1",
        "study": 12,
        "revision": "00000000-0000-0000-0000-000000000005",
    }


@pytest.mark.parametrize(
    "hostile", ["a\r\nb", "\x1b[2Jx", "\x7f\x9b31m", "\u2028\u2029\u202e", "\udcff", "\x00", "ü" * 10_000]
)
def test_hostile_text_of_a_peer_stays_one_harmless_line(hostile: str) -> None:
    assert formatted(record("network.dimse", "association rejected", calling=hostile))["calling"] == hostile[:2000]


def test_extra_never_shadows_the_lines_own_fields() -> None:
    fields = formatted(record("hl7", "x", event="forged", level="forged", time="forged"))
    assert (fields["event"], fields["level"], fields["extra_event"]) == ("x", "INFO", "forged")


def test_only_plain_values_are_shown_and_objects_as_their_type() -> None:
    class Dataset:
        def __str__(self) -> str:
            return MARK

        __repr__ = __str__

    fields = formatted(
        record(
            "studies",
            "x",
            dataset=Dataset(),
            raw=MARK.encode(),
            nested={"deep": [Dataset()], Dataset(): 1},
            error=ValueError(MARK),
            path=Path("/data/7"),
            when=dt.date(2026, 1, 2),
            bad=float("nan"),
            huge=1 << 100_000,
        )
    )
    assert fields["dataset"] == "<Dataset>"
    assert fields["raw"] == "<bytes>"
    assert fields["nested"] == {"deep": ["<Dataset>"], "<Dataset>": 1}
    assert fields["error"]["type"] == "ValueError"
    assert (fields["path"], fields["when"], fields["bad"], fields["huge"]) == ("/data/7", "2026-01-02", "nan", "<int>")
    assert MARK not in json.dumps(fields)


def test_line_has_an_upper_bound() -> None:
    fields = formatted(record("studies", "x" * 10_000, many={str(i): "y" * 2000 for i in range(90)}))
    assert fields["line_too_long"] > LINE_CHARACTERS_MAX
    assert len(json.dumps(fields)) < LINE_CHARACTERS_MAX


def test_values_put_into_our_own_texts_by_mistake_are_not_printed() -> None:
    fields = formatted(record("studies.services", "stored %s", MARK))
    assert (fields["event"], fields["arguments_withheld"]) == ("stored %s", 1)
    assert formatted(record("studies.services", ValueError(MARK)))["event"] == "<ValueError>"


# -- exceptions --------------------------------------------------------------------------------------------------------


def test_strangers_exception_gives_type_and_frames_but_no_words() -> None:
    fields = formatted(record("studies.services", "index failed", raising=raised(ValueError(MARK))))
    assert fields["exception"]["type"] == "ValueError"
    assert fields["exception"]["frames"][-1].endswith(" raised")
    assert "tests/core/test_logs.py:" in fields["exception"]["frames"][-1]
    assert MARK not in json.dumps(fields)


def test_our_exception_gives_code_and_words_and_its_cause_only_a_type() -> None:
    error = raised(OptionError("set it again", code="option-x"), raised(KeyError(MARK)))
    described = exception_describe(error)
    assert (described["code"], described["message"]) == ("option-x", "set it again")
    assert [cause["type"] for cause in described["causes"]] == ["KeyError"]
    assert MARK not in json.dumps(described)


def test_code_attribute_alone_does_not_make_a_strangers_words_trusted() -> None:
    class ForeignError(Exception):
        code = "invalid"

    class VouchedError(ForeignError):
        phi_free = True

    assert "message" not in exception_describe(ForeignError(MARK))
    assert exception_describe(VouchedError("words"))["message"] == "words"
    assert exception_describe(GatewayError("ours"))["code"] == "internal"


def test_system_error_gives_its_number_and_not_the_file_name() -> None:
    described = exception_describe(OSError(28, "No space left", f"/data/{MARK}"))
    assert described["errno"] == 28
    assert MARK not in json.dumps(described)


def test_circle_of_causes_and_deep_recursion_stay_bounded() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert len(exception_describe(first)["causes"]) == 1

    def deeper() -> None:
        deeper()

    with pytest.raises(RecursionError) as caught:
        deeper()
    assert len(exception_describe(caught.value)["frames"]) == 30


# -- strangers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["pydicom", "pynetdicom.acse", "django.request", "urllib3", "root", "", "studiesx", "__main__"]
)
def test_strangers_words_are_withheld_and_their_place_kept(name: str) -> None:
    made = record(name, f"bad value {MARK}: %s", MARK, severity=logging.WARNING, status_code=500, request=MARK)
    made.exc_info = (ValueError, raised(ValueError(MARK)), None)
    fields = formatted(made)
    assert (fields["event"], fields["module"], fields["line"], fields["status_code"]) == (WITHHELD, "module", 7, 500)
    assert fields["exception"]["type"] == "ValueError"
    assert MARK not in json.dumps(fields)


def test_gunicorns_information_is_kept_but_no_address_of_a_request() -> None:
    kept = formatted(record("gunicorn.error", "Listening at: %s (%s)", "http://127.0.0.1:11113", 42))
    assert kept["event"] == "Listening at: http://127.0.0.1:11113 (42)"
    killed = formatted(record("gunicorn.error", "Worker (pid:%s) was sent %s!", 42, "SIGKILL", severity=logging.ERROR))
    assert (killed["event"], killed["numbers"]) == ("Worker (pid:%s) was sent %s!", [42])
    for made in (
        record("gunicorn.error", "Error handling request %s", f"/s?PatientName={MARK}", severity=logging.ERROR),
        record("gunicorn.error", f"Invalid request from ip=::1: '{MARK}'", severity=logging.WARNING),
        record("gunicorn.error", "%s", f"/s?{MARK}", severity=logging.DEBUG),
    ):
        assert MARK not in json.dumps(formatted(made))


def test_queue_software_speaks_except_where_it_quotes_results() -> None:
    assert formatted(record("django-q", "recycled worker 1"))["event"] == "recycled worker 1"
    failed = record("django-q", f"Failed 'drain' (a) - {MARK}", severity=logging.ERROR)
    assert formatted(failed)["event"] == WITHHELD


def test_broken_format_of_a_kept_logger_is_withheld_and_does_not_raise() -> None:
    assert formatted(record("gunicorn.error", "%d", "x"))["event"] == WITHHELD


def test_real_pydicom_warning_is_logged_without_the_value() -> None:
    pydicom_valuerep = pytest.importorskip("pydicom.valuerep")
    config = pytest.importorskip("pydicom.config")
    lines = _captured("py.warnings")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        try:
            pydicom_valuerep.validate_value("DA", MARK, config.WARN)
        finally:
            logging.captureWarnings(False)
            logging.getLogger("py.warnings").handlers.clear()
    assert lines, "pydicom did not warn"
    fields = formatted(lines[0])
    assert (fields["event"], fields["category"], fields["module"]) == (WITHHELD, "UserWarning", "valuerep")
    assert MARK in lines[0].getMessage(), "the warning did not quote the value: this test proves nothing"
    assert MARK not in json.dumps(fields)


def _captured(name: str) -> list[logging.LogRecord]:
    found: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    logging.getLogger(name).addHandler(Collector())
    return found


# -- the whole configuration -------------------------------------------------------------------------------------------


@pytest.fixture
def clean_logging() -> Iterator[None]:
    """Gives the process its loggers and hooks back as they were."""
    root, manager = logging.getLogger(), logging.Logger.manager
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook)
    raise_exceptions, last_formatter = logging.raiseExceptions, logging.lastResort and logging.lastResort.formatter
    levels = {
        name: (one.level, one.propagate, one.handlers[:])
        for name, one in manager.loggerDict.items()
        if isinstance(one, logging.Logger)
    }
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    root.handlers[:], level, sys.excepthook, threading.excepthook, sys.unraisablehook = before
    root.setLevel(level)
    logging.raiseExceptions = raise_exceptions
    logging.captureWarnings(False)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(last_formatter or None)
    for name, (level, propagate, handlers) in levels.items():
        one = logging.getLogger(name)
        one.level, one.propagate, one.handlers[:] = level, propagate, handlers


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.usefixtures("clean_logging")
def test_configuration_writes_both_files_and_takes_the_libraries_own_handlers_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("django", "django.server", "gunicorn.error", "django-q"):
        logging.getLogger(name).addHandler(logging.StreamHandler())
        logging.getLogger(name).propagate = False
    logging.config.dictConfig(logs.logging_config(directory=tmp_path, console_level="ERROR"))
    capsys.readouterr()  # the handlers of before, now closed, may have told what they had left out
    logging.getLogger("studies.services").info("study settled", extra={"study": 1})
    logging.getLogger("django.server").error("GET /studies?%s", MARK)
    logging.getLogger("django").error("mail %s", MARK)
    logging.getLogger("pynetdicom").info("quiet")
    everything = lines_of(tmp_path / "gateway.log")
    assert [line["event"] for line in everything] == ["study settled", WITHHELD, WITHHELD]
    assert [line["logger"] for line in lines_of(tmp_path / "gateway.errors.log")] == ["django.server", "django"]
    console = capsys.readouterr()
    assert console.out == ""
    assert [json.loads(line)["logger"] for line in console.err.splitlines()] == ["django.server", "django"]
    assert (tmp_path / "gateway.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("clean_logging")
def test_configuration_opens_no_file_before_the_first_line(tmp_path: Path) -> None:
    logging.config.dictConfig(logs.logging_config(directory=tmp_path / "logs"))
    assert not (tmp_path / "logs").exists()


def test_level_that_is_none_is_refused_and_case_does_not_matter() -> None:
    with pytest.raises(OptionError, match=r"LOG\.CONSOLE_LEVEL"):
        logs.logging_config(directory=None, console_level="LOUD")
    assert logs.logging_config(directory=None, console_level="debug")["root"]["level"] == "DEBUG"


@pytest.mark.usefixtures("clean_logging")
def test_changed_level_options_reach_the_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.config.dictConfig(logs.logging_config(directory=tmp_path, console_level="WARNING", file_level="WARNING"))
    values = {"LOG.CONSOLE_LEVEL": "CRITICAL", "LOG.FILE_LEVEL": "DEBUG"}
    monkeypatch.setattr("gateway_project.core.options.option", values.__getitem__)
    logs.log_levels_apply()
    logging.getLogger("studies").debug("now seen")
    values["LOG.FILE_LEVEL"] = "ERROR"
    logs.log_levels_apply()
    logging.getLogger("studies").warning("no longer seen")
    assert [line["event"] for line in lines_of(tmp_path / "gateway.log")] == ["now seen"]
    assert not (tmp_path / "gateway.errors.log").exists()


@pytest.mark.usefixtures("clean_logging")
def test_uncaught_exceptions_and_failing_log_calls_print_no_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.config.dictConfig(logs.logging_config(directory=tmp_path, console_level="CRITICAL"))
    logs.install_hooks()
    error = raised(ValueError(MARK))
    sys.excepthook(type(error), error, error.__traceback__)

    def fail() -> None:
        raise ValueError(MARK)

    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join(10)

    class Leaking:
        def __del__(self) -> None:
            raise ValueError(MARK)

    Leaking()
    plain = logging.StreamHandler()
    logging.getLogger("pydicom").addHandler(plain)
    logging.getLogger("pydicom").error("%d", MARK)
    logging.getLogger("pydicom").removeHandler(plain)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn_explicit(MARK, UserWarning, "/x/y.py", 3, registry={})
    lines = lines_of(tmp_path / "gateway.log")
    assert [line["event"] for line in lines] == [
        "uncaught exception",
        "uncaught exception in thread",
        "unraisable exception",
        WITHHELD,
        WITHHELD,
    ]
    assert [line["exception"]["type"] for line in lines[:3]] == ["ValueError"] * 3
    assert MARK not in (tmp_path / "gateway.log").read_text() + capsys.readouterr().err


@pytest.mark.usefixtures("clean_logging")
def test_quiet_console_still_says_that_it_ended_and_where_to_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.config.dictConfig(logs.logging_config(directory=tmp_path))
    logs.console_silence()
    capsys.readouterr()
    error = raised(ValueError(MARK))
    sys.excepthook(type(error), error, error.__traceback__)
    assert (
        capsys.readouterr().err
        == f"Ended by an unexpected ValueError: its frames are in {tmp_path}/gateway.errors.log\n"
    )
    assert lines_of(tmp_path / "gateway.errors.log")[0]["exception"]["type"] == "ValueError"


@pytest.mark.usefixtures("clean_logging")
def test_exception_before_any_configuration_prints_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().handlers.clear()
    logs.install_hooks()
    error = raised(ValueError(MARK))
    sys.excepthook(type(error), error, error.__traceback__)
    printed = capsys.readouterr().err
    assert json.loads(printed)["exception"]["type"] == "ValueError"
    assert MARK not in printed
