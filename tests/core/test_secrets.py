"""Secrets at rest: made once, private, readable only with their key, never by accident under a new one."""

import threading
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from gateway_project.core.secrets import SecretError, secret_decrypt, secret_encrypt


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "config.key"


def test_secret_comes_back_and_does_not_stand_in_what_is_stored(key_path: Path) -> None:
    token = secret_encrypt("hunter2 ü", key_path=key_path)
    assert "hunter2" not in token
    assert secret_decrypt(token, key_path=key_path) == "hunter2 ü"
    assert secret_encrypt("hunter2 ü", key_path=key_path) != token


def test_key_file_is_private_and_made_once(key_path: Path) -> None:
    secret_encrypt("a", key_path=key_path)
    first = key_path.read_bytes()
    secret_encrypt("b", key_path=key_path)
    assert key_path.read_bytes() == first
    assert key_path.stat().st_mode & 0o777 == 0o600
    assert key_path.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in key_path.parent.iterdir()] == ["config.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_key_file_that_others_can_reach_is_refused(key_path: Path, mode: int) -> None:
    token = secret_encrypt("a", key_path=key_path)
    key_path.chmod(mode)
    with pytest.raises(SecretError, match="chmod 600") as caught:
        secret_decrypt(token, key_path=key_path)
    assert caught.value.code == "secret-key-exposed"
    with pytest.raises(SecretError):
        secret_encrypt("b", key_path=key_path)


def test_key_file_behind_a_symbolic_link_is_refused(key_path: Path, tmp_path: Path) -> None:
    token = secret_encrypt("a", key_path=key_path)
    moved = key_path.rename(tmp_path / "elsewhere")
    key_path.symlink_to(moved)
    with pytest.raises(SecretError) as caught:
        secret_decrypt(token, key_path=key_path)
    assert caught.value.code == "secret-key-missing"


def test_lost_key_is_told_and_no_new_one_made_by_reading(key_path: Path) -> None:
    token = secret_encrypt("a", key_path=key_path)
    key_path.unlink()
    with pytest.raises(SecretError) as caught:
        secret_decrypt(token, key_path=key_path)
    assert caught.value.code == "secret-key-missing"
    assert not key_path.exists()


def test_secret_of_another_key_is_told_without_its_token(key_path: Path, tmp_path: Path) -> None:
    token = secret_encrypt("a", key_path=tmp_path / "other.key")
    secret_encrypt("b", key_path=key_path)
    with pytest.raises(SecretError) as caught:
        secret_decrypt(token, key_path=key_path)
    assert caught.value.code == "secret-undecryptable"
    assert token not in str(caught.value)


def test_new_key_on_top_encrypts_and_the_old_one_still_reads(key_path: Path) -> None:
    old_token = secret_encrypt("old", key_path=key_path)
    old_key, new_key = key_path.read_bytes(), Fernet.generate_key()
    key_path.write_bytes(new_key + b"\n" + old_key)
    new_token = secret_encrypt("new", key_path=key_path)
    assert secret_decrypt(old_token, key_path=key_path) == "old"
    key_path.write_bytes(new_key + b"\n")
    assert secret_decrypt(new_token, key_path=key_path) == "new"


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"\xff\xfe"])
def test_damaged_key_file_is_told(key_path: Path, content: bytes) -> None:
    token = secret_encrypt("a", key_path=key_path)
    key_path.write_bytes(content)
    with pytest.raises(SecretError) as caught:
        secret_decrypt(token, key_path=key_path)
    assert caught.value.code == "secret-key-damaged"


@pytest.mark.parametrize("stored", [None, 3, {"set": True}, "ümlaut", "not a token"])
def test_stored_value_that_is_no_token_is_told(key_path: Path, stored: object) -> None:
    secret_encrypt("a", key_path=key_path)
    with pytest.raises(SecretError):
        secret_decrypt(stored, key_path=key_path)


def test_first_uses_at_the_same_time_agree_on_one_key(key_path: Path) -> None:
    barrier = threading.Barrier(8)
    tokens: list[str] = []

    def encrypt() -> None:
        barrier.wait(10)
        tokens.append(secret_encrypt("a", key_path=key_path))

    threads = [threading.Thread(target=encrypt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [secret_decrypt(token, key_path=key_path) for token in tokens] == ["a"] * 8
