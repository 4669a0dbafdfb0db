"""The vault's store: what it has answered for is there after a crash, and nothing is ever overwritten."""

import dataclasses
import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.uploads.sealed_upload import SealedUpload, sealed_upload
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import PrivateKey, jwk_from_key, key_generate, thumbprint
from uploads.envelope.receipt import commitment_sign, receipt_verify
from uploads.vault.errors import VaultStoreError, error_codes
from uploads.vault.layout import upload_directory
from uploads.vault.registry import (
    Gateway,
    GatewayRegistry,
    VaultIdentity,
    gateway_register,
    gateways_read,
    recipient_read,
    recipient_register,
    token_hash,
    vault_create,
    vault_identity,
    vault_signing_key,
)
from uploads.vault.store import VaultStore

UPLOAD = "0123456789abcdef0123456789abcdef"
TOKEN = "token-of-gateway-01"


@pytest.fixture(scope="module")
def identity() -> PrivateKey:
    return key_generate()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    vault_create(tmp_path / "vault", vault_id="vault-01", demonstration=True)
    return tmp_path / "vault"


def _store(directory: Path) -> VaultStore:
    return VaultStore(directory, identity=vault_identity(directory), signing_key=vault_signing_key(directory))


@pytest.fixture
def store(directory: Path) -> VaultStore:
    return _store(directory)


@pytest.fixture
def gateway(identity: PrivateKey) -> Gateway:
    return Gateway("gateway-01", token_hash(TOKEN), jwk_from_key(identity))


