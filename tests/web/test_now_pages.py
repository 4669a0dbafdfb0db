"""The Now page: what it says first, its charts and their tables, what waits, the disk, the sources; its cost."""

import datetime as dt
from types import SimpleNamespace

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from gateway_project.core.models import Alert, AuditEvent, JobState, Lease
from gateway_project.wiring import figures
from gateway_project.wiring.now import high_of
from network.selectors import LiveList
from studies.models import Arrival, QuarantinedObject, SourcePolicy, StudyState
from tests.web.factories import day_make, lane_make, revision_make, study_make, upload_make, uploaded_study_make
from tests.web.rollups import HOUR, hour_of, source_make, working_hours
from uploads.models import VaultCheck

pytestmark = pytest.mark.django_db
GB = 10**9


def page(client: Client, path: str = "/") -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.content[:300]
    return answer.content.decode()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch):
    """`disk(free, total)` in GB."""

    def set_to(free: float, total: float = 1000) -> None:
        usage = SimpleNamespace(total=int(total * GB), used=int((total - free) * GB), free=int(free * GB))
        monkeypatch.setattr(figures.shutil, "disk_usage", lambda _path: usage)

    return set_to


# -- who ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/now/live/"])
@pytest.mark.parametrize(
    ("role", "status"),
    [("viewer", 200), ("operator", 200), ("administrator", 200), ("integration", 403), ("", 403)],
)
def test_staff_roles_only(client_as, path: str, role: str, status: int) -> None:
    assert client_as(role).get(path).status_code == status
    assert client_as(role).post(path).status_code in (403, 405)


def test_stranger_is_sent_to_the_login(client_as) -> None:
    client_as("viewer")
    assert Client().get("/")["Location"] == "/login/?next=/"


def test_it_comes_after_login_and_first_in_the_navigation(viewer) -> None:
    html = page(viewer)
    assert html.index('aria-current="page">Now<') < html.index(">Studies<")
    assert "no-store" in viewer.get("/")["Cache-Control"]


# -- empty -------------------------------------------------------------------------------------------------------------


def test_empty_gateway_shows_the_first_steps_with_exact_commands(viewer, monkeypatch) -> None:
    monkeypatch.setenv("GATEWAY_DICOM__AE_TITLE", "HAUS_4")
    html = page(viewer)
    assert "Ready. No study has arrived yet." in html
    assert "make demo" in html
    assert "storescu -aec HAUS_4 +sd +r localhost 11112 folder/" in html
    assert "<figure" not in html


def test_first_study_replaces_the_first_steps(viewer) -> None:
    study_make(state=StudyState.RECEIVING)
    html = page(viewer)
    assert "make demo" not in html
    assert "Nothing had been received in the last 24 hours when it was counted" in html
    assert "No device has sent an object yet" in html
    assert 'data-part="table"' in html  # gateway.js reloads when this part is no longer the empty one


# -- what needs a hand -------------------------------------------------------------------------------------------------


def test_studies_page_points_here_for_what_needs_a_hand(operator) -> None:
    study_make(state=StudyState.FAILED_PERMANENT, reason="A stored object is not what was received.")
    lane_make(held=True, faults=1, fault_words="The vault refused the token (401).")
    here, there = page(operator), page(operator, "/studies/")
    assert "2 things need a hand." in here
    assert "2 things need a hand." in there
    assert "The vault refused the token (401)." in here
    assert "The vault refused the token (401)." not in there
    assert '<a href="/">See what, and what helps</a>' in there


def test_button_leads_back_here(operator) -> None:
    lane = lane_make(paused=True)
    assert 'name="next" value="/"' in page(operator)
    answer = operator.post(reverse("lane-resume", args=(lane.pk,)), {"next": "/"})
    assert answer["Location"] == "/"


# -- the charts --------------------------------------------------------------------------------------------------------


def test_received_chart_sums_half_hours_and_its_table_says_the_same(viewer) -> None:
    hour = hour_of(now() - 3 * HOUR)
    source_make("CT_1", [hour], objects=42, steps=True)
    context = viewer.get("/").context
    chart = context["view"].received
    assert len(chart.bars) == 48
    drawn = [bar for bar in chart.bars if bar.height != "0"]
    assert len(drawn) == 2
    assert float(drawn[0].height) < float(drawn[1].height) <= 100
    assert "12 objects, 6.0" in drawn[0].title
    assert [row[1] for row in chart.rows] == ["42"]
    html = page(viewer)
    assert html.count('<rect class="bar"') == 2
    assert 'role="img" aria-labelledby="chart-received" aria-describedby="chart-received-words"' in html
    assert "21.0\u00a0MB in all, the most at" in html
    assert 'style="' not in html


