"""What gateway.js puts in the place of a page's parts: the same parts, whose buttons lead back to the page itself."""

import re

import pytest
from django.utils.timezone import now

from gateway_project.core.services.alerts import alert_open
from network.models import RemoteAE
from tests.web.every_page import pages
from tests.web.factories import day_make, lane_make, vault_make
from tests.web.panel_rows import endpoint_make, listeners_answer, live_row, quarantined_make, store_empty
from tests.web.rollups import HOUR, hour_of, source_make

pytestmark = pytest.mark.django_db


@pytest.fixture
def full(db: None):
    endpoint_make()
    day_make(vault_make())
    vault_make("archive", lane=lane_make(name="vault:archive", paused=True))
    alert_open("test:page", code="disk-low", words="Little space is left.")
    RemoteAE.objects.create(ae_title="CT_NORD_1", host="10.3.7.21", port=104)
    source_make("MAMMO_1", [hour_of(now()) - 70 * HOUR])
    alert_open("source-silent:MAMMO_1", code="source-silent", words="MAMMO_1 has sent nothing since Mon 09:40.")
    quarantined_make()
    yield
    store_empty()


def test_live_parts_hold_the_same_forms_as_their_page(administrator, full) -> None:
    seen = 0
    with listeners_answer(live_row(association_id="live")):
        for address in pages(administrator):
            whole = administrator.get(address.path).content.decode()
            found = re.search(r'<main[^>]* data-live="([^"]+)"', whole)
            if not found:
                continue
            seen += 1
            live = administrator.get(found[1].replace("&amp;", "&")).content.decode()
            for kind in (r'name="next" value="([^"]*)"', r'action="([^"]*)"', r'data-part="([^"]*)"'):
                here = re.findall(kind, whole[whole.index("<main") :])
                assert set(re.findall(kind, live)) <= set(here), (address.path, kind)
    assert seen >= 8


@pytest.mark.parametrize("path", ["/vaults/live/", "/connections/live/"])
def test_buttons_of_live_parts_lead_back_to_a_page(administrator, full, path: str) -> None:
    with listeners_answer(live_row(association_id="live")):
        html = administrator.get(path).content.decode()
    wanted = re.findall(r'name="next" value="([^"]*)"', html)
    assert wanted
    for back in wanted:
        assert b"<!doctype html" in administrator.get(back).content[:200], back
