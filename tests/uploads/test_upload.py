"""One upload to a faithful vault: what it sends and writes, and that it ends the same whatever goes wrong between."""

from collections.abc import Callable

import pytest

from gateway_project.core.models import Alert, AuditEvent, JobState, Lane, Severity
from gateway_project.wiring import pipeline
from studies.models import Study
from tests.uploads.faults import Killed, at_call, at_failpoints, at_name, killed_at, raising
from tests.uploads.memory_vault import MemoryVault, lane_error
from tests.uploads.upload_house import House, staged
from uploads.envelope.keys import jwk_from_key, key_generate
from uploads.envelope.receipt import receipt_sign
from uploads.models import UploadJob
from uploads.ports import VaultError
from uploads.services.identity import identity_jwk, identity_path
from uploads.services.staging import staging_root

pytestmark = pytest.mark.django_db
CALLS = 11  # describe, recipient key, key document, three files, metadata, info, map, commit; one more to be sure


# The way


def test_study_ends_in_the_vault_and_says_so(house: House) -> None:
    house.vault_row()
    study = house.settled(instances=range(1, 4))
    assert (study.state, study.reason) == ("settled", "Waiting for its upload.")
    assert house.drain() == 1
    house.uploaded(study)
    job = house.job(study)
    key, *files = house.vault.puts()
    assert key.startswith("key-")
    assert files == ["file-00001.gve", "file-00002.gve", "file-00003.gve", "metadata.jwe", "info.jwe", "map.jwe"]
    assert house.tries(job) == [(1, "done", "")]
    attempt = job.tries.get()
    assert (attempt.files_sent, attempt.bytes_sent) == (7, sum(p.size_bytes for p in job.parts.all()))
    assert attempt.ended_at is not None
    assert (job.progress_done, job.progress_total) == (study.size_bytes, study.size_bytes)


def test_uploading_is_what_the_study_says_while_it_is_under_way(house: House) -> None:
    house.vault_row()
    study = house.settled()
    seen: list[tuple[str, int]] = []

    def look(_number: int, _call: str) -> None:
        seen.append((Study.objects.get().state, UploadJob.objects.get().files_done))

    house.vault.before = look
    house.drain()
    assert {state for state, _files in seen} == {"uploading"}
    assert [files for _state, files in seen] == [0, 0, 0, 0, 1, 2, 2, 2, 2]
    house.uploaded(study)


def test_only_ciphertext_is_staged_and_sent(house: House) -> None:
    house.vault_row()
    study = house.settled(instances=[1], pixels=40)
    clear: list[str] = []

    def look(_number: int, _call: str) -> None:
        for path in staged():
            file = house.store.root.parent / "uploads" / path
            if file.is_file() and b"Marked" in file.read_bytes():
                clear.append(path)

    house.vault.before = lambda number, call: look(number, call) if call.startswith("put") else None
    house.drain()
    house.uploaded(study)
    assert clear == []
    assert not [name for files in house.vault.uploads.values() for name in files if b"Marked" in files[name]]


# Faults of the vault


@pytest.mark.parametrize("number", range(1, CALLS))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_of_the_vault_at_any_call_is_the_lanes_and_the_upload_goes_on(
    house: House, number: int, when: str
) -> None:
    house.vault_row()
    study = house.settled(instances=range(1, 4))
    setattr(house.vault, when, at_call(number, raising(lane_error(number))))
    assert house.drain() == 1
    job = house.job(study)
    assert (job.state, job.attempts, job.error_code) == (JobState.READY, 0, "server-error")
    study.refresh_from_db()
    assert (study.state, study.reason) == ("failed_transient", f"The vault has an error of its own ({number}).")
    assert Alert.objects.get(healed_at=None).key == "lane:vault:main"
    first = house.vault.puts()
    assert house.drain() == 0, "the circuit is open"
    assert house.drain_later() == 1
    house.uploaded(study)
    again = house.vault.puts()[len(first) :]
    assert not set(again) & set(first[:-1]), "what was confirmed is never sent again"
    assert house.tries(job) == [(1, "failed", "server-error"), (2, "done", "")]
    assert not Alert.objects.filter(healed_at=None).exists()


def test_a_sealed_file_whose_answer_was_lost_is_found_at_the_vault_and_not_sent_again(house: House) -> None:
    house.vault_row()
    study = house.settled()
    house.vault.after = at_name("put file-00002", raising(lane_error(1)))
    house.drain()
    job = house.job(study)
    content = house.vault.uploads[job.upload_id]["file-00002.gve"]
    assert len(staged()) == 2, "the folder and the one file that is not confirmed"
    house.drain_later()
    assert house.vault.puts().count("file-00002.gve") == 1
    assert house.vault.uploads[job.upload_id]["file-00002.gve"] == content
    house.uploaded(study)