def test_time_to_vault_is_the_median_and_what_95_in_100_did_not_exceed(viewer, vault) -> None:
    moment = hour_of(now() - 2 * HOUR) + dt.timedelta(minutes=50)
    for seconds in (60, 120, 180, 240, 3000):
        study = study_make(state=StudyState.UPLOADED, received_at=moment - dt.timedelta(seconds=seconds))
        upload_make(revision_make(study), vault, receipt_at=moment, ended_at=moment)
    chart = viewer.get("/").context["view"].delivered
    assert [row[1:] for row in chart.rows] == [("5", "3 min", "50 min")]
    (drawn,) = [bar for bar in chart.bars if bar.height != "0"]
    assert drawn.mark_y
    assert float(drawn.mark_y) < float(drawn.y)
    assert chart.top == "1 h"


def test_high_is_the_nearest_rank() -> None:
    assert high_of([float(n) for n in range(1, 101)]) == 95.0
    assert high_of([7.0]) == 7.0
    assert high_of([1.0, 2.0]) == 2.0


def test_what_is_older_than_a_day_is_not_drawn(viewer) -> None:
    source_make("CT_1", [hour_of(now()) - 30 * HOUR], steps=True)
    view = viewer.get("/").context["view"]
    assert view.received.bars == []
    assert view.received.empty in page(viewer)


# -- what waits, the disk ----------------------------------------------------------------------------------------------


def test_lines_show_state_number_and_oldest(viewer, vault) -> None:
    opened = now() - dt.timedelta(minutes=7)
    study_make(state=StudyState.RECEIVING, open_since=opened)
    made = [(JobState.READY, {}), (JobState.READY, {"error_code": "vault-503"}), (JobState.RUNNING, {})]
    for state, values in [*made, (JobState.PARKED, {"error_code": "x"}), (JobState.DONE, {})]:
        study = study_make(state=StudyState.SETTLED)
        created = now() - dt.timedelta(hours=2 if state == JobState.RUNNING else 90 if state == JobState.PARKED else 1)
        upload_make(revision_make(study), vault, state, created_at=created, **values)
    settling, lane = viewer.get("/").context["view"].lines
    assert (settling.count, settling.oldest) == (1, opened)
    assert (lane.title, lane.count, lane.running, lane.parked) == ("Vault default", 2, 1, 1)
    assert lane.words == "1 waiting to try again, 1 given up"
    assert (now() - lane.oldest) < dt.timedelta(hours=3), "what was given up does not wait"


def test_queues_that_share_a_lane_have_a_line_each(viewer, vault) -> None:
    for state in (JobState.READY, JobState.READY, JobState.PARKED):
        upload_make(revision_make(study_make(state=StudyState.SETTLED)), vault, state)
    VaultCheck.objects.create(vault=vault, lane=vault.lane, queue="verify")
    _settling, *lines = viewer.get("/").context["view"].lines
    assert {(line.title, line.count, line.link) for line in lines} == {
        ("Vault default: upload", 2, "failed"),
        ("Vault default: verify", 1, ""),
    }


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"held": True}, "stopped, waits for a person"),
        ({"paused": True}, "paused"),
        ({"open_until": "2026-01-01T00:00Z", "faults": 2}, "tries again"),
        ({"open_until": "2100-01-01T00:00Z", "faults": 2}, "waits after a fault"),
        ({"max_parallel": 0}, "allows no upload"),
        ({"waits_until": "2100-01-01T10:00Z"}, "begins at"),
        ({}, "nothing waits"),
    ],
)
def test_lane_says_how_it_stands(viewer, values: dict, word: str) -> None:
    study_make()
    lane_make(**values)
    assert word in page(viewer)


def test_disk_says_how_many_days_are_left(viewer, disk) -> None:
    source_make("CT_1", [hour_of(now()) - number * HOUR for number in range(10 * 24)], objects=1000)
    disk(free=125)  # 1 GB of it is not used: 124 GB at 12 GB a day
    html = page(viewer)
    assert "10 days left" in html
    assert "12.0\u00a0GB a day" in html or "12.1\u00a0GB a day" in html
    disk(free=0.5)
    assert "The disk is full: objects are refused." in page(viewer)


def test_disk_of_a_new_gateway_makes_no_guess(viewer, disk) -> None:
    source_make("CT_1", [hour_of(now())])
    disk(free=400)
    html = page(viewer)
    assert "400\u00a0GB free" in html
    assert "days left" not in html


