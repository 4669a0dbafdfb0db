"""Studies that settled before there was a vault for them go to the one that is set up later."""

import pytest
from django.utils.timezone import now

from gateway_project.core.models import Alert, JobState
from gateway_project.core.queues import REGISTRY
from gateway_project.core.services.jobs import job_subject
from studies.models import Study, StudyState
from tests.uploads.faults import at_name, raising
from tests.uploads.upload_house import House
from uploads.models import UploadJob, Vault
from uploads.ports import VaultError
from uploads.services.catch_up import states_catch_up, uploads_catch_up
from uploads.services.vaults import vault_switch
from uploads.tasks import catch_up

pytestmark = pytest.mark.django_db


def test_what_settled_without_a_vault_goes_to_the_one_that_is_set_up_later(house: House) -> None:
    studies = [house.settled(number) for number in (1, 2)]
    catch_up(now())
    assert not UploadJob.objects.exists()
    house.vault_row()
    catch_up(now())
    studies[0].refresh_from_db()
    assert (studies[0].state, studies[0].reason) == ("settled", "Waiting for its upload.")
    assert house.drain() == 2
    for study in studies:
        house.uploaded(study)
    assert uploads_catch_up(now=now()) == 0
    assert UploadJob.objects.count() == 2


def test_each_revision_is_planned_and_they_go_in_order(house: House) -> None:
    house.settled(1, [1])
    study = house.settled(1, [2])
    house.vault_row()
    assert uploads_catch_up(now=now()) == 2
    house.drain()
    house.uploaded(study, revision=2)
    assert [job.files_total for job in UploadJob.objects.order_by("revision__number")] == [1, 1]


def test_what_a_later_revision_has_brought_along_does_not_go_again(house: House) -> None:
    house.settled(1, [1])
    house.vault_row()
    study = house.settled(1, [2])
    house.drain()
    assert uploads_catch_up(now=now()) == 0
    house.uploaded(study, revision=2)
    assert house.job(study, 2).files_total == 2


def test_what_any_vault_has_or_waits_for_is_left_alone(house: House) -> None:
    first = house.vault_row("first")
    house.settled(1)
    house.drain()
    house.settled(2)
    vault_switch(first, enabled=False, actor="user:test")
    house.vault_row("second")
    assert uploads_catch_up(now=now()) == 0
    assert UploadJob.objects.count() == 2


def test_what_waits_for_a_switched_off_vault_alone_waits_for_it(house: House) -> None:
    vault = house.vault_row(enabled=False)
    study = house.settled()
    assert uploads_catch_up(now=now()) == 0
    Vault.objects.filter(pk=vault.pk).update(enabled=True)
    assert uploads_catch_up(now=now()) == 1
    house.drain()
    house.uploaded(study)


def test_a_study_whose_files_are_gone_is_not_planned(house: House) -> None:
    house.settled()
    Study.objects.update(state=StudyState.DELETED)
    house.vault_row()
    assert uploads_catch_up(now=now()) == 0


def test_the_demonstration_ends_with_what_it_did_not_get_and_the_real_vault_gets_it(house: House) -> None:
    demonstration = house.vault_row("demonstration", demonstration=True)
    house.vault.demonstration = True
    had = house.settled(1)
    house.drain()
    fault = VaultError("too-large", "The vault refuses a file of this size.", permanent=True)
    house.vault.before = at_name("put file-00001.gve", raising(fault))
    given_up = house.settled(2)
    house.drain()
    assert study_state(given_up) == "failed_permanent"
    waiting = house.settled(3)
    vault_switch(demonstration, enabled=False, actor="user:test")
    assert uploads_catch_up(now=now()) == 0, "without a real vault it may come back"
    house.vault.demonstration = False
    house.vault_row()
    parked = UploadJob.objects.get(state=JobState.PARKED)
    assert Alert.objects.filter(key=job_subject(parked), healed_at=None).exists()
    assert uploads_catch_up(now=now()) == 2
    house.drain()
    cancelled = UploadJob.objects.filter(state=JobState.CANCELLED, vault=demonstration)
    assert cancelled.count() == 2
    assert not Alert.objects.filter(key=job_subject(parked), healed_at=None).exists()
    assert {study_state(study) for study in (had, waiting, given_up)} == {"uploaded"}

    assert UploadJob.objects.filter(vault__name="main").count() == 2


@pytest.mark.parametrize("parked", [True, False])
def test_a_vault_that_becomes_required_counts_for_what_it_has_not_got(house: House, parked: bool) -> None:
    house.vault_row("first")
    second = house.vault_row("second", required=False)
    studies = [house.settled(number) for number in (1, 2)]
    for _ in range(3):
        house.one_later()
    if parked:
        UploadJob.objects.filter(state=JobState.READY).update(
            state=JobState.PARKED, error_code="too-large", error_words="Too large."
        )
        states_catch_up()
    assert study_state(studies[1]) == "uploaded"
    assert states_catch_up() == 0
    Vault.objects.filter(pk=second.pk).update(required=True)
    catch_up(now())
    assert study_state(studies[0]) == "uploaded"
    assert (study_state(studies[1]), studies[1].reason) == (
        ("failed_permanent", "Too large.") if parked else ("settled", "Waiting for its upload.")
    )
    Vault.objects.filter(pk=second.pk).update(required=False)
    assert states_catch_up() == 1
    assert study_state(studies[1]) == "uploaded"
    assert states_catch_up() == 0


def study_state(study: Study) -> str:
    study.refresh_from_db()
    return study.state


def test_the_ticker_rings_for_it() -> None:
    assert REGISTRY.periodics["catch-up"].function == "uploads.tasks.catch_up"
