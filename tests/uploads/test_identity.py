"""The gateway's identity: one key for ever, whoever asks first."""

import multiprocessing
import stat
from pathlib import Path

import pytest

from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import jwk_from_key, thumbprint
from uploads.services import identity


@pytest.fixture
def data(tmp_path: Path, settings) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


def test_the_key_is_made_once_and_is_ours_alone(data: Path) -> None:
    first = identity.identity_ensure()
    content = identity.identity_path().read_bytes()
    assert jwk_from_key(identity.identity_ensure()) == jwk_from_key(first) == identity.identity_jwk()
    assert identity.identity_path().read_bytes() == content
    assert stat.S_IMODE(identity.identity_path().stat().st_mode) == 0o600
    assert stat.S_IMODE((data / "keys").stat().st_mode) == 0o700
    assert "d" not in identity.identity_jwk()


def _ask(data: str, start: object, answers: object) -> None:
    from django.conf import settings

    settings.DATA_DIR = Path(data)
    start.wait(20)
    answers.put(thumbprint(identity.identity_jwk()))


def test_processes_that_ask_at_once_end_with_the_same_key(data: Path) -> None:
    fork = multiprocessing.get_context("fork")
    start, answers = fork.Barrier(4), fork.Queue()
    workers = [fork.Process(target=_ask, args=(str(data), start, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = {answers.get(timeout=20) for _ in workers}
    for worker in workers:
        worker.join(20)
    assert found == {thumbprint(identity.identity_jwk())}
    assert [path.name for path in (data / "keys").iterdir()] == ["identity.pem"]


def test_a_key_that_others_can_read_is_not_used(data: Path) -> None:
    identity.identity_ensure()
    identity.identity_path().chmod(0o644)
    with pytest.raises(EnvelopeError) as raised:
        identity.identity_ensure()
    assert raised.value.code == "key-file-exposed"


def test_the_new_folder_survives_a_power_cut(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(identity, "fsync_directory", seen.append)
    identity.identity_ensure()
    identity.identity_ensure()
    assert seen == [data]
