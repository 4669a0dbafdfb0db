"""The recipient's tool: byte for byte what the gateway sealed, and nothing at all of what cannot be proved."""

import hashlib
import io
import json
import stat
from pathlib import Path

import pytest

from tests.uploads.sealed_upload import STUDY_UID, SealedUpload, sealed_upload
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import PrivateKey, fingerprint, jwk_from_key, key_generate, private_key_write
from uploads.vault.__main__ import main
from uploads.vault.errors import VaultStoreError
from uploads.vault.layout import upload_directory
from uploads.vault.recipient import open_upload, upload_verify, uploads_list
from uploads.vault.registry import Gateway, vault_create, vault_identity, vault_signing_key
from uploads.vault.store import VaultStore

CONTENTS = [b"\0" * 128 + b"DICM" + bytes(range(256)) * 20, b"x", b"second" * 300_000]


@pytest.fixture(scope="module")
def identity() -> PrivateKey:
    return key_generate()


@pytest.fixture(scope="module")
def recipient() -> PrivateKey:
    return key_generate()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    vault_create(tmp_path / "vault", vault_id="vault-01", demonstration=False)
    return tmp_path / "vault"


def _stored(directory: Path, identity: PrivateKey, upload: SealedUpload, *, commit: bool = True) -> SealedUpload:
    store = VaultStore(directory, identity=vault_identity(directory), signing_key=vault_signing_key(directory))
    for name, content in upload.files.items():
        digest = hashlib.sha256(content).hexdigest()
        source = io.BytesIO(content)
        store.put(upload.upload_id, name, source, gateway_id="gateway-01", size_bytes=len(content), sha256=digest)
    if commit:
        store.commit(upload.upload_id, upload.token, gateway=Gateway("gateway-01", "", jwk_from_key(identity)))
    return upload


@pytest.fixture
def upload(directory: Path, identity: PrivateKey, recipient: PrivateKey) -> SealedUpload:
    others = [jwk_from_key(key_generate()), jwk_from_key(recipient)]  # ours is the second of two recipients
    return _stored(directory, identity, sealed_upload(CONTENTS, identity=identity, recipients=others))


def _damage(directory: Path, upload: SealedUpload, name: str) -> None:
    path = (upload_directory(directory, upload.upload_id) / "files" / name).resolve()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _refused(code: str) -> pytest.RaisesExc[Exception]:
    return pytest.RaisesExc((VaultStoreError, EnvelopeError), check=lambda error: getattr(error, "code", "") == code)


