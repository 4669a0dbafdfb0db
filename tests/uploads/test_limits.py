"""Limits of a vault: how many studies at once, when, how fast. Waiting costs nobody an attempt."""

import hashlib
import io
import json
from datetime import timedelta
from itertools import pairwise

import pytest
from django.utils.timezone import localtime, now

from gateway_project.core.models import Alert, JobState, Lane
from gateway_project.core.services.jobs import jobs_ready
from gateway_project.core.tasks import run_one
from gateway_project.wiring.browse import study_view
from gateway_project.wiring.summary import summary_now
from tests.uploads.faults import at_name
from tests.uploads.scripted_server import answer, scripted
from tests.uploads.stow_server import stow_server
from tests.uploads.test_stow_upload import TOKEN, vault_row
from tests.uploads.upload_house import House
from tests.web.conftest import everything_runs  # noqa: F401
from uploads.models import Vault
from uploads.queue import QUEUE
from uploads.services import limits
from uploads.services.limits import vault_block_bytes
from uploads.services.pace import Pace
from uploads.services.vaults import vault_client, vault_way_set

pytestmark = pytest.mark.django_db


def window(begins_in: timedelta, *, lasts: timedelta = timedelta(hours=2)) -> str:
    begins = localtime(now()) + begins_in
    return f"{begins:%H:%M}-{begins + lasts:%H:%M}"


# When


def test_outside_of_its_window_the_lane_waits_and_says_until_when(house: House) -> None:
    vault = house.vault_row(windows=window(timedelta(hours=3)))
    study = house.settled()
    assert house.drain() == 0
    lane = Lane.objects.get(pk=vault.lane_id)
    assert timedelta(hours=2, minutes=58) < lane.waits_until - now() <= timedelta(hours=3)
    assert not jobs_ready(QUEUE, now=now()).exists(), "nobody rings for it meanwhile"
    job = house.job(study)
    assert (job.state, job.attempts, job.error_code, house.tries(job)) == (JobState.READY, 0, "", [])
    assert not Alert.objects.exists()
    clock = f"{localtime(lane.waits_until):%H:%M}"
    assert f"Vault main waits until {clock}." in summary_now(now()).detail
    told = [entry for entry in study_view(study, now()).timeline if entry.until == lane.waits_until]
    assert [entry.detail for entry in told] == ["The way to the vault: outside its time window."]
    assert house.drain(at=lane.waits_until) == 1
    house.uploaded(study)
    assert summary_now(lane.waits_until).detail.find("waits until") == -1


def test_inside_of_its_window_it_goes(house: House) -> None:
    house.vault_row(windows=window(-timedelta(hours=1)))
    study = house.settled()
    assert house.drain() == 1
    house.uploaded(study)


@pytest.mark.parametrize("width", ["1", "3"])
def test_a_window_that_closes_in_the_middle_gives_the_attempt_back(
    house: House, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("GATEWAY_UPLOAD__PARALLEL_FILES", width)
    vault = house.vault_row(windows=window(-timedelta(hours=1)))
    study = house.settled(instances=range(1, 6))
    ahead = [0.0]
    moment = limits.time.monotonic
    with monkeypatch.context() as patched:
        patched.setattr(limits.time, "monotonic", lambda: moment() + ahead[0])
        house.vault.after = at_name("put file-00002", lambda: ahead.__setitem__(0, 7200.0))
        assert run_one(QUEUE, house.claim()), "other lanes go on"
    job, lane = house.job(study), Lane.objects.get(pk=vault.lane_id)
    assert (job.state, job.attempts, job.error_code) == (JobState.READY, 0, "")
    assert house.tries(job) == [(1, "interrupted", "")]
    assert timedelta(hours=22) < lane.waits_until - now() <= timedelta(hours=23)
    assert house.drain() == 0
    assert house.drain(at=lane.waits_until) == 1
    house.uploaded(study)
    assert house.vault.puts().count("file-00002.gve") == 1


def test_windows_that_were_changed_count_at_once(house: House) -> None:
    vault = house.vault_row(windows=window(timedelta(hours=3)))
    study = house.settled()
    house.drain()
    vault.windows = ""
    vault.save()
    vault_way_set(vault, proxy=None, actor="user:anna", now=now())
    assert house.drain() == 1
    house.uploaded(study)


def test_one_vaults_window_is_not_anothers(house: House) -> None:
    house.vault_row(windows=window(timedelta(hours=3)))
    house.vault_row("second")
    study = house.settled()
    assert house.drain() == 1
    assert house.job(study, vault="second").state == JobState.DONE
    assert house.job(study).state == JobState.READY


# How many


@pytest.mark.parametrize(("own", "option", "most"), [(None, "1", 1), (None, "2", 2), (3, "1", 3), (0, "2", 0)])
def test_studies_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch, own: int | None, option: str, most: int
) -> None:
    monkeypatch.setenv("GATEWAY_UPLOAD__PARALLEL_STUDIES", option)
    house.vault_row(parallel_studies=own)
    for study in range(1, 5):
        house.settled(study, [1])
    claimed = [job for job in (house.claim() for _ in range(4)) if job is not None]
    assert len(claimed) == most


