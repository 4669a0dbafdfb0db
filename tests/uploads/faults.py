"""Faults to put into an upload: at a call of the vault, or at one of our own steps."""

from collections.abc import Callable

import pytest
from django.utils.timezone import now

from gateway_project.core.models import JobState
from gateway_project.core.services.jobs import jobs_expire
from tests.uploads.upload_house import House
from uploads.models import UploadJob
from uploads.queue import QUEUE
from uploads.services import conveyor, ledger, upload


def at_call(number: int, action: Callable[[], None]) -> Callable[[int, str], None]:
    return lambda called, _call: action() if called == number else None


def at_name(name: str, action: Callable[[], None]) -> Callable[[int, str], None]:
    """At the first call whose name begins so."""
    waiting = [True]

    def hook(_number: int, call: str) -> None:
        if waiting and call.startswith(name):
            waiting.clear()
            action()

    return hook


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def at_failpoints(monkeypatch: pytest.MonkeyPatch, action: Callable[[str], None]) -> None:
    """Calls it with the name of each step of ours that is passed, in whatever thread that is."""
    for module in (upload, ledger, conveyor):
        monkeypatch.setattr(module, "failpoint", action)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


def killed_at(house: House, failpoint: str, monkeypatch: pytest.MonkeyPatch, *, passes: int = 1) -> None:
    """One attempt that ends as SIGKILL would end it; then the lease runs out."""
    left = [passes]

    def die(name: str) -> None:
        if name == failpoint:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    with monkeypatch.context() as patched:
        at_failpoints(patched, die)
        with pytest.raises(Killed):
            house.drain()
    UploadJob.objects.filter(state=JobState.RUNNING).update(lease_until=now())
    assert jobs_expire(QUEUE, now=now()) == 1
