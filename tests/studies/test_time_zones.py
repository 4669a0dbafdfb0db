"""The time zone of a study's and of a series' times, as an instance told it."""

import datetime as dt

import pytest

from studies.models import Series, Study
from tests.studies.house import House

pytestmark = pytest.mark.django_db


def test_study_and_series_say_the_zone_of_their_times(house: House) -> None:
    house.receive("1.2.3.1", tag_00080030_TM="2359", tag_00080201_SH="+0130")
    house.receive("1.2.3.2", series="1.2.7")
    house.index()
    assert Study.objects.get().timezone_offset == "+0130"
    assert sorted(Series.objects.values_list("timezone_offset", flat=True)) == ["", "+0130"]


@pytest.mark.parametrize("offset", ["0100", "+1", "+9900", "+0160", "CET", "+0100+0200", "x" * 200])
def test_time_zone_that_is_none_is_not_told(house: House, offset: str) -> None:
    house.receive("1.2.3.1", tag_00080030_TM="10", tag_00080201_SH=offset)
    house.index()
    assert (Study.objects.get().timezone_offset, Series.objects.get().timezone_offset) == ("", "")


def test_time_zone_of_the_study_is_that_of_the_instance_that_told_its_time(house: House) -> None:
    house.receive("1.2.3.1", tag_00080030_TM="10")
    house.receive("1.2.3.2", series="1.2.7", tag_00080030_TM="11", tag_00080201_SH="+0200")
    house.index()
    study = Study.objects.get()
    assert (study.study_time, study.timezone_offset) == (dt.time(10), "")
