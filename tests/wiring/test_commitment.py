"""Storage commitment up to the vault's receipt, and over a day in which the device does not answer."""

import contextlib
import itertools
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils.timezone import now
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from gateway_project.core.models import Alert, JobState
from gateway_project.core.services.alerts import alert_open
from gateway_project.core.services.jobs import job_claim, job_subject
from gateway_project.core.tasks import run_one
from gateway_project.wiring import pipeline
from network.dimse.commitment import Reference, report_read
from network.dimse.normalized.ports import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, NormalizedRequest
from network.dimse.ports import Peer
from network.dimse.query.ports import EXPLICIT_LITTLE
from network.dimse.rights import Rights
from network.models import CommitmentRequest, RemoteAE
from network.queue import COMMITMENT_QUEUE
from network.services.commitment import commitment_accept, commitment_event, commitment_judge
from network.services.retention import commitments_trim
from studies.models import Instance, Study
from tests.gateway_harness import free_ports
from tests.studies.datasets import CT
from tests.uploads.upload_house import House

pytestmark = pytest.mark.django_db
PEER = Peer("assoc-7", "MODALITY", "GATEWAY", "10.0.0.7", 50000, tls=False, rights=Rights(commit=True))
MR = "1.2.840.10008.5.1.4.1.1.4"
REQUEST = NormalizedRequest(PEER, "action", STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, EXPLICIT_LITTLE, 1)


def asked(study: Study, level: str, *, transaction_uid: str = "1.2.9", **peer: Any) -> CommitmentRequest:
    values = {"may_commit": True, "commit_level": level, "commit_minutes": 60, **peer}
    RemoteAE.objects.update_or_create(ae_title="MODALITY", defaults=values)
    references = [Reference(CT, one.sop_instance_uid) for one in study.instances.order_by("pk")]
    return commitment_accept(REQUEST, transaction_uid=transaction_uid, references=references, now=now())


def report(row: CommitmentRequest) -> tuple[int, list[int]]:
    """How many are committed, and the reasons of those that are not, read from the event's own bytes."""
    event = commitment_event(row, explicit=True)
    told = report_read(event.data, explicit=True)
    assert told.transaction_uid == row.transaction_uid
    assert event.type_id == (2 if told.failed else 1)
    return len(told.committed), [reason for _reference, reason in told.failed]


def damage(house: House, instance: Instance) -> bytes:
    """Bit rot; what was there before."""
    path = house.file_of(instance)
    content = path.read_bytes()
    path.write_bytes(content[:-10] + b"\xff" * 10)
    return content


def test_vault_level_waits_for_the_receipt_of_a_real_upload(house: House) -> None:
    house.vault_row()
    study = house.receive(1, [1, 2])
    row = asked(study, "vault")
    assert not commitment_judge(row, now=now()), "it is here, and not in the vault"
    pipeline.settle_now(study.pk, actor="user:test")
    assert not commitment_judge(row, now=now())
    house.drain()
    house.uploaded(study)
    assert commitment_judge(row, now=now())
    assert report(row) == (2, [])


def test_vault_level_reports_failures_when_its_deadline_has_passed(house: House) -> None:
    house.vault_row()
    row = asked(house.receive(1, [1, 2]), "vault")
    assert not commitment_judge(row, now=now() + timedelta(minutes=59))
    assert commitment_judge(row, now=now() + timedelta(minutes=61))
    assert report(row) == (0, [0x0110, 0x0110])
    row.refresh_from_db()
    pipeline.settle_now(Study.objects.get().pk, actor="user:test")
    house.drain()
    assert commitment_judge(row, now=now()), "what was decided stays: the report must say the same each time"
    assert report(row) == (0, [0x0110, 0x0110])


def test_receipt_is_enough_once_the_file_is_deleted_here(house: House) -> None:
    house.vault_row()
    study = house.settled(1, [1, 2])
    house.drain()
    study.instances.filter(pk=study.instances.first().pk).update(file_deleted_at=now())
    row = asked(study, "vault")
    assert commitment_judge(row, now=now())
    assert report(row) == (2, [])


@pytest.mark.parametrize("level", ["local", "vault"])
def test_damaged_file_is_not_committed_and_told_until_it_is_whole_again(house: House, level: str) -> None:
    house.vault_row()
    study = house.settled(1, [1, 2])
    house.drain()
    instance = study.instances.first()
    content = damage(house, instance)
    row = asked(study, level)
    assert commitment_judge(row, now=now())
    assert report(row) == (1, [0x0110])
    alert = Alert.objects.get(code="object-damaged")
    assert (alert.severity, alert.link) == ("critical", f"/studies/{study.pk}/")
    assert instance.sop_instance_uid not in alert.words
    house.file_of(instance).write_bytes(content)
    again = asked(study, level, transaction_uid="1.2.10")
    assert commitment_judge(again, now=now())
    assert report(again) == (2, [])
    alert.refresh_from_db()
    assert alert.healed_at is not None


