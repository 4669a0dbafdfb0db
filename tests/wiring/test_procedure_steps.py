"""A procedure step that has ended settles its study when all its objects are here; what does not come is told."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from gateway_project.core.models import Alert
from gateway_project.core.queues import REGISTRY
from gateway_project.wiring import pipeline, procedure_steps
from gateway_project.wiring.procedure_steps import steps_watch
from network.models import ProcedureStep, RemoteAE
from network.queue import STEPS
from network.services.retention import steps_trim
from studies.models import Study, StudyRevision
from tests.network.step_sets import STUDY_UID, ask, item, step_begun, step_ended
from tests.uploads.upload_house import House
from uploads.models import UploadJob

pytestmark = pytest.mark.django_db
OTHER = "1.2.826.0.1.3680043.10.88.2"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("network.services.normalized.close_old_connections", lambda: None)  # the test's own transaction
    RemoteAE.objects.create(ae_title="CT_NORD_1")


def uids(*numbers: int) -> list[str]:
    return [f"{STUDY_UID}.1.{number}" for number in numbers]


def step_done(*numbers: int, status: str = "COMPLETED") -> ProcedureStep:
    assert ask("create", step_begun()).status == 0
    assert ask("set", step_ended(*uids(*numbers), status=status)).status == 0
    return ProcedureStep.objects.get()


def looked(after: timedelta = timedelta()) -> ProcedureStep:
    steps_watch(now() + after)
    return ProcedureStep.objects.get()


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_study_is_settled_at_once_when_everything_is_here(house: House, status: str) -> None:
    house.vault_row()
    house.receive(1, [1, 2])
    step_done(1, 2, status=status)
    step = looked()
    revision = StudyRevision.objects.get()
    assert (revision.reason, revision.instance_count, revision.actor) == ("step-complete", 2, "process:procedure-steps")
    assert UploadJob.objects.count() == 1, "and dispatched"
    assert (step.here_count, step.done_at is not None) == (2, True)
    assert not Alert.objects.exists()


def test_last_object_may_come_after_the_step_has_ended(house: House) -> None:
    house.receive(1, [1])
    step_done(1, 2)
    step = looked()
    assert (step.here_count, step.done_at, step.overdue_at) == (1, None, None)
    assert not StudyRevision.objects.exists()
    house.receive(1, [2])
    assert looked().done_at is None, "it is looked again when its time has come"
    assert looked(timedelta(minutes=1)).done_at is not None
    assert StudyRevision.objects.get().instance_count == 2


def test_step_in_progress_settles_nothing_and_holds_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.receive(1, [1])
    ask("create", step_begun())
    ask("set", item(PerformedSeriesSequence=step_ended(*uids(1)).PerformedSeriesSequence))
    looked()
    assert not StudyRevision.objects.exists()
    monkeypatch.setenv("GATEWAY_SETTLING__INACTIVITY_SECONDS", "0")
    pipeline.settle_due(now())
    assert StudyRevision.objects.get().reason == "quiet"


def test_option_holds_a_quiet_study_until_the_step_ends_or_it_is_open_for_too_long(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_SETTLING__WAIT_FOR_PROCEDURE_STEPS", "true")
    monkeypatch.setenv("GATEWAY_SETTLING__INACTIVITY_SECONDS", "0")
    house.receive(1, [1])
    house.receive(2, [1])
    ask("create", step_begun())
    pipeline.settle_due(now())
    assert StudyRevision.objects.get().study.study_instance_uid != STUDY_UID, "the other study is held by nothing"
    pipeline.settle_due(now() + timedelta(days=2))
    assert StudyRevision.objects.get(study__study_instance_uid=STUDY_UID).reason == "open-too-long"
    house.receive(1, [2])
    ask("set", step_ended(*uids(1, 2)))
    pipeline.settle_due(now())
    assert StudyRevision.objects.latest("pk").reason == "quiet"


def test_another_step_of_the_study_in_progress_leaves_it_to_the_usual_times(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.receive(1, [1])
    ask("create", step_begun(), uid=OTHER)
    ask("create", step_begun())
    ask("set", step_ended(*uids(1)))
    steps_watch(now())
    assert not StudyRevision.objects.exists()
    ask("set", step_ended(), uid=OTHER)
    steps_watch(now() + timedelta(minutes=2))
    assert StudyRevision.objects.get().reason == "step-complete"
    assert not ProcedureStep.objects.filter(done_at=None).exists()


def test_step_without_objects_is_done_and_settles_nothing(house: House) -> None:
    house.receive(1, [1])
    step_done()
    assert looked().done_at is not None
    assert not StudyRevision.objects.exists()


def test_missing_objects_are_told_after_the_settling_time_and_heal_when_they_come(house: House) -> None:
    house.receive(1, [1])
    step_done(1, 2, 3)
    looked(timedelta(minutes=9))
    assert not Alert.objects.exists()
    looked(timedelta(minutes=12))
    alert = Alert.objects.get()
    assert alert.words.startswith("2 objects that CT_NORD_1 made have not come (1 of its procedure steps names them).")
    assert (alert.code, alert.link) == ("objects-missing", f"/studies/{Study.objects.get().pk}/")
    assert "MARK" not in alert.words.upper()
    house.receive(1, [2, 3])
    step = looked(timedelta(minutes=30))
    assert (step.here_count, step.done_at is not None, step.overdue_at) == (3, True, None)
    alert.refresh_from_db()
    assert alert.healed_at is not None


def test_objects_that_never_come_are_not_waited_for_for_ever(house: House) -> None:
    step_done(1, 2)
    looked(timedelta(minutes=12))
    assert Alert.objects.get().link == "", "there is no study yet"
    step = looked(timedelta(days=8))
    assert (step.done_at is not None, step.here_count) == (True, 0)
    assert Alert.objects.get().healed_at is not None


def test_old_steps_are_looked_at_less_often(house: House) -> None:
    step = step_done(1)
    ends = [looked(after).look_after - step.closed_at - after for after in (timedelta(minutes=1), timedelta(days=3))]
    assert ends[0] < timedelta(minutes=1)
    assert timedelta(minutes=59) < ends[1] < timedelta(minutes=61)


def test_one_step_that_fails_keeps_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.receive(1, [1])
    ask("create", step_begun(), uid=OTHER)
    ask("set", step_ended(*uids(1)), uid=OTHER)
    step_done_uid = step_begun()
    ask("create", step_done_uid)
    ask("set", step_ended(*uids(1)))
    watch = procedure_steps.step_watch
    bad = ProcedureStep.objects.order_by("pk").first()

    def fails_once(step: ProcedureStep, moment: object) -> None:
        if step.pk == bad.pk:
            raise ValueError
        watch(step, moment)  # type: ignore[arg-type]

    monkeypatch.setattr(procedure_steps, "step_watch", fails_once)
    steps_watch(now())
    assert [step.done_at is None for step in ProcedureStep.objects.order_by("pk")] == [True, False]


def test_it_is_rung_for() -> None:
    assert REGISTRY.periodics[STEPS].function == "gateway_project.wiring.tasks.procedure_steps"


def test_what_is_long_over_keeps_its_row_and_forgets_its_lists(house: House) -> None:
    house.receive(1, [1])
    step = step_done(1)
    looked()
    assert steps_trim(now=now() + timedelta(days=89)) == 0
    ask("create", step_begun(), uid=OTHER)
    assert steps_trim(now=now() + timedelta(days=91)) == 1
    step.refresh_from_db()
    assert (step.performed_series, step.messages.count(), step.instance_count, step.here_count) == ([], 0, 1, 1)
    assert ProcedureStep.objects.get(sop_instance_uid=OTHER).messages.count() == 1, "one in progress is not over"
    assert ask("set", step_ended(*uids(1))).error_id == 0xA506
    assert REGISTRY.periodics["exchanges"].function == "gateway_project.wiring.tasks.exchanges_trim"
