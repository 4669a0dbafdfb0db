"""Log files: whole lines of many processes, rotation under writers, floods counted, a full disk that stops nobody."""

import datetime as dt
import errno
import fcntl
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway_project.core import log_files
from gateway_project.core.log_files import SharedFileHandler, rotate
from gateway_project.core.log_format import JsonLineFormatter
from gateway_project.core.log_limit import KEYS_MAX, EventLimit

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
WRITER = """
import logging, sys
from pathlib import Path
from gateway_project.core.log_files import SharedFileHandler, rotate
from gateway_project.core.log_format import JsonLineFormatter
from gateway_project.core.log_limit import EventLimit
path = Path(sys.argv[1])
handler = SharedFileHandler(path, limit=EventLimit(limit=10**9))
handler.setFormatter(JsonLineFormatter())
logger = logging.getLogger("studies")
logger.addHandler(handler)
logger.propagate = False
for number in range(int(sys.argv[3])):
    logger.warning("line", extra={"writer": sys.argv[2], "number": number, "padding": "x" * (number % 1500)})
    if sys.argv[2] == "0" and number % 100 == 99:
        rotate(path.parent, max_bytes=1, archive_directory=path.parent / "archive", max_archive_files=10_000)
print(handler.lost)
"""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def event(text: str = "event", name: str = "studies", **extra: object) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.WARNING, "/x/module.py", 7, text, None, None)
    made.__dict__.update(extra)
    return made


def handler_for(path: Path, limit: EventLimit | None = None) -> SharedFileHandler:
    handler = SharedFileHandler(path, limit=limit)
    handler.setFormatter(JsonLineFormatter())
    return handler


def lines_of(*paths: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_lines_of_several_processes_stay_whole_while_the_file_is_rotated(tmp_path: Path) -> None:
    path, archive, count = tmp_path / "gateway.log", tmp_path / "archive", 1500
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number), str(count)], stdout=subprocess.PIPE)
        for number in range(3)
    ]
    assert [writer.communicate(timeout=30)[0].strip() for writer in writers] == [b"0"] * 3
    archives = sorted(archive.glob("gateway-*.log"))
    assert len(archives) == count // 100
    found = [(line["writer"], line["number"]) for line in lines_of(*archives, *([path] if path.exists() else []))]
    assert sorted(found) == sorted((str(writer), number) for writer in range(3) for number in range(count))


def test_file_that_was_renamed_or_removed_is_opened_anew(tmp_path: Path) -> None:
    handler = handler_for(tmp_path / "logs" / "gateway.log")
    handler.handle(event("one"))
    (tmp_path / "logs" / "gateway.log").rename(tmp_path / "old.log")
    handler.handle(event("two"))
    (tmp_path / "logs" / "gateway.log").unlink()
    (tmp_path / "logs").rmdir()
    handler.handle(event("three"))
    handler.close()
    assert [line["event"] for line in lines_of(tmp_path / "old.log")] == ["one"]
    assert [line["event"] for line in lines_of(tmp_path / "logs" / "gateway.log")] == ["three"]


def test_full_disk_never_raises_and_is_told_when_writing_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = handler_for(tmp_path / "gateway.log")
    logging.getLogger().addHandler(handler)
    lost_before = log_files.lines_lost()
    handler.handle(event("before"))
    real_write = os.write

    def half_then_full(descriptor: int, data: bytes) -> int:
        monkeypatch.setattr(log_files.os, "write", full)
        return real_write(descriptor, data[:10])

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log_files.os, "write", half_then_full)
    for _ in range(3):
        handler.handle(event("lost"))
    assert (handler.lost, log_files.lines_lost() - lost_before) == (3, 3)
    monkeypatch.setattr(log_files.os, "write", real_write)
    handler.handle(event("after"))
    logging.getLogger().removeHandler(handler)
    handler.close()
    text = (tmp_path / "gateway.log").read_text().splitlines()
    whole = [json.loads(line) for index, line in enumerate(text) if index != 1]
    assert [line["event"] for line in whole] == ["before", "log lines lost", "after"]
    assert whole[1]["lost"] == 3
    assert len(text[1]) == 10, "the torn line stands alone"
    assert capsys.readouterr().err == ""


def test_directory_that_cannot_be_made_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file, not a directory")
    handler = handler_for(tmp_path / "logs" / "gateway.log")
    handler.handle(event())
    assert handler.lost == 1


def test_planted_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    (tmp_path / "gateway.log").symlink_to(victim)
    handler = handler_for(tmp_path / "gateway.log")
    handler.handle(event())
    assert (handler.lost, victim.read_text()) == (1, "")


# -- rotation ----------------------------------------------------------------------------------------------------------


