"""Questions at random, answered by the index and by a plain model that knows nothing of matchers or databases."""

import datetime as dt
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from studies.models import Study
from tests.network.identifiers import question
from tests.network.query_house import House, add_series, add_study

pytestmark = pytest.mark.django_db

NAMES = [
    "Doe^Jane",
    "DOE^John^^",
    "Doe",
    "Müller^Jörg",
    "MULLER^J",
    "Yamada^T=山田^太郎",
    "",
    "a%b_c^X",
    "van der Doe^Ann",
]
IDS = ["1", "12", "A1", "a1", "A%1", "A_1", "", "X\\Y"]
TEXTS = ["CT head", "ct HEAD", "Größe", "GROSSE", "50%", "", "a_b", "line*star"]
DAYS = [None, *(dt.date(2020, month, 28) for month in (1, 2, 3))]
TIMES = [None, dt.time(8), dt.time(8, 30), dt.time(8, 30, 15, 500000), dt.time(23, 59, 59, 999999)]
MODALITIES = ["CT", "MR", "SR"]


@pytest.fixture
def house() -> House:
    for number in range(1, 29):
        study = add_study(
            number,
            patient_name=NAMES[number % len(NAMES)],
            patient_id=IDS[number % len(IDS)],
            study_description=TEXTS[(number * 3) % len(TEXTS)],
            study_date=DAYS[number % len(DAYS)],
            study_time=TIMES[number % len(TIMES)],
            modality=MODALITIES[number % 3],
        )
        if number % 5 == 0:
            add_series(study, 2, modality="SR")
    return House()


def fold(text: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFD", text.casefold()) if not "\u0300" <= c <= "\u036f")
    return unicodedata.normalize("NFC", plain)


def expression(pattern: str) -> "re.Pattern[str]":
    return re.compile("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), re.DOTALL)


def trimmed(group: str) -> str:
    """Neither spaces around a component nor empty components at the end are part of a name (PS3.5 6.2)."""
    return "^".join(component.strip() for component in group.split("^")).rstrip("^")


def name_is(pattern: str, name: str) -> bool:
    groups = [trimmed(fold(group)) for group in name.split("=")]
    wanted = "=".join(trimmed(group) for group in fold(pattern).split("=")).rstrip("=")
    if expression(wanted).fullmatch("=".join(groups).rstrip("=")):
        return True
    if "=" not in wanted:
        return any(group_is(wanted, one) for one in (groups[:1] if wanted.isascii() else groups))
    parts = wanted.split("=")
    length = max(len(parts), len(groups))
    parts, groups = parts + [""] * (length - len(parts)), groups + [""] * (length - len(groups))
    return all(not part or group_is(part, group) for part, group in zip(parts, groups, strict=True))


def group_is(pattern: str, group: str) -> bool:
    return bool(expression(pattern).fullmatch(group) or expression(re.sub(r"(\^+\*)+$", "", pattern)).fullmatch(group))


def range_is(low: Any, high: Any, value: Any) -> bool:
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


Test = Callable[[Study], bool]
pieces = st.lists(
    st.sampled_from([*"*?^=Ju山1Aa%_ hü", "^*", "=*", "Doe", "doe", "ane", "M", "ller", "CT", "50"]),
    min_size=1,
    max_size=4,
).map("".join)  # fmt: skip
patterns = pieces.map(str.strip).filter(lambda text: text.strip("*^= ") and "\\" not in text)
days = st.none() | st.sampled_from(DAYS[1:])


@st.composite
def keys(draw: st.DrawFn) -> tuple[dict[str, Any], list[Test]]:
    """Some keys, and for each what the model says of a study."""
    asked: dict[str, Any] = {}
    tests: list[Test] = []
    if draw(st.booleans()):
        name = asked["PatientName"] = draw(patterns | st.sampled_from([one for one in NAMES if one]))
        tests.append(lambda study: name_is(name, study.patient_name))
    if draw(st.booleans()):
        number = asked["PatientID"] = draw(patterns | st.sampled_from(IDS[:6]))
        tests.append(lambda study: expression(number).fullmatch(study.patient_id) is not None)
    if draw(st.booleans()):
        text = asked["StudyDescription"] = draw(patterns | st.sampled_from([one for one in TEXTS if one]))
        tests.append(lambda study: expression(fold(text)).fullmatch(fold(study.study_description)) is not None)
    low, high = draw(days), draw(days)
    if (low or high) and draw(st.booleans()):
        asked["StudyDate"] = "-".join(f"{day:%Y%m%d}" if day else "" for day in (low, high))
        tests.append(lambda study: range_is(low, high, study.study_date))
    if draw(st.booleans()):
        wanted = draw(st.lists(st.sampled_from(MODALITIES), min_size=1, max_size=2))
        asked["ModalitiesInStudy"] = wanted
        tests.append(lambda study: study.series.filter(modality__in=wanted).exists())
    return asked, tests


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys())
@example(({"PatientName": "Doe ^"}, [lambda study: name_is("Doe ^", study.patient_name)]))
def test_index_answers_as_the_model_does(house: House, asked: tuple[dict[str, Any], list[Test]]) -> None:
    values, tests = asked
    expected = sorted(study.study_instance_uid for study in Study.objects.all() if all(test(study) for test in tests))
    found = house.ask(question("STUDY", SpecificCharacterSet="ISO_IR 192", **{"StudyInstanceUID": ""} | values))
    assert sorted(answer.StudyInstanceUID for answer in found) == expected
