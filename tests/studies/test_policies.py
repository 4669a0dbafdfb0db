"""What is set for one calling AE title: strictness, and how long its studies are waited for."""

import datetime as dt
import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from gateway_project.core.models import AuditEvent
from studies import policies, selectors
from studies.models import QuarantinedObject, SourcePolicy, Study
from studies.policies import source_policies, source_policies_forget
from studies.services.policy import source_policy_remove, source_policy_save
from studies.services.receive import ReceiveError
from studies.services.settle import studies_settle_due
from tests.studies.datasets import element
from tests.studies.house import House, arrival, content

pytestmark = pytest.mark.django_db
QUIET, MOST = 600, 86400
NOW = dt.datetime(2026, 5, 4, 12, 0, tzinfo=dt.UTC)
UGLY = content().replace(b"1.2.6\0", b"1.2.06") + element(0x00280010, "US", b"\0\0\0")


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    """Neither the rows of the test before nor those of this one are remembered."""
    source_policies_forget()
    yield
    source_policies_forget()


def policy(source: str, **values: object) -> SourcePolicy:
    row = source_policy_save(SourcePolicy(calling_ae_title=source, **values), actor="user:anna")
    source_policies_forget()
    return row


def send_ugly(house: House, source: str) -> str:
    """How an object with a flaw that is tolerated fares: "" or the code of the refusal."""
    try:
        house.receiver.receive(arrival(source_ae_title=source), [UGLY])
    except ReceiveError as error:
        return error.code
    return ""


def open_study(number: int, source: str, *, quiet: float, opened: float | None = None) -> Study:
    return Study.objects.create(
        study_instance_uid=f"1.2.{number}",
        key=f"{number:032x}",
        source_ae_title=source,
        received_at=NOW - dt.timedelta(seconds=quiet),
        open_since=NOW - dt.timedelta(seconds=quiet if opened is None else opened),
    )


def due() -> set[str]:
    return {study.source_ae_title for study in selectors.studies_due(now=NOW)}


# Strictness


def test_flagged_object_is_kept_unless_its_source_is_strict(house: House) -> None:
    assert send_ugly(house, "CT_1") == ""
    policy("CT_1", strictness="strict")
    assert send_ugly(house, "CT_1") == "source-strict"
    assert send_ugly(house, "CT_2") == ""
    row = QuarantinedObject.objects.get()
    assert (row.code, "uid-leading-zero" in row.reason) == ("source-strict", True)
    house.receiver.receive(arrival(), [content()])  # nothing is wrong with this one


def test_star_speaks_for_every_source_without_a_row(house: House) -> None:
    policy("*", strictness="strict")
    policy("CT_1", strictness="lenient")
    assert send_ugly(house, "CT_1") == ""
    assert send_ugly(house, "CT_2") == "source-strict"


def test_object_acknowledged_before_its_source_became_strict_is_adopted(house: House) -> None:
    from studies.services.recover import spool_recover

    assert send_ugly(house, "CT_1") == ""
    policy("CT_1", strictness="strict")
    house.dies()
    assert spool_recover(house.store).adopted == 1


# Changing


def test_change_is_audited_and_seen_within_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert source_policies().quiet == {}
    row = source_policy_save(SourcePolicy(calling_ae_title=" CT_1 ", quiet_seconds=60), actor="user:anna")
    assert source_policies().quiet == {}
    clock = policies.time.monotonic() + policies.POLL_SECONDS
    monkeypatch.setattr(policies.time, "monotonic", lambda: clock)
    assert source_policies().quiet == {"CT_1": 60}
    source_policies_forget()
    source_policy_remove(row, actor="user:anna")
    source_policy_remove(row, actor="user:anna")
    source_policies_forget()
    assert source_policies().quiet == {}
    events = list(AuditEvent.objects.order_by("id").values_list("actor", "subject", "detail__action"))
    assert events == [
        ("user:anna", "source:CT_1", "source policy set"),
        ("user:anna", "source:CT_1", "source policy removed"),
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"calling_ae_title": ""},
        {"calling_ae_title": "CT_1", "strictness": "harsh"},
        {"calling_ae_title": "CT_1", "quiet_seconds": -1},
        {"calling_ae_title": "CT_1", "max_open_seconds": 0},
        {"calling_ae_title": "*", "quiet_seconds": 60},
    ],
)
def test_value_that_cannot_be_used_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        source_policy_save(SourcePolicy(**values), actor="user:anna")
    assert not AuditEvent.objects.exists()


def test_last_known_policies_rule_while_the_table_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    policy("CT_1", quiet_seconds=60)
    assert source_policies().quiet == {"CT_1": 60}
    clock = policies.time.monotonic() + policies.POLL_SECONDS
    monkeypatch.setattr(policies.time, "monotonic", lambda: clock)

    def fail() -> None:
        raise DatabaseError

    monkeypatch.setattr(policies, "_read", fail)
    assert source_policies().quiet == {"CT_1": 60}
    source_policies_forget()
    with pytest.raises(DatabaseError):
        source_policies()