def _put(
    store: VaultStore, name: str, content: bytes, *, upload_id: str = UPLOAD, gateway_id: str = "gateway-01"
) -> bool:
    return store.put(
        upload_id,
        name,
        io.BytesIO(content),
        gateway_id=gateway_id,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _put_all(store: VaultStore, upload: SealedUpload) -> None:
    for name, content in upload.files.items():
        _put(store, name, content, upload_id=upload.upload_id)


def _refused(code: str) -> pytest.RaisesExc[VaultStoreError]:
    return pytest.RaisesExc(VaultStoreError, check=lambda error: error.code == code)


def _one_upload(identity: PrivateKey, contents: list[bytes] | None = None) -> SealedUpload:
    return sealed_upload(contents or [b"a" * 1000], identity=identity, recipients=[jwk_from_key(key_generate())])


def test_put_is_idempotent_for_the_same_and_refuses_other_content(store: VaultStore) -> None:
    assert _put(store, "file-00001.gve", b"one")
    assert not _put(store, "file-00001.gve", b"one")
    with _refused("content-conflict"):
        _put(store, "file-00001.gve", b"two")
    files, receipt = store.state(UPLOAD, gateway_id="gateway-01")
    assert [(file.name, file.size_bytes) for file in files] == [("file-00001.gve", 3)]
    assert files[0].sha256 == hashlib.sha256(b"one").hexdigest()
    assert receipt is None


def test_one_content_under_two_names(store: VaultStore, directory: Path) -> None:
    assert _put(store, "a", b"same")
    assert _put(store, "b", b"same")
    assert [file.name for file in store.state(UPLOAD, gateway_id="gateway-01")[0]] == ["a", "b"]


@pytest.mark.parametrize("name", ["", "..", ".", "-a", "A.gve", "a/b", "a b", "ä", "a" * 81, "a\n"])
def test_bad_names_never_reach_the_disk(store: VaultStore, directory: Path, name: str) -> None:
    with _refused("name-invalid"):
        _put(store, name, b"x")
    assert list((directory / "uploads").iterdir()) == []


@pytest.mark.parametrize("upload_id", ["", "..", "0" * 31, "0" * 33, "G" * 32, "../" + "0" * 29, "0" * 31 + "\n"])
def test_bad_upload_ids_never_reach_the_disk(store: VaultStore, directory: Path, upload_id: str) -> None:
    with _refused("upload-id-invalid"):
        _put(store, "a", b"x", upload_id=upload_id)
    assert list((directory / "uploads").iterdir()) == []


def test_wrong_hash_short_body_and_wrong_size_leave_nothing(store: VaultStore, directory: Path) -> None:
    digest = hashlib.sha256(b"abc").hexdigest()
    with _refused("digest-mismatch"):
        store.put(UPLOAD, "a", io.BytesIO(b"abd"), gateway_id="gateway-01", size_bytes=3, sha256=digest)
    with _refused("body-incomplete"):
        store.put(UPLOAD, "a", io.BytesIO(b"ab"), gateway_id="gateway-01", size_bytes=3, sha256=digest)
    with _refused("size-invalid"):
        store.put(UPLOAD, "a", io.BytesIO(b""), gateway_id="gateway-01", size_bytes=0, sha256=digest)
    with _refused("too-large"):
        store.put(UPLOAD, "a", io.BytesIO(b"abc"), gateway_id="gateway-01", size_bytes=2**50, sha256=digest)
    assert store.state(UPLOAD, gateway_id="gateway-01") == ([], None)
    assert list((directory / "parts").iterdir()) == []


def test_an_upload_belongs_to_the_gateway_that_began_it(store: VaultStore, identity: PrivateKey) -> None:
    _put(store, "a", b"x")
    with _refused("foreign-upload"):
        _put(store, "b", b"x", gateway_id="gateway-02")
    with _refused("foreign-upload"):
        store.state(UPLOAD, gateway_id="gateway-02")


def test_unknown_upload_is_empty(store: VaultStore) -> None:
    assert store.state("f" * 32, gateway_id="gateway-01") == ([], None)


def test_commit_gives_a_verifiable_receipt_and_repeats_it(
    store: VaultStore, directory: Path, identity: PrivateKey, gateway: Gateway
) -> None:
    upload = _one_upload(identity)
    _put_all(store, upload)
    receipt_token = store.commit(upload.upload_id, upload.token, gateway=gateway)
    jwk = jwk_from_key(vault_signing_key(directory))
    receipt = receipt_verify(receipt_token, jwk, commitment_token=upload.token, commitment=upload.commitment)
    assert receipt.demonstration
    assert receipt.vault_id == "vault-01"
    assert store.commit(upload.upload_id, upload.token, gateway=gateway) == receipt_token
    assert _store(directory).state(upload.upload_id, gateway_id="gateway-01")[1] == receipt_token


def test_c19_known_upload_with_another_map_is_refused(
    store: VaultStore, identity: PrivateKey, gateway: Gateway
) -> None:
    upload = _one_upload(identity)
    _put_all(store, upload)
    store.commit(upload.upload_id, upload.token, gateway=gateway)
    other = dataclasses.replace(upload.commitment, map_sha256="0" * 64)
    with _refused("upload-committed"):
        store.commit(upload.upload_id, commitment_sign(other, identity=identity), gateway=gateway)
    fewer = dataclasses.replace(upload.commitment, files=upload.commitment.files[1:])
    with _refused("upload-committed"):
        store.commit(upload.upload_id, commitment_sign(fewer, identity=identity), gateway=gateway)


def test_committed_upload_is_sealed(store: VaultStore, identity: PrivateKey, gateway: Gateway) -> None:
    upload = _one_upload(identity)
    _put_all(store, upload)
    store.commit(upload.upload_id, upload.token, gateway=gateway)
    with _refused("upload-sealed"):
        _put(store, "file-00009.gve", b"late", upload_id=upload.upload_id)
    with _refused("content-conflict"):
        _put(store, "map.jwe", b"other", upload_id=upload.upload_id)
    assert not _put(store, "map.jwe", upload.files["map.jwe"], upload_id=upload.upload_id)


def test_commit_refuses_what_is_not_stored_exactly(store: VaultStore, identity: PrivateKey, gateway: Gateway) -> None:
    upload = _one_upload(identity)
    with _refused("file-missing"):
        store.commit(upload.upload_id, upload.token, gateway=gateway)
    for name, content in upload.files.items():
        if name != "file-00001.gve":
            _put(store, name, content, upload_id=upload.upload_id)
    with _refused("file-missing"):
        store.commit(upload.upload_id, upload.token, gateway=gateway)
    _put(store, "file-00001.gve", b"other content", upload_id=upload.upload_id)
    with _refused("file-missing"):
        store.commit(upload.upload_id, upload.token, gateway=gateway)
    assert store.state(upload.upload_id, gateway_id="gateway-01")[1] is None


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("upload_id", "f" * 32, "commitment-mismatch"),
        ("gateway_id", "gateway-02", "commitment-mismatch"),
        ("vault_id", "vault-02", "commitment-mismatch"),
        ("map_sha256", "0" * 64, "commitment-mismatch"),
    ],
)
def test_commitment_for_anything_else_is_refused(
    store: VaultStore, identity: PrivateKey, gateway: Gateway, field: str, value: str, code: str
) -> None:
    upload = _one_upload(identity)
    _put_all(store, upload)
    other = dataclasses.replace(upload.commitment, **{field: value})  # type: ignore[arg-type]
    token = commitment_sign(other, identity=identity)
    with _refused(code):
        store.commit(upload.upload_id, token, gateway=gateway)


