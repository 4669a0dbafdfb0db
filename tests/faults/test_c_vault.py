"""FAULTS.md A7: a vault, or what lies before it, that fails in every way. The study ends in it once, or nobody says so.

Whole uploads by the real worker and client over HTTP; the vault keeps what it was given and can be looked into.
"""

# ruff: noqa: F811 - the fixtures are imported

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils.timezone import now

from gateway_project.core.models import Alert, JobState, Lane, Severity
from gateway_project.wiring import pipeline
from studies.models import Study
from tests.faults.scripted_vault import ScriptedVault, answer_cut, cut_after, scripted_vault, silent, status
from tests.uploads.certificates import certificate_write
from tests.uploads.conftest import house  # noqa: F401 - the fixture
from tests.uploads.faults import killed_at
from tests.uploads.scripted_server import answer, scripted
from tests.uploads.upload_house import House
from uploads.envelope.keys import jwk_from_key, key_generate
from uploads.envelope.receipt import receipt_sign
from uploads.services.vaults import vault_client

pytestmark = pytest.mark.django_db
FILES = range(1, 6)
MARK = "Marked^Patient"
PROBLEM = "application/problem+json"


@pytest.fixture(params=["1", "3"], ids=["in-turn", "three-at-once"])
def vault(house: House, request, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedVault]:
    monkeypatch.setenv("GATEWAY_UPLOAD__PARALLEL_FILES", request.param)
    monkeypatch.setattr("uploads.tasks.vault_client", vault_client)
    with scripted_vault(house.vault) as running:
        house.vault_row(base_url=running.url)
        yield running


@pytest.fixture
def study(house: House, vault: ScriptedVault) -> Study:
    return house.settled(instances=FILES)


def waits(house: House, study: Study, code: str, *, held: bool = False) -> Lane:
    """The lane backs off or is held, one alert says so, no attempt is spent, the study says why and is whole here."""
    job, lane = house.job(study), Lane.objects.get(name="vault:main")
    assert (job.state, job.attempts, job.error_code) == (JobState.READY, 0, code)
    assert (lane.held, lane.fault_code) == (held, code)
    (alert,) = Alert.objects.filter(healed_at=None)
    assert (alert.key, alert.severity) == (f"lane:{lane.name}", Severity.CRITICAL if held else Severity.WARNING)
    study.refresh_from_db()
    assert (study.state, study.reason) == ("failed_transient", job.error_words)
    assert len(study.reason) > 20
    assert MARK not in alert.words + study.reason
    assert all(house.file_of(instance).exists() for instance in study.instances.all())
    return lane


def arrives(house: House, study: Study) -> None:
    """By itself, once the waits are over: exactly the study, once."""
    assert house.drain_later() == 1
    house.uploaded(study)
    assert (len(house.vault.uploads), len(house.vault.commits)) == (1, 1)
    assert not Alert.objects.filter(healed_at=None).exists()


def resumed(house: House, study: Study) -> None:
    """Not by itself: only when a person has tried again."""
    assert house.drain_later() == 0
    assert pipeline.retry(study.pk, actor="user:anna") == 1
    house.drain()
    house.uploaded(study)
    assert len(house.vault.commits) == 1


@pytest.mark.parametrize("number", [500, 502, 503, 429])
@pytest.mark.parametrize("place", ["GET v1", "PUT key", "PUT file-00003", "PUT map", "POST commit"])
def test_c01_a_vault_in_trouble_is_waited_for(
    house: House,
    vault: ScriptedVault,
    study: Study,
    number: int,
    place: str,
) -> None:
    vault.faults = [(place, status(number, b"<html>", "text/html"))]
    assert house.drain() == 1
    waits(house, study, "busy" if number == 429 else "server-error")
    arrives(house, study)


@pytest.mark.parametrize("number", [429, 503])
def test_c01_its_retry_after_is_honoured(house: House, vault: ScriptedVault, study: Study, number: int) -> None:
    vault.faults = [("PUT file-00002", status(number, Retry_After="7200"))]
    house.drain()
    lane = waits(house, study, "busy" if number == 429 else "server-error")
    assert 7100 < (lane.open_until - now()).total_seconds() <= 7200
    arrives(house, study)


