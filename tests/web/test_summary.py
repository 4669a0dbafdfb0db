"""The first sentence of the list: is everything of today where it belongs, and if not, what to press."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils.timezone import now

from gateway_project.core.models import Alert, JobState, Lane
from gateway_project.wiring.summary import summary_now
from studies.models import StudyState
from tests.web.factories import (
    lane_make,
    revision_make,
    study_make,
    upload_make,
    uploaded_study_make,
    vault_make,
)
from uploads.services.vaults import vault_switch

pytestmark = pytest.mark.django_db


def page(client) -> str:
    return client.get("/").content.decode()


def test_sentence_when_everything_of_today_is_in_the_vault(vault) -> None:
    for _ in range(3):
        uploaded_study_make(vault)
    summary = summary_now(now())
    assert summary.sentence == "All 3 studies of today are in the vault."
    assert summary.detail == "The latest took 10 min 42 s from its last object to the vault's receipt."
    assert (summary.tone, summary.troubles) == ("ok", [])


def test_sentence_counts_what_is_on_the_way(vault) -> None:
    uploaded_study_make(vault)
    study_make(state=StudyState.RECEIVING)
    study_make(state=StudyState.UPLOADING)
    assert summary_now(now()).sentence == "3 studies today: 1 in the vault, 1 being received and 1 on the way."


def test_quiet_day_is_said() -> None:
    study_make(received_at=now() - timedelta(days=3), state=StudyState.UPLOADED)
    assert summary_now(now()).sentence == "Nothing has arrived today."


def test_what_needs_a_hand_comes_first_with_reason_and_button(operator, viewer) -> None:
    study = study_make(state=StudyState.FAILED_PERMANENT, reason="A stored object is not what was received.")
    lane = lane_make(title="Vault Nord", held=True, faults=1, fault_words="The vault refused the token (401).")
    Alert.objects.create(key=f"lane:{lane.name}", code="token", words="Vault Nord: told by its lane already.")
    alert = Alert.objects.create(key="disk", code="disk-low", words="The store's disk runs low.")
    Alert.objects.create(key="old", code="x", words="Healed long ago.", healed_at=now())
    html = page(operator)
    assert "3 things need a hand." in html
    for words in (study.reason, "The vault refused the token (401).", "The store&#x27;s disk runs low."):
        assert words in html
    for name, pk in (("study-retry", study.pk), ("lane-resume", lane.pk), ("alert-acknowledge", alert.pk)):
        assert reverse(name, args=(pk,)) in html
        assert reverse(name, args=(pk,)) not in page(viewer)
    assert "told by its lane already" not in html
    assert "Healed long ago" not in html


def test_resumed_lane_and_acknowledged_alert_leave_the_list(operator) -> None:
    lane = lane_make(paused=True)
    alert = Alert.objects.create(key="disk", code="disk-low", words="The store's disk runs low.")
    operator.post(reverse("lane-resume", args=(lane.pk,)))
    operator.post(reverse("alert-acknowledge", args=(alert.pk,)))
    assert not Lane.objects.get(pk=lane.pk).paused
    assert Alert.objects.get(pk=alert.pk).acknowledged_by.startswith("user:operator")
    assert summary_now(now()).troubles == []


def test_all_of_many_alerts_are_counted_and_led_to(operator) -> None:
    for number in range(9):
        Alert.objects.create(key=f"disk-{number}", code="disk-low", words="Low.")
    html = page(operator)
    assert "9 things need a look." in html
    assert '<a href="/alerts/">and 4 more alerts</a>' in html


def test_upload_that_was_given_up_counts_once_not_also_as_its_alert(operator, vault) -> None:
    """It is the study that has the button which helps."""
    study = study_make(state=StudyState.FAILED_PERMANENT, reason="The vault refuses it.")
    job = upload_make(revision_make(study), vault, JobState.PARKED, error_code="refused", error_words="It refuses.")
    Alert.objects.create(key=f"job:upload:{job.pk}", code="refused", severity="critical", words="Given up (upload).")
    html = page(operator)
    assert "1 thing needs a hand." in html
    assert "Given up (upload)." not in html
    study.state = StudyState.RECEIVING  # more of it arrives, and its state tells of that
    study.save()
    assert "Given up (upload)." in page(operator)


def test_one_vault_that_is_away_is_one_thing_however_many_studies_wait_for_it(operator, vault) -> None:
    for _ in range(7):
        study = study_make(state=StudyState.FAILED_TRANSIENT, reason="Nothing listens there.")
        upload_make(revision_make(study), vault, JobState.READY, error_code="x", error_words="Nothing listens there.")
    lost = study_make(state=StudyState.FAILED_PERMANENT, reason="A stored object is damaged.")
    other = study_make(state=StudyState.FAILED_TRANSIENT, reason="The vault refused this one.")
    Lane.objects.filter(pk=vault.lane_id).update(faults=1, fault_words="Nothing listens there.")
    html = page(operator)
    assert "3 things need a hand." in html
    assert "7 uploads wait for it." in html
    for study in (lost, other):
        assert reverse("study-retry", args=(study.pk,)) in html


def test_trouble_leads_to_where_it_is_put_right(viewer, vault) -> None:
    Lane.objects.filter(pk=vault.lane_id).update(held=True, faults=1, fault_words="Enter a valid token.")
    Alert.objects.create(key="quarantine", code="quarantined", words="Objects wait.", link="/quarantine/")
    Alert.objects.create(key="source-silent:CT_1", code="source-silent", words="CT_1 has sent nothing.", link="/")
    html = page(viewer)
    assert html.count(">Go there</a>") == 1  # a silent source stands on this page itself
    assert f'<a href="/vaults/{vault.pk}/">Vault default: stopped, waits for a person</a>' in html
    assert '<a class="button" href="/quarantine/">Go there</a>' in html


def test_vault_that_is_switched_off_needs_nobody(vault, operator) -> None:
    """As the demonstration vault is from the day on when a real one is pinned."""
    vault_switch(vault, enabled=False, actor="process:first-start")
    uploaded_study_make(vault_make("real"))
    assert summary_now(now()).sentence == "The one study of today is in the vault."
    html = page(operator)
    assert "switched off" in html
    assert reverse("lane-resume", args=(vault.lane_id,)) not in html


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("GATEWAY_UPLOAD__ENABLED", "false", "UPLOAD.ENABLED is off"),
        ("GATEWAY_UPLOAD__PARALLEL_STUDIES", "0", "UPLOAD.PARALLEL_STUDIES"),
    ],
)
def test_uploads_that_an_option_stops_say_so_on_every_page(viewer, vault, monkeypatch, name, value, word) -> None:
    study = study_make(state=StudyState.SETTLED, reason="Waiting for its upload.")
    upload_make(revision_make(study), vault, JobState.READY)
    monkeypatch.setenv(name, value)
    assert summary_now(now()).tone == "warn"
    for path in ("/", "/vaults/", f"/studies/{study.pk}/"):
        assert word in viewer.get(path).content.decode(), path
