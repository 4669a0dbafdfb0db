"""Peers: who is known and answers, entering one that is tried first, changing it, the echo, and what is kept open."""

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from gateway_project.core.models import AuditEvent
from network.dimse.scu.pool import PeerAddress, PoolState
from network.dimse.scu.pool_file import PoolFile
from network.models import CommitmentRequest, LocalAE, RemoteAE
from network.selectors.pools import pools_directory
from network.services.peers import TRIALS_A_MINUTE
from tests.core.notice_servers import options_set
from tests.network.scu_peers import Archive, archive_running
from tests.web.factories import commitment_make
from tests.web.panel_rows import SCRIPT, listeners_answer, live_row, record_make

pytestmark = pytest.mark.django_db
PAGE, NEW = "/peers/", "/peers/new/"


@pytest.fixture(autouse=True)
def no_tries_yet() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def archive() -> Iterator[Archive]:
    with archive_running() as running:
        yield running


def peer_make(title: str = "WORKSTATION", **values: Any) -> RemoteAE:
    return RemoteAE.objects.create(ae_title=title, **values)


def page(client: Client, address: str = PAGE, status: int = 200) -> str:
    answer = client.get(address)
    assert answer.status_code == status, answer.content[:300]
    return answer.content.decode()


def entered(**values: str) -> dict[str, str]:
    defaults = {
        "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": "104", "enabled": "on", "may_store": "on",
        "tls_check_host": "on", "commit_level": "local", "commit_minutes": "1440", "shown_version": "1",
        "act": "save",
    }  # fmt: skip
    return {**defaults, **values}


