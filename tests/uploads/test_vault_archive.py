"""The archive: counted exactly, bounded by quotas, listed, proved whole, removed by its operator alone."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.uploads.sealed_upload import SealedUpload, sealed_upload
from uploads.envelope.keys import PrivateKey, jwk_from_key, key_generate
from uploads.vault.archive import removals_finish, upload_remove, upload_verify_page, uploads_page
from uploads.vault.durable import SharedSync
from uploads.vault.errors import VaultStoreError
from uploads.vault.layout import upload_directory
from uploads.vault.registry import (
    Gateway,
    GatewayRegistry,
    gateway_register,
    gateway_revoke,
    quota_set,
    recipient_read,
    recipient_register,
    recipient_revoke,
    recipients_read,
    token_hash,
    vault_create,
    vault_identity,
    vault_signing_key,
)
from uploads.vault.store import VaultStore
from uploads.vault.usage import Quota, Usage

IDENTITY: PrivateKey = key_generate()
GATEWAY = Gateway("gateway-01", token_hash("token-of-gateway-01"), jwk_from_key(IDENTITY))
UPLOAD = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    vault_create(tmp_path / "vault", vault_id="vault-01", demonstration=False)
    return tmp_path / "vault"


def _store(directory: Path) -> VaultStore:
    return VaultStore(directory, identity=vault_identity(directory), signing_key=vault_signing_key(directory))


def _put(store: VaultStore, name: str, content: bytes, *, upload_id: str = UPLOAD, **values: object) -> bool:
    arguments = {"gateway_id": "gateway-01", "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return store.put(upload_id, name, io.BytesIO(content), **{**arguments, **values})  # type: ignore[arg-type]


def _upload(directory: Path, contents: list[bytes] | None = None) -> SealedUpload:
    upload = sealed_upload(contents or [b"a" * 1000], identity=IDENTITY, recipients=[jwk_from_key(key_generate())])
    store = _store(directory)
    for name, content in upload.files.items():
        _put(store, name, content, upload_id=upload.upload_id)
    store.commit(upload.upload_id, upload.token, gateway=GATEWAY)
    return upload


def _size(upload: SealedUpload) -> int:
    return sum(map(len, upload.files.values()))


def _recounted(directory: Path) -> dict[str, int]:
    """As after a start."""
    usage = Usage(directory)
    usage.prepare()
    removals_finish(directory)
    return usage.stored()


def _refused(code: str) -> pytest.RaisesExc[VaultStoreError]:
    return pytest.RaisesExc(VaultStoreError, check=lambda error: error.code == code)


def test_quotas_of_vault_and_gateway_bound_what_is_stored_and_nothing_is_left_of_the_refused(directory: Path) -> None:
    store = _store(directory)
    assert _put(store, "a", b"x" * 60, quota=Quota(100, 80))
    with _refused("store-full"):
        _put(store, "b", b"x" * 21, quota=Quota(100, 80))
    with _refused("store-full"):
        _put(store, "a", b"x" * 41, upload_id="f" * 32, gateway_id="gateway-02", quota=Quota(100, 80))
    assert not _put(store, "a", b"x" * 60, quota=Quota(0, 0))  # what is there is told, however full
    assert _put(store, "b", b"x" * 20, quota=Quota(100, 80))
    assert Usage(directory).stored()["gateway-01"] == 80
    assert list((directory / "parts").iterdir()) == []
    assert _recounted(directory)["gateway-01"] == 80


def test_what_was_refused_or_cut_counts_for_nothing(directory: Path) -> None:
    store = _store(directory)
    for wrong, code in (({"size_bytes": 9}, "body-incomplete"), ({"sha256": "0" * 64}, "digest-mismatch")):
        with _refused(code):
            _put(store, "a", b"12345678", **wrong)
    assert Usage(directory).stored().get("gateway-01", 0) == 0


def test_many_at_once_never_pass_the_quota(directory: Path) -> None:
    store, results = _store(directory), []

    def put(number: int) -> None:
        try:
            results.append(_put(store, f"n{number}", b"%02d" % number * 5, quota=Quota(gateway_bytes=65)))
        except VaultStoreError as error:
            results.append(error.code)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (results.count(True), results.count("store-full")) == (6, 10)
    assert Usage(directory).stored() == {"gateway-01": 60}


def test_closed_uploads_are_in_the_durable_totals_and_a_start_looks_at_open_ones_alone(directory: Path) -> None:
    closed = _upload(directory)
    _put(_store(directory), "a", b"open")
    assert Usage(directory).uploads_open() == [UPLOAD]
    totals = json.loads((directory / "usage" / "totals.json").read_text())
    assert totals["octets"] == {"gateway-01": _size(closed)}
    assert _recounted(directory) == {"gateway-01": _size(closed) + 4}


def test_a_directory_without_totals_is_read_through(directory: Path) -> None:
    closed = [_upload(directory), _upload(directory)]
    _put(_store(directory), "a", b"open")
    expected = {"gateway-01": sum(map(_size, closed)) + 4}
    for path in [directory / "usage" / "totals.json", *(directory / "usage" / "open").iterdir()]:
        path.unlink()
    assert _recounted(directory) == expected
    assert _recounted(directory) == expected


CRASHER = """
import io, json, sys, hashlib
from pathlib import Path
from uploads.vault.registry import *
from uploads.vault.store import VaultStore
from uploads.vault.archive import upload_remove
directory, upload_id, token = Path(sys.argv[1]), sys.argv[3], Path(sys.argv[4]).read_text()
store = VaultStore(directory, identity=vault_identity(directory), signing_key=vault_signing_key(directory))
for path in sorted(Path(sys.argv[2]).iterdir()):
    content = path.read_bytes()
    store.put(upload_id, path.name, io.BytesIO(content), gateway_id="gateway-01", size_bytes=len(content),
              sha256=hashlib.sha256(content).hexdigest())