def test_commitment_signed_by_another_identity_is_refused(
    store: VaultStore, identity: PrivateKey, gateway: Gateway
) -> None:
    upload = _one_upload(identity)
    _put_all(store, upload)
    with _refused("commitment-invalid"):
        store.commit(upload.upload_id, commitment_sign(upload.commitment, identity=key_generate()), gateway=gateway)
    with _refused("commitment-invalid"):
        store.commit(upload.upload_id, "not.a.token", gateway=gateway)


def test_disk_full_is_told_and_leaves_nothing(
    store: VaultStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with _refused("store-full"):
            _put(store, "a", b"x")
    assert list((directory / "parts").iterdir()) == []
    assert _put(store, "a", b"x")


def test_link_without_its_file_counts_as_nothing_stored(store: VaultStore, directory: Path) -> None:
    _put(store, "a", b"first")
    files = upload_directory(directory, UPLOAD) / "files"
    (files / f"D{hashlib.sha256(b'first').hexdigest()}").unlink()
    assert store.state(UPLOAD, gateway_id="gateway-01") == ([], None)
    assert _put(store, "a", b"second")


def test_concurrent_puts_of_one_name_agree_on_one_content(store: VaultStore) -> None:
    results: list[object] = []
    barrier = threading.Barrier(8)

    def put(number: int) -> None:
        barrier.wait()
        try:
            results.append(_put(store, "a", b"%d" % (number % 2)))
        except VaultStoreError as error:
            results.append(error.code)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(True) == 1
    assert results.count(False) == 3
    assert results.count("content-conflict") == 4


CRASHER = """
import hashlib, io, sys
from pathlib import Path
from uploads.vault.registry import *
from uploads.vault.store import VaultStore
directory, token, gateway_jwk = Path(sys.argv[1]), sys.argv[2], __import__("json").loads(sys.argv[3])
store = VaultStore(directory, identity=vault_identity(directory), signing_key=vault_signing_key(directory))
for path in sorted(Path(sys.argv[4]).iterdir()):
    content = path.read_bytes()
    store.put(sys.argv[5], path.name, io.BytesIO(content), gateway_id="gateway-01", size_bytes=len(content),
              sha256=hashlib.sha256(content).hexdigest())
store.commit(sys.argv[5], token, gateway=Gateway("gateway-01", "", gateway_jwk))
"""


@pytest.mark.parametrize(
    "place", ["vault.part:2", "vault.fsynced:2", "vault.renamed:2", "vault.linked:2", "vault.committed:1"]
)
def test_killed_at_every_durable_step_it_resumes(
    store: VaultStore, directory: Path, identity: PrivateKey, gateway: Gateway, tmp_path: Path, place: str
) -> None:
    upload = _one_upload(identity)
    (tmp_path / "sealed").mkdir()
    for name, content in upload.files.items():
        (tmp_path / "sealed" / name).write_bytes(content)
    jwk = json.dumps(gateway.jwk)
    ended = subprocess.run(
        [sys.executable, "-c", CRASHER, str(directory), upload.token, jwk, str(tmp_path / "sealed"), upload.upload_id],
        env={**os.environ, "GATEWAY_FAILPOINT": place},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    after = _store(directory)
    for file in after.state(upload.upload_id, gateway_id="gateway-01")[0]:  # what it says it has, it has
        content = (upload_directory(directory, upload.upload_id) / "files" / file.name).read_bytes()
        assert content == upload.files[file.name]
    _put_all(after, upload)
    first = after.state(upload.upload_id, gateway_id="gateway-01")[1]
    receipt = after.commit(upload.upload_id, upload.token, gateway=gateway)
    assert (first == receipt) is place.startswith("vault.committed")
    assert after.parts_sweep() == (1 if place.startswith(("vault.part", "vault.fsynced")) else 0)
    assert list((directory / "parts").iterdir()) == []


def test_vault_create_is_idempotent_private_and_keeps_its_identity(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        for _ in range(2):
            vault_create(tmp_path / "v", vault_id="vault-01", demonstration=False)
            gateway_register(tmp_path / "v", gateway_id="g", token=TOKEN, jwk=jwk_from_key(key_generate()))
    finally:
        os.umask(old)
    for path in [tmp_path / "v", *(tmp_path / "v").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert vault_identity(tmp_path / "v") == VaultIdentity("vault-01", demonstration=False)
    for vault_id, demonstration in (("vault-02", False), ("vault-01", True)):
        with _refused("vault-mismatch"):
            vault_create(tmp_path / "v", vault_id=vault_id, demonstration=demonstration)


def test_registry_keeps_no_token_and_knows_changes_at_once(directory: Path, identity: PrivateKey) -> None:
    registry = GatewayRegistry(directory)
    assert registry.by_token(TOKEN) is None
    gateway_register(directory, gateway_id="gateway-01", token=TOKEN, jwk=jwk_from_key(identity))
    found = registry.by_token(TOKEN)
    assert found is not None
    assert found.gateway_id == "gateway-01"
    assert TOKEN not in (directory / "gateways.json").read_text()
    gateway_register(directory, gateway_id="gateway-01", token=TOKEN + "-new", jwk=jwk_from_key(identity))
    assert registry.by_token(TOKEN) is None
    assert registry.by_token(TOKEN + "-new") is not None
    assert len(gateways_read(directory)) == 1


def test_registry_refuses_shared_and_poor_tokens_and_private_keys(directory: Path, identity: PrivateKey) -> None:
    gateway_register(directory, gateway_id="gateway-01", token=TOKEN, jwk=jwk_from_key(identity))
    for token, code in ((TOKEN, "token-taken"), ("short", "token-invalid"), ("with blanks in it!", "token-invalid")):
        with _refused(code):
            gateway_register(directory, gateway_id="gateway-02", token=token, jwk=jwk_from_key(identity))
    with pytest.raises(EnvelopeError):
        recipient_register(directory, {**jwk_from_key(identity), "d": "AA"})
    assert list((directory / "keys").iterdir()) == []


def test_s20_readable_token_file_lets_nobody_in(directory: Path) -> None:
    (directory / "gateways.json").chmod(0o644)
    with _refused("file-exposed"):
        GatewayRegistry(directory).by_token(TOKEN)


def test_recipient_key_is_found_by_thumbprint_only(directory: Path) -> None:
    jwk = jwk_from_key(key_generate())
    kid = recipient_register(directory, {**jwk})
    assert kid == thumbprint({**jwk})
    assert recipient_read(directory, kid) == {**jwk, "kid": kid}
    for other in ("../vault", "x" * 43, "", kid + "\n"):
        assert recipient_read(directory, other) is None


def test_every_error_has_a_text_that_says_what_to_do() -> None:
    for code in error_codes():
        assert len(str(VaultStoreError(code))) > len(code) + 20
