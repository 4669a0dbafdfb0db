"""S08 on receiving: an object that kills whoever recovers it is quarantined after three deaths; the others go in."""

import os
import signal
from collections.abc import Sequence

import pytest
from django.db import OperationalError, connections

from gateway_project.core.models import Alert
from studies.dicom.spool import Store
from studies.models import Instance, QuarantinedObject
from studies.services import recover as recover_module
from studies.services.accept import quarantine_accept
from studies.services.index import Indexed, index_objects
from studies.services.receive import Indexable
from studies.services.recover import Recovered, spool_recover
from tests.studies.house import House

POISON = "1.2.3.3"
pytestmark = pytest.mark.django_db(transaction=True)


def deadly_index(store: Store, items: Sequence[Indexable]) -> Indexed:
    """What the kernel does to a process that takes all memory over this object."""
    if any(item.header.identity().sop_instance_uid == POISON for item in items):
        os.kill(os.getpid(), signal.SIGKILL)
    return index_objects(store, items)


def recovery_survives(store: Store) -> bool:
    """Whether a real process that recovers as a receiver does at its start lives to the end of it."""
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(recover_module, "index_objects", deadly_index)
                spool_recover(store)
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status == 0


def indexed() -> set[str]:
    return set(Instance.objects.values_list("sop_instance_uid", flat=True))


def test_s08_object_that_kills_every_recovery_is_quarantined_and_the_others_go_in(house: House) -> None:
    """The first death is the whole batch's; then each object is tried by itself, and the receiver starts again."""
    everything = {f"1.2.3.{number}" for number in range(6)}
    hashes = {instance: house.receive(instance).spooled.sha256 for instance in sorted(everything)}
    house.dies()
    assert [recovery_survives(house.store) for _ in range(3)] == [False, False, False]
    assert POISON not in indexed()
    assert recovery_survives(house.store)
    assert indexed() == everything - {POISON}
    row = QuarantinedObject.objects.get()
    assert (row.code, row.kept, row.sha256) == ("recovery-killed", True, hashes[POISON])
    assert Alert.objects.filter(healed_at=None).exists()
    assert spool_recover(house.store) == Recovered()
    assert house.files("incoming") == set()
    house.lives_again()
    house.receive("1.2.4.1")
    house.index()
    quarantine_accept(row, actor="user:anna", store=house.store)  # a person decides: nothing is lost
    assert indexed() == everything | {"1.2.4.1"}
    house.check()


def test_s08_a_recovery_killed_for_another_reason_loses_and_quarantines_nothing(house: House) -> None:
    for number in range(3, 6):
        house.receive(f"1.2.3.{number}")
    house.dies()
    assert not recovery_survives(house.store)
    assert not recovery_survives(house.store)
    found = spool_recover(house.store)
    assert (found.owners, found.quarantined, found.left) == (1, 0, 0)
    assert indexed() == {"1.2.3.3", "1.2.3.4", "1.2.3.5"}
    assert not QuarantinedObject.objects.exists()
    house.check()


def test_s08_errors_are_no_deaths(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away for long is nobody's fault, however often it is tried."""

    def away(_store: Store, _items: Sequence[Indexable]) -> Indexed:
        raise OperationalError("away")

    house.receive(POISON)
    house.dies()
    with monkeypatch.context() as patched:
        patched.setattr(recover_module, "index_objects", away)
        for _ in range(5):
            with pytest.raises(OperationalError):
                spool_recover(house.store)
    assert spool_recover(house.store) == Recovered(owners=1, adopted=1)
    house.check()
