"""The spool when memory, threads or room run out: refused or done, but no object is mixed with another."""

import errno
import mmap
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studies.dicom import spool as spool_module
from studies.dicom.spool import Intake, SpoolError, Store
from tests.studies.test_spool import META, code_of, open_descriptors, receive


@pytest.fixture
def intake(store: Store) -> Iterator[Intake]:
    """One that must leave nothing behind."""
    made = Intake(store, owner="recv")
    yield made
    made.close()
    assert list(store.incoming.iterdir()) == []


def refused(*_args: Any, **_more: Any) -> Any:
    raise OSError(errno.ENOMEM, "injected")


def no_thread(*_args: Any, **_more: Any) -> None:
    raise RuntimeError("can't start new thread")


def test_buffer_of_an_object_that_memory_ran_out_for_serves_one_object_at_a_time(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = intake.begin()
    part.write_meta(META)
    monkeypatch.setattr(mmap, "mmap", refused)
    with pytest.raises((SpoolError, OSError)):  # which of them, says the next test
        part.write(bytes(300_000))
    part.abort()
    monkeypatch.undo()
    parts = {letter: intake.begin() for letter in (b"A", b"B")}
    for letter, one in parts.items():
        one.write_meta(META)
        one.write(letter * 1000)
    for letter, one in parts.items():
        kept = one.commit()
        assert kept.path.read_bytes()[128:] == META[128:] + letter * 1000
        intake.release(kept.path)


@pytest.mark.parametrize("size", [0, 300_000])
def test_object_that_there_is_no_memory_for_is_refused_and_leaves_nothing(
    intake: Intake, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(spool_module, "_MOST_SLOTS", 0)  # no helper opens anything meanwhile
    intake.release(receive(intake).path)
    first = intake.begin()  # takes the only buffer
    before = open_descriptors()
    monkeypatch.setattr(mmap, "mmap", refused)
    with pytest.raises(SpoolError) as caught:
        first.write(bytes(size)) if size else intake.begin()
    assert (code_of(caught), caught.value.permanent) == ("spool-io", False)
    assert open_descriptors() == before - bool(size)
    first.abort()


def test_without_threads_objects_are_written_all_the_same(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", no_thread)
        sent = {intake.begin(): os.urandom(700_000) for _ in range(3)}
        for part, data in sent.items():
            part.write_meta(META)
            part.write(data)
            kept = part.commit()
            assert kept.path.read_bytes()[128:] == META[128:] + data
            intake.release(kept.path)
    intake.release(receive(intake, data).path)  # a thread comes, and does what was left to do


def test_write_that_was_queued_for_a_thread_that_never_came_is_not_done_later(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then its descriptor is another object's."""
    late, data = intake.begin(), os.urandom(300_000)
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", no_thread)
        late.write(data)
    late.abort()
    small = intake.begin()  # under the descriptor of `late`
    small.write_meta(META)
    large = intake.begin()
    large.write_meta(META)
    large.write(data)  # a thread comes, and finds both writes in the queue
    large.write(data)
    for part, expected in ((large, data + data), (small, b"")):
        kept = part.commit()
        assert kept.path.read_bytes()[128:] == META[128:] + expected
        intake.release(kept.path)


def test_batch_that_cannot_be_begun_leaves_nothing(intake: Intake) -> None:
    """A disk that has room for a directory and none for a block: each sender tries again."""
    before = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        for _ in range(3):
            with pytest.raises(SpoolError):
                intake.begin()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert open_descriptors() == before
    assert [entry.name for entry in Path(intake._directory.path).iterdir()] == ["lock"]
    intake.release(receive(intake).path)
