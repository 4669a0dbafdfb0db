"""Settling: every instance in exactly one revision, none missed, whatever arrives meanwhile."""

import datetime as dt
import threading
from typing import Any

import pytest
from django.db.models import F

from gateway_project.core.models import AuditEvent
from studies import selectors
from studies.models import Instance, RevisionState, Study, StudyRevision, StudyState
from studies.services import index as index_module
from studies.services import settle as settle_module
from studies.services.settle import revision_dispatched, studies_settle_due, study_settle, study_state_set
from tests.core.job_rows import together
from tests.studies.house import House, Killed

pytestmark = pytest.mark.django_db

QUIET, MOST = 600, 3600


@pytest.fixture(autouse=True)
def _options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SETTLING__INACTIVITY_SECONDS", str(QUIET))
    monkeypatch.setenv("GATEWAY_SETTLING__MAX_OPEN_SECONDS", str(MOST))


def arrived(house: House, *uids: str, study: str = "1.2.5", **more: Any) -> Study:
    for instance in uids:
        house.receive(instance, study=study, **more)
    house.index()
    return Study.objects.get(study_instance_uid=study)


def after(study: Study, seconds: float) -> dt.datetime:
    study.refresh_from_db()
    return study.received_at + dt.timedelta(seconds=seconds)


def test_quiet_study_is_settled_and_frozen(house: House) -> None:
    study = arrived(house, "1.2.3.1", "1.2.3.2")
    assert selectors.settles_at(study) == after(study, QUIET)
    assert studies_settle_due(now=after(study, QUIET - 0.001)) == []
    now = after(study, QUIET)
    (revision,) = studies_settle_due(now=now)
    assert (revision.number, revision.reason, revision.actor) == (1, "quiet", "process:settling")
    assert (revision.instance_count, revision.size_bytes) == (2, study.size_bytes)
    assert (revision.settled_at, revision.received_at, revision.state) == (
        now,
        study.received_at,
        RevisionState.SETTLED,
    )
    study.refresh_from_db()
    assert (study.state, study.state_since, study.open_since) == (StudyState.SETTLED, now, None)
    assert selectors.settles_at(study) is None
    assert list(selectors.revisions_undispatched()) == [revision]
    assert studies_settle_due(now=after(study, 10 * MOST)) == []
    assert list(selectors.revision_instances(revision)) == list(Instance.objects.order_by("pk"))


def test_study_that_never_gets_quiet_is_settled_after_its_longest_time(house: House) -> None:
    study = arrived(house, "1.2.3.1")
    Study.objects.update(open_since=after(study, -MOST + 10))
    assert selectors.settles_at(Study.objects.get()) == after(study, 10)
    assert studies_settle_due(now=after(study, 9)) == []
    (revision,) = studies_settle_due(now=after(study, 10))
    assert revision.reason == "open-too-long"


def test_person_need_not_wait(house: House) -> None:
    study = arrived(house, "1.2.3.1")
    revision = study_settle(study.pk, now=after(study, 1), reason="asked", actor="user:anna")
    assert revision is not None
    event = AuditEvent.objects.get(event="Study State")
    assert (event.actor, event.subject, event.detail["reason"]) == ("user:anna", f"study:{study.pk}", "asked")
    assert study_settle(study.pk, now=after(study, 2), reason="asked") is None
    assert StudyRevision.objects.count() == 1


def test_late_instance_opens_the_next_revision_with_only_what_is_new(house: House) -> None:
    study = arrived(house, "1.2.3.1", "1.2.3.2")
    studies_settle_due(now=after(study, QUIET))
    arrived(house, "1.2.3.2", "1.2.3.3")
    study.refresh_from_db()
    assert study.state == StudyState.RECEIVING
    (revision,) = studies_settle_due(now=after(study, QUIET))
    assert (revision.number, revision.instance_count) == (2, 1)
    assert [i.sop_instance_uid for i in revision.instances.all()] == ["1.2.3.3"]
    through = selectors.study_instances_through(revision)
    assert [i.sop_instance_uid for i in through] == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]


def test_changed_instance_travels_in_the_next_revision_and_the_older_one_stays_listed(house: House) -> None:
    study = arrived(house, "1.2.3.1", "1.2.3.2")
    studies_settle_due(now=after(study, QUIET))
    arrived(house, "1.2.3.1", pixels=b"corrected")
    (revision,) = studies_settle_due(now=after(study, QUIET))
    assert [(i.sop_instance_uid, i.version) for i in revision.instances.all()] == [("1.2.3.1", 2)]
    listed = [(i.sop_instance_uid, i.version, i.current) for i in selectors.study_instances_through(revision)]
    assert listed == [("1.2.3.1", 1, False), ("1.2.3.2", 1, True), ("1.2.3.1", 2, True)]


def test_arrival_between_the_look_and_the_lock_keeps_the_study_open(house: House) -> None:
    study = arrived(house, "1.2.3.1")
    seen, now = study.received_at, after(study, QUIET)
    arrived(house, "1.2.3.2")
    assert study_settle(study.pk, now=now, reason="quiet", seen_at=seen) is None
    assert study_settle(study.pk, now=now, reason="open-too-long", seen_at=seen) is not None