def test_a_sealed_file_that_did_not_arrive_is_sent_again_as_it_is(house: House) -> None:
    house.vault_row()
    study = house.settled()
    house.vault.before = at_name("put file-00002", raising(lane_error(1)))
    house.drain()
    job = house.job(study)
    staged_content = {path.name: path.read_bytes() for path in staging_root().rglob("*") if path.is_file()}
    house.drain_later()
    assert house.vault.puts().count("file-00002.gve") == 2
    assert house.vault.uploads[job.upload_id]["file-00002.gve"] in staged_content.values()
    house.uploaded(study)


# Pins


def other_identity(vault: MemoryVault) -> None:
    vault.receipt_jwk = jwk_from_key(key_generate())


def other_name(vault: MemoryVault) -> None:
    vault.vault_id = "vault-02"


def demonstration(vault: MemoryVault) -> None:
    vault.demonstration = True


def no_key_at_all(vault: MemoryVault) -> None:
    vault.receipt_jwk = {"kty": "RSA", "n": "AQAB"}


def other_recipient(vault: MemoryVault) -> None:
    vault.recipients = dict.fromkeys(vault.recipients, jwk_from_key(key_generate()))


def broken_recipient(vault: MemoryVault) -> None:
    vault.recipients = {kid: key | {"x": key["y"]} for kid, key in vault.recipients.items()}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (other_identity, "vault-identity-differs"),
        (other_name, "vault-identity-differs"),
        (demonstration, "vault-identity-differs"),
        (no_key_at_all, "vault-identity-differs"),
        (other_recipient, "recipient-key-differs"),
        (broken_recipient, "recipient-key-differs"),
    ],
)
def test_what_differs_from_a_pin_stops_the_lane_and_nothing_is_sent(
    house: House, change: Callable[[MemoryVault], None], code: str
) -> None:
    house.vault_row()
    first, second = house.settled(1), house.settled(2)
    change(house.vault)
    assert house.drain() == 1
    assert house.drain_later() == 0, "no retry of its own"
    assert house.vault.puts() == []
    lane = Lane.objects.get()
    assert (lane.held, lane.fault_code) == (True, code)
    assert Alert.objects.get().severity == Severity.CRITICAL
    assert [house.job(s).state for s in (first, second)] == ["ready", "ready"]
    assert [house.job(s).attempts for s in (first, second)] == [0, 0]
    first.refresh_from_db()
    assert first.state == "failed_transient"
    assert "Nothing was sent" in first.reason


def test_a_person_resumes_a_held_lane_by_trying_again(house: House) -> None:
    house.vault_row()
    first, second = house.settled(1), house.settled(2)
    right, house.vault.receipt_jwk = house.vault.receipt_jwk, jwk_from_key(key_generate())
    house.drain()
    house.vault.receipt_jwk = right
    assert pipeline.retry(first.pk, actor="user:anna") == 1
    assert house.drain() == 2
    house.uploaded(first)
    house.uploaded(second)
    lane = Lane.objects.get()
    assert (lane.held, lane.faults, lane.fault_code) == (False, 0, "")
    assert not Alert.objects.filter(healed_at=None).exists()
    record = AuditEvent.objects.get(detail__action="retry")
    assert (record.actor, record.subject, record.detail["uploads"]) == ("user:anna", f"study:{first.pk}", 1)


# Receipts


def wrong_signature(house: House) -> Callable[[str], str]:
    def change(_receipt: str) -> str:
        committed = next(iter(house.vault.commits.values()))
        values = {"receipt_id": "r1", "stored_at": "2026-11-20T12:00:00+00:00", "demonstration": False}
        return receipt_sign(committed.token, committed.commitment, key=key_generate(), **values)

    return change


def changed_text(_house: House) -> Callable[[str], str]:
    return lambda receipt: receipt[:-4] + ("AAAA" if receipt[-4:] != "AAAA" else "BBBB")


def commitment_back(house: House) -> Callable[[str], str]:
    return lambda _receipt: next(iter(house.vault.commits.values())).token


