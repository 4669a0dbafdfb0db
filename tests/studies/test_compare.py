"""An object that comes again under its UID: re-encoded, corrected, or changed - each has its own consequence."""

import datetime as dt

import pytest

from gateway_project.core.models import Alert
from studies.models import Instance, Study, StudyState
from studies.services import compare as compare_module
from studies.services.settle import study_settle
from tests.studies.datasets import CT, EXPLICIT, IMPLICIT, dataset, element, implicit, uid
from tests.studies.house import House, arrival

pytestmark = pytest.mark.django_db


def explicit_object(*, name: bytes = b"Doe^Jane", patient: bytes = b"4711", pixels: bytes = b"pixels") -> bytes:
    return dataset(
        element(0x00100010, "PN", name),
        element(0x00100020, "LO", patient),
        element(0x7FE00010, "OW", pixels),
        instance=uid("1.2.3.1"),
    )


def implicit_object(*, pixels: bytes = b"pixels") -> bytes:
    return b"".join(
        [
            implicit(0x00080016, uid(CT)),
            implicit(0x00080018, uid("1.2.3.1")),
            implicit(0x00100010, b"Doe^Jane"),
            implicit(0x00100020, b"4711"),
            implicit(0x0020000D, uid("1.2.5")),
            implicit(0x0020000E, uid("1.2.6")),
            implicit(0x7FE00010, pixels),
        ]
    )


def receive(house: House, data: bytes, syntax: str = EXPLICIT) -> None:
    house.receiver.receive(arrival(transfer_syntax_uid=syntax), [data])


def settled(house: House) -> None:
    study_settle(Study.objects.get().pk, now=dt.datetime.now(dt.UTC), reason="quiet")


def alerts() -> dict[str, str]:
    return dict(Alert.objects.filter(healed_at=None).values_list("code", "severity"))


@pytest.mark.parametrize("together", [True, False])
def test_re_encoding_of_the_same_content_is_no_new_version(house: House, together: bool) -> None:
    receive(house, explicit_object())
    if not together:
        house.index()
        settled(house)
    receive(house, implicit_object(), IMPLICIT)
    assert house.index().repeated == 1
    row = Instance.objects.get()
    assert (row.version, row.transfer_syntax_uid) == (1, EXPLICIT)
    assert (Study.objects.get().open_since is None) is not together
    assert alerts() == {}
    house.check()


def test_re_encoding_of_what_was_deleted_is_kept_as_a_version_of_its_own(house: House) -> None:
    """Receipt and manifest name the older encoding's hash: other bytes must not stand in for it."""
    receive(house, explicit_object())
    house.index()
    house.store.remove(Instance.objects.get().path)
    Instance.objects.update(file_deleted_at=dt.datetime.now(dt.UTC))
    receive(house, implicit_object(), IMPLICIT)
    house.index()
    assert list(Instance.objects.order_by("version").values_list("version", "current")) == [(1, False), (2, True)]
    house.check()


def test_corrected_name_is_a_new_version_without_an_alert(house: House) -> None:
    receive(house, explicit_object())
    house.index()
    settled(house)
    receive(house, explicit_object(name=b"Roe^Jane"))
    house.index()
    assert Instance.objects.filter(current=True).get().version == 2
    assert Study.objects.get().open_since is not None
    assert alerts() == {}
    house.check()


@pytest.mark.parametrize("change", [{"pixels": b"others"}, {"patient": b"4712"}])
def test_other_pixels_or_another_patient_are_told(house: House, change: dict[str, bytes]) -> None:
    receive(house, explicit_object())
    house.index()
    receive(house, explicit_object(**change))
    house.index()
    assert alerts()["instance-changed"] == "warning"
    assert Instance.objects.count() == 2
    house.check()


def test_change_that_cannot_be_judged_is_told_and_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    receive(house, explicit_object())
    house.index()

    def fail(_stream: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(compare_module, "content_read", fail)
    receive(house, implicit_object(), IMPLICIT)
    house.index()
    assert Instance.objects.count() == 2
    assert alerts() == {"instance-changed": "warning"}
    house.check()


def test_version_that_a_sibling_made_meanwhile_is_not_mistaken_for_the_one_compared(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared with version 1, indexed after a sibling's version 2: it is a version of its own, and told."""
    receive(house, explicit_object())
    house.index()
    receive(house, implicit_object(), IMPLICIT)
    mine, house.waiting = house.waiting, []
    real = compare_module._known
    stale = real({"1.2.3.1"})
    receive(house, explicit_object(pixels=b"others"))
    house.index()
    monkeypatch.setattr(compare_module, "_known", lambda _uids: dict(stale))
    house.index(mine)
    assert list(Instance.objects.order_by("version").values_list("current", flat=True)) == [False, False, True]
    house.check()


def test_deleted_study_that_is_sent_again_keeps_its_bytes_and_uploads_nothing(house: House) -> None:
    receive(house, explicit_object())
    house.index()
    settled(house)
    house.store.remove(Instance.objects.get().path)
    Instance.objects.update(file_deleted_at=dt.datetime.now(dt.UTC))
    Study.objects.update(state=StudyState.DELETED)
    receive(house, explicit_object())
    assert house.index().repeated == 1
    study, row = Study.objects.get(), Instance.objects.get()
    assert (row.file_deleted_at, row.revision_id is None, study.open_since) == (None, False, None)
    assert (study.state, "nothing is uploaded anew" in study.reason) == (StudyState.SETTLED, True)
    house.check()
