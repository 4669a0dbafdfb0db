"""The admin of endpoints and peers: what cannot work is refused with its field, what options make is only shown."""

from pathlib import Path

import pytest
from django.urls import reverse

from gateway_project.core.models import AuditEvent
from gateway_project.core.secrets import secret_decrypt
from network.models import LocalAE, RemoteAE
from network.services.endpoints import endpoints_seed
from tests.network.certificates import issue

pytestmark = pytest.mark.django_db
ADD = "/admin/network/localae/add/"
ROW = {
    "name": "ward", "ae_title": "WARD", "host": "127.0.0.1", "port": "1105", "enabled": "on",
    "min_tls": "1.2", "client_certificates": "none",
}  # fmt: skip


def change(row: object, page: str = "change") -> str:
    return reverse(f"admin:network_{row._meta.model_name}_{page}", args=(row.pk,))


def test_endpoint_is_added_changed_and_removed_and_each_is_audited(administrator) -> None:
    assert administrator.post(ADD, ROW).status_code == 302
    row = LocalAE.objects.get(name="ward")
    assert administrator.post(change(row), {**ROW, "port": "1106"}).status_code == 302
    assert LocalAE.objects.get(name="ward").port == 1106
    assert administrator.post(change(row, "delete"), {"post": "yes"}).status_code == 302
    assert not LocalAE.objects.exists()
    actions = [
        event.detail["action"] for event in AuditEvent.objects.filter(subject__startswith="endpoint:").order_by("id")
    ]
    assert actions == ["endpoint changed", "endpoint changed", "endpoint removed"]


def test_tls_files_are_tried_and_the_password_is_only_ever_set(administrator, tmp_path: Path) -> None:
    pfx = issue(tmp_path, "house").pfx(tmp_path / "house.pfx", "MARK-hush")
    tls = {**ROW, "tls": "on", "certificate": str(pfx)}
    refused = administrator.post(ADD, {**tls, "new_password": "MARK-wrong"})
    assert "belong together" in refused.content.decode()
    assert administrator.post(ADD, {**tls, "new_password": "MARK-hush"}).status_code == 302
    row = LocalAE.objects.get(name="ward")
    assert secret_decrypt(row.password) == "MARK-hush"
    assert administrator.post(change(row), {**tls, "new_password": "", "min_tls": "1.3"}).status_code == 302
    row.refresh_from_db()
    assert (row.min_tls, secret_decrypt(row.password)) == ("1.3", "MARK-hush")
    assert "MARK" not in administrator.get(change(row)).content.decode()
    assert "MARK" not in str(list(AuditEvent.objects.values()))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tls": "on"}, "TLS needs a certificate."),
        ({"client_certificates": "required"}, "only against a CA"),
        ({"ae_title": "SEVENTEEN_LETTERS"}, "at most 16"),
        ({"port": "0"}, "from 1 to 65535"),
    ],
)
def test_what_needs_what_is_said(administrator, values: dict[str, str], words: str) -> None:
    assert words in administrator.post(ADD, {**ROW, **values}).content.decode()
    assert not LocalAE.objects.exists()


def test_endpoint_that_options_make_is_shown_and_not_changed(administrator) -> None:
    endpoints_seed()
    row = LocalAE.objects.get(name="default")
    page = administrator.get(change(row))
    assert page.status_code == 200
    assert "new_password" not in page.content.decode()
    assert administrator.post(change(row), {**ROW, "name": "default"}).status_code == 403
    assert administrator.post(change(row, "delete"), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    administrator.post(reverse("admin:network_localae_changelist"), chosen)
    assert LocalAE.objects.filter(name="default").exists()
    assert "options DICOM.*" in administrator.get(reverse("admin:network_localae_changelist")).content.decode()


def test_known_peer_is_kept_with_its_pins_and_audited(administrator) -> None:
    add = reverse("admin:network_remoteae_add")
    row = {"ae_title": "CT_1", "networks": "10.0.0.0/8", "certificates": "ab" * 32, "enabled": "on", "port": "104",
           "commit_level": "local",
           "commit_minutes": "1440"}  # fmt: skip
    assert "10.0.0.0/8" in administrator.post(add, {**row, "networks": "hospital"}).content.decode()
    assert administrator.post(add, row).status_code == 302
    peer = RemoteAE.objects.get()
    change_it = reverse("admin:network_remoteae_change", args=[peer.pk])
    values = {**row, "may_query": "on", "commit_level": "local", "commit_minutes": "60"}
    assert administrator.post(change_it, {**values, "shown_version": "1"}).status_code == 302
    late = administrator.post(change_it, {**values, "note": "undone", "shown_version": "1"}).content.decode()
    assert "Somebody else has changed this peer" in late
    peer.refresh_from_db()
    assert (peer.may_query, peer.note, peer.version) == (True, "", 2)
    chosen = {"action": "delete_selected", "_selected_action": [peer.pk], "post": "yes"}
    administrator.post(reverse("admin:network_remoteae_changelist"), chosen)
    actions = [event.detail["action"] for event in AuditEvent.objects.filter(subject="remote:CT_1").order_by("id")]
    assert actions == ["remote AE added", "remote AE changed", "remote AE removed"]
