"""Peers over the API: entered, changed by version, tried, echoed, removed; secrets and paths never said back."""

from collections.abc import Iterator

import pytest
from django.core.cache import cache
from django.utils.timezone import now

from gateway_project.core.models import AuditEvent
from network.dimse.scu.pool import PeerAddress, PoolState
from network.dimse.scu.pool_file import PoolFile
from network.models import CommitmentRequest, RemoteAE
from network.selectors.pools import pools_directory
from tests.api.programs import post, problem_of
from tests.network.scu_peers import CT, archive_running

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_tries_yet() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def test_entered_changed_and_removed(as_role) -> None:
    client = as_role("administrator")
    made = post(client, "/api/peers/create", {"aeTitle": "WS_1", "mayQuery": True, "networks": "10.0.0.0/8"}).json()
    assert (made["mayQuery"], made["mayRetrieve"], made["version"], made["port"]) == (True, False, 1, 104)
    change = f"/api/peers/{made['id']}/change"
    changed = post(client, change, {"version": 1, "mayRetrieve": True, "host": "10.1.2.3"}).json()
    assert (changed["mayQuery"], changed["mayRetrieve"], changed["version"]) == (True, True, 2)
    problem_of(post(client, change, {"version": 1, "note": "late"}), 409, "peer-changed")
    assert RemoteAE.objects.get().note == ""
    trail = AuditEvent.objects.filter(subject="remote:WS_1").latest("id")
    assert trail.detail["changed"]["may_retrieve"] == ["False", "True"]
    assert trail.actor.startswith("token:")
    assert post(client, f"/api/peers/{made['id']}/delete").json() == {"deleted": True}
    problem_of(client.get(f"/api/peers/{made['id']}"), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"aeTitle": "A" * 17}, 400, "invalid"),
        ({"aeTitle": "X", "host": "file:///etc/passwd"}, 400, "invalid"),
        ({"aeTitle": "X", "port": 0}, 400, "invalid"),
        ({"aeTitle": "X", "mayStore": "yes"}, 400, "invalid"),
        ({"aeTitle": "X", "version": 7}, 400, "invalid"),
        ({"aeTitle": "X", "lastError": "x"}, 400, "invalid"),
        ({"aeTitle": "X", "networks": "MARK-hospital"}, 409, "peer-invalid"),
        ({"aeTitle": "X", "tlsIdentity": 4711}, 409, "peer-invalid"),
        ({"aeTitle": "X", "tlsCa": "../MARK.key"}, 409, "peer-invalid"),
        ({"aeTitle": "X", "queryTarget": True}, 409, "peer-invalid"),
    ],
)
def test_what_does_not_fit_is_refused_and_not_said_back(as_role, body: dict, status: int, code: str) -> None:
    answer = post(as_role("administrator"), "/api/peers/create", body)
    problem_of(answer, status, code)
    assert "MARK" not in answer.content.decode()
    assert not RemoteAE.objects.exists()


def test_title_is_taken_once(as_role) -> None:
    client = as_role("administrator")
    post(client, "/api/peers/create", {"aeTitle": "WS_1"})
    assert (
        "aeTitle" in problem_of(post(client, "/api/peers/create", {"aeTitle": "WS_1"}), 409, "peer-invalid")["detail"]
    )