def test_study_that_is_open_with_nothing_new_is_not_looked_at_for_ever(house: House) -> None:
    study = arrived(house, "1.2.3.1")
    studies_settle_due(now=after(study, QUIET))
    Study.objects.update(open_since=F("received_at"))
    assert studies_settle_due(now=after(study, QUIET)) == []
    assert not selectors.studies_due(now=after(study, 10 * MOST))


def test_one_study_s_fault_does_not_keep_the_others(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = arrived(house, "1.2.3.1", study="1.2.5.1")
    good = arrived(house, "1.2.3.2", study="1.2.5.2")
    real = settle_module.audit_record

    def fail(*args: Any, **more: Any) -> Any:
        if more["subject"] == f"study:{bad.pk}":
            raise ValueError
        return real(*args, **more)

    monkeypatch.setattr(settle_module, "audit_record", fail)
    assert [revision.study_id for revision in studies_settle_due(now=after(good, QUIET))] == [good.pk]
    assert Instance.objects.get(study=bad).revision is None
    monkeypatch.undo()
    monkeypatch.setenv("GATEWAY_SETTLING__INACTIVITY_SECONDS", str(QUIET))
    assert [revision.study_id for revision in studies_settle_due(now=after(good, QUIET))] == [bad.pk]


def test_crash_before_the_commit_settles_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    study = arrived(house, "1.2.3.1")

    def kill(name: str) -> None:
        if name == "settle.stamped":
            raise Killed

    monkeypatch.setattr(settle_module, "failpoint", kill)
    with pytest.raises(Killed):
        study_settle(study.pk, now=after(study, 1), reason="asked")
    assert not StudyRevision.objects.exists()
    assert Instance.objects.get().revision is None
    study.refresh_from_db()
    assert study.open_since is not None


def test_revision_is_dispatched_once(house: House) -> None:
    study = arrived(house, "1.2.3.1")
    (revision,) = studies_settle_due(now=after(study, QUIET))
    assert revision_dispatched(revision, now=after(study, QUIET)) is True
    assert revision_dispatched(revision, now=after(study, QUIET)) is False
    assert list(selectors.revisions_undispatched()) == []


def test_state_tells_since_when_and_changes_only_when_it_does(house: House) -> None:
    study = arrived(house, "1.2.3.1")
    one, two = after(study, 1), after(study, 2)
    assert study_state_set(study.pk, state=StudyState.UPLOADING, reason="a" * 500, now=one) is True
    assert study_state_set(study.pk, state=StudyState.UPLOADING, reason="b", now=two) is False
    study.refresh_from_db()
    assert (study.state, study.reason, study.state_since) == (StudyState.UPLOADING, "b", one)


@pytest.mark.django_db(transaction=True)
def test_instance_that_is_not_committed_yet_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The indexing is kept inside its transaction until settling has had its chance to overlook it."""
    study = arrived(house, "1.2.3.1")
    inside, settled = threading.Event(), threading.Event()
    house.receive("1.2.3.2")
    real = index_module.audit_record

    def wait(*args: Any, **more: Any) -> Any:
        inside.set()
        settled.wait(0.3)
        return real(*args, **more)

    def settle() -> None:
        inside.wait(10)
        study_settle(study.pk, now=dt.datetime.now(dt.UTC), reason="asked")
        settled.set()

    monkeypatch.setattr(index_module, "audit_record", wait)
    together(lambda: (house.index(), None)[1], settle)
    assert StudyRevision.objects.get().instance_count == 2
    assert not Instance.objects.filter(revision=None).exists()


@pytest.mark.django_db(transaction=True)
def test_every_instance_is_in_exactly_one_revision_however_settling_and_indexing_race(house: House) -> None:
    """Two receivers index, and a sweep settles at the very moment when each of their batches begins."""
    batches = [[house.receive(f"1.2.3.{r}.{n}") for n in range(16)] for r in range(2)]
    house.index([batches[0].pop(), batches[1].pop()])
    study, begun = Study.objects.get(), threading.Semaphore(0)

    def index(items: list[Any]) -> None:
        for start in range(0, len(items), 3):
            begun.release()
            house.index(items[start : start + 3])

    def settle() -> None:
        for _ in range(10):
            begun.acquire(timeout=10)
            study_settle(study.pk, now=dt.datetime.now(dt.UTC), reason="asked")

    together(lambda: index(batches[0]), lambda: index(batches[1]), settle)
    study_settle(study.pk, now=dt.datetime.now(dt.UTC), reason="asked")
    assert Instance.objects.count() == 32
    assert not Instance.objects.filter(revision=None).exists()
    revisions = list(StudyRevision.objects.order_by("number"))
    assert [revision.number for revision in revisions] == list(range(1, len(revisions) + 1))
    for revision in revisions:
        frozen = list(revision.instances.all())
        assert (revision.instance_count, revision.size_bytes) == (len(frozen), sum(i.size_bytes for i in frozen))
        assert frozen
    study.refresh_from_db()
    assert study.open_since is None
    house.check()
