"""Vaults: how each lane stands and the button that helps, what waits and runs, whose key it is sealed for."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from gateway_project.core.models import AuditEvent, JobState, Lane
from tests.web.factories import attempt_make, lane_make, revision_make, series_make, study_make, upload_make, vault_make
from tests.web.panel_rows import SCRIPT, ago
from uploads.envelope.keys import jwk_from_key, key_generate, thumbprint
from uploads.models import Vault

pytestmark = pytest.mark.django_db
PAGE = "/vaults/"


def page(client: Client, address: str = PAGE) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer.content[:300]
    return answer.content.decode()


def job_make(vault: Vault, state: str, **values: object):
    study = study_make()
    series_make(study)
    return upload_make(revision_make(study), vault, state, **values)


@pytest.mark.parametrize("path", [PAGE, "/vaults/live/", "/vaults/{pk}/", "/vaults/{pk}/live/"])
@pytest.mark.parametrize(("role", "status"), [("viewer", 200), ("administrator", 200), ("integration", 403), ("", 403)])
def test_staff_sees_it(client_as, vault, path: str, role: str, status: int) -> None:
    assert client_as(role).get(path.format(pk=vault.pk)).status_code == status


def test_without_a_vault_the_page_says_how_to_set_one_up(viewer, administrator) -> None:
    html = page(viewer)
    assert "No vault is set up: studies are received and wait here." in html
    assert "manage.py vaultpin" in html
    assert "Add a DICOMweb server" not in html
    assert "Add a DICOMweb server" in page(administrator)


@pytest.mark.parametrize(
    ("lane", "words", "button"),
    [
        ({}, "takes uploads", "Pause"),
        ({"paused": True}, "Paused by a person", "Resume"),
        (
            {"held": True, "faults": 1, "fault_words": "The token is refused."},
            "The token is refused. No retry",
            "Resume",
        ),
        ({"faults": 2, "open_until": 60, "fault_words": "It is away."}, "It is away. It is tried again", "Try now"),
        ({"waits_until": 3600}, "outside its time window", "Pause"),
    ],
)
def test_lane_says_how_it_stands_and_offers_the_button(client_as, lane: dict, words: str, button: str) -> None:
    lane = {name: now() + timedelta(seconds=v) if name.endswith("_until") else v for name, v in lane.items()}
    vault_make(lane=lane_make(name="vault:default", **lane))
    assert words in page(client_as("viewer"))
    assert f"{button}</button>" not in page(client_as("viewer"))
    assert f"{button}</button>" in page(client_as("operator"))


def test_pause_and_resume_are_acts_of_an_operator_and_audited(client_as, vault) -> None:
    pause, resume = reverse("lane-pause", args=(vault.lane_id,)), reverse("lane-resume", args=(vault.lane_id,))
    assert client_as("viewer").post(pause).status_code == 403
    operator = client_as("operator")
    assert operator.get(pause).status_code == 405
    answer = operator.post(pause, {"next": "/vaults/"}, follow=True)
    assert "is paused: what is under way ends" in answer.content.decode()
    assert Lane.objects.get(pk=vault.lane_id).paused
    operator.post(resume, {"next": "/vaults/"})
    assert not Lane.objects.get(pk=vault.lane_id).paused
    actions = [event.detail["action"] for event in AuditEvent.objects.filter(subject=f"lane:{vault.lane.name}")]
    assert sorted(actions) == ["pause", "resume"]
    assert client_as("operator", enforce_csrf_checks=True).post(pause).status_code == 403


def test_what_waits_runs_and_was_given_up(viewer, vault) -> None:
    job_make(vault, JobState.READY, created_at=ago(minutes=12))
    job_make(vault, JobState.READY, created_at=ago(minutes=3))
    running = job_make(vault, JobState.RUNNING, progress_done=500_000)
    attempt_make(running, "running", started_at=ago(seconds=10))
    assert "The vault takes uploads; 1 are under way." not in page(viewer)
    html = page(viewer)
    assert "2 uploads wait; the oldest was planned 12 min ago." in html
    assert "left</span>" in html
    assert running.revision.study.patient_name.split("^")[0] in html
    job_make(vault, JobState.PARKED)
    assert "1 upload given up; a person is needed." in page(viewer)


def test_one_vault_shows_keys_limits_attempts_and_changes(client_as, vault) -> None:
    for _ in range(25):
        attempt_make(job_make(vault, JobState.DONE), error_words="")
    attempt_make(job_make(vault, JobState.READY), "failed", error_words="The vault answered 503.")
    html = page(client_as("viewer"), f"{PAGE}{vault.pk}/")
    for words in ("Pinned keys", "Not proved yet", "If the recipient loses its key", "The vault answered 503.",
                  "20 attempts on this page", "the well-known authorities"):  # fmt: skip
        assert words in html, words
    assert "MARK-secret-token" not in html
    assert "Change in the administration" not in html
    older = html.split('rel="next" href="')[1].split('"')[0]
    assert "6 attempts on this page" in page(client_as("viewer"), f"{PAGE}{vault.pk}/{older}")
    Vault.objects.update(proved_keys={vault.recipient_key_id: "2026-11-01T00:00:00+00:00"})
    html = page(client_as("administrator"), f"{PAGE}{vault.pk}/")
    assert "Proved: its holder has opened a canary." in html
    assert "Change in the administration" in html


def test_demonstration_and_what_is_not_encrypted_are_marked(viewer) -> None:
    vault_make("demo", demonstration=True)
    stow = vault_make("pacs", transport="stow", recipient_key_id="")
    html = page(viewer)
    assert "demonstration</span>" in html
    assert "not end-to-end encrypted" in html
    assert "Pinned keys" not in page(viewer, f"{PAGE}{stow.pk}/")


def test_switched_off_vault_and_uploads_are_said(viewer, vault, monkeypatch) -> None:
    monkeypatch.setenv("GATEWAY_UPLOAD__ENABLED", "false")
    assert "Uploads are switched off (UPLOAD.ENABLED)" in page(viewer)
    Vault.objects.update(enabled=False)
    assert "switched off" in page(viewer)


@pytest.mark.parametrize("query", ["before=x", "after=-1", "before=1e9"])
def test_nonsense_in_the_address_is_refused(viewer, vault, query: str) -> None:
    assert viewer.get(f"{PAGE}{vault.pk}/?{query}").status_code == 400
    assert viewer.get(f"{PAGE}{vault.pk + 1}/").status_code == 404


def test_script_in_names_is_text(viewer) -> None:
    vault = vault_make(SCRIPT, lane=lane_make(name="vault:x", faults=1, fault_words=SCRIPT))
    study = study_make(patient_name=SCRIPT)
    series_make(study)
    attempt_make(upload_make(revision_make(study), vault, JobState.RUNNING), "running", error_words=SCRIPT)
    for address in (PAGE, f"{PAGE}{vault.pk}/"):
        assert "<script>alert" not in page(viewer, address)


def test_pages_cost_the_same_however_much_there_is(viewer, django_assert_max_num_queries) -> None:
    vaults = [vault_make(f"v{number}") for number in range(5)]
    for vault in vaults:
        attempt_make(job_make(vault, JobState.RUNNING), "running")
        attempt_make(job_make(vault, JobState.DONE))
    page(viewer)  # the session is written now and then
    with django_assert_max_num_queries(11):
        page(viewer)
    with django_assert_max_num_queries(13):
        page(viewer, f"{PAGE}{vaults[0].pk}/")


def test_a_recovery_key_that_is_not_proved_is_told_with_its_command(viewer) -> None:
    vault = vault_make("north")
    recovery = jwk_from_key(key_generate())
    vault.proved_keys = {vault.recipient_key_id: "2026-01-01T00:00:00+00:00"}
    vault.recovery_jwk = recovery
    vault.save()
    html = page(viewer, f"/vaults/{vault.pk}/")
    assert "<code>manage.py vaultcanary north --recovery --send</code>" in html
    assert "<code>manage.py vaultcanary north --send</code>" not in html
    assert html.count("Not proved yet") == 1
    vault.proved_keys |= {thumbprint(recovery): "2026-01-01T00:00:00+00:00"}
    vault.save()
    assert "may allow deletion here" in page(viewer, f"/vaults/{vault.pk}/")
