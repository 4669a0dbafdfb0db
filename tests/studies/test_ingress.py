"""The ingress filter: decided on the header, answered with Success, nothing kept, counted and audited in aggregate."""

import datetime as dt
import json
from typing import Any

import pytest

from gateway_project.core.models import Alert, AuditEvent
from studies.models import QuarantinedObject
from studies.services.ingress import FilterError, filters_parse, ingress_watch
from studies.services.receive import ReceiveError
from tests.studies.datasets import element
from tests.studies.house import House, arrival, content

pytestmark = pytest.mark.django_db


def entry(element: str = "0008,0060", evaluation: str = "==", value: str = "OX") -> dict[str, str]:
    return {"groupElement": element, "evaluation": evaluation, "value": value}


def use(monkeypatch: pytest.MonkeyPatch, *entries: Any) -> None:
    monkeypatch.setenv("GATEWAY_INGRESS__FILTERS", json.dumps(list(entries)))


def kept(house: House, **texts: str) -> bool:
    before = len(house.waiting)
    spooled = house.receiver.receive(arrival(), [content(**texts)])
    assert (spooled is None) == (len(house.waiting) == before)
    return spooled is not None


def test_filtered_object_is_success_without_a_trace_of_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, entry())
    assert house.receiver.receive(arrival(), [content(modality="OX")]) is None
    assert (house.files("incoming"), house.files("quarantine"), house.waiting) == (set(), set(), [])
    assert kept(house, modality="CT")


@pytest.mark.parametrize(
    ("rule", "texts", "wanted"),
    [
        (entry(), {"modality": "OX"}, False),
        (entry(evaluation="!="), {"modality": "OX"}, True),
        (entry(evaluation="!="), {"modality": "CT"}, False),
        (entry("0008,1030", value="OUT MRI - NEURO"), {"tag_00081030_LO": "OUT MRI - NEURO"}, False),
        (entry("0008,1030", value="OUT MRI"), {"tag_00081030_LO": "OUT MRI - NEURO"}, True),
        (entry("0008,1030", value="out mri"), {"tag_00081030_LO": "OUT MRI"}, True),
        (entry("(0018, 0087)", value="3"), {"tag_00180087_DS": "3"}, False),  # which the index does not keep
        (entry("0009,1001", value="private"), {"tag_00091001_LO": "private"}, False),
        (entry("0008,1030", value=""), {}, False),  # what is absent counts as empty
        (entry("0008,1030", "!=", "x"), {}, False),
        (entry(evaluation="=~"), {"modality": "OX"}, True),  # an unknown evaluation never filters
    ],
)
def test_what_an_entry_matches(
    house: House, monkeypatch: pytest.MonkeyPatch, rule: dict[str, str], texts: dict[str, str], wanted: bool
) -> None:
    use(monkeypatch, rule)
    assert kept(house, **texts) is wanted


def test_number_is_compared_as_it_is_written(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, entry("0028,0010", value="512"))
    data = content() + element(0x00280010, "US", (512).to_bytes(2, "little"))
    assert house.receiver.receive(arrival(), [data]) is None


def test_any_match_filters(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, entry(value="MR"), entry("0010,0020", value="4711"))
    assert not kept(house)
    assert not kept(house, modality="MR", patient_id="1")
    assert kept(house, patient_id="1")


def test_filter_does_not_excuse_what_cannot_be_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, entry())
    with pytest.raises(ReceiveError):
        house.receiver.receive(arrival(), [content(modality="OX")[:-3]])
    assert QuarantinedObject.objects.get().code == "dataset-truncated"


INVALID: list[Any] = [
    {"groupElement": "0008,0060", "evaluation": "=="},
    {"groupElement": "Modality", "evaluation": "==", "value": "x"},
    {"groupElement": "0002,0010", "evaluation": "==", "value": "x"},
    {"groupElement": "7FE0,0010", "evaluation": "==", "value": "x"},
    {"groupElement": "0008,1140", "evaluation": "==", "value": "x"},
    {"groupElement": "0008,0060", "evaluation": "==", "value": 7},
    {"groupElement": "0008,0060", "evaluation": "==", "value": "x" * 257},
    "0008,0060 == OX",
]


@pytest.mark.parametrize("invalid", INVALID, ids=range(len(INVALID)))
def test_one_invalid_entry_disables_all_with_an_alert_that_heals(
    house: House, monkeypatch: pytest.MonkeyPatch, invalid: Any
) -> None:
    use(monkeypatch, entry(), invalid)
    assert kept(house, modality="OX")
    ingress_watch(dt.datetime.now(dt.UTC))
    alert = Alert.objects.get()
    assert (alert.code, "Entry 2" in alert.words) == ("ingress-filters-invalid", True)
    use(monkeypatch, entry())
    assert not kept(house, modality="OX")
    ingress_watch(dt.datetime.now(dt.UTC))
    assert Alert.objects.get().healed_at is not None


def test_setting_may_have_the_form_of_the_older_gateway() -> None:
    assert filters_parse({"filters": [entry()]}) == filters_parse([entry()])
    for wrong in ("x", {"filter": []}, 7, None):
        with pytest.raises(FilterError):
            filters_parse(wrong)


def test_filtered_objects_are_audited_together_by_source_and_entry(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, entry(value="MR"), entry(value="OX"))
    size = len(content(modality="OX"))
    for source in ("CT_1", "CT_1", "CT_2"):
        house.receiver.receive(arrival(source_ae_title=source), [content(modality="OX")])
    assert not AuditEvent.objects.exists()
    house.receiver.close()
    house.receiver.close()
    events = list(AuditEvent.objects.order_by("actor").values_list("actor", "subject", "outcome", "detail"))
    told = {"action": "filtered", "filter": 2}
    assert events == [
        ("ae:CT_1", "ingress", "refused", told | {"objects": 2, "bytes": 2 * size}),
        ("ae:CT_2", "ingress", "refused", told | {"objects": 1, "bytes": size}),
    ]


@pytest.mark.django_db(transaction=True)
def test_audit_comes_by_itself_after_a_while(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.services.ingress.TALLY_SECONDS", 0.01)
    use(monkeypatch, entry())
    house.receiver.receive(arrival(), [content(modality="OX")])
    timer = house.receiver._ingress._timer
    if timer is not None:
        timer.join(10)
    assert AuditEvent.objects.get().detail["objects"] == 1
