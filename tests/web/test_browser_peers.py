"""Peers in a real browser: the list, one of them, the wizard that fails and works, both lights and widths."""

from collections.abc import Callable

from django.core.cache import cache

from network.dimse.scu.pool import PeerAddress, PoolState
from network.dimse.scu.pool_file import PoolFile
from network.models import RemoteAE
from network.selectors.pools import pools_directory
from tests.network.scu_peers import archive_running
from tests.web.factories import user_make
from tests.web.panel_rows import ago, listeners_answer, live_row, record_make
from tests.web.test_browser import Watched, chromium, look, open_page, pytestmark
from tests.web.test_peers_pages import closed_port

__all__ = ["chromium", "open_page", "pytestmark"]


def peers_fill() -> RemoteAE:
    workstation = RemoteAE.objects.create(
        ae_title="WS_RADIO_1", note="Reading room 1", may_query=True, may_retrieve=True, host="10.3.7.40", port=11112,
        networks="10.3.7.0/24", last_seen_at=ago(minutes=3), last_echo_at=ago(minutes=40),
    )  # fmt: skip
    RemoteAE.objects.create(
        ae_title="PACS_NORTH", note="Archive of the north wing", may_commit=True, query_target=True, tls=True,
        host="pacs-north.hospital.example", port=2762, last_echo_at=ago(days=1), last_error_at=ago(minutes=5),
        last_error="The peer rejected the association: the peer does not know our AE title: have it entered there.",
    )  # fmt: skip
    RemoteAE.objects.create(ae_title="CT_NORD_1", last_seen_at=ago(seconds=20))
    RemoteAE.objects.create(ae_title="RESEARCH", may_query=True, visible_modalities="CT", enabled=False)
    RemoteAE.objects.create(ae_title="US_4", host="10.3.9.4", may_store=True)
    record_make(calling_ae_title="WS_RADIO_1", peer_address="10.3.7.40", objects_stored=0, bytes_received=0)
    record_make("rejected", calling_ae_title="WS_RADIO_1", reason="address-of-another", times=4, minutes=600)
    return workstation


def test_list_and_one_peer(open_page: Callable[[], Watched]) -> None:
    row = peers_fill()
    told = PoolFile(pools_directory(), "receiver 0")
    told.write([PoolState(PeerAddress("10.3.7.40", 11112, "WS_RADIO_1", "GATEWAY"), 1, 2, 5, 40, 0)])
    watched = open_page()
    watched.enter(user_make("administrator", username="eva"))
    try:
        with listeners_answer(live_row(calling_ae_title="CT_NORD_1")):
            watched.go("/peers/")
            look(watched, "peers", manual="peers.png")
            watched.go(f"/peers/{row.pk}/")
            look(watched, "peer")
    finally:
        told.remove()
    watched.go(f"/peers/{row.pk}/delete/")
    look(watched, "peer-delete")
    assert watched.faults == []


def test_no_peer_yet(open_page: Callable[[], Watched]) -> None:
    watched = open_page()
    watched.enter(user_make("administrator", username="eva"))
    watched.go("/peers/")
    look(watched, "peers-empty")
    assert watched.faults == []


def test_wizard_from_failure_to_saved_peer(open_page: Callable[[], Watched]) -> None:
    cache.clear()
    watched = open_page()
    watched.enter(user_make("administrator", username="eva"))
    watched.go("/peers/new/")
    look(watched, "peer-new")
    page = watched.page
    with archive_running() as archive:
        page.fill("#id_ae_title", "ARCHIVE")
        page.fill("#id_host", "localhost")
        page.fill("#id_port", str(closed_port()))
        page.click("text=Try it and save")
        page.wait_for_selector("text=ARCHIVE was not reached")
        look(watched, "peer-trial-failed")
        page.fill("#id_port", str(archive.port))
        page.click("text=Try again")
        page.wait_for_selector("text=ARCHIVE answers")
        look(watched, "peer-trial", manual="peer-trial.png")
        page.click("button:has-text('Save')")
        page.wait_for_selector("text=ARCHIVE is saved.")
        page.click("button:has-text('Echo')")
        page.wait_for_selector("text=ARCHIVE answers, after")
    assert RemoteAE.objects.get().last_error == ""
    assert watched.faults == []
