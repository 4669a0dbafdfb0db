"""Any sequence of cuts, kills, late objects and vault faults ends with the vault holding exactly the study, once."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import transaction
from django.test import override_settings
from django.utils.timezone import now
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_project.core.models import Alert, JobState, Lane
from gateway_project.core.services.jobs import jobs_expire
from gateway_project.core.tasks import run_one
from gateway_project.wiring import pipeline
from studies.models import Study
from tests.uploads.faults import Killed, at_failpoints
from tests.uploads.upload_house import YEAR, House, staged
from uploads.models import UploadJob
from uploads.ports import VaultError
from uploads.queue import QUEUE

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("house")]
PLACES = (
    "upload.sealed", "upload.durable", "upload.staged", "upload.sent", "upload.confirmed", "upload.committing",
    "upload.answered", "upload.receipted", "upload.done",
)  # fmt: skip
FAULTS: dict[str, Callable[[], VaultError]] = {
    "server-error": lambda: VaultError("server-error", "An error of its own.", lane_fault=True),
    "busy": lambda: VaultError("busy", "Wait.", lane_fault=True, retry_after_seconds=300),
    "timeout": lambda: VaultError("timeout", "No answer.", lane_fault=True),
    "body-incomplete": lambda: VaultError("body-incomplete", "Not all came."),
    "digest-mismatch": lambda: VaultError("digest-mismatch", "Changed on the way."),
    "unauthorized": lambda: VaultError("unauthorized", "No.", lane_fault=True),
    "too-large": lambda: VaultError("too-large", "Too large.", permanent=True),
}
calls = st.integers(1, 14)
events = st.one_of(
    st.tuples(st.just("fault before"), st.sampled_from(sorted(FAULTS)), calls),
    st.tuples(st.just("fault after"), st.sampled_from(sorted(FAULTS)), calls),
    st.tuples(st.just("kill"), st.sampled_from(PLACES), st.integers(1, 8)),
    st.tuples(st.just("late"), st.sampled_from(["new", "changed"]), st.integers(1, 4)),
    st.tuples(st.just("staging lost"), st.just(""), st.just(0)),
    st.tuples(st.just("vault forgets"), st.just(""), st.integers(0, 20)),
)


class Story:
    """One study, what befalls it, and what must be true at the end."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.house, self.monkeypatch = house, monkeypatch
        self.study = house.settled(instances=range(1, 5), pixels=400)
        self.numbers = itertools.count(5)
        self.extra = itertools.count(1)

    def befalls(self, kind: str, what: str, number: int) -> None:
        if kind == "late":
            self._late(what, number)
        elif kind == "staging lost":
            for path in (django_settings.DATA_DIR / "uploads").glob("*/*"):
                path.unlink()
        elif kind == "vault forgets":
            self._forget(number)
        self._attempts(kind, what, number)

    def _late(self, what: str, number: int) -> None:
        instance = next(self.numbers) if what == "new" else number
        self.house.receive(1, [instance], pixels=400, extra=next(self.extra))
        pipeline.settle_now(self.study.pk, actor="user:test")

    def _forget(self, number: int) -> None:
        """A file that it had confirmed is gone, of an upload that it has not closed."""
        for upload_id, files in self.house.vault.uploads.items():
            if upload_id not in self.house.vault.commits and files:
                files.pop(sorted(files)[number % len(files)])

    def _attempts(self, kind: str, what: str, number: int) -> None:
        house = self.house
        seen = len(house.vault.calls) + number
        hook = self._raiser(what, seen) if kind.startswith("fault") else lambda _number, _call: None
        house.vault.before = hook if kind == "fault before" else lambda _number, _call: None
        house.vault.after = hook if kind == "fault after" else lambda _number, _call: None
        with ExitStack() as stack:
            if kind == "kill":
                stack.enter_context(dying(self.monkeypatch, what, number))
            try:
                self._work()
            except Killed:
                UploadJob.objects.filter(state=JobState.RUNNING).update(lease_until=now(), crashes=0)
                jobs_expire(QUEUE, now=now())

    def _work(self) -> None:
        """A few jobs of those that will be ready within a year: some wait for an earlier revision and come again."""
        for _job in range(8):
            job = self.house.claim(at=now() + YEAR)
            if job is None:
                return
            run_one(QUEUE, job)

    def _raiser(self, code: str, at: int) -> Callable[[int, str], None]:
        def hook(called: int, _call: str) -> None:
            if called == at:
                raise FAULTS[code]()

        return hook

    def ends(self) -> None:
        """All is well again; a person presses the button where one was needed."""
        house = self.house
        house.vault.before = house.vault.after = lambda _number, _call: None
        for _try in range(4):
            Lane.objects.update(open_until=None, held=False)
            pipeline.retry(self.study.pk, actor="user:test")
            self._work()
        self.study.refresh_from_db()
        assert (self.study.state, self.study.reason) == ("uploaded", "")
        assert staged() == []
        jobs = list(UploadJob.objects.select_related("revision").order_by("revision__number"))
        assert [job.state for job in jobs] == [JobState.DONE] * len(jobs)
        assert sorted(house.vault.commits) == sorted(job.upload_id for job in jobs), "each revision once, no other"
        for job in jobs:
            assert job.receipt == house.vault.commits[job.upload_id].receipt
            assert not job.parts.filter(confirmed_at=None).exists()
            assert job.tries.order_by("number").last().result == "done"
            assert not job.tries.filter(result="running").exists()
        assert house.vault.opened(jobs[-1].upload_id) == house.sent, "exactly the study, every version of it"
        assert not Alert.objects.filter(healed_at=None, key__startswith="job:").exists()


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, place: str, passes: int) -> Iterator[None]:
    left = [passes]

    def die(name: str) -> None:
        if name == place:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    with monkeypatch.context() as patched:
        at_failpoints(patched, die)
        yield


def told(monkeypatch: pytest.MonkeyPatch, story: list[tuple[str, str, int]], width: int) -> None:
    """Everything in a transaction that is taken back, so that each example begins with an empty house."""
    monkeypatch.setenv("GATEWAY_UPLOAD__PARALLEL_FILES", str(width))
    with tempfile.TemporaryDirectory() as folder, transaction.atomic(), override_settings(DATA_DIR=Path(folder)):
        fresh = House()
        monkeypatch.setattr("uploads.tasks.vault_client", lambda _vault: fresh.vault)
        fresh.vault_row()
        found = Story(fresh, monkeypatch)
        for event in story:
            found.befalls(*event)
        found.ends()
        transaction.set_rollback(True)
    assert not Study.objects.exists()


COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@settings(max_examples=20, **COMMON)
@given(story=st.lists(events, max_size=5), width=st.sampled_from([1, 3]))
def test_whatever_befalls_it_the_study_ends_in_the_vault_once(
    monkeypatch: pytest.MonkeyPatch, story: list[tuple[str, str, int]], width: int
) -> None:
    told(monkeypatch, story, width)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@settings(max_examples=3000, **COMMON)
@given(story=st.lists(events, max_size=12), width=st.sampled_from([1, 2, 4]))
def test_whatever_befalls_it_at_length(
    monkeypatch: pytest.MonkeyPatch, story: list[tuple[str, str, int]], width: int
) -> None:
    told(monkeypatch, story, width)