@pytest.mark.parametrize(("number", "code"), [(401, "unauthorized"), (403, "forbidden")])
@pytest.mark.parametrize("place", ["GET v1", "PUT file-00003", "POST commit"])
def test_c02_a_refused_token_in_mid_study_stops_the_lane(
    house: House,
    vault: ScriptedVault,
    study: Study,
    number: int,
    code: str,
    place: str,
) -> None:
    vault.faults = [(place, status(number))]
    house.drain()
    asked = len(vault.requests)
    waits(house, study, code, held=True)
    assert house.drain_later() == 0
    assert len(vault.requests) == asked, "it is not asked again"
    resumed(house, study)


def test_c02_a_wrong_address_or_an_unknown_key_is_the_lanes_fault(
    house: House,
    vault: ScriptedVault,
    study: Study,
) -> None:
    vault.faults = [("PUT file-00001", status(404))]
    house.drain()
    waits(house, study, "not-found")
    house.drain_later()
    house.uploaded(study)
    second = house.settled(2, [1])
    house.vault.recipients, kept = {}, house.vault.recipients
    house.drain()
    waits(house, second, "key-unknown")
    house.vault.recipients = kept
    house.drain_later()
    house.uploaded(second)


@pytest.mark.parametrize("stored", [False, True], ids=["before it stored", "after it stored"])
@pytest.mark.parametrize("place", ["PUT file-00002", "POST commit"])
def test_c04_silence_before_or_after_the_vault_stored(
    house: House,
    vault: ScriptedVault,
    study: Study,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    stored: bool,
) -> None:
    monkeypatch.setenv("GATEWAY_VAULT__HTTP_SECONDS", "1")
    vault.faults = [(place, silent(stored=stored))]
    house.drain()
    waits(house, study, "timeout")
    monkeypatch.setenv("GATEWAY_VAULT__HTTP_SECONDS", "60")
    arrives(house, study)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"<html>Welcome to the hotel</html>", "text/html"),
        (b"", "application/json"),
        (b"{}", "application/json"),
        (b"a.b.c", "text/plain"),
    ],
)
@pytest.mark.parametrize("place", ["GET v1", "PUT file-00002", "POST commit"])
def test_c05_two_hundred_from_somebody_else_is_no_success(
    house: House,
    vault: ScriptedVault,
    study: Study,
    place: str,
    content: bytes,
    content_type: str,
) -> None:
    vault.faults = [(place, status(200, content, content_type))]
    house.drain()
    waits(house, study, "unexpected-answer")
    arrives(house, study)


@pytest.mark.parametrize("size_bytes", [0, 12, 60, 100])
@pytest.mark.parametrize("place", ["PUT file-00002", "POST commit"])
def test_c05_an_answer_cut_in_the_middle_is_no_success(
    house: House,
    vault: ScriptedVault,
    study: Study,
    place: str,
    size_bytes: int,
) -> None:
    vault.faults = [(place, answer_cut(size_bytes))]
    house.drain()
    waits(house, study, house.job(study).error_code)
    assert house.job(study).error_code in ("connection-lost", "unexpected-answer")
    assert (study.state, house.job(study).receipt) != ("uploaded", "")
    arrives(house, study)


@pytest.mark.parametrize("size_bytes", [0, 1, 1000, 200_000, 299_999])
def test_c06_a_connection_cut_in_the_middle_of_a_body(
    house: House,
    vault: ScriptedVault,
    size_bytes: int,
) -> None:
    study = house.settled(instances=FILES, pixels=300_000)
    vault.faults = [("PUT file-00002", cut_after(size_bytes))]
    house.drain()
    job = house.job(study)
    staged = job.parts.get(name="file-00002.gve").sha256
    done = set(house.vault.puts())
    waits(house, study, "connection-lost")
    house.vault.calls.clear()
    arrives(house, study)
    assert job.parts.get(name="file-00002.gve").sha256 == staged, "the same ciphertext"
    assert not done & set(house.vault.puts()), "what was confirmed is not sent again"


@pytest.mark.parametrize("number", [301, 302, 307, 308])
def test_c08_a_redirect_is_not_followed(house: House, vault: ScriptedVault, study: Study, number: int) -> None:
    with scripted(answer(200)) as elsewhere:
        vault.faults = [("PUT file-00002", status(number, Location=f"{elsewhere.url}/v1/"))]
        house.drain()
    assert elsewhere.requests == []
    waits(house, study, "redirect")
    arrives(house, study)


