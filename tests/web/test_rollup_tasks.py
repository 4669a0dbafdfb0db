"""What the ticker rings for the Now page: rollups that follow what arrives, and silence that heals by itself."""

import datetime as dt

import pytest
from django.urls import reverse
from django.utils.timezone import now

from gateway_project.core.models import Alert
from gateway_project.core.queues import REGISTRY
from gateway_project.wiring import tasks
from studies.models import Arrival, SourceActivity, SourcePolicy
from tests.web.factories import series_make, study_make
from tests.web.rollups import HOUR, hour_of, source_make
from uploads.models import DeliveryTimes

pytestmark = pytest.mark.django_db


def test_they_are_rung_for() -> None:
    assert {"rollups", "measure", "silence"} <= set(REGISTRY.periodics)


def test_who_sends_again_is_no_longer_silent(vault) -> None:
    source_make("CT_1", [hour_of(now()) - 99 * HOUR])
    Alert.objects.create(key="source-silent:CT_1", code="source-silent", words="w")
    tasks.rollups(now())
    assert Alert.objects.get().healed_at is None
    series_make(study_make(source_ae_title="CT_1"))
    tasks.rollups(now())
    tasks.rollups(now())
    assert Alert.objects.get().healed_at is not None
    assert SourceActivity.objects.get().objects_received == 40 + 3
    assert not DeliveryTimes.objects.exists()


def test_measuring_also_forgets_what_is_old() -> None:
    source_make("CT_1", [hour_of(now()) - 130 * 24 * HOUR, hour_of(now())])
    tasks.rollups_measure(now())
    assert [row.start for row in Arrival.objects.all()] == [hour_of(now())]
    assert SourceActivity.objects.get().stored_bytes == 0, "no object of it is in the store"


def test_silence_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = hour_of(now()) - 40 * 24 * HOUR
    source_make("CT_1", [begin + number * HOUR for number in range(38 * 24)])
    tasks.silence_watch(now())
    assert Alert.objects.get().key == "source-silent:CT_1"
    monkeypatch.setenv("GATEWAY_SILENCE__ENABLED", "no")
    tasks.silence_watch(now() + dt.timedelta(minutes=5))
    assert Alert.objects.get().healed_at is not None


def test_administrators_switch_sources_in_the_admin_too(administrator) -> None:
    named = source_make("CT_1", [hour_of(now())])
    nameless = source_make("", [hour_of(now())])
    for action, watched in (("unwatch", False), ("watch", True)):
        answer = administrator.post(
            reverse("admin:studies_sourceactivity_changelist"),
            {"action": action, "_selected_action": [named.pk, nameless.pk]},
        )
        assert answer.status_code == 302
        assert SourcePolicy.objects.get().silence_watched is watched


def test_a_look_at_an_idle_gateway_writes_nothing(django_assert_max_num_queries) -> None:
    series_make(study_make(source_ae_title="CT_1"))
    tasks.rollups(now())
    tasks.rollups(now())
    with django_assert_max_num_queries(24) as queries:
        tasks.rollups(now())
    marks = 'UPDATE "core_rollupmark" SET "seen_to"'  # finds no row to change
    written = [q["sql"] for q in queries.captured_queries if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert [sql for sql in written if not sql.startswith(marks)] == []