store.commit(upload_id, token, gateway=Gateway("gateway-01", "", json.loads(sys.argv[5])))
upload_remove(directory, upload_id)
"""


@pytest.mark.parametrize(
    ("place", "left"),
    [
        ("vault.renamed:2", 0),
        ("vault.linked:2", 2),
        ("vault.committed", 5),
        ("vault.counted", 5),
        ("vault.removing", 0),
    ],
)
def test_killed_at_every_step_it_still_counts_exactly(directory: Path, tmp_path: Path, place: str, left: int) -> None:
    before = _upload(directory)
    upload = sealed_upload([b"a" * 1000], identity=IDENTITY, recipients=[jwk_from_key(key_generate())])
    (tmp_path / "sealed").mkdir()
    for name, content in upload.files.items():
        (tmp_path / "sealed" / name).write_bytes(content)
    (tmp_path / "token").write_text(upload.token)
    arguments = [str(directory), str(tmp_path / "sealed"), upload.upload_id, str(tmp_path / "token")]
    ended = subprocess.run(
        [sys.executable, "-c", CRASHER, *arguments, json.dumps(GATEWAY.jwk)],
        env={**os.environ, "GATEWAY_FAILPOINT": place},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    files = upload_directory(directory, upload.upload_id) / "files"
    stored = [path.stat().st_size for path in files.iterdir() if path.is_symlink() and path.exists()]
    if place != "vault.renamed:2":
        assert len(stored) == (left or len(upload.files))
    expected = 0 if place == "vault.removing" else sum(stored)
    for _again in range(2):
        assert _recounted(directory) == {"gateway-01": _size(before) + expected}
    assert (list(files.iterdir()) == []) is (place == "vault.removing")


def test_removed_by_the_operator_it_is_gone_counts_no_more_and_its_id_takes_nothing(directory: Path) -> None:
    upload, other = _upload(directory), _upload(directory)
    assert upload_remove(directory, upload.upload_id) == _size(upload)
    assert upload_remove(directory, upload.upload_id) == _size(upload)
    assert Usage(directory).stored() == {"gateway-01": _size(other)} == _recounted(directory)
    store = _store(directory)
    with _refused("upload-sealed"):
        _put(store, "map.jwe", upload.files["map.jwe"], upload_id=upload.upload_id)
    with _refused("upload-removed"):
        store.commit(upload.upload_id, upload.token, gateway=GATEWAY)  # no receipt for what is not here any more
    files, receipt = store.state(upload.upload_id, gateway_id="gateway-01")
    assert (files, receipt is None) == ([], False)
    with _refused("upload-removed"):
        upload_verify_page(directory, upload.upload_id, gateway_id="gateway-01")
    removed = {each.upload_id: each.removed_at for each in uploads_page(directory, gateway_id="gateway-01").uploads}
    assert (removed[upload.upload_id] != "", removed[other.upload_id]) == (True, "")
    with _refused("upload-unknown"):
        upload_remove(directory, "f" * 32)


def test_an_upload_that_was_never_committed_can_be_removed_too(directory: Path) -> None:
    _put(_store(directory), "a", b"left behind")
    assert upload_remove(directory, UPLOAD) == 11
    assert _recounted(directory).get("gateway-01", 0) == 0
    with _refused("upload-removed"):
        _put(_store(directory), "a", b"left behind")


def test_pages_give_every_upload_of_the_gateway_once_and_nobody_elses(directory: Path) -> None:
    store = _store(directory)
    own = sorted(hashlib.md5(bytes([number])).hexdigest() for number in range(20))
    for upload_id in own:
        _put(store, "a", b"x", upload_id=upload_id)
    for number in range(20, 40):
        upload_id = hashlib.md5(bytes([number])).hexdigest()
        _put(store, "a", b"x", upload_id=upload_id, gateway_id="gateway-02")
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = uploads_page(directory, gateway_id="gateway-01", after=after, limit=3)
        assert len(page.uploads) <= 3
        found += [each.upload_id for each in page.uploads]
        after = page.next_after
    assert found == own


def test_a_list_tells_size_and_time_without_reading_the_commitment(directory: Path) -> None:
    upload = _upload(directory)
    commit = upload_directory(directory, upload.upload_id) / "commit.json"
    stored_at = json.loads(commit.read_text())["stored_at"]
    for prepare in (lambda: commit.rename(commit.with_name("kept")), lambda: commit.write_text("not even JSON")):
        prepare()
        (only,) = uploads_page(directory, gateway_id="gateway-01").uploads
        told = (only.committed, only.file_count, only.size_bytes, only.stored_at)
        if commit.exists():
            assert told == (True, len(upload.files), _size(upload), stored_at)
        else:
            assert told == (False, 0, 0, "")


def test_what_a_power_cut_leaves_of_a_summary_is_read_from_the_commitment_instead(directory: Path) -> None:
    upload = _upload(directory)
    summary = upload_directory(directory, upload.upload_id) / "summary.json"
    for content in (b"", b"[]", None):
        summary.unlink() if content is None else summary.write_bytes(content)
        (only,) = uploads_page(directory, gateway_id="gateway-01").uploads
        assert (only.committed, only.file_count, only.size_bytes) == (True, len(upload.files), _size(upload))


def _pages(directory: Path, upload: SealedUpload, **bounds: float) -> Iterator[tuple[int, tuple[str, ...]]]:
    after: str | None = ""
    while after is not None:
        page = upload_verify_page(directory, upload.upload_id, gateway_id="gateway-01", after=after, **bounds)  # type: ignore[arg-type]
        assert page.file_count == len(upload.files)
        yield page.checked, page.damaged
        after = page.next_after


@pytest.mark.parametrize("bounds", [{}, {"bytes_max": 1}, {"seconds_max": 0}])
def test_c25_every_ciphertext_of_a_committed_upload_is_read_again(directory: Path, bounds: dict[str, float]) -> None:
    upload = _upload(directory, [b"a" * 1000, b"b" * 1000])
    pages = list(_pages(directory, upload, **bounds))
    assert sum(checked for checked, _ in pages) == len(upload.files)
    assert len(pages) == (len(upload.files) if bounds else 1)
    assert not any(damaged for _, damaged in pages)


def test_c25_what_the_vault_has_lost_or_changed_is_named(directory: Path) -> None:
    upload = _upload(directory, [b"a" * 1000, b"b" * 1000, b"c" * 1000])
    files = upload_directory(directory, upload.upload_id) / "files"
    first = (files / "file-00001.gve").resolve()
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    (files / "file-00002.gve").resolve().unlink()
    (files / "map.jwe").unlink()
    ((_, damaged),) = list(_pages(directory, upload))
    assert damaged == ("file-00001.gve", "file-00002.gve", "map.jwe")


def test_only_the_owner_may_ask_and_only_for_what_is_committed(directory: Path) -> None:
    upload = _upload(directory)
    with _refused("foreign-upload"):
        upload_verify_page(directory, upload.upload_id, gateway_id="gateway-02")
    _put(_store(directory), "a", b"x")
    for upload_id in (UPLOAD, "f" * 32):
        with _refused("not-committed"):
            upload_verify_page(directory, upload_id, gateway_id="gateway-01")


def test_a_revoked_gateway_is_refused_at_once_and_its_uploads_stay_its_own(directory: Path) -> None:
    registry, token = GatewayRegistry(directory), "token-of-gateway-01"
    gateway_register(directory, gateway_id="gateway-01", token=token, jwk=GATEWAY.jwk)
    quota_set(directory, quota_bytes=5, gateway_id="gateway-01")
    quota_set(directory, quota_bytes=7)
    found = registry.by_token(token)
    assert found is not None
    assert (found.quota_bytes, registry.registered().quota_bytes) == (5, 7)
    gateway_revoke(directory, gateway_id="gateway-01")
    gateway_revoke(directory, gateway_id="gateway-01")
    assert registry.by_token(token) is None
    assert registry.by_token("") is None
    assert [each.revoked_at != "" for each in registry.registered().gateways] == [True]
    gateway_register(directory, gateway_id="gateway-01", token=token + "-new", jwk=GATEWAY.jwk)
    again = registry.by_token(token + "-new")
    assert again is not None
    assert (again.revoked_at, again.quota_bytes) == ("", 5)
    for call in (
        lambda: gateway_revoke(directory, gateway_id="x"),
        lambda: quota_set(directory, quota_bytes=1, gateway_id="x"),
    ):
        with _refused("gateway-unknown"):
            call()


def test_a_withdrawn_recipients_key_is_published_no_more(directory: Path) -> None:
    kids = {recipient_register(directory, jwk_from_key(key_generate())) for _ in range(2)}
    assert set(recipients_read(directory)) == kids
    gone = kids.pop()
    recipient_revoke(directory, gone)
    assert (recipient_read(directory, gone), set(recipients_read(directory))) == (None, kids)
    with _refused("recipient-unknown"):
        recipient_revoke(directory, gone)


def test_a_shared_sync_begins_after_everybody_who_shares_it_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, begun, may_end = SharedSync(), threading.Semaphore(0), threading.Event()
    count: list[int] = []

    def slow(descriptor: int) -> None:
        count.append(descriptor)
        begun.release()
        assert may_end.wait(20)

    monkeypatch.setattr(os, "fsync", slow)
    threads = [threading.Thread(target=shared.sync, args=(tmp_path,)) for _ in range(6)]
    threads[0].start()
    assert begun.acquire(timeout=20)  # the others come while this one runs, and it is no good to them
    for thread in threads[1:]:
        thread.start()
    deadline = time.monotonic() + 20
    while shared.waiting(tmp_path) < 6 and time.monotonic() < deadline:
        time.sleep(0.001)
    may_end.set()
    for thread in threads:
        thread.join()
    assert (len(count), shared.waiting(tmp_path)) == (2, 0)


def test_a_shared_sync_that_fails_fails_for_everybody(tmp_path: Path) -> None:
    shared = SharedSync()
    with pytest.raises(FileNotFoundError):
        shared.sync(tmp_path / "absent")
    shared.sync(tmp_path)
