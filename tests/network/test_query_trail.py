"""The trail of queries: every one recorded, in groups, refusals counted, a database that is away waited for."""

import pytest
from django.db import OperationalError

from gateway_project.core.models import AuditEvent
from network.services import query_trail
from network.services.query_trail import Asked, QueryTrail, coalesced, trail_write
from tests.network.dimse_fixtures import wait_until


def asked(number: int = 1, *, outcome: str = "success", calling: str = "WS", **values: object) -> Asked:
    return Asked(f"assoc-{number}", calling, "10.0.0.7", outcome, model="Study Root", **values)  # type: ignore[arg-type]


def test_refusals_that_say_the_same_are_one_and_queries_never_are() -> None:
    refused = [asked(n, outcome="refused", code="query-forbidden") for n in range(3)]
    other = asked(9, outcome="refused", calling="OTHER", code="query-forbidden")
    found = coalesced([asked(), refused[0], asked(), *refused[1:], other])
    assert [(one.outcome, one.calling_ae_title, one.count) for one in found] == [
        ("success", "WS", 1),
        ("refused", "WS", 3),
        ("success", "WS", 1),
        ("refused", "OTHER", 1),
    ]


@pytest.mark.django_db
def test_record_says_who_what_and_how_it_ended() -> None:
    trail_write([asked(level="STUDY", keys={"PatientName": "Doe*"}, answers=3)])
    (event,) = AuditEvent.objects.all()
    assert (event.event, event.outcome, event.actor, event.subject) == (
        "Query",
        "success",
        "ae:WS",
        "association:assoc-1",
    )
    assert event.correlation_id == "assoc-1"
    assert event.detail == {
        "address": "10.0.0.7",
        "model": "Study Root",
        "level": "STUDY",
        "keys": {"PatientName": "Doe*"},
        "answers": 3,
        "count": 1,
    }


def test_what_is_waiting_is_written_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[Asked]] = []
    monkeypatch.setattr(query_trail, "trail_write", written.append)
    trail = QueryTrail()
    trail.start()
    for number in range(50):
        trail.add(asked(number))
    trail.stop()
    assert [one.association_id for group in written for one in group] == [f"assoc-{number}" for number in range(50)]
    assert len(written) < 50


def test_database_that_is_away_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[Asked]] = []

    def write(group: list[Asked]) -> None:
        if not failures:
            written.append(group)
        elif failures.pop():
            raise OperationalError

    failures = [True, True]
    monkeypatch.setattr(query_trail, "trail_write", write)
    monkeypatch.setattr(query_trail, "_RETRY_SECONDS", 0.01)
    trail = QueryTrail()
    trail.start()
    trail.add(asked())
    wait_until(lambda: written)
    trail.stop()
    assert [len(group) for group in written] == [1]
