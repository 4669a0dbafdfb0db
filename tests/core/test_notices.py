"""Telling people of alerts: once on opening, once when worse, once on healing; and never a storm."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils.timezone import localtime, now

from gateway_project.core.errors import JobFault
from gateway_project.core.models import Alert, AlertNotice, AuditEvent, JobState, Lane
from gateway_project.core.options import REGISTRY as OPTIONS
from gateway_project.core.options import OptionError
from gateway_project.core.queues import REGISTRY
from gateway_project.core.services import jobs
from gateway_project.core.services.alerts import alert_acknowledge, alert_heal, alert_open, alerts_acknowledge_all
from gateway_project.core.services.notices import notice_send, notices_try, notices_write
from gateway_project.core.tasks import drain, tick
from tests.core.notice_servers import Mailbox, mail_server, options_set, port_free
from tests.uploads.scripted_server import answer, scripted

pytestmark = pytest.mark.django_db
BEGIN = now() + timedelta(minutes=5)


@pytest.fixture(autouse=True)
def settings_of_this_test_alone(db: None) -> Iterator[None]:
    OPTIONS.invalidate()
    yield
    OPTIONS.invalidate()


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def mailed_to(box: Mailbox, **values: object) -> None:
    options_set(
        ALERT_EMAIL_HOST="localhost",
        ALERT_EMAIL_PORT=box.port,
        ALERT_EMAIL_TLS="none",
        ALERT_EMAIL_TO=["anna@hospital.example"],
        **values,
    )


def hooked_to(url: str) -> None:
    options_set(ALERT_WEBHOOK_URL=url, ALERT_WEBHOOK_TOKEN="t", ALERT_WEBHOOK_ALLOW_LOOPBACK=True)


def work(moment: datetime) -> int:
    """What ticker and worker do at that moment: writes what is due, sends what is ready. Answers how many jobs ran."""
    notices_write(moment)
    queue, ran = REGISTRY.queues["notices"], 0
    while (job := jobs.job_claim(queue, now=moment)) is not None:
        try:
            notice_send(job, now=moment)  # type: ignore[arg-type]
        except JobFault as fault:
            jobs.job_failed(queue, job, fault, now=moment)
        else:
            jobs.job_done(queue, job, now=moment)
        ran += 1
    return ran


def open_it(key: str = "disk", severity: str = "warning", words: str = "The disk runs low.") -> Alert:
    alert_open(key, code="x", words=words, severity=severity)
    return Alert.objects.get(key=key, healed_at=None)


def test_opening_and_healing_are_told_once_each() -> None:
    with mail_server() as box:
        mailed_to(box)
        open_it()
        for seconds in (0, 10, 400, 800):
            work(at(seconds))
        assert box.subjects == ["[gateway-01] Needs a look: The disk runs low."]
        open_it(words="Lower still.")
        work(at(900))
        alert_heal("disk")
        for seconds in (1000, 1400, 1800):
            work(at(seconds))
        assert box.subjects[1:] == ["[gateway-01] Well again: Lower still."]
        assert "well again since" in box.text()


def test_what_became_worse_is_news_and_what_became_milder_is_not() -> None:
    with mail_server() as box:
        mailed_to(box)
        alert_acknowledge(open_it(), actor="user:anna")
        work(at(0))
        assert box.mails == []
        open_it(severity="critical")
        work(at(400))
        open_it(severity="warning")
        open_it(severity="critical")
        work(at(900))
        assert box.subjects == ["[gateway-01] Needs a hand now: The disk runs low."]


def test_alert_that_heals_at_once_is_told_to_nobody() -> None:
    with mail_server() as box:
        mailed_to(box, ALERT_GROUP_SECONDS=3600.0)
        open_it()
        assert notices_write(at(0)) == 0
        alert_heal("disk")
        assert work(at(8000)) == 0
        assert box.mails == []


def test_acknowledged_between_writing_and_sending_is_left_out() -> None:
    with mail_server() as box:
        mailed_to(box)
        open_it("a", words="Seen already.")
        open_it("b", words="Still news.")
        notices_write(at(0))
        alert_acknowledge(Alert.objects.get(key="a"), actor="user:anna", note="on it")
        work(at(1))
        assert box.subjects == ["[gateway-01] Needs a look: Still news."]
        alerts_acknowledge_all(actor="user:anna")
        open_it("c")
        notices_write(at(400))
        assert alerts_acknowledge_all(actor="user:anna", note="mine") == 1
        work(at(401))
        assert AlertNotice.objects.order_by("-pk").first().dropped
        assert len(box.mails) == 1
        assert Alert.objects.get(key="c").acknowledged_note == "mine"
        assert AuditEvent.objects.filter(detail__action="alert acknowledged").count() == 3


def test_many_at_once_make_one_message() -> None:
    with mail_server() as box:
        mailed_to(box)
        for number in range(300):
            open_it(f"thing:{number}", words=f"Thing {number} is wrong.")
        work(at(0))
        assert box.subjects == ["[gateway-01] 300 alerts: 300 need a look"]
        assert "and 250 more." in box.text()


def test_least_severity_and_quiet_hours() -> None:
    with mail_server() as box:
        local = localtime(BEGIN)
        quiet = f"{local - timedelta(hours=1):%H:%M}-{local + timedelta(hours=1):%H:%M}"
        mailed_to(box, ALERT_QUIET_HOURS=quiet)
        open_it("info", severity="info")
        open_it("warning", words="Can wait.")
        open_it("healed", words="Heals in the night.")
        open_it("critical", severity="critical", words="Cannot wait.")
        work(at(0))
        assert box.subjects == ["[gateway-01] Needs a hand now: Cannot wait."]
        alert_heal("healed")
        work(at(7500))
        assert box.subjects[1:] == ["[gateway-01] Needs a look: Can wait."]


def test_messages_keep_their_distance_but_a_new_critical_alert_does_not_wait() -> None:
    with mail_server() as box:
        mailed_to(box)
        open_it("a")
        work(at(0))
        open_it("b")
        work(at(60))
        assert len(box.mails) == 1
        open_it("c", severity="critical", words="Now.")
        work(at(61))
        assert box.subjects[1:] == ["[gateway-01] 2 alerts: 1 needs a hand now, 1 needs a look"]
        alert_heal("c")
        work(at(90))
        open_it("c", severity="critical", words="Now again.")
        work(at(120))
        assert len(box.mails) == 2
        work(at(400))
        assert len(box.mails) == 3


def test_weekend_without_a_mail_server_ends_in_one_mail_not_in_a_storm() -> None:
    """Fifty hours of an alert that comes and goes, of others that stay, and nobody to tell."""
    port = port_free()
    mailed_to(Mailbox(port=port))
    open_it("stays", words="Stays wrong.")
    for hour in range(50):
        open_it("flaps", severity="critical", words="Comes and goes.")
        for minute in range(0, 60, 10):
            work(at(3600 * hour + 60 * minute))
        alert_heal("flaps")
        work(at(3600 * hour + 3590))
    assert AlertNotice.objects.count() == 1
    lane = Lane.objects.get(name="notices:email")
    trouble = Alert.objects.get(key="lane:notices:email", healed_at=None)
    assert trouble.words == "Alerts by e-mail: Nothing listens there; check host and port, and that it runs."
    assert (trouble.notified_at, lane.held) == (None, False)
    assert AlertNotice.objects.get().attempts == 0
    with mail_server(port=port) as box:
        for seconds in range(0, 4000, 100):
            work(at(3600 * 50 + seconds))
        assert box.subjects == ["[gateway-01] 2 alerts: 1 needs a look, 1 is well again"]
        assert "Stays wrong." in box.text()
        assert "came up 50 times" in box.text()
    assert not Alert.objects.filter(key="lane:notices:email", healed_at=None).exists()


def test_dead_webhook_does_not_keep_the_mail() -> None:
    with mail_server() as box:
        mailed_to(box)
        hooked_to(f"http://127.0.0.1:{port_free()}/")
        open_it()
        work(at(0))
        assert len(box.mails) == 1
        work(at(600))
        assert len(box.mails) == 1
        assert AlertNotice.objects.filter(way="webhook", state=JobState.DONE).count() == 0


def test_trouble_with_the_sending_itself_is_told_on_pages_only() -> None:
    with mail_server() as box, scripted(answer(500)) as server:
        mailed_to(box)
        hooked_to(server.url)
        open_it()
        for seconds in range(0, 3000, 300):
            work(at(seconds))
        assert box.subjects == ["[gateway-01] Needs a look: The disk runs low."]
        assert Alert.objects.get(key="lane:notices:webhook").notified_at is None


def test_message_that_is_refused_is_given_up_and_sent_when_another_gets_through() -> None:
    with mail_server() as box:
        mailed_to(box)
        box.refuses = {"anna@hospital.example"}
        open_it()
        for seconds in (0, 100, 1000, 3000, 9000, 20000, 40000):
            work(at(seconds))
        notice = AlertNotice.objects.get()
        assert (notice.state, notice.error_code) == (JobState.PARKED, "notice-mail-refused")
        assert Alert.objects.get(key=f"job:notices:{notice.pk}").notified_at is None
        box.refuses = set()
        open_it("other")
        work(at(41000))
        assert len(box.mails) == 2
        assert not Alert.objects.filter(key__startswith="job:notices:", healed_at=None).exists()


def test_way_that_is_switched_off_leaves_nothing_waiting_and_no_alert() -> None:
    mailed_to(Mailbox(port=port_free()))
    open_it()
    work(at(0))
    assert Alert.objects.filter(key="lane:notices:email", healed_at=None).exists()
    options_set(ALERT_EMAIL_HOST="")
    work(at(1000))
    assert AlertNotice.objects.get().state == JobState.CANCELLED
    assert not Alert.objects.filter(key="lane:notices:email", healed_at=None).exists()


def test_message_of_a_killed_worker_is_sent_again_with_the_same_ids() -> None:
    with scripted(answer(204)) as server:
        hooked_to(server.url)
        open_it()
        notices_write(at(0))
        queue = REGISTRY.queues["notices"]
        job = jobs.job_claim(queue, now=at(0))
        notice_send(job, now=at(0))  # type: ignore[arg-type] # sent, and killed before it was written down
        jobs.jobs_expire(queue, now=at(400))
        open_it("later")
        work(at(401))
        first, again = (json.loads(request.body) for request in server.requests)
        assert first["events"][0]["id"] == again["events"][0]["id"]
        assert [each["key"] for each in again["events"]] == ["disk", "later"]


def test_test_button_says_in_words_how_each_way_took_it() -> None:
    assert notices_try(actor="user:eva", now=now()) == []
    with pytest.raises(CommandError, match="No way is set up"):
        call_command("alerttest")
    with mail_server() as box:
        mailed_to(
            box, ALERT_WEBHOOK_URL=f"http://127.0.0.1:{box.port}/", ALERT_WEBHOOK_TOKEN="MARK-token",
        )  # fmt: skip
        email, webhook = notices_try(actor="user:eva", now=now())
        assert (email.ok, email.words) == (True, "The mail server took it; look into the mailbox.")
        assert (webhook.ok, "not allowed" in webhook.words) == (False, True)
        assert "This is a test" in box.text()
        event = AuditEvent.objects.filter(subject="alert:test").latest("pk")
        assert (event.actor, event.outcome, event.detail["ways"]) == (
            "user:eva", "failure", {"email": True, "webhook": False},
        )  # fmt: skip
        with pytest.raises(CommandError, match="Not every way works"):
            call_command("alerttest")
        options_set(ALERT_WEBHOOK_URL="")
        call_command("alerttest")
    assert AlertNotice.objects.count() == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ALERT_EMAIL_TO", ["anna@x\r\nBcc: b@x"]),
        ("ALERT_EMAIL_FROM", "no address"),
        ("ALERT_EMAIL_HOST", "mail server"),
        ("ALERT_WEBHOOK_URL", "file:///etc/passwd"),
        ("ALERT_WEBHOOK_URL", "http://user:pass@host/"),
        ("ALERT_WEBHOOK_URL", "http://host:99999/"),
        ("ALERT_QUIET_HOURS", "at night"),
        ("WEB_PUBLIC_URL", "javascript:alert(1)"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(key: str, value: object) -> None:
    with pytest.raises(OptionError):
        options_set(**{key: value})


@pytest.mark.django_db(transaction=True)
def test_ticker_and_worker_do_it_as_they_do_all_work() -> None:
    with mail_server() as box:
        mailed_to(box, ALERT_GROUP_SECONDS=0.0)
        open_it()
        tick(["notices"])
        assert drain("notices") == 1
        assert box.subjects == ["[gateway-01] Needs a look: The disk runs low."]
