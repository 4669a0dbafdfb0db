"""The one search box: what it takes words for, and that it says so."""

from datetime import date

import pytest

from studies.models import Study
from studies.search import search_read
from tests.web.factories import series_make, study_make

pytestmark = pytest.mark.django_db

TODAY = date(2026, 11, 25)  # a Wednesday


def found(text: str) -> set[Study]:
    return set(Study.objects.filter(search_read(text, today=TODAY).where))


def words(text: str) -> str:
    return search_read(text, today=TODAY).words


@pytest.mark.parametrize(
    "typed",
    ["muller", "MÜLLER", "Müller", "mueller", "müller, zoe", "zoé muller", "ller", "Mu\u0308ller", "zoë", "Zoe^Muller"],
)
def test_names_are_found_without_case_accents_and_order(typed: str) -> None:
    wanted = study_make(patient_name="MÜLLER^Zoë^Anna", patient_id="X1")
    study_make(patient_name="Meier^Max", patient_id="X2")
    assert found(typed) == {wanted}


def test_umlaut_finds_the_name_that_is_spelled_out() -> None:
    wanted = study_make(patient_name="Mueller^Goetz")
    assert found("müller götz") == {wanted}


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("Łukasiewicz^Paweł", "lukasiewicz pawel"),
        ("Sørensen^Bjørn", "sorensen bjorn"),
        ("SØRENSEN^BJØRN", "soerensen"),
        ("Nguyễn^Văn Đức", "nguyen duc"),
        ("Ægisson^Þór", "aegisson thor"),
        ("Y\u0131ld\u0131z^I\u015f\u0131l", "yildiz isil"),
    ],
)
def test_letters_with_strokes_are_found_by_those_without(name: str, typed: str) -> None:
    wanted = study_make(patient_name=name)
    study_make(patient_name="Meier^Max")
    assert found(typed) == {wanted} == found(name.replace("^", " "))


def test_every_word_must_be_in_the_name() -> None:
    study_make(patient_name="Müller^Zoë")
    assert found("muller max") == set()


def test_ideographic_and_phonetic_groups_are_searched() -> None:
    wanted = study_make(patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう")
    assert found("山田") == {wanted} == found("たろう")


def test_folded_name_follows_the_name() -> None:
    study = study_make(patient_name="Alt^A")
    study.patient_name = "Ñuñez^B"
    study.save()
    assert found("nunez") == {study}
    assert found("alt") == set()


@pytest.mark.parametrize("wildcard", ["%", "_", "*", "?", "\\"])
def test_wildcards_of_databases_are_letters_like_others(wildcard: str) -> None:
    study_make()
    assert found(wildcard) == set()


@pytest.mark.parametrize(
    ("typed", "first", "last"),
    [
        ("2026-11-20", date(2026, 11, 20), date(2026, 11, 20)),
        ("20.11.2026", date(2026, 11, 20), date(2026, 11, 20)),
        ("20/11/2026", date(2026, 11, 20), date(2026, 11, 20)),
        ("2026/11/20", date(2026, 11, 20), date(2026, 11, 20)),
        ("11/20/2026", date(2026, 11, 20), date(2026, 11, 20)),
        ("10/11/2026", date(2026, 11, 10), date(2026, 11, 10)),
        ("20261120", date(2026, 11, 20), date(2026, 11, 20)),
        ("2026-11", date(2026, 11, 1), date(2026, 11, 30)),
        ("11.2026", date(2026, 11, 1), date(2026, 11, 30)),
        ("2024-02", date(2024, 2, 1), date(2024, 2, 29)),
        ("2025", date(2025, 1, 1), date(2025, 12, 31)),
        ("today", TODAY, TODAY),
        ("Yesterday", date(2026, 11, 24), date(2026, 11, 24)),
        ("this week", date(2026, 11, 23), date(2026, 11, 29)),
        ("last week", date(2026, 11, 16), date(2026, 11, 22)),
        ("last month", date(2026, 10, 1), date(2026, 10, 31)),
        ("last year", date(2025, 1, 1), date(2025, 12, 31)),
        ("last 7 days", date(2026, 11, 19), TODAY),
        ("2026-11-01 to 2026-11-15", date(2026, 11, 1), date(2026, 11, 15)),
        ("1.11.2026 - 15.11.2026", date(2026, 11, 1), date(2026, 11, 15)),
        ("20261101-20261115", date(2026, 11, 1), date(2026, 11, 15)),
        ("2026-10..2026-11", date(2026, 10, 1), date(2026, 11, 30)),
        ("2026-11-15 to 2026-11-01", date(2026, 11, 1), date(2026, 11, 15)),
    ],
)
def test_dates_and_spans_as_people_write_them(typed: str, first: date, last: date) -> None:
    inside = {study_make(study_date=first), study_make(study_date=last)}
    for outside in (date.fromordinal(first.toordinal() - 1), date.fromordinal(last.toordinal() + 1)):
        study_make(study_date=outside)
    assert found(typed) == inside
    assert str(first) in words(typed)


def test_date_of_birth_is_found_by_its_day_alone() -> None:
    study = study_make(patient_birth_date=date(1961, 4, 12))
    assert found("12.04.1961") == {study}
    assert "date of birth" in words("12.04.1961")


def test_name_and_dates_go_together() -> None:
    wanted = study_make(patient_name="Müller^Zoë", study_date=date(2026, 11, 18))
    study_make(patient_name="Müller^Zoë", study_date=date(2026, 11, 1))
    study_make(patient_name="Meier^Max", study_date=date(2026, 11, 18))
    for typed in ("muller last week", "last week muller", "muller 2026-11-16 to 2026-11-22"):
        assert found(typed) == {wanted}
    assert words("muller last week") == (
        "study date 2026-11-16 to 2026-11-22, and a name with “muller”, or an ID or accession number “muller”"
    )


@pytest.mark.parametrize("number", ["2025", "20240229", "20261399", "4711", "A-17/3"])
def test_numbers_that_look_like_dates_are_also_ids(number: str) -> None:
    by_id = study_make(patient_id=number, study_date=date(2020, 1, 1))
    by_accession = study_make(accession_number=number, study_date=date(2020, 1, 1))
    study_make(patient_id=f"{number}1", study_date=date(2020, 1, 1))
    assert found(number) == {by_id, by_accession}


def test_uids_of_study_series_and_object() -> None:
    wanted = study_make()
    series = series_make(wanted)
    series_make(study_make())
    for uid in (wanted.study_instance_uid, series.series_instance_uid, series.instances.all()[1].sop_instance_uid):
        assert found(f" {uid} ") == {wanted}
        assert "UID" in words(uid)


@pytest.mark.parametrize(
    "text", ["", " ", "\0", "9999-99-99", "31.02.2026", "last 999 days", "0000-01-01", "^^^", "x" * 200]
)
def test_nothing_that_is_typed_fails(text: str) -> None:
    found(text)