@pytest.mark.parametrize("kind", ["expired", "other host", "not trusted"])
def test_c09_a_certificate_that_does_not_hold(house: House, vault: ScriptedVault, tmp_path: Path, kind: str) -> None:
    """Hard fail, alarm, data kept: not even a byte of the request is sent. So does C26, a proxy that looks inside."""
    certificate = certificate_write(
        tmp_path / "server.pem",
        host="vault.example.org" if kind == "other host" else "localhost",
        expired=kind == "expired",
    )
    study = house.settled(instances=FILES)
    with scripted_vault(house.vault, certificate=certificate) as secured:
        row = house.vault_row(base_url=secured.url, ca="" if kind == "not trusted" else str(certificate))
        house.drain()
        assert (secured.requests, secured.tokens) == ([], [])
    waits(house, study, "tls-certificate")
    type(row).objects.update(base_url=vault.url)
    arrives(house, study)


def test_c10_another_key_stops_the_lane_and_nothing_is_sent(house: House, vault: ScriptedVault, study: Study) -> None:
    kept = house.vault.recipients
    house.vault.recipients = dict.fromkeys(kept, jwk_from_key(key_generate()))
    house.drain()
    waits(house, study, "recipient-key-differs", held=True)
    assert house.vault.puts() == []
    house.vault.recipients = kept
    resumed(house, study)


def test_c18_a_receipt_of_another_signer(house: House, vault: ScriptedVault, study: Study) -> None:
    def forged(_receipt: str) -> str:
        committed = next(iter(house.vault.commits.values()))
        values = {"receipt_id": "r1", "stored_at": "2026-11-20T12:00:00+00:00", "demonstration": False}
        return receipt_sign(committed.token, committed.commitment, key=key_generate(), **values)

    house.vault.receipt_changed = forged
    house.drain()
    waits(house, study, house.job(study).error_code, held=True)
    assert house.job(study).error_code.startswith("receipt-")
    house.vault.receipt_changed = lambda receipt: receipt
    resumed(house, study)


def test_c18_a_receipt_for_another_upload(house: House, vault: ScriptedVault, study: Study) -> None:
    house.drain()
    replayed = house.job(study).receipt
    second = house.settled(2, [1, 2])
    house.vault.receipt_changed = lambda _receipt: replayed
    house.drain()
    waits(house, second, "receipt-mismatch", held=True)
    assert house.job(second).receipt == ""


def test_c01_a_full_vault_is_waited_for(house: House, vault: ScriptedVault, study: Study) -> None:
    vault.faults = [("PUT file-00004", status(507, b'{"code": "store-full"}', PROBLEM))]
    house.drain()
    waits(house, study, "vault-full")
    arrives(house, study)


def test_c01_a_file_that_the_vault_never_takes_needs_a_person(house: House, vault: ScriptedVault, study: Study) -> None:
    vault.faults = [("PUT file-00004", status(413, b'{"code": "too-large"}', PROBLEM))]
    house.drain()
    job = house.job(study)
    assert (job.state, job.error_code) == (JobState.PARKED, "too-large")
    study.refresh_from_db()
    assert (study.state, study.reason) == ("failed_permanent", job.error_words)
    assert not Lane.objects.get(name="vault:main").faults, "it is this study's, and others go on"
    other = house.settled(2, [1])
    house.drain()
    other.refresh_from_db()
    assert other.state == "uploaded"
    assert pipeline.retry(study.pk, actor="user:anna") == 1
    house.drain()
    house.uploaded(study)


@pytest.mark.parametrize("place", ["upload.staged", "upload.sent"])
def test_c24_a_crash_between_sealing_and_sending_sends_the_same_ciphertext(
    house: House,
    vault: ScriptedVault,
    study: Study,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    killed_at(house, place, monkeypatch, passes=3)
    job = house.job(study)
    before = dict(job.parts.values_list("name", "sha256"))
    assert before
    house.drain()
    house.uploaded(study)
    after = dict(job.parts.values_list("name", "sha256"))
    assert before.items() <= after.items()
    assert len(set(job.parts.filter(instance__isnull=False).values_list("run_id", flat=True))) <= 2


def test_the_token_goes_to_the_vault_and_nowhere_else(house: House, vault: ScriptedVault, study: Study) -> None:
    house.drain()
    house.uploaded(study)
    assert set(vault.tokens) == {"Bearer " + "t" * 20}