def test_administrator_makes_changes_and_removes_a_row() -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("anna"))
    add = "/admin/studies/sourcepolicy/add/"
    values = {"calling_ae_title": "CT_1", "strictness": "strict", "quiet_seconds": "60", "max_open_seconds": ""}
    assert client.post(add, values).status_code == 302
    row = SourcePolicy.objects.get()
    assert (
        client.post(f"/admin/studies/sourcepolicy/{row.pk}/change/", values | {"quiet_seconds": "90"}).status_code
        == 302
    )
    assert SourcePolicy.objects.get().quiet_seconds == 90
    assert client.post(add, values | {"calling_ae_title": "*"}).status_code == 200  # shown again, with what is wrong
    client.post(f"/admin/studies/sourcepolicy/{row.pk}/delete/", {"post": "yes"})
    assert not SourcePolicy.objects.exists()
    assert AuditEvent.objects.filter(subject="source:CT_1", actor="user:anna").count() == 3


# Settling


def test_source_s_own_quiet_time_counts_and_the_reason_says_so(house: House) -> None:
    policy("CT_1", quiet_seconds=90)
    house.receive()
    house.index()
    study = Study.objects.get()
    assert selectors.settles_at(study) == study.received_at + dt.timedelta(seconds=90)
    (revision,) = studies_settle_due(now=study.received_at + dt.timedelta(seconds=90))
    assert (revision.reason, revision.reason_words) == ("quiet", "quiet for 1.5 min, as set for CT_1")


def test_source_s_own_longest_time_counts_and_the_reason_says_so(house: House) -> None:
    policy("CT_1", max_open_seconds=3600)
    house.receive()
    house.index()
    Study.objects.update(open_since=Study.objects.get().received_at - dt.timedelta(seconds=3590))
    study = Study.objects.get()
    assert selectors.settles_at(study) == study.received_at + dt.timedelta(seconds=10)
    (revision,) = studies_settle_due(now=study.received_at + dt.timedelta(seconds=10))
    assert revision.reason_words == "open for 1 h, the longest time allowed, as set for CT_1"


@pytest.mark.parametrize(
    ("seconds", "words"), [(600, "10 min"), (86400, "24 h"), (45, "45 s"), (100, "100 s"), (0.5, "0.5 s")]
)
def test_words_without_a_policy_tell_the_option(monkeypatch: pytest.MonkeyPatch, seconds: float, words: str) -> None:
    monkeypatch.setenv("GATEWAY_SETTLING__INACTIVITY_SECONDS", str(seconds))
    assert selectors.quiet_words(Study()) == f"quiet for {words}"


def test_each_source_is_due_at_its_own_time() -> None:
    policy("FAST", quiet_seconds=60)
    policy("FAST_2", quiet_seconds=60)
    policy("SLOW", quiet_seconds=7200, max_open_seconds=10_000)
    policy("STRICT", strictness="strict")
    for number, source in enumerate(["FAST", "FAST_2", "SLOW", "STRICT", "OTHER"]):
        open_study(number, source, quiet=61)
    assert due() == {"FAST", "FAST_2"}
    Study.objects.update(received_at=NOW - dt.timedelta(seconds=601))
    assert due() == {"FAST", "FAST_2", "STRICT", "OTHER"}
    Study.objects.update(received_at=NOW, open_since=NOW - dt.timedelta(seconds=10_001))
    assert due() == {"SLOW"}
    Study.objects.update(received_at=NOW, open_since=NOW - dt.timedelta(seconds=86_401))
    assert due() == {"FAST", "FAST_2", "SLOW", "STRICT", "OTHER"}


def test_longest_open_comes_first_and_no_more_than_asked_for() -> None:
    for number in range(6):
        open_study(number, "CT_1", quiet=700 + number, opened=900 - number)
    rows = selectors.studies_due(now=NOW, limit=3)
    assert len(rows) == 3
    assert [row.open_since for row in rows] == sorted(row.open_since for row in rows)  # type: ignore[type-var]


def test_due_studies_are_found_over_indexes_of_open_studies_in_a_few_queries() -> None:
    """Whatever the number of studies: every query is a search in an index that holds open studies alone."""
    policy("CT_1", quiet_seconds=60)
    policy("CT_2", quiet_seconds=60)
    policy("CT_3", quiet_seconds=90, max_open_seconds=3600)
    open_study(1, "CT_1", quiet=61)
    source_policies()
    with CaptureQueriesContext(connection) as queries:
        assert len(selectors.studies_due(now=NOW)) == 1
    assert len(queries) == 5  # two defaults, 60 s, 90 s, 3600 s
    if connection.vendor == "sqlite":
        assert [plan_index(query["sql"]) for query in queries] == [
            "studies_quiet",
            "studies_quiet_by_source",
            "studies_quiet_by_source",
            "studies_open",
            "studies_open_by_source",
        ]


def plan_index(statement: str) -> str:
    """The index that the statement searches; "" when it scans."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
        plan = str(cursor.fetchall()[0][-1])
    found = re.fullmatch(r"SEARCH studies_study USING INDEX (\w+) \(.*\)", plan)
    return found[1] if found else ""