# How fast


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_what_was_sent_is_paid_for_by_waiting() -> None:
    clock, steps = Clock(), []
    pace = Pace(1000, clock=clock, wait=clock.wait)
    for _block in range(10):
        pace.sent(500, on_step=lambda: steps.append(clock.now))
    assert clock.now == pytest.approx(105.0)
    gaps = [later - earlier for earlier, later in pairwise(steps)]
    assert max(gaps) <= 0.5 + 1e-9, "a stop is seen soon"


def test_a_pause_is_no_credit() -> None:
    clock = Clock()
    pace = Pace(1000, clock=clock, wait=clock.wait)
    clock.now += 3600
    pace.sent(2000, on_step=lambda: None)
    assert clock.now == pytest.approx(3702.0)


def test_an_upload_keeps_to_its_share_of_the_vaults_rate(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.vault_row(bytes_per_second=100_000, parallel_studies=2)
    study = house.settled(instances=range(1, 4), pixels=60_000)
    clock = Clock()
    monkeypatch.setattr(limits, "Pace", lambda rate: Pace(rate, clock=clock, wait=clock.wait))
    house.drain()
    house.uploaded(study)
    sent = sum(part.size_bytes for part in house.job(study).parts.all())
    assert clock.now - 100 == pytest.approx(sent / 50_000, rel=0.01)


def test_a_dicomweb_server_is_sent_to_no_faster_and_no_longer_than_its_row_allows(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(limits, "Pace", lambda rate: Pace(rate, clock=clock, wait=clock.wait))
    with stow_server(TOKEN) as server:
        vault_row(server, bytes_per_second=100_000, batch_instances=2)
        study = house.settled(instances=range(1, 4), pixels=60_000)
        house.drain()
    assert house.job(study).state == JobState.DONE
    assert clock.now - 100 == pytest.approx(3 * 60_000 / 100_000, rel=0.1)


def test_a_slow_vault_is_heard_from_every_second_whatever_number_of_threads_sends(house: House) -> None:
    """A vault cuts a connection that is silent for a minute: 256 kB at 8 kB/s, in four threads, would be two."""
    vault = house.vault_row(bytes_per_second=16_384, parallel_studies=2)
    content, steps = b"z" * 100_000, []
    sent = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    stored = json.dumps({"name": "file-00001.gve", **sent}).encode()
    for source in (content, io.BytesIO(content)):
        with scripted(answer(201, stored)) as server:
            vault.base_url = server.url
            vault_client(vault).put("0" * 32, "file-00001.gve", source, **sent, on_progress=steps.append)
        assert max(later - earlier for earlier, later in pairwise([0, *steps])) <= 16_384 / 2
        steps.clear()
    assert vault_block_bytes(house.vault_row("fast")) == 256 * 1024


def test_a_rate_below_what_a_server_waits_for_is_refused(house: House) -> None:
    vault = house.vault_row(bytes_per_second=100)
    with pytest.raises(Exception, match="16384"):
        Vault.full_clean(vault)
