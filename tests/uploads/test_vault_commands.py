"""The operator's commands, as they are typed."""

import hashlib
import io
import json
from pathlib import Path

import pytest

from uploads.envelope.keys import fingerprint, jwk_from_key, key_generate, thumbprint
from uploads.vault.__main__ import main
from uploads.vault.registry import GatewayRegistry, public_key_write, vault_create, vault_identity, vault_signing_key
from uploads.vault.store import VaultStore

UPLOAD = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def place(tmp_path: Path) -> list[str]:
    vault_create(tmp_path / "vault", vault_id="vault-01", demonstration=False)
    public_key_write(tmp_path / "key.jwk", {**jwk_from_key(key_generate())})
    place = ["--directory", str(tmp_path / "vault")]
    gateway = ["gateway", *place, "--gateway-id", "gateway-01", "--jwk", str(tmp_path / "key.jwk")]
    assert main([*gateway, "--token-file", str(tmp_path / "token")]) == 0
    return place


def _json(capsys: pytest.CaptureFixture[str], arguments: list[str], *, code: int = 0) -> dict[str, object]:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def _put(tmp_path: Path, content: bytes) -> None:
    directory = tmp_path / "vault"
    store = VaultStore(directory, identity=vault_identity(directory), signing_key=vault_signing_key(directory))
    values = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    store.put(UPLOAD, "a", io.BytesIO(content), gateway_id="gateway-01", **values)  # type: ignore[arg-type]


def test_gateways_are_listed_with_what_they_store_and_may_store(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _put(tmp_path, b"12345")
    assert main(["quota", *place, "--gateway-id", "gateway-01", "--gb", "1.5"]) == 0
    assert main(["quota", *place, "--gb", "2"]) == 0
    found = _json(capsys, ["gateways", *place])
    assert (found["stored_bytes"], found["quota_bytes"]) == (5, 2_000_000_000)
    (gateway,) = found["gateways"]  # type: ignore[misc]
    assert (gateway["stored_bytes"], gateway["quota_bytes"], gateway["revoked_at"]) == (5, 1_500_000_000, None)
    assert main(["quota", *place, "--none"]) == 0
    assert _json(capsys, ["gateways", *place])["quota_bytes"] is None
    assert main(["gateways", *place]) == 0
    assert (tmp_path / "token").read_text().strip() not in capsys.readouterr().out
    for wrong in (["--gb", "-1"], ["--gb", "x"], []):
        with pytest.raises(SystemExit):
            main(["quota", *place, *wrong])


def test_the_operator_learns_what_to_tell_a_gateways_administrator(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jwk = jwk_from_key(vault_signing_key(tmp_path / "vault"))
    found = _json(capsys, ["identity", *place])
    assert (found["vault_id"], found["fingerprint"], found["receipt_jwk"]) == ("vault-01", fingerprint({**jwk}), jwk)
    assert main(["identity", *place]) == 0
    assert fingerprint({**jwk}) in capsys.readouterr().out


def test_a_gateway_is_revoked_and_let_in_again(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, token = GatewayRegistry(tmp_path / "vault"), (tmp_path / "token").read_text().strip()
    assert registry.by_token(token) is not None
    assert main(["revoke", *place, "--gateway-id", "gateway-01"]) == 0
    assert registry.by_token(token) is None
    assert main(["gateways", *place]) == 0
    assert "revoked 20" in capsys.readouterr().out
    assert main(["revoke", *place, "--gateway-id", "gateway-09"]) == 1
    arguments = ["gateway", *place, "--gateway-id", "gateway-01", "--jwk", str(tmp_path / "key.jwk")]
    assert main([*arguments, "--token-file", str(tmp_path / "token")]) == 0
    assert registry.by_token(token) is not None


def test_recipients_are_listed_and_withdrawn(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kid = thumbprint(json.loads((tmp_path / "key.jwk").read_text()))
    assert main(["recipient", *place, "--jwk", str(tmp_path / "key.jwk")]) == 0
    (listed,) = _json(capsys, ["recipients", *place])  # type: ignore[misc]
    shown = _json(capsys, ["fingerprint", "--jwk", str(tmp_path / "key.jwk")])
    assert (listed["kid"], listed["fingerprint"]) == (kid, shown["fingerprint"])
    assert main(["revoke", *place, f"--kid={kid}"]) == 0
    assert _json(capsys, ["recipients", *place]) == []
    assert _json(capsys, ["revoke", *place, f"--kid={kid}"], code=1)["error"]["code"] == "recipient-unknown"  # type: ignore[index]


def test_an_upload_is_removed_only_when_it_is_meant(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _put(tmp_path, b"12345")
    remove = ["remove", *place, "--upload", UPLOAD]
    assert _json(capsys, remove) == {"removed": None}
    assert _json(capsys, [*remove, "--yes"]) == {"removed": UPLOAD, "size_bytes": 5}
    assert _json(capsys, ["gateways", *place])["stored_bytes"] == 0
    (listed,) = _json(capsys, ["list", *place])  # type: ignore[misc]
    assert (listed["upload_id"], listed["committed"]) == (UPLOAD, False)
    assert listed["removed_at"]
    assert _json(capsys, ["verify", *place]) == []


@pytest.mark.parametrize("command", ["gateways", "identity", "recipients", "list"])
def test_a_directory_without_a_vault_is_refused_or_empty(command: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert main([command, "--directory", str(tmp_path / "empty")]) in (0, 1)
    assert list((tmp_path / "empty").iterdir()) == []
