"""The list and one study: who may see and do what, what stands on the pages, and what they cost."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from gateway_project.core.models import Alert, AuditEvent, JobState
from gateway_project.wiring.browse import cursor_read, cursor_text
from studies.models import Study, StudyState
from studies.selectors import PAGE_STUDIES
from tests.web.factories import (
    attempt_make,
    day_make,
    lane_make,
    number,
    revision_make,
    series_make,
    study_make,
    upload_make,
    uploaded_study_make,
)

pytestmark = pytest.mark.django_db
LIST = "/studies/"


def page(client: Client, path: str = LIST) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.content[:300]
    return answer.content.decode()


# -- who ---------------------------------------------------------------------------------------------------------------

SEEING = ["/studies/", "/studies/live/", "/studies/{study}/", "/studies/{study}/live/"]
ACTING = [
    "/studies/{study}/settle/",
    "/studies/{study}/retry/",
    "/lanes/{lane}/resume/",
    "/alerts/{alert}/acknowledge/",
]


@pytest.fixture
def subjects() -> dict[str, int]:
    alert = Alert.objects.create(key="disk", code="disk-low", words="The store's disk runs low.")
    return {"study": study_make().pk, "lane": lane_make(paused=True).pk, "alert": alert.pk}


@pytest.mark.parametrize("path", SEEING)
@pytest.mark.parametrize(
    ("role", "status"),
    [("viewer", 200), ("operator", 200), ("administrator", 200), ("integration", 403), ("", 403)],
)
def test_pages_are_seen_by_staff_roles_only(client_as, subjects, path: str, role: str, status: int) -> None:
    assert client_as(role).get(path.format(**subjects)).status_code == status


@pytest.mark.parametrize("path", ACTING)
@pytest.mark.parametrize(
    ("role", "status"), [("viewer", 403), ("operator", 302), ("administrator", 302), ("integration", 403), ("", 403)]
)
def test_acts_need_operator_or_administrator(client_as, subjects, path: str, role: str, status: int) -> None:
    assert client_as(role).post(path.format(**subjects)).status_code == status


@pytest.mark.parametrize("path", SEEING + ACTING)
def test_strangers_are_sent_to_the_login(client_as, subjects, path: str) -> None:
    client_as("viewer")
    address = path.format(**subjects)
    answer = Client().post(address) if path in ACTING else Client().get(address)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/?next=")


@pytest.mark.parametrize("path", ACTING)
def test_acts_are_not_done_by_a_get(operator, subjects, path: str) -> None:
    assert operator.get(path.format(**subjects)).status_code == 405


@pytest.mark.parametrize("path", ACTING)
def test_acts_need_the_form_token(client_as, subjects, path: str) -> None:
    answer = client_as("operator", enforce_csrf_checks=True).post(path.format(**subjects))
    assert answer.status_code == 403
    assert "Nothing was changed" in answer.content.decode()


def test_inactive_account_sees_nothing(client_as) -> None:
    client = client_as("viewer")
    from django.contrib.auth.models import User

    User.objects.filter(username__startswith="viewer").update(is_active=False)
    assert client.get(LIST).status_code == 302


# -- the list ----------------------------------------------------------------------------------------------------------


def test_list_shows_a_row_with_words_for_everything(viewer, vault) -> None:
    study = uploaded_study_make(
        vault, patient_name="Muster^Eva^Maria^Dr.=漢字^字", study_description="MR Knie", modalities="MR\\SR"
    )
    html = page(viewer)
    for words in ("Muster, Eva Maria", study.patient_id, "MR Knie", "uploaded", "1.6\u00a0MB", f"/studies/{study.pk}/"):
        assert words in html


def test_markup_in_a_patients_name_is_text(viewer) -> None:
    evil = "<img src=x onerror=alert(1)>"
    study = study_make(patient_name=evil, study_description=evil, patient_id=evil, source_ae_title="<b>AE", reason=evil,
                       state=StudyState.FAILED_PERMANENT)  # fmt: skip
    series_make(study, series_description=evil, manufacturer=evil)
    for path in (LIST, f"/studies/{study.pk}/"):
        html = page(viewer, path)
        assert "<img src=x" not in html
        assert "&lt;img src=x onerror=alert(1)&gt;" in html
        assert "<b>AE" not in html


def test_empty_list_says_how_to_send_a_first_study(viewer, monkeypatch) -> None:
    monkeypatch.setenv("GATEWAY_DICOM__AE_TITLE", "HAUS_4")
    monkeypatch.setenv("GATEWAY_DICOM__PORT", "10104")
    html = page(viewer)
    assert "Ready. No study has arrived yet." in html
    assert "make demo" in html
    assert "storescu -aec HAUS_4 +sd +r localhost 10104 folder/" in html


def test_search_travels_in_the_body_and_stays_out_of_every_address(viewer, vault) -> None:
    wanted = uploaded_study_make(vault, patient_name="Zander^Ole")
    uploaded_study_make(vault, patient_name="Muster^Anna")
    answer = viewer.post(LIST, {"query": "ole zander"})
    assert answer["Location"] == LIST
    html = page(viewer)
    assert f"/studies/{wanted.pk}/" in html
    assert "Muster, Anna" not in html
    assert "Zander" not in "".join(part.split('"')[0] for part in html.split('href="')[1:])
    assert viewer.post(LIST, {"query": ""}).status_code == 302
    assert "Muster, Anna" in page(viewer)


@pytest.mark.parametrize("field", ["patient_id", "accession_number", "study_instance_uid"])
def test_search_understands_identifiers(viewer, field: str) -> None:
    wanted, other = study_make(), study_make()
    viewer.post(LIST, {"query": f" {getattr(wanted, field)} "})
    html = page(viewer)
    assert f'data-row="{wanted.pk}"' in html
    assert f'data-row="{other.pk}"' not in html


def test_search_understands_dates_and_uids_of_series_and_instances(viewer) -> None:
    wanted, other = study_make(study_date="2024-02-29"), study_make()
    series = series_make(wanted)
    series_make(other)
    uids = [series.series_instance_uid, series.instances.all()[0].sop_instance_uid]
    for query in ("2024-02-29", "20240229", "29.02.2024", *uids):
        viewer.post(LIST, {"query": query})
        html = page(viewer)
        assert f'data-row="{wanted.pk}"' in html, query
        assert f'data-row="{other.pk}"' not in html, query


@pytest.mark.parametrize(
    "query", ["%", "_", "'; DROP TABLE studies_study; --", "\x00", "x" * 5000, "^^^", "=", "\u202e"]
)
def test_odd_searches_find_nothing_and_break_nothing(viewer, query: str) -> None:
    study_make()
    assert viewer.post(LIST, {"query": query}).status_code == 302
    assert viewer.get(LIST).status_code == 200
    assert Study.objects.count() == 1


def test_filter_by_state_lives_in_the_address(viewer) -> None:
    stuck = study_make(state=StudyState.FAILED_TRANSIENT)
    fine = study_make(state=StudyState.UPLOADED)
    html = page(viewer, LIST + "?state=failed")
    assert f'data-row="{stuck.pk}"' in html
    assert f'data-row="{fine.pk}"' not in html


@pytest.mark.parametrize(
    "query",
    [
        "state=nonsense",
        "before=x",
        "before=1-",
        "after=-1-1",
        "before=99999999999999999999-1",
        "before=1-99999999999999999999",
    ],
)
def test_nonsense_in_the_address_is_refused_politely(viewer, query: str) -> None:
    answer = viewer.get(f"{LIST}?{query}")
    assert answer.status_code == 400
    assert "was not understood" in answer.content.decode()


def test_paging_goes_through_every_study_once_in_both_directions(viewer) -> None:
    moment = now()
    total = 2 * PAGE_STUDIES + 3
    for index in range(total):  # several share a moment: the id decides
        study_make(received_at=moment - timedelta(seconds=index // 3))
    seen: list[list[int]] = []
    path = LIST
    while path:
        context = viewer.get(path).context
        seen.append([row.study.pk for row in context["listing"].rows])
        path = f"{LIST}?before={context['listing'].older}" if context["listing"].older else ""
    assert [len(ids) for ids in seen] == [PAGE_STUDIES, PAGE_STUDIES, 3]
    assert len({pk for ids in seen for pk in ids}) == total
    newer = viewer.get(f"{LIST}?before={_edge(seen[1])}").context["listing"].newer
    back = viewer.get(f"{LIST}?after={newer}").context["listing"]
    assert [row.study.pk for row in back.rows] == seen[1]


def _edge(ids: list[int]) -> str:
    return cursor_text(Study.objects.get(pk=ids[-1]))


def test_cursor_keeps_the_microsecond() -> None:
    study = study_make()
    assert cursor_read(cursor_text(study)) == (study.received_at, study.pk)


def test_list_costs_the_same_queries_for_one_study_as_for_a_page(viewer, vault, django_assert_max_num_queries) -> None:
    day_make(vault)
    for _ in range(PAGE_STUDIES):
        study_make(state=StudyState.UPLOADING)
    page(viewer)  # the session and the settings are read and written now and then
    with django_assert_max_num_queries(15):
        page(viewer)


def test_pages_with_patients_are_not_kept_by_browsers(viewer) -> None:
    for path in (LIST, f"/studies/{study_make().pk}/"):
        assert "no-store" in viewer.get(path)["Cache-Control"]


# -- one study ---------------------------------------------------------------------------------------------------------


def test_study_page_tells_everything_from_first_object_to_receipt(viewer, vault) -> None:
    study = study_make(state=StudyState.UPLOADED, received_at=now() - timedelta(hours=1))
    series_make(study, instances=12)
    job = upload_make(revision_make(study), vault)
    attempt_make(job, "failed", error_words="The vault answered 503.")
    attempt_make(job, started_at=job.revision.settled_at + timedelta(seconds=30))
    html = page(viewer, f"/studies/{study.pk}/")
    in_order = [
        "12 objects received from CT_NORD_1",
        "Settled",
        "Upload to vault default failed",
        "The vault answered 503.",
        "Uploaded to vault default, attempt 2",
        "Receipt of vault default verified",
    ]
    timeline = html[html.index("What happened") :]
    places = [timeline.index(words) for words in in_order]
    assert places == sorted(places)
    assert f'data-copy="{job.receipt_id}"' in html
    assert f'data-copy="{vault.recipient_key_id}"' in html
    assert f'data-copy="{study.study_instance_uid}"' in html
    assert "MARK-secret-token" not in html


def test_objects_of_many_associations_become_one_line_of_the_timeline(viewer) -> None:
    study = study_make()
    for _ in range(30):
        series_make(study, instances=1)
    study.instances.update(received_at=study.received_at)
    html = page(viewer, f"/studies/{study.pk}/")
    assert html.count("objects received from") == 1
    assert "30 objects received from" in html


def test_open_study_says_when_it_settles_and_offers_to_do_it_now(operator, viewer) -> None:
    study = study_make(open_since=now(), received_at=now())
    path = f"/studies/{study.pk}/"
    html = page(operator, path)
    assert "Settles in" in html
    assert "data-until=" in html
    assert reverse("study-settle", args=(study.pk,)) in html
    assert reverse("study-settle", args=(study.pk,)) not in page(viewer, path)


def test_settle_now_settles_and_names_who_asked(operator, vault) -> None:
    study = study_make(open_since=now())
    series_make(study, instances=4)
    answer = operator.post(reverse("study-settle", args=(study.pk,)), follow=True)
    html = answer.content.decode()
    assert "Settled: 4 objects will travel together." in html
    assert "asked for by hand, by operator-" in html
    revision = study.revisions.get()
    assert (revision.reason, revision.instance_count) == ("asked", 4)
    assert revision.upload_jobs.get().vault == vault
    again = operator.post(reverse("study-settle", args=(study.pk,)), follow=True)
    assert "Nothing new has arrived" in again.content.decode()


def test_retry_sets_a_parked_upload_going_and_stands_in_the_timeline(operator, vault) -> None:
    study = study_make(state=StudyState.FAILED_PERMANENT, reason="Given up.")
    series_make(study)
    job = upload_make(revision_make(study), vault, JobState.PARKED, error_code="x", error_words="Given up.")
    path = f"/studies/{study.pk}/"
    assert reverse("study-retry", args=(study.pk,)) in page(operator, path)
    html = operator.post(reverse("study-retry", args=(study.pk,)), follow=True).content.decode()
    job.refresh_from_db()
    assert job.state == JobState.READY
    assert "1 upload is tried again now." in html
    assert "Another try was asked for" in html
    assert AuditEvent.objects.filter(subject=f"study:{study.pk}", actor__startswith="user:operator").exists()


def test_vault_that_was_away_for_long_makes_no_endless_timeline(viewer, vault) -> None:
    study = study_make(state=StudyState.FAILED_TRANSIENT)
    job = upload_make(revision_make(study), vault, JobState.READY, error_code="x")
    for minutes in range(35):
        attempt_make(job, "failed", started_at=study.received_at + timedelta(minutes=minutes))
    html = page(viewer, f"/studies/{study.pk}/")
    assert "5 earlier attempts to upload to vault default" in html
    assert [f"failed, attempt {number}<" in html for number in (5, 6, 35)] == [False, True, True]
    assert html.index("earlier attempts") < html.index("attempt 6<") < html.index("attempt 35<")
    assert "<dt>Attempts</dt><dd>35</dd>" in html


def test_running_upload_shows_progress_in_bytes(viewer, vault) -> None:
    study = study_make(state=StudyState.UPLOADING)
    series_make(study, instances=10, size_bytes=1_000_000)
    job = upload_make(revision_make(study), vault, JobState.RUNNING, progress_done=2_500_000)
    attempt_make(job, "running", started_at=now() - timedelta(seconds=10), bytes_sent=1_000_000)
    html = page(viewer, f"/studies/{study.pk}/")
    assert 'max="100" value="25"' in html
    assert "2.5\u00a0MB of 10.0\u00a0MB" in html
    assert "left" in html


def test_study_page_costs_the_same_for_a_large_study(viewer, vault, django_assert_max_num_queries) -> None:
    study = study_make(state=StudyState.UPLOADED)
    for _ in range(12):
        series_make(study, instances=20)
    for _ in range(3):
        job = upload_make(revision_make(study), vault)
        for _ in range(5):
            attempt_make(job, "failed")
    page(viewer, f"/studies/{study.pk}/")  # the session and the settings are read and written now and then
    with django_assert_max_num_queries(18):
        page(viewer, f"/studies/{study.pk}/")


def test_demonstration_is_marked_on_every_page(viewer, vault) -> None:
    study = uploaded_study_make(vault)
    for path in (LIST, f"/studies/{study.pk}/"):
        assert "DEMONSTRATION VAULT" not in page(viewer, path)
    vault.demonstration = True
    vault.save()
    for path in (LIST, f"/studies/{study.pk}/"):
        assert "DEMONSTRATION VAULT" in page(viewer, path)


@pytest.mark.parametrize("pk", [0, 999_999, 10**30])
def test_unknown_study_is_not_found(viewer, operator, pk: int) -> None:
    assert viewer.get(f"/studies/{pk}/").status_code == 404
    assert operator.post(f"/studies/{pk}/settle/").status_code == 404
    assert operator.post(f"/lanes/{pk}/resume/").status_code == 404
    assert operator.post(f"/alerts/{pk}/acknowledge/").status_code == 404


def test_live_parts_are_those_of_the_page(viewer, vault) -> None:
    study = uploaded_study_make(vault, patient_name=f"Live{number()}^Eva")
    for path in (LIST, f"/studies/{study.pk}/"):
        live = page(viewer, path + "live/")
        whole = page(viewer, path)
        assert "<html" not in live
        assert live.count("data-part=") == whole.count("data-part=")
        assert f'data-live="{path}live/"' in whole
