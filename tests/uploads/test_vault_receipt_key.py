"""The vault's receipt key is lost or read by others: nothing is signed with a key that nobody was told of."""

import json
from pathlib import Path

import pytest

from tests.uploads import test_vault_recipient as house
from tests.uploads.sealed_upload import SealedUpload, sealed_upload
from tests.uploads.test_vault_recipient import _stored as stored
from uploads.envelope.keys import PrivateKey, fingerprint, jwk_from_key, key_generate, thumbprint
from uploads.envelope.receipt import commitment_verify, receipt_verify
from uploads.vault.__main__ import main
from uploads.vault.app import make_app
from uploads.vault.durable import directory_lock
from uploads.vault.errors import VaultStoreError
from uploads.vault.recipient import open_upload, upload_verify
from uploads.vault.registry import (
    Gateway,
    receipt_key_change,
    vault_create,
    vault_identity,
    vault_receipt_jwk,
    vault_receipt_jwks,
    vault_signing_key,
)
from uploads.vault.store import VaultStore

directory = house.directory
identity = house.identity
recipient = house.recipient


@pytest.fixture
def upload(directory: Path, identity: PrivateKey, recipient: PrivateKey) -> SealedUpload:
    recipients = [jwk_from_key(recipient)]
    return stored(directory, identity, sealed_upload([b"one", b"two"], identity=identity, recipients=recipients))


def refused(directory: Path, code: str) -> None:
    with pytest.raises(VaultStoreError) as raised:
        make_app(directory, vault_id="vault-01", demonstration=False)
    assert raised.value.code == code


def test_a_lost_or_another_signing_key_stops_the_vault_instead_of_being_made_anew(directory: Path) -> None:
    told = vault_receipt_jwk(directory)
    content = (directory / "signing.pem").read_bytes()
    (directory / "signing.pem").unlink()
    refused(directory, "signing-key-missing")
    assert not (directory / "signing.pem").exists()
    vault_create(directory.parent / "other", vault_id="vault-02", demonstration=False)
    (directory / "signing.pem").write_bytes((directory.parent / "other" / "signing.pem").read_bytes())
    (directory / "signing.pem").chmod(0o600)
    refused(directory, "signing-key-differs")
    (directory / "signing.pem").write_bytes(content)
    make_app(directory, vault_id="vault-01", demonstration=False)
    assert vault_receipt_jwk(directory) == told


def test_with_a_new_key_receipts_of_before_hold_and_what_is_open_gets_one_under_the_new(
    directory: Path, upload: SealedUpload, identity: PrivateKey, recipient: PrivateKey
) -> None:
    gateway = Gateway("gateway-01", "", jwk_from_key(identity))
    old = vault_receipt_jwk(directory)
    (directory / "signing.pem").unlink()
    new = receipt_key_change(directory)
    assert vault_receipt_jwk(directory) == new == jwk_from_key(vault_signing_key(directory))
    assert list(vault_receipt_jwks(directory)) == [thumbprint(old), thumbprint({**new})]
    assert upload_verify(directory, upload.upload_id).file_count == len(upload.files)
    assert open_upload(directory, upload.upload_id, private_key=recipient, target=directory.parent / "out").complete

    store = VaultStore(directory, identity=vault_identity(directory), signing_key=vault_signing_key(directory))
    commitment = commitment_verify(upload.token, gateway.jwk)
    receipts = {
        store.commit(upload.upload_id, upload.token, gateway=gateway) for _ in range(2)
    }  # a gateway that has not heard the first one asks again, when it has pinned the new key
    found = [receipt_verify(each, new, commitment_token=upload.token, commitment=commitment) for each in receipts]
    kept = json.loads((directory / "uploads" / upload.upload_id[:2] / upload.upload_id / "commit.json").read_text())
    assert {(each.receipt_id, each.stored_at) for each in found} == {(kept["receipt_id"], kept["stored_at"])}
    again = stored(directory, identity, sealed_upload([b"x"], identity=identity, recipients=[jwk_from_key(recipient)]))
    assert upload_verify(directory, again.upload_id).file_count == len(again.files)


def test_a_receipt_of_somebody_elses_key_never_holds(directory: Path, upload: SealedUpload) -> None:
    record = json.loads((directory / "vault.json").read_text())
    (directory / "vault.json").write_text(json.dumps({**record, "receipt_jwk": jwk_from_key(key_generate())}))
    with house._refused("signer-unknown"):
        upload_verify(directory, upload.upload_id)


def test_the_operator_makes_it_only_when_it_is_meant_and_nothing_is_served(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = vault_receipt_jwk(directory)
    command = ["receipt-key", "--directory", str(directory)]
    assert main(command) == 0
    assert "Nothing was changed" in capsys.readouterr().out
    with directory_lock(directory / "parts"):
        assert main([*command, "--yes"]) == 1
    assert "store-locked" in capsys.readouterr().err
    assert vault_receipt_jwk(directory) == told
    assert main([*command, "--yes"]) == 0
    assert fingerprint(vault_receipt_jwk(directory)) in capsys.readouterr().out
    assert vault_receipt_jwk(directory) != told


def test_a_crash_between_record_and_key_is_ended_by_the_same_call(directory: Path) -> None:
    record = json.loads((directory / "vault.json").read_text())
    (directory / "vault.json").write_text(
        json.dumps(
            {**record, "receipt_jwk": jwk_from_key(key_generate()), "earlier_receipt_jwks": [record["receipt_jwk"]]}
        )
    )
    (directory / "new-signing.pem").write_bytes(b"half")
    refused(directory, "signing-key-differs")
    new = receipt_key_change(directory)
    make_app(directory, vault_id="vault-01", demonstration=False)
    assert len(vault_receipt_jwks(directory)) == 3
    assert vault_receipt_jwk(directory) == new