def hidden(html: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found is not None
    return found[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# -- seeing ------------------------------------------------------------------------------------------------------------


def test_empty_list_says_what_to_do(viewer, client_as) -> None:
    assert "No peer is known by name." in page(viewer)
    assert NEW not in page(viewer)
    assert NEW in page(client_as("administrator"))


def test_list_says_who_may_what_and_who_does_not_answer(viewer) -> None:
    peer_make(may_query=True, may_retrieve=True, visible_modalities="CT", host="10.1.2.3", port=11112, tls=True)
    peer_make("PACS", host="pacs.example", last_error="Nothing listens on pacs.example:104: check it.")
    peer_make("OLD", enabled=False)
    with listeners_answer(live_row(calling_ae_title="WORKSTATION")):
        html = page(viewer)
    for words in ("PACS does not answer us.", "some studies", "10.1.2.3:11112", "Nothing listens on pacs.example:104",
                  "switched off", "connected", "1 may query, 1 may retrieve; 2 can be called by us."):  # fmt: skip
        assert words in html, words
    assert "/echo/" not in html


def test_one_peer_shows_rights_history_commitments_and_changes(client_as, archive: Archive) -> None:
    administrator = client_as("administrator")
    html = administrator.post(NEW, entered(port=str(archive.port))).content.decode()
    administrator.post(NEW, entered(port=str(archive.port), tried=hidden(html, "tried")))
    row = RemoteAE.objects.get()
    record_make("rejected", calling_ae_title="ARCHIVE", reason="address-of-another")
    record_make(calling_ae_title="OTHER", called_ae_title="ELSEWHERE")
    CommitmentRequest.objects.create(
        queue="commitment", remote=row, calling_ae_title="ARCHIVE", transaction_uid="1.2.3", level="local",
        deadline_at=row.last_echo_at, references=[["1.2", "1.3"]], instance_count=1, failures=[["1.3", 0x112]],
        judged_at=row.last_echo_at,
    )  # fmt: skip
    html = page(administrator, f"/peers/{row.pk}/")
    for words in ("known to call from elsewhere", "1 not committed", "send objects to us", "not ask which", "Added"):
        assert words in html, words
    assert "ELSEWHERE" not in html


@pytest.mark.parametrize(
    ("state", "words"), [("ready", "report waits"), ("done", "reported"), ("parked", "report given up")]
)
def test_report_that_was_given_up_does_not_wait(viewer, state: str, words: str) -> None:
    row = peer_make("MODALITY")
    commitment_make(row, state=state)
    html = page(viewer, f"/peers/{row.pk}/")
    assert f"1 not committed</span> {words}<" in html.replace("</span> <small>", "<")


def test_list_is_paged_by_title(viewer) -> None:
    RemoteAE.objects.bulk_create([RemoteAE(ae_title=f"AE&{number:03}") for number in range(150)])
    first = page(viewer)
    assert "100 peers on this page" in first
    older = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    second = page(viewer, PAGE + older)
    assert "50 peers on this page" in second
    newer = second.split('rel="prev" href="')[1].split('"')[0].replace("&amp;", "&")
    assert "AE&amp;000" in page(viewer, PAGE + newer)
    assert viewer.get(f"{PAGE}?before={'x' * 17}").status_code == 400


def test_pages_cost_the_same_however_many_there_are(viewer, django_assert_max_num_queries) -> None:
    row = peer_make()
    RemoteAE.objects.bulk_create([RemoteAE(ae_title=f"AE{number}") for number in range(90)])
    page(viewer)
    with django_assert_max_num_queries(10):
        page(viewer)
    with django_assert_max_num_queries(12):
        page(viewer, f"/peers/{row.pk}/")


def test_script_in_whatever_is_entered_is_text(viewer) -> None:
    row = peer_make('"><i>', note=SCRIPT, last_error=SCRIPT, host="h", visible_sources=SCRIPT)
    for address in (PAGE, f"/peers/{row.pk}/"):
        html = page(viewer, address)
        assert "<script>alert" not in html
        assert '"><i>' not in html


def test_what_processes_keep_open_is_shown(viewer) -> None:
    told = PoolFile(pools_directory(), "receiver 0")
    address = PeerAddress("10.1.2.3", 104, "PACS", "GATEWAY")
    told.write([PoolState(address, idle=2, in_use=1, opened=5, reused=7, failed=0)])
    try:
        html = page(viewer)
    finally:
        told.remove()
    assert "3 associations are open to peers: 1 in use, 2 kept for what comes next." in html
    assert "receiver 0" in html
    assert "Nothing was kept open to any peer since the start." in page(viewer)


# -- entering ----------------------------------------------------------------------------------------------------------


def test_wizard_shows_each_step_then_saves(administrator, archive: Archive) -> None:
    asked = entered(port=str(archive.port), query_target="on")
    html = administrator.post(NEW, asked).content.decode()
    assert not RemoteAE.objects.exists()
    for words in ("ARCHIVE answers", "Find its address", "accepts us as GATEWAY", "It answers.", "It is called without",
                  "Answers queries (C-FIND)</span> <small>Study Root"):  # fmt: skip
        assert words in html, words
    answer = administrator.post(NEW, {**asked, "tried": hidden(html, "tried")}, follow=True)
    assert "ARCHIVE is saved." in answer.content.decode()
    row = RemoteAE.objects.get()
    assert (row.query_target, row.last_error, row.last_echo_at is not None) == (True, "", True)
    added = AuditEvent.objects.filter(subject="remote:ARCHIVE").latest("id").detail
    assert (added["action"], added["trial"]) == ("remote AE added", "passed")
    assert archive.associations == 1


def test_wizard_saves_in_spite_of_a_failure_and_says_so(administrator) -> None:
    asked = entered(port=str(closed_port()))
    html = administrator.post(NEW, asked).content.decode()
    assert "ARCHIVE was not reached" in html
    assert "Nothing listens on 127.0.0.1" in html
    assert "Save all the same" in html
    answer = administrator.post(NEW, {**asked, "tried": hidden(html, "tried")}, follow=True).content.decode()
    assert "is saved, although it was not reached" in answer
    assert "Nothing listens" in RemoteAE.objects.get().last_error
    assert AuditEvent.objects.latest("id").detail["trial"] == "connection-refused"


def test_what_was_tried_is_not_believed_for_another_address(administrator, archive: Archive) -> None:
    html = administrator.post(NEW, entered(port=str(archive.port))).content.decode()
    other = entered(port=str(closed_port()), tried=hidden(html, "tried"))
    assert "was not reached" in administrator.post(NEW, other).content.decode()
    forged = entered(port=str(archive.port), tried='["x"]:1:2')
    assert "ARCHIVE answers" in administrator.post(NEW, forged).content.decode()
    assert not RemoteAE.objects.exists()


def test_peer_that_only_calls_us_is_saved_at_once(administrator) -> None:
    administrator.post(NEW, entered(host=""))
    assert RemoteAE.objects.get().last_echo_at is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ae_title": "A" * 17}, "at most 16 characters"),
        ({"ae_title": "a\\b"}, "no backslash"),
        ({"port": "70000"}, "less than or equal to 65535"),
        ({"networks": "hospital"}, "hospital"),
        ({"host": "", "query_target": "on"}, "Without an address we cannot query it."),
        ({"tls_ca": "../secret.key"}, "may not climb"),
    ],
)
def test_nonsense_is_said_at_its_field(administrator, values: dict[str, str], words: str) -> None:
    answer = administrator.post(NEW, entered(**values))
    assert answer.status_code == 400
    assert words in answer.content.decode()
    assert not RemoteAE.objects.exists()


def test_ca_that_cannot_be_read_is_a_failed_trial(administrator) -> None:
    html = administrator.post(NEW, entered(tls="on", tls_ca="nowhere.pem")).content.decode()
    assert "Read its settings" in html
    assert "cannot be read" in html.split("Read its settings")[1]
    assert "Save all the same" in html


# -- changing ----------------------------------------------------------------------------------------------------------


