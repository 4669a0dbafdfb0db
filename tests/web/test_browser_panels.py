"""Connections, vaults, quarantine, alerts and audit in a real browser: with data, without, and what one does there."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils.timezone import now

from gateway_project.core.models import Alert, JobState
from gateway_project.core.services.alerts import alert_open
from network.models import LocalAE
from studies.models import QuarantinedObject, StudyState
from tests.web.factories import (
    attempt_make,
    day_make,
    lane_make,
    revision_make,
    series_make,
    study_make,
    upload_make,
    user_make,
    vault_make,
)
from tests.web.panel_rows import (
    ago,
    alert_make,
    endpoint_make,
    listeners_answer,
    live_row,
    quarantined_make,
    record_make,
    store_empty,
    told_make,
    trail_make,
)
from tests.web.test_browser import Watched, chromium, look, open_page, pytestmark

__all__ = ["chromium", "open_page", "pytestmark"]
PAGES = {"connections": "/connections/", "vaults": "/vaults/", "quarantine": "/quarantine/", "alerts": "/alerts/",
         "audit": "/audit/"}  # fmt: skip


def connections_fill() -> None:
    endpoint_make()
    endpoint_make("ward-tls", ae_title="GW_TLS", port=2762, tls=True, certificate="x.pem")
    alert_open("endpoint:ward-tls", code="endpoint-down", words="Endpoint ward-tls does not listen. Another program "
               "listens on port 2762 on 0.0.0.0: stop it, or choose another port.")  # fmt: skip
    record_make(minutes=3)
    record_make(
        "aborted", minutes=9, calling_ae_title="US_4", reason="idle", objects_stored=3, bytes_received=2_000_000
    )
    record_make("rejected", minutes=14, calling_ae_title="CT_FREMD", reason="called-ae-unknown", times=37,
                objects_stored=0, bytes_received=0)  # fmt: skip
    record_make("lost", minutes=55, calling_ae_title="MR_SUED_2", objects_refused=2)
    record_make(minutes=190, tls=True)


def vaults_fill() -> None:
    vault = vault_make("main", base_url="https://vault.hospital.example", proved_keys={
        "Xr9q0m3nLw2uVJ4yQ1cZ8tB6sA5dF7gH0kE3pRoTiUw": "2026-11-20T10:00:00+00:00"})  # fmt: skip
    day_make(vault)
    held = lane_make(name="vault:archive", title="Vault archive", held=True, faults=1, fault_code="unauthorized",
                     fault_words="The vault does not accept the token; enter a valid one.")  # fmt: skip
    vault_make("archive", lane=held, required=False, base_url="https://archive.example")
    waits = lane_make(name="vault:night", title="Vault night", waits_until=now() + timedelta(hours=3))
    vault_make("night", lane=waits, transport="stow", windows="22:00-06:00", recipient_key_id="")
    failing = lane_make(name="vault:far", title="Vault far", faults=3, open_until=now() + timedelta(seconds=100),
                        fault_words="The vault cannot be reached; check network and firewall.")  # fmt: skip
    vault_make("far", lane=failing, demonstration=True)
    study = study_make(state=StudyState.UPLOADING, patient_name="Okonkwo^Ada")
    series_make(study)
    job = upload_make(revision_make(study), vault, JobState.RUNNING, progress_done=600_000)
    attempt_make(job, "running", started_at=ago(seconds=9))


def quarantine_fill() -> None:
    quarantined_make()
    quarantined_make(b"\xff\xd8\xff\xe0", code="not-part10", source_ae_title="DROPFOLDER", count=12,
                     reason="The file is not a DICOM Part 10 file: remove it from the import, or export it again from "
                     "its source.")  # fmt: skip
    quarantined_make(keep=False, code="uid-invalid", reason="A UID holds something else than digits and dots, or over "
                     "64 of them: check the sender.", size_bytes=26_000_000)  # fmt: skip
    quarantined_make(state="accepted", decided_by="user:anna", decided_at=ago(hours=1))


def alerts_fill() -> None:
    told_make(alert_make(severity="critical", minutes=12, count=48, code="disk-full", words="The store's disk is full: "
                         "objects are refused with A700 until there is room. Make room now."))  # fmt: skip
    told_make(alert_make("lane:vault:main", minutes=40, words="Vault main: The vault cannot be reached; check network "
                         "and firewall."), state=JobState.READY)  # fmt: skip
    alert_make(severity="info", minutes=90, words="A study changed after its upload.")
    alert_make(minutes=300, acknowledged_at=ago(minutes=200), acknowledged_by="user:anna",
               acknowledged_note="Technician is told, comes on Monday.")  # fmt: skip
    told_make(alert_make(minutes=700, healed_at=ago(minutes=650), healed_notified_at=ago(minutes=649)), kind="healed")
    alert_make(minutes=9000, healed_at=ago(minutes=8990), acknowledged_by="user:ben", acknowledged_at=ago(minutes=8995))


FILLS: dict[str, Callable[[], None]] = {
    "connections": connections_fill, "vaults": vaults_fill, "quarantine": quarantine_fill, "alerts": alerts_fill,
    "audit": trail_make,
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_panel_with_data(open_page: Callable[[], Watched], name: str) -> None:
    FILLS[name]()
    watched = open_page()
    quiet = live_row(calling_ae_title="MR_SUED_2", bytes_per_second=0.0, objects_refused=1, tls=True)
    unasked = live_row(association_id="", calling_ae_title="", called_ae_title="", objects_stored=0, bytes_received=0)
    with listeners_answer(live_row(), quiet, unasked):
        watched.enter(user_make("administrator", username="eva"))
        watched.go(PAGES[name])
        look(watched, f"panel-{name}", manual=f"{name}.png")
    assert watched.faults == []
    store_empty()


@pytest.mark.parametrize("name", PAGES)
def test_panel_without_data(open_page: Callable[[], Watched], name: str) -> None:
    watched = open_page()
    watched.enter(user_make("administrator", username="eva"))
    watched.go(PAGES[name])
    look(watched, f"panel-{name}-empty")
    assert watched.faults == []


def test_one_vault_and_one_refused_object(open_page: Callable[[], Watched]) -> None:
    vaults_fill()
    quarantine_fill()
    watched = open_page()
    watched.enter(user_make("operator", username="anna"))
    watched.page.goto(watched.origin + "/vaults/")
    watched.page.click("h2 a:has-text('main')")
    look(watched, "panel-vault")
    watched.go(f"/quarantine/{QuarantinedObject.objects.order_by('pk')[0].pk}/")
    look(watched, "panel-quarantined")
    assert watched.faults == []
    store_empty()


def test_discarding_says_what_it_will_do_and_does_it(open_page: Callable[[], Watched]) -> None:
    quarantine_fill()
    watched = open_page()
    watched.enter(user_make("operator", username="anna"))
    watched.go("/quarantine/")
    page = watched.page
    for tick in page.locator("input[name=object]").all()[:2]:
        tick.check()
    page.click("text=Discard …")
    page.wait_for_selector("text=Discard 2 objects?")
    look(watched, "panel-confirm")
    assert QuarantinedObject.objects.filter(state="open").count() == 3
    page.click("text=Discard 2 objects for good")
    page.wait_for_selector("text=2 objects discarded.")
    assert QuarantinedObject.objects.filter(state="open").count() == 1
    assert watched.faults == []
    store_empty()


def test_what_is_ticked_or_written_survives_the_refresh(open_page: Callable[[], Watched]) -> None:
    alert = alert_make()
    watched = open_page()
    page = watched.page
    page.clock.install()
    watched.enter(user_make("operator", username="anna"))
    watched.go("/alerts/")
    page.fill(f"#note-{alert.pk}", "Techn")
    Alert.objects.update(words="Lower still.")
    alert_make("other")
    page.clock.run_for(3100)
    page.wait_for_selector("text=2 things need a look")
    assert page.input_value(f"#note-{alert.pk}") == "Techn"
    page.keyboard.type("iker kommt")
    page.keyboard.press("Tab")  # what is written stays when the focus has gone on to the button
    Alert.objects.filter(pk=alert.pk).update(words="Lowest.")
    alert_make("third")
    page.clock.run_for(3100)
    page.wait_for_selector("text=3 things need a look")
    assert page.input_value(f"#note-{alert.pk}") == "Techniker kommt"
    page.click(f"#alert-{alert.pk} button")
    page.wait_for_selector("text=Acknowledged, still open")
    assert Alert.objects.get(pk=alert.pk).acknowledged_note == "Techniker kommt"
    assert watched.faults == []


def test_ending_an_association(open_page: Callable[[], Watched]) -> None:
    LocalAE.objects.all().delete()
    endpoint_make()
    watched = open_page()
    row = live_row()
    with listeners_answer(row) as ended:
        watched.enter(user_make("operator", username="anna"))
        watched.go("/connections/")
        watched.page.click(".c-act button")
        watched.page.wait_for_selector("text=is being ended")
    assert ended == [row["association_id"]]
    assert watched.faults == []


def test_words_without_a_space_push_no_page_sideways(open_page) -> None:
    """A name and a description may be 64 letters in a row."""
    long = "X" * 64
    vault, study = vault_make(), study_make(
        patient_name=f"{long}^{long}", study_description=long, patient_id=long, accession_number="9" * 16,
        state=StudyState.UPLOADING, reason=long,
    )  # fmt: skip
    series = series_make(study, series_description=long, manufacturer=long, body_part_examined="B" * 16)
    job = upload_make(revision_make(study), vault, JobState.RUNNING, progress_total=0)
    attempt_make(job, "running", started_at=ago(seconds=9))
    watched = open_page()
    watched.enter(user_make("operator", username="anna"))
    page = f"/studies/{study.pk}/"
    for number, path in enumerate(
        (
            "/studies/",
            page,
            f"{page}series/{series.pk}/",
            f"{page}series/{series.pk}/preview/",
            f"{page}custody/",
            "/vaults/",
            f"/vaults/{vault.pk}/",
        )
    ):
        watched.go(path)
        look(watched, f"long-{number}")
    assert watched.page.locator("table.attempts td.number:visible").last.bounding_box()["x"] < 1280 * 0.6
    assert "just begun" in watched.page.inner_text("main")