def test_study_comes_back_byte_for_byte(
    directory: Path, upload: SealedUpload, recipient: PrivateKey, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    opened = open_upload(directory, upload.upload_id, private_key=recipient, target=target)
    assert opened.complete
    assert [(target / file.path).read_bytes() for file in opened.files] == CONTENTS
    assert [file.path for file in opened.files] == ["1.dcm", "2.dcm", "3.dcm"]
    assert {path.name for path in target.iterdir()} == {
        "1.dcm", "2.dcm", "3.dcm", "info.json", "metadata.json", "manifest.json",
    }  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == {0o600}
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest["complete"] is True
    assert manifest["study_instance_uid"] == STUDY_UID
    assert [file["sha256"] for file in manifest["files"]] == [hashlib.sha256(each).hexdigest() for each in CONTENTS]
    assert manifest["files"][2]["sop_instance_uid"] == f"{STUDY_UID}.1.3"
    assert json.loads((target / "info.json").read_text()) == {"message": "Study uploaded."}


def test_late_revision_gives_the_whole_study_from_both_uploads(
    directory: Path, upload: SealedUpload, identity: PrivateKey, recipient: PrivateKey, tmp_path: Path
) -> None:
    later = _stored(
        directory,
        identity,
        sealed_upload([b"late"], identity=identity, recipients=[jwk_from_key(recipient)], earlier=[upload]),
    )
    opened = open_upload(directory, later.upload_id, private_key=recipient, target=tmp_path / "out")
    assert [(tmp_path / "out" / file.path).read_bytes() for file in opened.files] == [*CONTENTS, b"late"]
    assert (opened.revision, opened.previous) == (2, (upload.upload_id,))


def test_c15_damaged_file_is_reported_and_leaves_nothing_while_others_come_back(
    directory: Path, upload: SealedUpload, recipient: PrivateKey, tmp_path: Path
) -> None:
    _damage(directory, upload, "file-00001.gve")
    opened = open_upload(directory, upload.upload_id, private_key=recipient, target=tmp_path / "out")
    assert [(failure.name, failure.code) for failure in opened.failed] == [("file-00001.gve", "authentication-failed")]
    assert [file.path for file in opened.files] == ["2.dcm", "3.dcm"]
    assert not any("1.dcm" in path.name for path in (tmp_path / "out").iterdir())
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["complete"] is False
    with _refused("file-damaged"):
        upload_verify(directory, upload.upload_id)


@pytest.mark.parametrize("name", ["map.jwe", "info.jwe"])
def test_damaged_document_is_refused(
    directory: Path, upload: SealedUpload, recipient: PrivateKey, tmp_path: Path, name: str
) -> None:
    _damage(directory, upload, name)
    with _refused("file-damaged"):
        open_upload(directory, upload.upload_id, private_key=recipient, target=tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_file_of_another_upload_under_this_name_is_refused(
    directory: Path, upload: SealedUpload, identity: PrivateKey, recipient: PrivateKey, tmp_path: Path
) -> None:
    """C16: swapped inside the vault, hash and link consistent, and still not what the map signs for."""
    files = upload_directory(directory, upload.upload_id) / "files"
    (files / "file-00002.gve").unlink()
    (files / "file-00002.gve").symlink_to((files / "file-00003.gve").readlink())
    opened = open_upload(directory, upload.upload_id, private_key=recipient, target=tmp_path / "out")
    assert [(failure.name, failure.code) for failure in opened.failed] == [("file-00002.gve", "file-damaged")]


def test_wrong_private_key_opens_nothing(directory: Path, upload: SealedUpload, tmp_path: Path) -> None:
    with _refused("not-for-this-key"):
        open_upload(directory, upload.upload_id, private_key=key_generate(), target=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_uncommitted_and_unknown_uploads_are_refused(
    directory: Path, identity: PrivateKey, recipient: PrivateKey, tmp_path: Path
) -> None:
    open_one = sealed_upload([b"x"], identity=identity, recipients=[jwk_from_key(recipient)])
    _stored(directory, identity, open_one, commit=False)
    for upload_id, code in ((open_one.upload_id, "not-committed"), ("f" * 32, "upload-unknown")):
        with _refused(code):
            open_upload(directory, upload_id, private_key=recipient, target=tmp_path / "out")
        with _refused(code):
            upload_verify(directory, upload_id)
    assert [each.committed for each in uploads_list(directory)] == [False]


def test_study_of_an_unexpected_gateway_is_refused(
    directory: Path, upload: SealedUpload, identity: PrivateKey, recipient: PrivateKey, tmp_path: Path
) -> None:
    expected = fingerprint({**jwk_from_key(identity)})
    other = fingerprint({**jwk_from_key(key_generate())})
    with _refused("gateway-unexpected"):
        open_upload(
            directory, upload.upload_id, private_key=recipient, target=tmp_path / "out", gateway_fingerprint=other
        )
    open_upload(
        directory,
        upload.upload_id,
        private_key=recipient,
        target=tmp_path / "out",
        gateway_fingerprint=expected.replace(" ", "").upper(),
    )


def test_c18_receipt_of_another_upload_is_refused(
    directory: Path, upload: SealedUpload, identity: PrivateKey, recipient: PrivateKey, tmp_path: Path
) -> None:
    other = _stored(directory, identity, sealed_upload([b"y"], identity=identity, recipients=[jwk_from_key(recipient)]))
    path = upload_directory(directory, upload.upload_id) / "commit.json"
    record = json.loads(path.read_text())
    record["receipt"] = json.loads((upload_directory(directory, other.upload_id) / "commit.json").read_text())[
        "receipt"
    ]
    path.write_text(json.dumps(record))
    with _refused("receipt-mismatch"):
        upload_verify(directory, upload.upload_id)
    with _refused("receipt-mismatch"):
        open_upload(directory, upload.upload_id, private_key=recipient, target=tmp_path / "out")


@pytest.mark.parametrize(
    ("map_changes", "entry_changes"),
    [
        ({"upload_id": "f" * 32}, {}),
        ({"version": 2}, {}),
        ({"study_instance_uid": "../../x"}, {}),
        ({"revision": True}, {}),
        ({"files": {}}, {}),
        ({}, {"name": "../../../etc/passwd"}),
        ({}, {"upload_id": "f" * 32}),
        ({}, {"size_bytes": -1}),
        ({}, {"sop_instance_uid": None}),
    ],
)
def test_map_that_contradicts_itself_is_refused(
    directory: Path,
    identity: PrivateKey,
    recipient: PrivateKey,
    tmp_path: Path,
    map_changes: dict[str, object],
    entry_changes: dict[str, object],
) -> None:
    bad = sealed_upload(
        [b"x"],
        identity=identity,
        recipients=[jwk_from_key(recipient)],
        map_changes=map_changes,
        entry_changes=entry_changes,
    )
    _stored(directory, identity, bad)
    with _refused("map-invalid"):
        open_upload(directory, bad.upload_id, private_key=recipient, target=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_content_larger_than_the_map_says_is_cut_off(
    directory: Path, identity: PrivateKey, recipient: PrivateKey, tmp_path: Path
) -> None:
    """C20: a bomb expands to the size that the map lists, and no further."""
    bomb = sealed_upload(
        [b"\0" * 5_000_000], identity=identity, recipients=[jwk_from_key(recipient)], entry_changes={"size_bytes": 10}
    )
    _stored(directory, identity, bomb)
    opened = open_upload(directory, bomb.upload_id, private_key=recipient, target=tmp_path / "out")
    assert [failure.code for failure in opened.failed] == ["content-too-large"]


def test_target_in_use_is_never_touched(
    directory: Path, upload: SealedUpload, recipient: PrivateKey, tmp_path: Path
) -> None:
    (tmp_path / "1.dcm").write_bytes(b"mine")
    with _refused("target-in-use"):
        open_upload(directory, upload.upload_id, private_key=recipient, target=tmp_path)
    assert (tmp_path / "1.dcm").read_bytes() == b"mine"


def test_command_line_opens_lists_and_verifies(
    directory: Path,
    upload: SealedUpload,
    identity: PrivateKey,
    recipient: PrivateKey,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    private_key_write(tmp_path / "key.pem", recipient)
    base = ["--directory", str(directory), "--json"]
    assert main(["list", *base]) == 0
    assert json.loads(capsys.readouterr().out)[0]["file_count"] == len(upload.files)
    assert main(["verify", *base]) == 0
    assert json.loads(capsys.readouterr().out)[0]["gateway_fingerprint"] == fingerprint({**jwk_from_key(identity)})
    opening = ["open", *base, "--upload", upload.upload_id, "--key", str(tmp_path / "key.pem"), "--out"]
    assert main([*opening, str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out)["complete"] is True
    _damage(directory, upload, "file-00002.gve")
    assert main(["verify", *base]) == 1
    assert json.loads(capsys.readouterr().out)[0]["code"] == "file-damaged"
    assert main([*opening, str(tmp_path / "out2")]) == 1
    assert json.loads(capsys.readouterr().out)["failed"][0]["name"] == "file-00002.gve"
    assert main([*opening, str(tmp_path / "out2")]) == 1
    assert "target-in-use" in capsys.readouterr().err
    (tmp_path / "key.pem").chmod(0o644)
    assert main([*opening, str(tmp_path / "out3")]) == 1
    assert "key-file-exposed" in capsys.readouterr().err


def test_command_line_registers_key_gateway_and_recipient(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keygen", "--out", str(tmp_path / "r.pem"), "--jwk", str(tmp_path / "r.jwk"), "--json"]) == 0
    kid = json.loads(capsys.readouterr().out)["kid"]
    assert main(["recipient", "--directory", str(directory), "--jwk", str(tmp_path / "r.jwk")]) == 0
    assert (directory / "keys" / f"{kid}.json").exists()
    arguments = ["gateway", "--directory", str(directory), "--gateway-id", "gateway-01"]
    arguments += ["--jwk", str(tmp_path / "r.jwk"), "--token-file", str(tmp_path / "token")]
    assert main(arguments) == 0
    token = (tmp_path / "token").read_text().strip()
    assert token not in capsys.readouterr().out
    assert main(arguments) == 0  # repeated, the same token is kept
    assert (tmp_path / "token").read_text().strip() == token
    assert main(["keygen", "--out", str(tmp_path / "r.pem")]) == 1
    (tmp_path / "r.jwk").write_text("no json")
    assert main(["recipient", "--directory", str(directory), "--jwk", str(tmp_path / "r.jwk")]) == 1
    assert main(["recipient", "--directory", str(directory), "--jwk", str(tmp_path / "absent")]) == 2
