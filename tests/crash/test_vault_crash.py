"""The serving vault killed under load: what it has answered is there, and what it counts is what is there."""

import base64
import hashlib
import http.client
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.uploads.reference_vault import TOKEN, vault_directory, vault_served
from uploads.vault.layout import stored_files, upload_directory, upload_ids
from uploads.vault.usage import Usage


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return vault_directory(tmp_path / "vault")


@contextmanager
def _served(directory: Path) -> Iterator[tuple[psutil.Process, int]]:
    with vault_served(directory) as (process, port):
        yield psutil.Process(process.pid), port


def _put_until_cut(port: int, acknowledged: dict[tuple[str, str], bytes], on_answer: Callable[[], None]) -> None:
    """Puts on one connection until it is cut; notes what was answered with 201."""
    upload_id = secrets.token_hex(16)
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        _put_all(connection, upload_id, acknowledged, on_answer)


def _put_all(
    connection: http.client.HTTPConnection,
    upload_id: str,
    acknowledged: dict[tuple[str, str], bytes],
    on_answer: Callable[[], None],
) -> None:
    for number in range(2000):
        content = secrets.token_bytes(3000 + number)
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Digest": f"sha-256=:{digest}:"}
        name = f"file-{number:05d}.gve"
        try:
            connection.request("PUT", f"/v1/uploads/{upload_id}/{name}", body=content, headers=headers)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return
        if response.status == 201:
            acknowledged[upload_id, name] = content
            on_answer()


def _killed_after(port: int, answers: int, kill: Callable[[], None]) -> dict[tuple[str, str], bytes]:
    acknowledged: dict[tuple[str, str], bytes] = {}
    lock, seen = threading.Lock(), [0]

    def answered() -> None:
        with lock:
            seen[0] += 1
            if seen[0] == answers:
                kill()

    threads = [threading.Thread(target=_put_until_cut, args=(port, acknowledged, answered)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(acknowledged) >= answers
    return acknowledged


def _worker(process: psutil.Process) -> psutil.Process:
    """The one process that answers; it is made after the port is told."""
    deadline = time.monotonic() + 20
    while not (found := process.children()):
        assert time.monotonic() < deadline
    return found[0]


def _answers(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        try:
            connection.request("GET", "/v1/uploads", headers={"Authorization": f"Bearer {TOKEN}"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def _stored_bytes(directory: Path) -> int:
    found = [upload_directory(directory, upload_id) for upload_id in upload_ids(directory)]
    uploads = [upload for upload in found if (upload / "files").exists()]  # else killed while it was being begun
    return sum(file.size_bytes for upload in uploads for file in stored_files(upload))


def _check(directory: Path, acknowledged: dict[tuple[str, str], bytes]) -> None:
    for (upload_id, name), content in acknowledged.items():
        assert (upload_directory(directory, upload_id) / "files" / name).read_bytes() == content
    assert Usage(directory).stored() == {"gateway-01": _stored_bytes(directory)}
    assert list((directory / "parts").iterdir()) == []


@pytest.mark.parametrize("answers", [1, 17, 60])
def test_killed_whole_and_started_again(directory: Path, answers: int) -> None:
    with _served(directory) as (process, port):
        acknowledged = _killed_after(port, answers, lambda: os.killpg(process.pid, signal.SIGKILL))
    with _served(directory):
        _check(directory, acknowledged)


def test_a_worker_killed_by_itself_is_replaced_and_the_count_is_right_again(directory: Path) -> None:
    with _served(directory) as (process, port):
        worker = _worker(process)
        acknowledged = _killed_after(port, 20, lambda: os.kill(worker.pid, signal.SIGKILL))
        deadline = time.monotonic() + 20
        while not _answers(port):
            assert time.monotonic() < deadline
        assert Usage(directory).stored() == {"gateway-01": _stored_bytes(directory)}
    with _served(directory):
        _check(directory, acknowledged)


def test_a_worker_whose_master_was_killed_ends_though_a_client_never_pauses(directory: Path) -> None:
    """It holds the directory's lock, and nobody could serve it again."""
    with _served(directory) as (process, port):
        worker = _worker(process)
        began = time.monotonic()
        acknowledged = _killed_after(port, 20, lambda: os.kill(process.pid, signal.SIGKILL))
        worker.wait(timeout=30)
        assert time.monotonic() - began < 30
    with _served(directory):
        _check(directory, acknowledged)
