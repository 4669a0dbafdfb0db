"""What all sets of processes on one database must have in common: noted by the first, checked by every other."""

import pytest

from gateway_project.core import machine, shared
from gateway_project.core.models import AuditEvent, SharedMark
from gateway_project.core.shared import Shared, SharedError, shared_check, shared_replace

pytestmark = pytest.mark.django_db


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A database that others may use, and one thing to have in common: `here["mark"]`."""
    here = {"mark": "first"}
    thing = Shared("thing", lambda: here["mark"], lambda mark: mark == here["mark"], "Another thing here.")
    monkeypatch.setattr(shared, "SHARED", {"thing": thing})
    monkeypatch.setattr(shared, "database_is_shared", lambda: True)
    return here


def test_the_first_set_leaves_its_mark_and_a_like_one_passes(here: dict[str, str]) -> None:
    shared_check()
    shared_check()
    row = SharedMark.objects.get()
    assert (row.name, row.mark, row.made_by) == ("thing", "first", machine.machine_name())


def test_another_is_refused_with_words_and_changes_nothing(here: dict[str, str]) -> None:
    shared_check()
    here["mark"] = "second"
    with pytest.raises(SharedError, match=r"Another thing here\..*sharedmarks --replace thing"):
        shared_check()
    assert SharedMark.objects.get().mark == "first"


def test_a_person_may_decide_that_what_is_here_counts(here: dict[str, str]) -> None:
    shared_check()
    here["mark"] = "second"
    shared_replace("thing", actor="user:1")
    shared_check()
    here["mark"] = "first"
    with pytest.raises(SharedError):
        shared_check()
    assert AuditEvent.objects.get().subject == "shared:thing"


def test_a_database_of_ours_alone_is_not_judged(here: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "database_is_shared", lambda: False)
    shared_check()
    assert not SharedMark.objects.exists()


def test_every_app_s_own_marks_fit_what_made_them(tmp_path, settings) -> None:
    settings.DATA_DIR = tmp_path
    assert list(shared.SHARED) == ["secret-key", "settings-key", "store", "identity"]
    for thing in shared.SHARED.values():
        assert thing.fits(thing.make())
        assert not thing.fits("AAAA")


def test_alerts_about_one_machine_are_its_own_where_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "database_is_shared", lambda: False)
    assert (machine.machine_key("logs"), machine.machine_words("Full.")) == ("logs", "Full.")
    monkeypatch.setattr(machine, "database_is_shared", lambda: True)
    assert machine.machine_key("logs") == f"logs@{machine.machine_name()}"
    assert machine.machine_words("Full.") == f"On {machine.machine_name()}: Full."