def test_change_is_audited_with_what_was_before(administrator) -> None:
    row = peer_make(networks="10.0.0.0/8")
    values = entered(ae_title="WORKSTATION", host="", may_query="on", networks="10.1.0.0/16")
    administrator.post(f"/peers/{row.pk}/edit/", values)
    changed = AuditEvent.objects.get(subject="remote:WORKSTATION").detail["changed"]
    assert changed["may_query"] == ["False", "True"]
    assert changed["networks"] == ["10.0.0.0/8", "10.1.0.0/16"]
    html = page(administrator, f"/peers/{row.pk}/")
    assert "<s>False</s> True" in html


def test_w28_second_administrator_undoes_nothing(administrator) -> None:
    row = peer_make()
    values = entered(ae_title="WORKSTATION", host="")
    assert administrator.post(f"/peers/{row.pk}/edit/", {**values, "may_commit": "on"}).status_code == 302
    late = administrator.post(f"/peers/{row.pk}/edit/", {**values, "note": "late"})
    assert late.status_code == 409
    assert "Somebody else has changed this peer" in late.content.decode()
    row.refresh_from_db()
    assert (row.may_commit, row.note, row.version) == (True, "", 2)


def test_delete_asks_first_and_is_refused_while_referenced(administrator) -> None:
    row = peer_make()
    assert "Remove WORKSTATION?" in page(administrator, f"/peers/{row.pk}/delete/")
    wanted = {
        "queue": "commitment", "calling_ae_title": "WORKSTATION", "transaction_uid": "1.2", "level": "local",
        "deadline_at": "2026-11-25T00:00:00Z", "references": [], "instance_count": 0,
    }  # fmt: skip
    refers = CommitmentRequest.objects.create(remote=row, **wanted)
    answer = administrator.post(f"/peers/{row.pk}/delete/", follow=True).content.decode()
    assert "cannot be removed while commitment requests refer to it" in answer
    refers.delete()
    administrator.post(f"/peers/{row.pk}/delete/")
    assert not RemoteAE.objects.exists()
    assert AuditEvent.objects.latest("id").detail == {"action": "remote AE removed"}


# -- calling -----------------------------------------------------------------------------------------------------------


def test_echo_by_the_operator_is_remembered(client_as, archive: Archive) -> None:
    row = peer_make("ARCHIVE", host="127.0.0.1", port=archive.port)
    operator = client_as("operator")
    assert "ARCHIVE answers, after" in operator.post(f"/peers/{row.pk}/echo/", follow=True).content.decode()
    RemoteAE.objects.update(port=closed_port())
    failed = operator.post(f"/peers/{row.pk}/echo/", {"next": f"/peers/{row.pk}/"}, follow=True).content.decode()
    assert "ARCHIVE was not reached. Nothing listens" in failed
    row.refresh_from_db()
    assert row.last_echo_at is not None
    assert "Nothing listens" in row.last_error


def test_trial_of_a_known_peer(administrator, archive: Archive) -> None:
    row = peer_make("ARCHIVE", host="127.0.0.1", port=archive.port, last_error="x")
    html = administrator.post(f"/peers/{row.pk}/try/").content.decode()
    assert "ARCHIVE answers" in html
    row.refresh_from_db()
    assert row.last_error == ""


@pytest.mark.parametrize("host", ["169.254.169.254", "fe80::1", "fd00:ec2::254", "0.0.0.0", "::ffff:169.254.169.254"])
def test_w11_link_local_and_metadata_addresses_are_never_called(administrator, host: str) -> None:
    html = administrator.post(NEW, entered(host=host, act="try")).content.decode()
    assert "This address may not be called from here" in html
    row = peer_make("META", host=host)
    answer = administrator.post(f"/peers/{row.pk}/echo/", follow=True).content.decode()
    assert "This address may not be called from here" in answer


def test_w11_loopback_and_networks_are_options(administrator, archive: Archive) -> None:
    options_set(PEER_ALLOW_LOOPBACK=False)
    html = administrator.post(NEW, entered(port=str(archive.port))).content.decode()
    assert "This address may not be called from here" in html
    options_set(PEER_ALLOW_LOOPBACK=True, PEER_NETWORKS=["10.0.0.0/8"])
    html = administrator.post(NEW, entered(host="192.0.2.7")).content.decode()
    assert "This address may not be called from here" in html
    assert archive.associations == 0


def test_w12_tries_are_counted_and_recorded(administrator) -> None:
    asked = entered(host="169.254.1.1", act="try")
    for _time in range(TRIALS_A_MINUTE):
        assert administrator.post(NEW, asked).status_code in (200, 429)
    statuses = [administrator.post(NEW, asked).status_code for _time in range(TRIALS_A_MINUTE + 1)]
    assert statuses[-1] == 429
    trials = AuditEvent.objects.filter(subject="remote:ARCHIVE")
    assert trials.count() <= 2 * TRIALS_A_MINUTE  # the minute may have turned once
    assert trials.first().detail["code"] == "address-refused"


def test_certificate_of_ours_is_chosen_from_the_endpoints(administrator) -> None:
    LocalAE.objects.create(name="tls", ae_title="GATEWAY", port=2762, certificate="x.pem", tls=True)
    assert ">tls</option>" in page(administrator, NEW)
