"""C25: a vault that has said "stored" is asked again and again; what it lost is told at once, and can be sent anew."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils.timezone import now

from gateway_project.core.models import Alert, AuditEvent, JobState, Lane, Severity
from gateway_project.core.queues import REGISTRY
from gateway_project.core.services.jobs import job_claim, job_subject
from gateway_project.core.services.lanes import lane_pause
from gateway_project.core.tasks import run_one
from gateway_project.wiring import pipeline
from studies.models import Study
from tests.uploads.upload_house import House
from uploads import tasks
from uploads.models import UploadJob, Vault, VaultCheck
from uploads.ports import VaultError, VerifyPage
from uploads.queue import VERIFY_QUEUE
from uploads.selectors import upload_allows_deletion
from uploads.services import verify
from uploads.verification import uploads_unverified, vault_verification

pytestmark = pytest.mark.django_db
LONG_AGO = timedelta(days=40)


def uploaded(house: House, *numbers: int) -> list[Study]:
    """Studies that are in the vault, each for longer than the next."""
    if not Vault.objects.exists():
        house.vault_row()
    studies = [house.settled(number) for number in numbers]
    house.drain()
    for days, study in enumerate(reversed(studies)):
        signed_at = now() - LONG_AGO - timedelta(days=days)
        UploadJob.objects.filter(revision__study=study).update(receipt_at=signed_at)
    return studies


def check(house: House) -> VaultCheck | None:
    """What the ticker and a worker do; None when nothing was to be done."""
    tasks.verify_plan(now())
    claimed = job_claim(VERIFY_QUEUE, now=now())
    if claimed is None:
        return None
    run_one(VERIFY_QUEUE, claimed)
    return VaultCheck.objects.get()


def damage(house: House, job: UploadJob, name: str = "file-00001.gve") -> bytes:
    return house.vault.uploads[job.upload_id].pop(name)


def due_again(job: UploadJob) -> None:
    UploadJob.objects.filter(pk=job.pk).update(checked_at=now() - LONG_AGO)


def test_what_is_whole_is_asked_for_once_in_its_time(house: House) -> None:
    (study,) = uploaded(house, 1)
    found = check(house)
    job = house.job(study)
    assert (found.state, found.error_words) == (JobState.DONE, "")
    assert job.verified_at == job.checked_at
    assert job.verified_at is not None
    assert house.vault.calls.count(f"verify {job.upload_id}") == 3, "six files, two a page"
    assert check(house) is None, "nothing is due"
    vault = Vault.objects.get()
    assert not uploads_unverified(vault, now=now() + timedelta(days=29)).exists()
    assert uploads_unverified(vault, now=now() + timedelta(days=31)).get() == job
    house.uploaded(study)


def test_fresh_receipts_are_proof_enough_for_a_while(house: House) -> None:
    house.vault_row()
    house.settled(1)
    house.drain()
    assert check(house) is None


@pytest.mark.parametrize(
    ("lose", "code", "said"),
    [
        (damage, "vault-lost", "lost or changed 1 of the 6 files"),
        (lambda house, job: house.vault.uploads[job.upload_id].update({"map.jwe": b"x"}), "vault-lost", "1 of the 6"),
        (lambda house, job: house.vault.commits.clear(), "vault-lost", "does not know this upload"),
    ],
)
def test_c25_what_the_vault_lost_is_told_and_uploaded_anew(
    house: House, lose: Callable[[House, UploadJob], object], code: str, said: str
) -> None:
    (study,) = uploaded(house, 1)
    before = house.job(study)
    lose(house, before)
    check(house)
    job = house.job(study)
    study.refresh_from_db()
    assert (job.state, job.error_code, job.lost, job.verified_at) == (JobState.PARKED, code, True, None)
    assert said in job.error_words
    assert (study.state, study.reason) == ("failed_permanent", job.error_words)
    alert = Alert.objects.get(key=job_subject(job), healed_at=None)
    assert (alert.severity, alert.link) == (Severity.CRITICAL, f"/studies/{study.pk}/")
    assert not upload_allows_deletion(job)
    (told,) = AuditEvent.objects.filter(detail__action="upload lost by the vault")
    assert (told.outcome, told.detail["upload_id"]) == ("failure", before.upload_id)
    assert Lane.objects.get().circuit_closed, "the other studies go on"

    assert pipeline.retry(study.pk, actor="user:anna") == 1
    house.drain()
    anew = house.job(study)
    assert anew.upload_id != before.upload_id
    assert anew.receipt_id not in ("", before.receipt_id)
    house.uploaded(study)
    assert not Alert.objects.filter(healed_at=None).exists()


def test_what_the_vault_finds_again_heals_by_itself(house: House) -> None:
    (study,) = uploaded(house, 1)
    job = house.job(study)
    taken = damage(house, job)
    check(house)
    assert check(house) is None, "asked once a day, not all the time"
    house.vault.uploads[job.upload_id]["file-00001.gve"] = taken
    due_again(job)
    check(house)
    house.uploaded(study)
    assert house.job(study).receipt_id == job.receipt_id
    assert not Alert.objects.filter(healed_at=None).exists()
    told = AuditEvent.objects.filter(detail__action="upload whole again in the vault")
    assert [each.outcome for each in told] == ["success"]


def test_a_loss_that_lasts_is_told_once(house: House) -> None:
    (study,) = uploaded(house, 1)
    damage(house, house.job(study))
    check(house)
    due_again(house.job(study))
    check(house)
    assert Alert.objects.get(healed_at=None).count == 2
    assert AuditEvent.objects.filter(detail__action="upload lost by the vault").count() == 1


def test_a_vault_that_leaves_files_out_has_not_got_them(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    (study,) = uploaded(house, 1)
    monkeypatch.setattr(house.vault, "verify", lambda _id, after="": VerifyPage(5, 5, (), None))
    check(house)
    assert "lost or changed 1 of the 6 files" in house.job(study).error_words


def test_later_revisions_go_anew_with_the_one_that_their_maps_refer_to(house: House) -> None:
    (study,) = uploaded(house, 1)
    house.settled(1, instances=[3])
    house.drain()
    ids = [house.job(study, revision).upload_id for revision in (1, 2)]
    damage(house, house.job(study, 1))
    check(house)
    assert pipeline.retry(study.pk, actor="user:anna") == 2
    house.drain()
    house.uploaded(study, revision=2)
    first, second = house.job(study, 1), house.job(study, 2)
    assert not {first.upload_id, second.upload_id} & set(ids)
    document = house.vault.document(second.upload_id, "map")
    assert document["previous"] == [first.upload_id]
    assert {entry["upload_id"] for entry in document["files"]} == {first.upload_id, second.upload_id}


def test_a_later_revision_does_not_wait_for_what_was_lost_but_brings_it_along(house: House) -> None:
    (study,) = uploaded(house, 1)
    damage(house, house.job(study))
    check(house)
    house.settled(1, instances=[3])
    house.drain()
    second = house.job(study, 2)
    assert second.state == JobState.DONE
    assert len(house.vault.opened(second.upload_id)) == 3
    study.refresh_from_db()
    assert study.state == "failed_permanent", "the first one is lost all the same, until somebody sends it anew"
    assert pipeline.retry(study.pk, actor="user:anna") == 2
    house.drain()
    house.uploaded(study, revision=2)


def test_what_is_deleted_here_too_is_never_given_up_at_the_vault(house: House) -> None:
    (study,) = uploaded(house, 1)
    job = house.job(study)
    damage(house, job)
    study.instances.filter(pk=study.instances.first().pk).update(file_deleted_at=now())
    check(house)
    assert "ask the vault's operator for a backup" in house.job(study).error_words
    assert pipeline.retry(study.pk, actor="user:anna") == 0
    assert house.job(study).upload_id == job.upload_id
    assert house.job(study).parts.count() == 6


@pytest.mark.parametrize(
    ("error", "code", "offered"),
    [
        (VaultError("not-found", "no such path", lane_fault=True), "", False),
        (VaultError("busy", "wait", lane_fault=True, retry_after_seconds=5), "busy", True),
    ],
)
def test_a_vault_that_cannot_or_will_not_now_is_no_fault_of_its_lane(
    house: House, error: VaultError, code: str, offered: bool
) -> None:
    (study,) = uploaded(house, 1)

    def refuse(_number: int, call: str) -> None:
        if call.startswith("verify"):
            raise error

    house.vault.before = refuse
    found = check(house)
    assert (found.error_code, found.offered) == (code, offered)
    assert Lane.objects.get().faults == 0
    assert not Alert.objects.filter(healed_at=None).exists()
    assert (house.job(study).state, house.job(study).checked_at) == (JobState.DONE, None)
    if not offered:
        assert check(house) is None, "it is not asked again for a month"
        VaultCheck.objects.update(ended_at=now() - LONG_AGO)
        house.vault.before = lambda _number, _call: None
        assert check(house) is not None


def test_what_was_sent_under_an_earlier_name_is_passed_over_and_holds_nothing_up(house: House) -> None:
    first, second = uploaded(house, 1, 2)
    foreign = house.job(first).upload_id

    def refuse(_number: int, call: str) -> None:
        if call.startswith("verify") and foreign in call:
            raise VaultError("foreign-upload", "under another name", permanent=True)

    house.vault.before = refuse
    found = check(house)
    assert (found.state, found.error_code, Lane.objects.get().faults) == (JobState.DONE, "", 0)
    assert (house.job(first).state, house.job(first).verified_at) == (JobState.DONE, None)
    assert house.job(second).verified_at is not None
    assert check(house) is None, "it is not asked again for a month"


def test_a_vault_that_fails_costs_its_lane_a_fault_and_loses_nothing(house: House) -> None:
    (study,) = uploaded(house, 1)

    def fail(_number: int, call: str) -> None:
        if call.startswith("verify"):
            raise VaultError("server-error", "The vault has an error of its own.", lane_fault=True)

    house.vault.before = fail
    found = check(house)
    assert (found.state, found.error_code, found.attempts) == (JobState.READY, "server-error", 0)
    assert Lane.objects.get().faults == 1
    assert house.job(study).state == JobState.DONE


def test_another_identity_than_the_pinned_one_is_never_believed(house: House) -> None:
    (study,) = uploaded(house, 1)
    house.vault.vault_id = "another"
    found = check(house)
    assert found.error_code == "vault-identity-differs"
    assert Lane.objects.get().held
    assert house.job(study).checked_at is None


def test_runs_are_bounded_and_take_what_waited_longest(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = uploaded(house, 1, 2, 3)
    monkeypatch.setattr(verify, "UPLOADS_AT_ONCE", 2)
    check(house)
    assert [house.job(study).verified_at is not None for study in studies] == [True, True, False]
    check(house)
    assert house.job(studies[2]).verified_at is not None
    monkeypatch.setattr(verify, "RUN_SECONDS", -1.0)
    UploadJob.objects.update(checked_at=now() - LONG_AGO)
    verified = [house.job(study).verified_at for study in studies]
    assert check(house).state == JobState.DONE
    assert [house.job(study).verified_at for study in studies] == verified


def test_pause_window_switch_and_option_hold_it_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded(house, 1)
    vault = Vault.objects.get()
    monkeypatch.setenv("GATEWAY_UPLOAD__VERIFY_DAYS", "0")
    assert check(house) is None
    monkeypatch.delenv("GATEWAY_UPLOAD__VERIFY_DAYS")
    lane_pause(vault.lane, actor="user:anna", now=now())
    assert check(house) is None
    Lane.objects.update(paused=False)
    closed = now().astimezone()
    window = f"{(closed + timedelta(hours=2)):%H:%M}-{(closed + timedelta(hours=3)):%H:%M}"
    Vault.objects.update(windows=window)
    assert check(house) is None
    assert Lane.objects.get().waits_until is not None
    Vault.objects.update(windows="", enabled=False)
    Lane.objects.update(waits_until=None)
    assert check(house).state == JobState.DONE
    assert not [call for call in house.vault.calls if call.startswith("verify")]


def test_a_stop_gives_the_run_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded(house, 1)
    monkeypatch.setattr(verify, "stopping", lambda: True)
    found = check(house)
    assert (found.state, found.attempts) == (JobState.READY, 0)


def test_an_upload_begun_anew_meanwhile_is_left_alone(house: House) -> None:
    (study,) = uploaded(house, 1)
    old = house.job(study)
    UploadJob.objects.update(upload_id="f" * 32)
    verify.upload_lost(old, code="vault-lost", words="", damaged=1)
    verify.upload_whole(old)
    job = house.job(study)
    assert (job.state, job.checked_at) == (JobState.DONE, None)
    assert not Alert.objects.exists()


def test_a_person_may_ask_for_everything_at_once(house: House) -> None:
    house.vault_row()
    study = house.settled(1)
    house.drain()
    vault = Vault.objects.get()
    verify.check_ask(vault, actor="user:anna", now=now())
    assert check(house).asked_at is not None
    assert house.job(study).verified_at is not None
    found = vault_verification(vault, now=now())
    assert (found.signed, found.due, found.lost, found.offered) == (1, 0, 0, True)
    assert found.oldest_at == house.job(study).verified_at


def test_it_is_rung_for_by_the_ticker_and_done_by_workers_that_may_wait() -> None:
    assert REGISTRY.periodics["verify"].function == "uploads.tasks.verify_plan"
    assert REGISTRY.queues["verify"].cluster == "transfer"