def test_missing_file_is_told_too(house: House) -> None:
    study = house.receive(1, [1])
    house.file_of(study.instances.get()).unlink()
    row = asked(study, "local")
    assert commitment_judge(row, now=now())
    assert report(row) == (0, [0x0110])
    assert Alert.objects.filter(code="object-damaged").count() == 1


@pytest.mark.parametrize("classes", [[CT, MR], [MR, CT]])
def test_one_instance_under_two_classes_is_committed_under_neither(house: House, classes: list[str]) -> None:
    """It is of one of them; a report has one fate for an instance, and to promise less loses nothing."""
    study = house.receive(1, [1])
    row = asked(study, "local")
    row.references = [[sop_class, study.instances.get().sop_instance_uid] for sop_class in classes]
    assert commitment_judge(row, now=now())
    assert report(row) == (0, [0x0119, 0x0119])


@pytest.mark.parametrize(
    ("limits", "reasons"),
    [
        ({"visible_sources": "SOMEBODY"}, [0x0112, 0x0112]),
        ({"visible_conditions": "PatientID = nobody"}, [0x0112, 0x0112]),
        ({"visible_conditions": "StudyDescription != *secret*"}, []),
        ({"visible_conditions": "no condition at all"}, [0x0112, 0x0112]),
    ],
)
def test_what_a_peer_may_not_see_is_not_here_for_it(house: House, limits: dict[str, str], reasons: list[int]) -> None:
    """Else it would learn by its UID that an object exists."""
    row = asked(house.receive(1, [1, 2]), "local", **limits)
    assert commitment_judge(row, now=now())
    assert report(row) == (2 - len(reasons), reasons)


def test_a_peer_is_told_of_what_it_sent_itself_whatever_it_may_see(house: House) -> None:
    study = house.receive(1, [1, 2])
    Instance.objects.filter(pk=study.instances.first().pk).update(source_ae_title="MODALITY")
    row = asked(study, "local", visible_sources="SOMEBODY")
    assert commitment_judge(row, now=now())
    assert report(row) == (1, [0x0112])


def test_requests_that_ended_long_ago_are_forgotten_and_open_ones_never(house: House) -> None:
    study = house.receive(1, [1])
    rows = [asked(study, "local", transaction_uid=f"1.2.{number}") for number in (1, 2, 3)]
    for row, state in zip(rows, (JobState.DONE, JobState.PARKED, JobState.READY), strict=True):
        CommitmentRequest.objects.filter(pk=row.pk).update(state=state, ended_at=now())
    alert_open(job_subject(rows[1]), code="connection-refused", words="It does not answer.")
    assert commitments_trim(now=now() + timedelta(days=89)) == 0
    assert commitments_trim(now=now() + timedelta(days=91)) == 2
    assert [row.pk for row in CommitmentRequest.objects.all()] == [rows[2].pk]
    assert Alert.objects.get().healed_at is not None
    assert asked(study, "local", transaction_uid="1.2.1").state == JobState.READY, "the same UID is a new request"


# -- D11: a day without the device


@contextlib.contextmanager
def device(port: int) -> Iterator[list[Dataset]]:
    heard: list[Dataset] = []
    taken = threading.Lock()

    def take(event: evt.Event) -> tuple[int, None]:
        with taken:
            heard.append(event.event_information)
        return 0x0000, None

    entity = AE("MODALITY")
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    try:
        yield heard
    finally:
        server.shutdown()


def test_d11_report_waits_for_a_device_that_is_away_for_a_day(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    row = asked(house.receive(1, [1, 2]), "local", host="127.0.0.1", port=port)
    begun = moment = row.run_after
    tries: list[datetime] = []
    monkeypatch.setattr("network.tasks.database_now", lambda: moment)
    monkeypatch.setattr("gateway_project.core.tasks.database_now", lambda: moment)

    def next_try() -> CommitmentRequest:
        job = job_claim(COMMITMENT_QUEUE, now=moment)
        assert job is not None
        run_one(COMMITMENT_QUEUE, job)
        return CommitmentRequest.objects.get()

    while moment - begun < timedelta(days=1):
        tries.append(moment)
        row = next_try()
        assert (row.state, row.error_code) == (JobState.READY, "connection-refused")
        moment = row.run_after
    assert len(tries) < 20, "ever less often"
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert waits == sorted(waits)
    assert row.remote.last_error
    with device(port) as heard:
        row = next_try()
    assert (row.state, row.error_code) == (JobState.DONE, "")
    assert not row.remote.last_error
    assert [(one.TransactionUID, len(one.ReferencedSOPSequence)) for one in heard] == [("1.2.9", 2)]
