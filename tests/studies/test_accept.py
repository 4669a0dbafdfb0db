"""Accept anyway: a refused object becomes one like any other, marked, or a person is told why it cannot."""

import hashlib

import pytest
from django.contrib.auth.models import User
from django.test import Client

from gateway_project.core.models import Alert, AuditEvent
from studies.errors import QuarantineError
from studies.models import Instance, QuarantinedObject, Study, StudyState
from studies.services import accept as accept_module
from studies.services.accept import quarantine_accept
from studies.services.quarantine import quarantine_discard
from studies.services.receive import ReceiveError
from studies.services.recover import spool_recover
from tests.studies.house import House, Killed, arrival, content

pytestmark = pytest.mark.django_db
GOOD = content(pixels=b"pixels")


def refused(house: House, data: bytes, **fields: str) -> QuarantinedObject:
    with pytest.raises(ReceiveError):
        house.receiver.receive(arrival(**fields), [data])
    return QuarantinedObject.objects.get(sha256=hashlib.sha256(data).hexdigest())


def accept(house: House, row: QuarantinedObject) -> QuarantinedObject:
    return quarantine_accept(row, actor="user:anna", store=house.store)


@pytest.mark.parametrize(
    ("data", "fields", "problem"),
    [
        (GOOD[:-3], {}, "dataset-truncated"),
        (GOOD, {"instance": "1.2.3.999"}, "instance-uid-differs"),
        (GOOD, {"instance": "../../etc/passwd"}, "uid-invalid"),
        (GOOD + b"\0\0", {}, "dataset-truncated"),
    ],
)
def test_accepted_object_is_in_its_study_with_its_bytes_and_its_fault(
    house: House, data: bytes, fields: dict[str, str], problem: str
) -> None:
    row = accept(house, refused(house, data, **fields))
    instance = Instance.objects.get()
    assert (row.state, row.kept, row.decided_by, row.instance) == ("accepted", False, "user:anna", instance)
    assert (instance.sop_instance_uid, instance.sha256) == ("1.2.3.1", hashlib.sha256(data).hexdigest())
    assert set(instance.flags.split(",")) >= {"accepted-anyway", problem}
    assert house.data_set_of(instance) == data
    assert (instance.source_ae_title, instance.receiving_ae_title) == ("CT_1", "GATEWAY")
    study = Study.objects.get()
    assert (study.patient_id, study.state, study.open_since is None) == ("4711", StudyState.RECEIVING, False)
    event = AuditEvent.objects.order_by("-id")[0]
    assert (event.actor, event.subject) == ("user:anna", f"quarantine:{row.pk}")
    assert (event.detail["action"], event.detail["study"]) == ("accepted anyway", study.pk)
    assert (house.files("quarantine"), house.files("incoming")) == (set(), set())
    assert not Alert.objects.filter(healed_at=None).exists()
    house.check()


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (GOOD.replace(b"1.2.5\0", b"\0\0\0\0\0\0"), "identity-missing", "which study"),
        (b"\xff" * 64, "identity-missing", "which study"),
        (GOOD.replace(b"1.2.6\0", b"1.2.x\0"), "uid-invalid", "unreadable"),
    ],
)
def test_object_without_identity_stays_and_the_words_say_why(house: House, data: bytes, code: str, words: str) -> None:
    row = refused(house, data)
    with pytest.raises(QuarantineError, match=words) as caught:
        accept(house, row)
    assert caught.value.code == code
    row.refresh_from_db()
    assert (row.state, row.kept, len(house.files("quarantine"))) == ("open", True, 1)
    assert not Instance.objects.exists()
    assert not house.files("incoming")


def test_harmed_file_is_never_taken_for_what_came(house: House) -> None:
    row = refused(house, GOOD[:-3])
    path = house.store.root / house.store.quarantine_name(row.sha256)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(QuarantineError) as caught:
        accept(house, row)
    assert caught.value.code == "quarantine-harmed"
    assert not Instance.objects.exists()
    assert not house.files("incoming")


def test_what_is_decided_stays_decided(house: House) -> None:
    row = accept(house, refused(house, GOOD[:-3]))
    for decide in (quarantine_accept, quarantine_discard):
        with pytest.raises(QuarantineError) as caught:
            decide(row, actor="user:bert", store=house.store)
        assert caught.value.code == "quarantine-decided"
    refused(house, GOOD[:-3])  # the device does not know of it
    row.refresh_from_db()
    assert (row.state, row.count, row.kept) == ("accepted", 2, False)
    assert house.files("quarantine") == set()
    assert not Alert.objects.filter(healed_at=None).exists()


def test_bytes_that_were_not_kept_cannot_be_accepted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__QUARANTINE_GB", "0")
    with pytest.raises(QuarantineError) as caught:
        accept(house, refused(house, GOOD[:-3]))
    assert caught.value.code == "quarantine-not-kept"


@pytest.mark.parametrize("place", ["accept.copied", "accept.indexed"])
def test_accepting_may_be_killed_anywhere_and_repeated(
    house: House, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    row = refused(house, GOOD[:-3])

    def kill(name: str) -> None:
        if name == place:
            raise Killed

    monkeypatch.setattr(accept_module, "failpoint", kill)
    monkeypatch.setattr(accept_module.Intake, "close", lambda intake: intake._directory.leave(empty=False))
    with pytest.raises(Killed):
        accept(house, row)
    monkeypatch.undo()
    spool_recover(house.store)
    row.refresh_from_db()
    assert row.state == "open"
    assert accept(house, row).state == "accepted"
    assert Instance.objects.count() == 1
    assert (house.files("quarantine"), house.files("incoming")) == (set(), set())
    house.check()


def test_administrator_decides_in_the_admin_and_is_told_each_outcome(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.admin.store_open", lambda: house.store)
    good, bad = refused(house, GOOD[:-3]), refused(house, b"\xff" * 64)
    client = Client()
    client.force_login(User.objects.create_superuser("anna"))
    address = "/admin/studies/quarantinedobject/"
    answer = client.post(address, {"action": "accept", "_selected_action": [good.pk, bad.pk]}, follow=True)
    said = [str(message) for message in answer.context["messages"]]
    assert [text.split(":")[0] for text in said] == [f"Object {good.pk}", f"Object {bad.pk}"]
    assert "flag" in said[0]
    assert "which study" in said[1]
    client.post(address, {"action": "discard", "_selected_action": [bad.pk]})
    states = dict(QuarantinedObject.objects.values_list("pk", "state"))
    assert states == {good.pk: "accepted", bad.pk: "discarded"}
    assert AuditEvent.objects.order_by("-id")[0].actor == "user:anna"