def test_rotation_moves_only_full_files_and_keeps_the_newest_of_each_kind(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    for number in range(4):
        (tmp_path / "gateway.log").write_text("x" * 10)
        (tmp_path / "gateway.errors.log").write_text("x" * 9)
        moment = NOW + dt.timedelta(seconds=number)
        rotate(tmp_path, max_bytes=10, archive_directory=archive, max_archive_files=2, now=moment)
    (tmp_path / "gateway.errors.log").write_text("x" * 10)
    made = rotate(tmp_path, max_bytes=10, archive_directory=archive, max_archive_files=2, now=NOW)
    assert made == [archive / "gateway.errors-20260102T030405000000.log"]
    assert sorted(path.name for path in archive.iterdir()) == [
        "gateway-20260102T030407000000.log",
        "gateway-20260102T030408000000.log",
        "gateway.errors-20260102T030405000000.log",
    ]
    assert not (tmp_path / "gateway.log").exists()


def test_archive_on_another_file_system_gets_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "archive"
    (tmp_path / "gateway.log").write_text("content")
    real_rename = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.parent != target.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real_rename(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    (made,) = rotate(tmp_path, max_bytes=1, archive_directory=archive, max_archive_files=5, now=NOW)
    assert made.read_text() == "content"
    assert made.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_rotation_that_fails_is_logged_and_leaves_the_log_in_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gateway.log").write_text("content")
    (tmp_path / "archive").write_text("a file, not a directory")
    assert rotate(tmp_path, max_bytes=1, archive_directory=tmp_path / "archive", max_archive_files=5) == []
    assert (tmp_path / "gateway.log").read_text() == "content"
    assert "log files not rotated" in caplog.messages


def test_rotation_does_nothing_while_another_process_rotates(tmp_path: Path) -> None:
    (tmp_path / "gateway.log").write_text("content")
    archive = tmp_path / "archive"
    archive.mkdir()
    descriptor = os.open(archive, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert rotate(tmp_path, max_bytes=1, archive_directory=archive, max_archive_files=5) == []
    os.close(descriptor)
    assert len(rotate(tmp_path, max_bytes=1, archive_directory=archive, max_archive_files=5)) == 1


def test_archived_file_is_never_overwritten_when_the_clock_is_set_back(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "gateway.log").write_text(content)
        rotate(tmp_path, max_bytes=1, archive_directory=tmp_path / "archive", max_archive_files=5, now=NOW)
    assert [path.read_text() for path in sorted((tmp_path / "archive").iterdir())] == ["first", "second"]


# -- floods ------------------------------------------------------------------------------------------------------------


def test_flood_of_one_event_is_cut_counted_and_leaves_others_alone(tmp_path: Path) -> None:
    clock = Clock()
    handler = handler_for(tmp_path / "gateway.log", EventLimit(limit=20, window_seconds=10, monotonic=clock))
    for _ in range(1000):
        handler.handle(event("flood"))
        clock.now += 0.001
    handler.handle(event("other"))
    clock.now += 10
    handler.handle(event("flood"))
    events = [line["event"] for line in lines_of(tmp_path / "gateway.log")]
    assert events == ["flood"] * 20 + ["other", "log events suppressed", "flood"]
    told = lines_of(tmp_path / "gateway.log")[21]
    assert (told["suppressed_logger"], told["suppressed_event"], told["suppressed"]) == ("studies", "flood", 980)


def test_what_was_left_out_is_told_at_the_latest_when_the_handler_closes(tmp_path: Path) -> None:
    handler = handler_for(tmp_path / "gateway.log", EventLimit(limit=1, monotonic=Clock()))
    for _ in range(3):
        handler.handle(event("flood"))
    handler.close()
    lines = lines_of(tmp_path / "gateway.log")
    assert [line.get("suppressed") for line in lines] == [None, 2]


def test_strangers_events_are_told_apart_by_their_place_and_not_by_their_words(tmp_path: Path) -> None:
    handler = handler_for(tmp_path / "gateway.log", EventLimit(limit=1, monotonic=Clock()))
    for number in range(50):
        handler.handle(event(f"bad value {number}", name="pydicom"))
    assert len(lines_of(tmp_path / "gateway.log")) == 1


def test_many_kinds_of_events_cost_bounded_memory_and_are_still_counted() -> None:
    clock = Clock()
    limit = EventLimit(limit=1, window_seconds=10, monotonic=clock)
    admitted = sum(limit.admit(("studies", str(number))) for number in range(KEYS_MAX + 500))
    assert admitted == KEYS_MAX + 1
    clock.now += 11
    assert sum(count for _, count in limit.ended()) == 499
    assert limit.admit(("studies", "0"))
