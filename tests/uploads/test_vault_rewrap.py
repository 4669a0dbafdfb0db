"""Another key for what is stored: it opens everything, no ciphertext is touched, forged documents open nothing."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path

import pytest

from tests.uploads.sealed_upload import SealedUpload, sealed_upload
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import fingerprint, jwk_from_key, key_generate, private_key_write, thumbprint
from uploads.envelope.seal import key_document
from uploads.vault.__main__ import main
from uploads.vault.errors import VaultStoreError
from uploads.vault.layout import upload_directory
from uploads.vault.recipient import open_upload, upload_verify
from uploads.vault.registry import (
    Gateway,
    public_key_write,
    token_hash,
    vault_create,
    vault_identity,
    vault_signing_key,
)
from uploads.vault.rewrap import RewrappedKey, bundle_read, bundle_write, rewrapped_add, upload_rewrap
from uploads.vault.store import VaultStore

IDENTITY, OLD, NEW = key_generate(), key_generate(), key_generate()
NEW_JWK = {**jwk_from_key(NEW)}
CONTENTS = [b"first" * 1000, b"second"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    vault_create(tmp_path / "vault", vault_id="vault-01", demonstration=False)
    return tmp_path / "vault"


def _stored(directory: Path, **values: object) -> SealedUpload:
    upload = sealed_upload(CONTENTS, identity=IDENTITY, recipients=[jwk_from_key(OLD)], **values)  # type: ignore[arg-type]
    store = VaultStore(directory, identity=vault_identity(directory), signing_key=vault_signing_key(directory))
    for name, content in upload.files.items():
        sha256 = hashlib.sha256(content).hexdigest()
        arguments = {"gateway_id": "gateway-01", "size_bytes": len(content), "sha256": sha256}
        store.put(upload.upload_id, name, io.BytesIO(content), **arguments)  # type: ignore[arg-type]
    gateway = Gateway("gateway-01", token_hash("t" * 20), jwk_from_key(IDENTITY))
    store.commit(upload.upload_id, upload.token, gateway=gateway)
    return upload


def _rewrapped(directory: Path, upload: SealedUpload) -> list[RewrappedKey]:
    return upload_rewrap(directory, upload.upload_id, private_key=OLD, recipient=NEW_JWK)


def _files(directory: Path, upload: SealedUpload) -> dict[str, bytes]:
    folder = upload_directory(directory, upload.upload_id)
    paths = [path for path in folder.rglob("*") if path.is_file() and "rewrapped" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _refused(code: str) -> pytest.RaisesExc[VaultStoreError]:
    return pytest.RaisesExc(VaultStoreError, check=lambda error: error.code == code)


def test_the_new_key_opens_what_was_sealed_for_the_old_and_nothing_else_has_changed(
    directory: Path, tmp_path: Path
) -> None:
    first = _stored(directory)
    later = _stored(directory, earlier=[first])
    before = _files(directory, first)
    with pytest.raises(EnvelopeError):
        open_upload(directory, later.upload_id, private_key=NEW, target=tmp_path / "refused")
    for upload in (first, later):
        for key in _rewrapped(directory, upload):
            rewrapped_add(directory, key)
    for private_key, name in ((NEW, "new"), (OLD, "old")):
        opened = open_upload(directory, later.upload_id, private_key=private_key, target=tmp_path / name)
        assert opened.complete
        contents = [(tmp_path / name / file.path).read_bytes() for file in opened.files]
        assert contents == CONTENTS + CONTENTS
    assert _files(directory, first) == before
    assert upload_verify(directory, first.upload_id).file_count == len(first.files)


def test_rewrapping_again_replaces_and_from_the_new_key_goes_on(directory: Path, tmp_path: Path) -> None:
    upload, third = _stored(directory), key_generate()
    for _again in range(2):
        for key in _rewrapped(directory, upload):
            rewrapped_add(directory, key)
    assert len(list((upload_directory(directory, upload.upload_id) / "rewrapped").iterdir())) == 1
    for key in upload_rewrap(directory, upload.upload_id, private_key=NEW, recipient={**jwk_from_key(third)}):
        rewrapped_add(directory, key)
    assert open_upload(directory, upload.upload_id, private_key=third, target=tmp_path / "o").complete


def test_a_forged_document_beside_the_right_one_neither_opens_nor_hinders(directory: Path, tmp_path: Path) -> None:
    upload = _stored(directory)
    (key,) = _rewrapped(directory, upload)
    run_id = key.name.removeprefix("key-").removesuffix(f"-{thumbprint(NEW_JWK)}.jwe")
    parties = {"run_id": run_id, "upload_id": upload.upload_id, "gateway_id": "gateway-01", "vault_id": "vault-01"}
    for jwk, private_key in ((NEW_JWK, NEW), ({**jwk_from_key(OLD)}, OLD)):
        forged = key_document(jwk, b"f" * 32, **parties).decode()
        rewrapped_add(directory, RewrappedKey(upload.upload_id, f"key-{run_id}-{thumbprint(jwk)}.jwe", forged))
        if private_key is NEW:
            with pytest.raises(EnvelopeError):
                open_upload(directory, upload.upload_id, private_key=NEW, target=tmp_path / "forged")
    assert open_upload(directory, upload.upload_id, private_key=OLD, target=tmp_path / "old").complete
    rewrapped_add(directory, key)
    assert open_upload(directory, upload.upload_id, private_key=NEW, target=tmp_path / "new").complete


@pytest.mark.parametrize(
    "change",
    [
        {"name": "key-" + "0" * 32 + f"-{thumbprint(NEW_JWK)}.jwe"},
        {"name": "../../x"},
        {"name": "file-00001.gve"},
        {"upload_id": "f" * 32},
        {"content": "a.b.c.d.e"},
        {"content": ""},
    ],
)
def test_what_does_not_belong_to_the_upload_is_not_taken_in(directory: Path, change: dict[str, str]) -> None:
    upload = _stored(directory)
    (key,) = _rewrapped(directory, upload)
    with _refused("bundle-invalid"):
        rewrapped_add(directory, dataclasses.replace(key, **change))
    assert not (upload_directory(directory, upload.upload_id) / "rewrapped").exists()


def test_a_document_for_other_parties_or_another_key_than_its_name_says_is_not_taken_in(directory: Path) -> None:
    upload = _stored(directory)
    (key,) = _rewrapped(directory, upload)
    run_id = key.name.removeprefix("key-").removesuffix(f"-{thumbprint(NEW_JWK)}.jwe")
    right = {"run_id": run_id, "upload_id": upload.upload_id, "gateway_id": "gateway-01", "vault_id": "vault-01"}
    for jwk, parties in (
        ({**jwk_from_key(OLD)}, right),
        (NEW_JWK, {**right, "gateway_id": "gateway-02"}),
        (NEW_JWK, {**right, "vault_id": "vault-02"}),
    ):
        content = key_document(jwk, b"k" * 32, **parties).decode()
        with _refused("bundle-invalid"):
            rewrapped_add(directory, dataclasses.replace(key, content=content))


@pytest.mark.parametrize(
    "line", [b"{}", b"no json", b"[1]", b'{"upload_id": 1, "name": "", "content": ""}', b"x" * 40000]
)
def test_a_bundle_that_is_none_is_refused(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "bundle").write_bytes(line + b"\n")
    with _refused("bundle-invalid"):
        list(bundle_read(tmp_path / "bundle"))


def test_a_bundle_is_read_as_it_was_written(tmp_path: Path) -> None:
    keys = [RewrappedKey("0" * 32, "key-x", "a.b"), RewrappedKey("1" * 32, "key-y", "c.d")]
    bundle_write(tmp_path / "bundle", keys)
    assert list(bundle_read(tmp_path / "bundle")) == keys


def test_the_command_line_goes_the_whole_way(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = _stored(directory)
    private_key_write(tmp_path / "old.pem", OLD)
    private_key_write(tmp_path / "new.pem", NEW)
    public_key_write(tmp_path / "new.jwk", NEW_JWK)
    place = ["--directory", str(directory)]
    bundle = str(tmp_path / "bundle")
    arguments = ["rewrap", *place, "--key", str(tmp_path / "old.pem"), "--jwk", str(tmp_path / "new.jwk")]
    assert main([*arguments, "--out", bundle, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["uploads"] == 1
    assert main(["rewrap-add", *place, "--bundle", bundle]) == 0
    opened = ["open", *place, "--upload", upload.upload_id, "--key", str(tmp_path / "new.pem"), "--out"]
    trusted = ["--gateway-fingerprint", fingerprint({**jwk_from_key(IDENTITY)})]
    assert main([*opened, str(tmp_path / "opened"), *trusted]) == 0
    capsys.readouterr()
    wrong = ["rewrap", *place, "--key", str(tmp_path / "old.pem"), "--jwk", str(tmp_path / "new.jwk"), "--out", bundle]
    assert main([*wrong, "--gateway-fingerprint", "0" * 64, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["failed"][0]["code"] == "gateway-unexpected"
