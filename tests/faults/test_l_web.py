"""L01, L02, L04, L05, L06, L08: what the web says of people in logs, addresses, files and the audit trail: nothing."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.test import Client
from django.utils.timezone import now

from gateway_project.core.admin_site import site
from gateway_project.core.log_format import JsonLineFormatter
from gateway_project.core.log_limit import EVENTS_PER_WINDOW, EventLimit, LimitedHandler
from gateway_project.core.models import Alert, AuditEvent, AuditEventType
from gateway_project.core.services.audit import audit_record, audit_seal_due, audit_verify, audit_verify_part
from gateway_project.core.tasks import audit_check
from gateway_project.wiring import browse
from network.models import RemoteAE
from studies.models import QuarantinedObject, SourceActivity
from tests.web.factories import PASSWORD, day_make, series_make, study_make, user_make, vault_make
from tests.web.test_role_matrix import KNOWN, address

pytestmark = pytest.mark.django_db
MARK = "Canary7731"
HOSTILE = '\r\n\x1b[31m{"level":"INFO"}\x00\u2028\x85'


class Lines(LimitedHandler):
    """What would stand in the file; without `limit`, what would stand there if nothing were left out."""

    def __init__(self, limit: int = 1_000_000) -> None:
        super().__init__(limit=EventLimit(limit=limit))
        self.setFormatter(JsonLineFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler = Lines()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler.lines
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def administrator() -> Client:
    user_make(username="first", superuser=True)
    client = Client()
    client.force_login(user_make("administrator", username="anna"))
    client.raise_request_exception = False
    return client


def test_l01_control_characters_of_a_browser_stay_in_one_harmless_line(lines, administrator) -> None:
    for _ in range(2):
        Client().post("/login/", {"username": HOSTILE, "password": HOSTILE}, headers={"User-Agent": HOSTILE})
    administrator.get("/nowhere/%0d%0a%1b[31m", headers={"User-Agent": HOSTILE, "X-Correlation-ID": HOSTILE})
    administrator.get("/admin/core/alert/", {"q": HOSTILE})
    assert lines
    for line in lines:
        json.loads(line)
        assert not set("\r\n\x1b\x00\u2028\x85") & set(line)


def test_l02_l04_a_patient_is_in_no_line_address_or_record_whatever_pages_do(lines, administrator, monkeypatch) -> None:
    """Searched for, shown, and then the database and the page fail with the name in their error."""
    vault = vault_make()
    study = study_make(patient_name=f"{MARK}^Eva", patient_id=MARK, accession_number=MARK, study_description=MARK)
    scene = {"study": study.pk, "lane": vault.lane_id, "alert": Alert.objects.create(key="k", code="c", words="w").pk}
    series = series_make(study, instances=1)
    scene |= {"series": series.pk, "instance": series.instances.get().pk, "vault": vault.pk}
    scene["source"] = SourceActivity.objects.create(calling_ae_title="CT_1", first_at=now(), last_at=now()).pk
    scene["quarantine"] = QuarantinedObject.objects.create(sha256="3" * 64, size_bytes=1, code="c", reason="r").pk
    scene |= {"user": user_make("viewer").pk, "peer": RemoteAE.objects.create(ae_title="PEER").pk}
    answer = administrator.post("/studies/", {"query": MARK})
    assert MARK not in answer["Location"]
    assert MARK in administrator.get("/studies/").content.decode()
    for route, rule in KNOWN:
        for method in rule.methods:
            found = getattr(administrator, method.lower())(address(route, rule, scene), {"q": MARK})
            assert MARK not in found.get("Location", "").replace(f"q={MARK}", ""), route
        administrator.force_login(user_make("administrator"))

    def fails(*_args: object, **_named: object) -> None:
        raise RuntimeError(f"no such patient {MARK}")

    def database_fails(*_args: object, **_named: object) -> None:
        raise OperationalError(f"near '{MARK}': syntax error")

    for crash in (fails, database_fails):
        monkeypatch.setattr(browse, "studies_listing", crash)
        answer = administrator.get("/studies/")
        assert answer.status_code == 500
        assert MARK not in answer.content.decode()
    assert lines
    assert not [line for line in lines if MARK in line]
    assert MARK not in str(list(AuditEvent.objects.values()))
    assert MARK not in str(list(Alert.objects.values()))


def test_l02_no_settings_shows_strangers_a_traceback_or_sql() -> None:
    assert settings.DEBUG is False
    assert not any(
        settings.LOGGING["loggers"].get(name, {}).get("level") == "DEBUG" for name in ("django.db.backends",)
    )


def test_l04_no_address_of_ours_has_room_for_a_patient() -> None:
    """Routes take our own numbers and tokens; admin searches that stand in an address look at nothing of a patient."""
    for route, _rule in KNOWN:
        if not route.startswith("admin/"):
            assert "<str:name" not in route
            assert "patient" not in route
    for model, shown in site._registry.items():
        for field in shown.search_fields:
            assert not {"patient", "accession", "physician"} & set(field.strip("=^@").split("_")), model


def test_l05_a_flood_of_logins_is_counted_and_not_told_line_by_line(lines, administrator) -> None:
    limited = Lines(EVENTS_PER_WINDOW)
    logging.getLogger().addHandler(limited)
    for n in range(120):
        Client(REMOTE_ADDR=f"10.1.{n // 100}.{n % 100}").post("/login/", {"username": "x", "password": "y"})
    limited.close()
    logging.getLogger().removeHandler(limited)
    assert len([line for line in lines if "login refused" in line]) == 120
    told = [json.loads(line) for line in limited.lines]
    windows = sum(1 for line in told if line.get("suppressed_event")) + 1
    assert len([line for line in told if line["event"] == "login refused"]) <= EVENTS_PER_WINDOW * windows
    assert any("suppressed" in line for line in told)
    assert AuditEvent.objects.filter(actor__startswith="address:").count() == 0


def test_l06_a_changed_record_is_found_in_its_turn_and_raises_one_alarm(administrator) -> None:
    for n in range(25):
        audit_record(AuditEventType.QUERY, actor="user:x", subject=f"study:{n}")
    audit_seal_due()
    moment = now()
    hours = [moment + timedelta(hours=n) for n in range(3)]
    assert [audit_verify_part(hour, links=10) for hour in hours] == [None] * 3
    victim = AuditEvent.objects.filter(subject="study:12").get()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE core_auditevent SET actor = 'user:y' WHERE id = %s", [victim.pk])
    found = [audit_verify_part(hour, links=10) for hour in hours]
    assert sorted(part or 0 for part in found) == [0, 0, victim.seal.sequence]
    assert audit_verify() == victim.seal.sequence
    audit_check(moment)
    audit_check(moment)
    alert = Alert.objects.get(code="audit-chain-broken")
    assert (alert.severity, alert.count) == ("critical", 2)
    html = administrator.get("/").content.decode()
    assert "The audit trail was changed" in html


@pytest.mark.parametrize("statement", ["DELETE FROM core_auditseal", "UPDATE core_auditseal SET hash = 'x'"])
def test_l06_a_removed_or_changed_link_is_found_too(statement: str) -> None:
    for n in range(12):
        audit_record(AuditEventType.QUERY, actor="user:x", subject=f"study:{n}")
    audit_seal_due()
    with connection.cursor() as cursor:
        cursor.execute(f"{statement} WHERE sequence = 7")
    assert audit_verify_part(now()) == 7


def test_l08_what_is_sent_to_a_page_leaves_no_file(administrator, tmp_path: Path, monkeypatch) -> None:
    import io
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    upload = io.BytesIO(b"a" * 4_000_000)
    upload.name = f"{MARK}.dcm"
    answer = administrator.post("/studies/", {"query": "x", "file": upload})
    assert answer.status_code == 413
    assert list(tmp_path.iterdir()) == []


def test_l08_core_files_are_off_and_files_are_ours_alone(tmp_path: Path) -> None:
    import os
    import stat

    from gateway_project.wiring import supervision

    assert "RLIMIT_CORE, (0, 0)" in Path(supervision.__file__).read_text()
    made = tmp_path / "made"
    made.touch()
    assert not stat.S_IMODE(made.stat().st_mode) & 0o077
    assert not os.umask(0o077) & ~0o077


def test_password_is_in_no_line_and_no_page(lines, administrator) -> None:
    new = f"{MARK} long enough"
    client = Client()
    client.post("/login/", {"username": "first", "password": f"{MARK}-wrong"})
    client.force_login(user_make("viewer", username="berta"))
    for old in (f"{MARK}-old", PASSWORD):
        answer = client.post("/account/password/", {"old_password": old, "new_password1": new, "new_password2": new})
        assert MARK not in answer.content.decode()
    day_make(vault_make())
    assert not [line for line in lines if MARK in line]
    assert MARK not in str(list(AuditEvent.objects.values()))