def test_parts_that_do_not_run_are_the_first_thing_said(viewer, monkeypatch) -> None:
    study_make(state=StudyState.UPLOADED)
    QuarantinedObject.objects.create(sha256="0" * 64, size_bytes=1, code="c", reason="r")
    assert "The one study of today is in the vault." in page(viewer)
    monkeypatch.setattr(figures, "associations_live", lambda: LiveList(running=False))
    Lease.objects.all().delete()
    html = page(viewer)
    assert "2 things need a hand." in html
    assert "The listeners do not answer" in html
    assert "The workers do not run" in html
    assert "1 object" in html
    assert "2 things need a hand." in page(viewer, "/studies/")


def test_task_queue_that_does_not_answer_is_the_first_thing_said(viewer, monkeypatch) -> None:
    """Nothing settles then, and nothing is counted: what is shown must not look like a quiet day."""
    study_make(state=StudyState.RECEIVING)

    asked: list[object] = []

    class Away:
        def ping(self) -> bool:
            asked.append(self)
            raise ConnectionError

    monkeypatch.setattr(figures, "get_broker", Away)
    monkeypatch.setattr(figures._Broker, "away_until", 0.0)
    html = page(viewer)
    assert "1 thing needs a hand." in html
    assert "The task queue does not answer" in html
    assert "Start Redis" in html
    assert "Nothing had been received" not in html
    assert "No device has sent an object yet" not in html
    assert "1 thing needs a hand." in page(viewer, "/studies/")
    assert len(asked) == 1, "a silent one takes seconds: it is not waited for on every page"


# -- the sources -------------------------------------------------------------------------------------------------------


def test_silent_source_comes_first_and_an_administrator_may_stop_watching_it(administrator, operator) -> None:
    for number in range(14):
        source_make(f"CT_{number}", [hour_of(now()) - number * HOUR])
    silent = source_make("MG_1", [hour_of(now()) - 99 * HOUR])
    Alert.objects.create(key="source-silent:MG_1", code="source-silent", words="MG_1 has sent nothing.")
    view = administrator.get("/").context["view"]
    assert view.sources[0].line.source == silent
    assert (len(view.sources), view.sources_more) == (13, 2)
    assert "silent against its usual week" in page(operator)
    address = reverse("source-silence", args=(silent.pk,))
    assert address not in page(operator)
    assert operator.post(address).status_code == 403
    assert administrator.get(address).status_code == 405
    answer = administrator.post(address, {"watched": "0", "next": "/"}, follow=True)
    assert "MG_1 is no longer watched for silence." in answer.content.decode()
    assert not SourcePolicy.objects.get(calling_ae_title="MG_1").silence_watched
    assert Alert.objects.get(key="source-silent:MG_1").healed_at is not None
    assert AuditEvent.objects.filter(subject="source:MG_1", actor__startswith="user:administrator").exists()
    administrator.post(address, {"watched": "1"})
    assert SourcePolicy.objects.get(calling_ae_title="MG_1").silence_watched
    assert administrator.post(reverse("source-silence", args=(999_999,))).status_code == 404


def test_markup_in_a_name_is_text(viewer) -> None:
    evil = "<img src=x onerror=alert(1)>"
    study_make(patient_name=evil, state=StudyState.FAILED_PERMANENT, reason=evil)
    source_make("<b>AE", [hour_of(now())])
    html = page(viewer)
    assert "<img" not in html
    assert "<b>AE" not in html
    assert "&lt;b&gt;AE" in html


# -- its cost ----------------------------------------------------------------------------------------------------------


def test_page_costs_the_same_queries_whatever_there_is(viewer, vault, django_assert_max_num_queries) -> None:
    uploaded_study_make(vault)
    source_make("CT_0", [hour_of(now())], steps=True)
    page(viewer)  # the session and the settings are read and written now and then
    with django_assert_max_num_queries(20):
        page(viewer)
    day_make(vault)
    for number in range(20):
        source_make(f"MR_{number}", working_hours(now(), weeks=2), steps=True)
        lane_make(faults=1)
    with django_assert_max_num_queries(20):
        page(viewer)
    assert Arrival.objects.count() > 5_000


def test_live_parts_are_those_of_the_page(viewer, vault) -> None:
    uploaded_study_make(vault)
    live, whole = page(viewer, "/now/live/"), page(viewer)
    assert "<html" not in live
    assert live.count("data-part=") == whole.count("data-part=") == 7
    assert 'data-live="/now/live/"' in whole
