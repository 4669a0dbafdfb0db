"""Staged ciphertext: whole under its own hash or not there at all, and nothing left behind."""

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from gateway_project.core.models import JobState
from studies.dicom.spool import SpoolError
from tests.uploads.upload_house import House
from uploads.models import UploadJob, UploadPart
from uploads.services import staging as staging_module
from uploads.services.staging import Staging, staging_root, staging_sweep

CONTENT = b"ciphertext" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path: Path, settings) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path / "uploads" / ("a" * 32)


@pytest.fixture
def staging(folder: Path) -> Staging:
    made = Staging(folder.name)
    made.prepare(set())
    return made


def fill(sink: BinaryIO) -> UploadPart:
    sink.write(CONTENT)
    return UploadPart(name="file-00001.gve", size_bytes=len(CONTENT), sha256=SHA256)


def write(staging: Staging) -> None:
    staging.keep([staging.write(fill)])


def test_what_was_written_bears_its_hash_and_is_ours_alone(staging: Staging, folder: Path) -> None:
    write(staging)
    (file,) = folder.iterdir()
    assert (file.name, file.read_bytes()) == (SHA256, CONTENT)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    with staging.open(SHA256) as stream:
        assert stream.read() == CONTENT


def test_it_is_synced_before_it_has_its_name(staging: Staging, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    synced = os.fsync

    def fsync(descriptor: int) -> None:
        seen.append([path.suffix for path in folder.iterdir()])
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(staging)
    assert seen == [[".part"], [""]], "the file under its first name, then the folder that holds its last one"


def test_the_folder_itself_survives_a_power_cut(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(staging_module, "fsync_directory", seen.append)
    Staging(folder.name).prepare(set())
    assert seen == [folder.parent.parent, folder.parent]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_nothing(staging: Staging, folder: Path, error: BaseException) -> None:
    def failing(sink: BinaryIO) -> UploadPart:
        sink.write(CONTENT)
        raise error

    with pytest.raises(type(error)):
        staging.write(failing)
    assert list(folder.iterdir()) == []


def test_prepare_keeps_what_has_a_row_and_removes_the_rest(staging: Staging, folder: Path) -> None:
    write(staging)
    (folder / "0123456789abcdef.part").write_bytes(b"cut")
    (folder / ("b" * 64)).write_bytes(b"killed before its row")
    staging.prepare({SHA256})
    assert [path.name for path in folder.iterdir()] == [SHA256]


def test_removing_and_clearing_may_be_repeated(staging: Staging, folder: Path) -> None:
    write(staging)
    for _again in range(2):
        staging.remove([SHA256])
    assert staging.open(SHA256) is None
    for _again in range(2):
        staging.clear()
    assert not folder.exists()
    assert staging.open(SHA256) is None


def test_an_upload_id_never_leads_out_of_the_folder_of_another(tmp_path: Path, settings) -> None:
    settings.DATA_DIR = tmp_path
    first, second = Staging("a" * 32), Staging("b" * 32)
    first.prepare(set())
    second.prepare(set())
    write(first)
    second.clear()
    with first.open(SHA256) as stream:
        assert stream.read() == CONTENT


@pytest.mark.parametrize(("number", "code", "permanent"), [(28, "disk-full", False), (5, "spool-io", False)])
def test_a_failing_disk_has_a_code_and_words(
    staging: Staging, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str, permanent: bool
) -> None:
    def fsync(_descriptor: int) -> None:
        raise OSError(number, "of the kernel's")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SpoolError) as raised:
        write(staging)
    assert (raised.value.code, raised.value.permanent) == (code, permanent)
    assert str(folder) not in str(raised.value)
    assert list(folder.iterdir()) == []


@pytest.mark.django_db
def test_the_start_removes_what_was_staged_for_uploads_that_are_over(house: House) -> None:
    house.vault_row()
    job = house.job(house.settled())
    for name in (job.upload_id, "f" * 32):
        (staging_root() / name).mkdir(parents=True)
        (staging_root() / name / "part").write_bytes(b"sealed")
    assert staging_sweep() == 1
    assert [path.name for path in staging_root().iterdir()] == [job.upload_id]
    UploadJob.objects.update(state=JobState.DONE)
    assert staging_sweep() == 1
    assert list(staging_root().iterdir()) == []
