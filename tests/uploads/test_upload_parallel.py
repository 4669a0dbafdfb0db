"""Several files of a study at once: the same promises, with threads. What a vault's hook does here touches no row."""

import threading

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from gateway_project.core.models import JobState
from gateway_project.core.tasks import run_one
from tests.uploads.faults import at_call, at_name, killed_at, raising
from tests.uploads.memory_vault import lane_error
from tests.uploads.upload_house import House
from uploads.models import UploadPart
from uploads.queue import QUEUE
from uploads.services import conveyor, ledger

pytestmark = pytest.mark.django_db
FILES = 12
WAIT_SECONDS = 20.0


@pytest.fixture(autouse=True)
def _parallel(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_UPLOAD__PARALLEL_FILES", "3")
    house.vault_row()


def files_and_documents(puts: list[str]) -> list[str]:
    return [name for name in puts if not name.startswith("key-")]


def test_key_documents_come_first_and_the_map_last(house: House) -> None:
    study = house.settled(instances=range(1, FILES + 1))
    ended: list[str] = []
    house.vault.after = lambda _number, call: ended.append(call)
    begun: dict[str, list[str]] = {}
    house.vault.before = lambda _number, call: begun.setdefault(call, list(ended))
    house.drain()
    house.uploaded(study)
    key, *_rest = [call for call in ended if call.startswith("put ")]
    assert key.startswith("put key-")
    assert all(key in before for call, before in begun.items() if call.startswith("put ") and call != key)
    others = {call for call in ended if call.startswith("put ") and call != "put map.jwe"}
    assert others <= set(begun["put map.jwe"])
    assert sorted(house.vault.puts()) == sorted(set(house.vault.puts())), "each once"


def test_files_travel_at_once(house: House) -> None:
    """Three are at the vault together: none of them is answered before the third has come."""
    house.settled(instances=range(1, FILES + 1))
    together = threading.Barrier(3)

    def meet(_number: int, call: str) -> None:
        if call.startswith("put file-0000"):
            together.wait(WAIT_SECONDS)

    house.vault.before = meet
    house.drain()
    assert not together.broken


def test_sealing_goes_on_while_files_are_being_sent(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vault answers nothing before the last file is sealed - within the window, which is larger than this study."""
    house.settled(instances=range(1, FILES + 1))
    sealed, all_sealed = [], threading.Event()

    def passed(name: str) -> None:
        if name == "upload.sealed":
            sealed.append(name)
            if len(sealed) == FILES:
                all_sealed.set()

    from uploads.services import upload

    monkeypatch.setattr(upload, "failpoint", passed)
    house.vault.before = lambda _number, call: (
        None if not call.startswith("put file") or all_sealed.wait(WAIT_SECONDS) else pytest.fail("it waited for us")
    )
    house.drain()
    assert len(sealed) == FILES


def test_rows_are_written_in_groups(house: House) -> None:
    study = house.settled(instances=range(1, 33))
    with CaptureQueriesContext(connection) as queries:
        house.drain()
    house.uploaded(study)
    writes = [q["sql"] for q in queries if q["sql"].startswith('INSERT INTO "uploads_uploadpart"')]
    assert len(writes) <= 16, "36 files: the key, 32 instances, 3 documents"


def test_what_is_staged_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conveyor, "WINDOW_FILES", 7)
    study = house.settled(instances=range(1, 41))
    folder = settings.DATA_DIR / "uploads" / house.job(study).upload_id
    most = []
    house.vault.before = lambda _number, call: most.append(len(list(folder.iterdir()))) if "file" in call else None
    house.drain()
    house.uploaded(study)
    assert 2 < max(most) <= 7


@pytest.mark.parametrize("number", [*range(1, 8), FILES + 4, FILES + 5, FILES + 6, FILES + 7])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_at_any_call_is_the_lanes_and_what_arrived_is_not_sent_again(
    house: House, number: int, when: str
) -> None:
    study = house.settled(instances=range(1, FILES + 1))
    arrived: list[str] = []
    fault = at_call(number, raising(lane_error(number)))
    setattr(house.vault, when, fault)
    answered = house.vault.after

    def after(number_: int, call: str) -> None:
        answered(number_, call)
        arrived.append(call)

    house.vault.after = after
    assert house.drain() == 1
    job = house.job(study)
    assert (job.state, job.attempts, job.error_code) == (JobState.READY, 0, "server-error")
    confirmed = job.parts.filter(confirmed_at__isnull=False).count()
    assert confirmed == len([call for call in arrived if call.startswith("put ")]), "what came home was noted"
    answered_first = {call for call in arrived if call.startswith("put ")}
    house.vault.calls.clear()
    house.vault.before = house.vault.after = lambda _number, _call: None
    assert house.drain_later() == 1
    house.uploaded(study)
    assert not answered_first & set(house.vault.calls)
    assert len(house.vault.uploads) == 1


@pytest.mark.parametrize("passes", [1, 2, 9])
@pytest.mark.parametrize(
    "failpoint", ["upload.sealed", "upload.durable", "upload.staged", "upload.sent", "upload.confirmed"]
)
def test_killed_anywhere_the_study_still_arrives_once(
    house: House, monkeypatch: pytest.MonkeyPatch, failpoint: str, passes: int
) -> None:
    study = house.settled(instances=range(1, FILES + 1))
    killed_at(house, failpoint, monkeypatch, passes=passes)
    assert house.drain() == 1
    house.uploaded(study)
    assert len(house.vault.uploads) == 1


def test_a_damaged_object_is_named_and_what_travelled_beside_it_is_kept(house: House) -> None:
    study = house.settled(instances=range(1, FILES + 1))
    victim = study.instances.order_by("pk")[5]
    whole = house.stored(victim)
    house.file_of(victim).chmod(0o600)
    house.file_of(victim).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    house.drain()
    job = house.job(study)
    assert (job.state, job.error_code) == (JobState.PARKED, "object-damaged")
    assert not job.parts.filter(instance=victim).exists()
    assert house.vault.commits == {}
    assert set(job.parts.filter(confirmed_at__isnull=False).values_list("name", flat=True)) == set(house.vault.puts())


def test_a_stop_gives_the_attempt_back_and_what_arrived_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    study = house.settled(instances=range(1, FILES + 1))
    asked = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(conveyor, "stopping", asked.is_set)
        house.vault.after = at_name("put file-00003", asked.set)
        run_one(QUEUE, house.claim())
    job = house.job(study)
    assert (job.state, job.attempts, job.error_code) == (JobState.READY, 0, "")
    assert UploadPart.objects.get(name="file-00003.gve").confirmed_at is not None
    house.drain()
    house.uploaded(study)
    assert house.vault.puts().count("file-00003.gve") == 1


def test_the_lease_is_renewed_while_slow_files_move(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vault takes no further block before the row has shown the one before."""
    study = house.settled(instances=[1, 2], pixels=200_000)
    monkeypatch.setattr(ledger, "LEASE_RENEWAL_SECONDS", -1.0)
    seen: list[int] = []
    shown = threading.Condition()
    renewed, sent = ledger.job_progress, ledger.Movement.sent

    def job_progress(*arguments: object, **values: int) -> None:
        renewed(*arguments, **values)
        with shown:
            seen.append(values["done"])
            shown.notify_all()

    def slow(movement: ledger.Movement, name: str, content_bytes: int) -> None:
        sent(movement, name, content_bytes)
        movement.stepped()
        if name.startswith("file-"):
            with shown:
                before = len(seen)
                assert shown.wait_for(lambda: len(seen) > before, WAIT_SECONDS), "nobody renewed"

    monkeypatch.setattr(ledger, "job_progress", job_progress)
    monkeypatch.setattr(ledger.Movement, "sent", slow)
    house.drain()
    house.uploaded(study)
    assert seen == sorted(seen)
    assert len({done for done in seen if 0 < done < seen[-1]}) >= 3, "progress within the files"


def test_no_thread_outlives_its_upload(house: House) -> None:
    before = set(threading.enumerate())
    house.settled(instances=range(1, FILES + 1))
    house.vault.before = at_name("put file-00004", raising(lane_error(1)))
    house.drain()
    assert set(threading.enumerate()) == before