@pytest.mark.parametrize("make", [wrong_signature, changed_text, commitment_back])
def test_a_receipt_that_does_not_hold_is_no_proof(house: House, make: Callable[[House], Callable[[str], str]]) -> None:
    house.vault_row()
    study = house.settled()
    house.vault.receipt_changed = make(house)
    house.drain()
    job = house.job(study)
    assert (job.state, job.receipt, job.receipt_id, job.receipt_at) == (JobState.READY, "", "", None)
    assert job.error_code.startswith("receipt-")
    study.refresh_from_db()
    assert study.state == "failed_transient"
    assert Lane.objects.get().held
    assert not AuditEvent.objects.filter(detail__action="uploaded").exists()
    house.vault.receipt_changed = lambda receipt: receipt
    pipeline.retry(study.pk, actor="user:anna")
    house.drain()
    house.uploaded(study)
    assert len(house.vault.commits) == 1


def test_a_receipt_of_another_upload_is_no_proof(house: House) -> None:
    house.vault_row()
    first = house.settled(1)
    house.drain()
    replayed = house.job(first).receipt
    second = house.settled(2)
    house.vault.receipt_changed = lambda _receipt: replayed
    house.drain()
    job = house.job(second)
    assert (job.state, job.error_code, job.receipt) == (JobState.READY, "receipt-mismatch", "")
    assert Lane.objects.get().held


def test_a_demonstrations_receipt_is_no_proof_of_a_real_vault(house: House) -> None:
    house.vault_row()
    study = house.settled()
    house.vault.before = at_name("commit", lambda: setattr(house.vault, "demonstration", True))
    house.drain()
    job = house.job(study)
    assert (job.state, job.error_code, job.receipt) == (JobState.READY, "receipt-mismatch", "")
    assert Lane.objects.get().held


def test_what_an_earlier_identity_has_signed_is_sent_anew_when_a_person_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its commitment went out, restored without its key: nothing would ever take that commitment."""
    house.vault_row()
    study = house.settled()
    killed_at(house, "upload.committing", monkeypatch)
    identity_path().unlink()
    house.vault.gateway_jwk = identity_jwk()
    house.drain()
    assert (house.job(study).state, house.job(study).error_code) == (JobState.PARKED, "signer-unknown")
    pipeline.retry(study.pk, actor="user:anna")
    house.drain()
    house.uploaded(study)


def test_an_upload_that_the_vaults_operator_removed_is_sent_anew_when_a_person_says_so(house: House) -> None:
    house.vault_row()
    study = house.settled()
    removed = VaultError("upload-removed", "The vault's operator has removed this upload.", permanent=True)
    house.vault.before = at_name("put file-00002", raising(removed))
    house.drain()
    before = house.job(study)
    assert (before.state, before.error_code) == (JobState.PARKED, "upload-removed")
    pipeline.retry(study.pk, actor="user:anna")
    house.drain()
    house.uploaded(study)
    assert house.job(study).upload_id != before.upload_id


def test_a_commitment_that_was_written_is_sent_again_and_nothing_else(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with the receipt in hand: the vault answers the same commitment with the same receipt."""
    house.vault_row()
    study = house.settled()
    killed_at(house, "upload.answered", monkeypatch)
    puts, token = house.vault.puts(), house.job(study).commitment
    house.drain()
    assert house.vault.puts() == puts
    assert house.job(study).commitment == token
    house.uploaded(study)
    assert house.tries(house.job(study)) == [(1, "failed", "worker-died"), (2, "done", "")]


# Kills, in this process; the real ones are in tests/crash


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize(
    "failpoint", ["upload.sealed", "upload.durable", "upload.staged", "upload.sent", "upload.confirmed"]
)
def test_killed_between_two_steps_the_study_still_arrives_once(
    house: House, monkeypatch: pytest.MonkeyPatch, failpoint: str, passes: int
) -> None:
    """The first pass is the key document's: it must reach the vault before anybody can open what is sealed under it."""
    house.vault_row()
    study = house.settled(instances=range(1, 4))
    killed_at(house, failpoint, monkeypatch, passes=passes)
    house.drain()
    house.uploaded(study)
    assert len(house.vault.uploads) == 1


@pytest.mark.parametrize("failpoint", ["upload.committing", "upload.receipted", "upload.done"])
def test_killed_around_the_commitment_nothing_is_done_twice(
    house: House, monkeypatch: pytest.MonkeyPatch, failpoint: str
) -> None:
    house.vault_row()
    study = house.settled()
    if failpoint == "upload.done":
        with monkeypatch.context() as patched:
            at_failpoints(patched, lambda name: raising(Killed())() if name == failpoint else None)
            with pytest.raises(Killed):
                house.drain()
    else:
        killed_at(house, failpoint, monkeypatch)
    house.drain()
    house.uploaded(study)
    assert len(house.vault.commits) == 1