def test_title_that_two_enter_at_once_is_taken_once(as_role, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have looked before either has saved: then the table decides, and it is no fault of the database's."""
    client = as_role("administrator")
    monkeypatch.setattr(RemoteAE, "validate_unique", lambda *_self, **_exclude: None)
    for name in ("WS_1", "WS_2"):
        other = post(client, "/api/peers/create", {"aeTitle": name}).json()
    assert (
        "aeTitle" in problem_of(post(client, "/api/peers/create", {"aeTitle": "WS_1"}), 409, "peer-invalid")["detail"]
    )
    change = f"/api/peers/{other['id']}/change"
    problem_of(post(client, change, {"version": 1, "aeTitle": "WS_1"}), 409, "peer-changed")


def test_our_own_title_to_it_can_be_taken_back(as_role) -> None:
    client = as_role("administrator")
    made = post(client, "/api/peers/create", {"aeTitle": "WS_1", "callingAeTitle": "OURS"}).json()
    change = f"/api/peers/{made['id']}/change"
    assert post(client, change, {"version": 1, "callingAeTitle": ""}).json()["callingAeTitle"] == ""


def test_removal_is_refused_while_something_refers(as_role) -> None:
    row = RemoteAE.objects.create(ae_title="WS_1")
    CommitmentRequest.objects.create(
        queue="commitment", remote=row, calling_ae_title="WS_1", transaction_uid="1.2", level="local",
        deadline_at="2026-11-25T00:00:00Z", references=[], instance_count=0,
    )  # fmt: skip
    problem_of(post(as_role("administrator"), f"/api/peers/{row.pk}/delete"), 409, "peer-in-use")
    assert RemoteAE.objects.exists()


def test_commitments_say_what_was_decided_and_reported(as_role) -> None:
    remote, client = RemoteAE.objects.create(ae_title="CT_1"), as_role("viewer")
    other = RemoteAE.objects.create(ae_title="CT_2")
    for number, (row, failures) in enumerate([(remote, None), (remote, [["1.2.3", 0x0112]]), (other, [])]):
        CommitmentRequest.objects.create(
            queue="commitment", remote=row, calling_ae_title=row.ae_title, transaction_uid=f"1.2.{number}",
            level="local", deadline_at=now(), references=[[CT, "1.2.3"], [CT, "1.2.4"]], instance_count=2,
            failures=failures,
        )  # fmt: skip
    answer = client.get(f"/api/peers/{remote.pk}/commitments").json()["commitments"]
    assert [(one["transactionUid"], one["failedCount"], one["instanceCount"]) for one in answer] == [
        ("1.2.1", 1, 2),
        ("1.2.0", None, 2),
    ]
    assert "references" not in answer[0]
    assert len(client.get(f"/api/peers/{remote.pk}/commitments?limit=1").json()["commitments"]) == 1
    problem_of(client.get(f"/api/peers/{remote.pk}/commitments?limit=0"), 400, "invalid")
    problem_of(client.get(f"/api/peers/{other.pk + 1}/commitments"), 404, "not-found")


def test_trial_and_echo(as_role) -> None:
    with archive_running() as archive:
        body = {"aeTitle": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}
        trial = post(as_role("administrator"), "/api/peers/test", body).json()
        row = RemoteAE.objects.create(ae_title="ARCHIVE", host="127.0.0.1", port=archive.port)
        assert post(as_role("operator"), f"/api/peers/{row.pk}/echo").json()["milliseconds"] > 0
    assert trial["passed"]
    assert [step["outcome"] for step in trial["steps"]] == ["passed", "passed", "skipped", "passed", "passed"]
    assert {offer["service"]: bool(offer["accepted"]) for offer in trial["offers"]} == {
        "store": True, "query": True, "move": True, "get": True, "commit": False,
    }  # fmt: skip
    problem_of(post(as_role("operator"), f"/api/peers/{row.pk}/echo"), 409, "connection-refused")
    assert as_role("viewer").get(f"/api/peers/{row.pk}").json()["lastError"].startswith("Nothing listens")


def test_w12_trials_are_bounded(as_role) -> None:
    client, body = as_role("administrator"), {"aeTitle": "X", "host": "169.254.169.254"}
    answers = [post(client, "/api/peers/test", body) for _time in range(21)]
    assert answers[0].json()["steps"][0]["code"] == "address-refused"
    problem_of(answers[-1], 429, "too-many-tries")


def test_list_is_paged_and_costs_the_same(as_role, django_assert_max_num_queries) -> None:
    RemoteAE.objects.bulk_create([RemoteAE(ae_title=f"AE|{number:03}") for number in range(25)])
    client, titles, cursor = as_role("viewer"), [], ""
    while cursor is not None:
        with django_assert_max_num_queries(4):
            answer = client.get(f"/api/peers?limit=10{'&cursor=' + cursor if cursor else ''}").json()
        titles += [peer["aeTitle"] for peer in answer["peers"]]
        cursor = answer["next"]
    assert titles == [f"AE|{number:03}" for number in range(25)]


def test_pool_is_that_of_every_process(as_role) -> None:
    told = PoolFile(pools_directory(), "receiver 0")
    told.write([PoolState(PeerAddress("10.1.2.3", 104, "PACS", "GATEWAY"), 1, 0, 2, 3, 0)])
    try:
        (line,) = as_role("viewer").get("/api/pool").json()["lines"]
    finally:
        told.remove()
    assert (line["calledAeTitle"], line["idle"], line["inUse"], line["process"]) == ("PACS", 1, 0, "receiver 0")
