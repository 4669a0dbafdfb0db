"""Rules from options and rows; refusals in trail and history, however many come; endpoints from options and rows."""

import datetime as dt
from pathlib import Path

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import CommandError

from gateway_project.core.machine import machine_key
from gateway_project.core.models import Alert, AuditEvent
from network.dimse.access import KnownPeer, networks_parse
from network.dimse.control import ControlServer
from network.dimse.floods import Refusal
from network.models import AssociationRecord, LocalAE, RemoteAE
from network.selectors import associations_live, control_path
from network.services.access import RefusalLog, identity_alerts_heal, limits_current, policy_current
from network.services.endpoints import Wanted, endpoint_save, endpoints_judge, endpoints_seed, endpoints_wanted
from tests.network.certificates import issue

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 5, 4, 12, 0, tzinfo=dt.UTC)


def option_is(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"GATEWAY_DICOM__{name}", str(value))


def refusal(count: int = 1, *, reason: str = "calling-ae-unknown", address: str = "10.0.0.9") -> Refusal:
    return Refusal(address, reason, count, ("EVIL\x1b_AE",), ("GATEWAY",), 4711, True)


def at(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def test_policy_is_what_options_and_rows_say(monkeypatch: pytest.MonkeyPatch) -> None:
    option_is(monkeypatch, ACCEPT_UNKNOWN_CALLING="false", ALLOWED_CALLING="CT_1, CT_2", BLOCKED_CALLING="BAD")
    option_is(monkeypatch, ALLOWED_NETWORKS="10.0.0.0/8,fd00::/8", MAX_ASSOCIATIONS="5", MAX_ASSOCIATIONS_PER_PEER="2")
    pin = "AB:" * 31 + "AB"
    RemoteAE.objects.create(ae_title="MR_1", networks="10.1.0.0/16, 10.2.0.1", certificates=pin)
    RemoteAE.objects.create(ae_title="OLD", enabled=False)
    policy = policy_current()
    assert (policy.accept_unknown, policy.check_called) == (False, True)
    assert (policy.allowed_calling, policy.blocked_calling) == ({"CT_1", "CT_2"}, {"BAD"})
    assert policy.networks == networks_parse(["10.0.0.0/8", "fd00::/8"])
    assert (policy.max_associations, policy.max_associations_per_peer) == (5, 2)
    assert policy.peers["MR_1"] == KnownPeer(
        "MR_1", networks_parse(["10.1.0.0/16", "10.2.0.1"]), frozenset({"ab" * 32})
    )
    assert not policy.peers["OLD"].enabled


def test_limits_are_what_options_say(monkeypatch: pytest.MonkeyPatch) -> None:
    option_is(monkeypatch, MAX_CONNECTIONS="9", MAX_CONNECTIONS_PER_ADDRESS="3", CONNECTIONS_PER_SECOND="1.5")
    limits = limits_current()
    assert (limits.in_all, limits.per_address, limits.per_second) == (9, 3, 1.5)


def test_flood_of_rejections_is_two_records_of_the_trail_and_one_of_the_history_a_minute() -> None:
    log = RefusalLog()
    log.write([refusal()], now=NOW)
    (first,) = AuditEvent.objects.all()
    assert (first.event, first.outcome, first.actor) == ("Security Alert", "refused", "ae:EVIL?_AE")
    assert first.detail == {
        "address": "10.0.0.9",
        "reason": "calling-ae-unknown",
        "count": 1,
        "calling": ["EVIL?_AE"],
        "called": ["GATEWAY"],
    }
    for second in range(2, 60, 2):
        log.write([refusal(100)], now=at(second))
    assert AuditEvent.objects.count() == 1
    log.write([], now=at(61))
    assert [event.detail["count"] for event in AuditEvent.objects.order_by("id")] == [1, 2900]
    row = AssociationRecord.objects.get()
    assert (row.outcome, row.reason, row.times, row.calling_ae_title) == (
        "rejected", "calling-ae-unknown", 2901, "EVIL?_AE"
    )  # fmt: skip
    log.write([refusal()], now=at(62))
    assert (AuditEvent.objects.count(), AssociationRecord.objects.count()) == (3, 2)


def test_reasons_and_addresses_are_told_apart() -> None:
    RefusalLog().write([refusal(), refusal(reason="called-ae-unknown"), refusal(address="10.0.0.8")], now=NOW)
    assert AuditEvent.objects.count() == 3


def test_what_was_counted_is_written_at_the_end() -> None:
    log = RefusalLog()
    log.write([refusal(), refusal(5)], now=NOW)
    log.write([], now=at(1), all_of_it=True)
    assert sum(event.detail["count"] for event in AuditEvent.objects.all()) == 6


def test_checks_of_health_are_no_security_alerts_but_floods_of_them_are() -> None:
    log = RefusalLog()
    log.write([refusal(19, reason="no-association")], now=NOW)
    log.write([], now=at(61))
    assert not AuditEvent.objects.exists()
    log.write([refusal(15, reason="no-association")], now=at(62))
    log.write([refusal(15, reason="no-association")], now=at(64))
    assert AuditEvent.objects.get().detail["count"] == 30


def test_history_of_the_served_is_not_driven_out_by_rejections(monkeypatch: pytest.MonkeyPatch) -> None:
    option_is(monkeypatch, CONNECTION_HISTORY="3")
    AssociationRecord.objects.create(association_id="served", outcome="released", opened_at=NOW, closed_at=NOW)
    log = RefusalLog()
    for number in range(10):
        log.write([refusal(address=f"10.0.0.{number}")], now=at(number))
    assert AssociationRecord.objects.filter(outcome="rejected").count() == 3
    assert AssociationRecord.objects.filter(association_id="served").exists()


def test_p19_stolen_identity_opens_one_alert_that_heals_when_it_is_quiet() -> None:
    log = RefusalLog()
    for number in range(5):
        log.write([refusal(reason="address-of-another", address=f"10.0.0.{number}")], now=at(number))
    alert = Alert.objects.get()
    assert (alert.code, alert.healed_at) == ("address-of-another", None)
    assert "EVIL?_AE" in alert.words
    identity_alerts_heal(alert.seen_at + dt.timedelta(minutes=59))
    assert Alert.objects.filter(healed_at__isnull=True).exists()
    identity_alerts_heal(alert.seen_at + dt.timedelta(minutes=61))
    assert not Alert.objects.filter(healed_at__isnull=True).exists()


def test_options_make_the_default_endpoint_and_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    option_is(monkeypatch, PORT="1104", HOST="127.0.0.1", AE_TITLE="HOUSE")
    endpoints_seed()
    LocalAE.objects.filter(name="default").update(port=99, enabled=False)
    endpoints_seed()
    (one,) = endpoints_wanted().endpoints
    assert (one.name, one.host, one.port, one.ae_title, one.tls) == ("default", "127.0.0.1", 1104, "HOUSE", None)


def test_certificate_makes_the_tls_endpoint_and_its_removal_ends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    house = issue(tmp_path, "house")
    certs = Path(settings.DATA_DIR) / "certs"
    certs.mkdir(exist_ok=True)
    house.pfx(certs / "house.pfx", "hush")
    option_is(monkeypatch, TLS_CERTIFICATE="house.pfx", TLS_CERTIFICATE_PASSWORD="hush", TLS_PORT="2763")
    option_is(monkeypatch, TLS_MIN_VERSION="1.3", TLS_CLIENT_CERTIFICATES="required", TLS_CLIENT_CA=house.public)
    endpoints_seed()
    tls = next(one for one in endpoints_wanted().endpoints if one.name == "default-tls")
    assert (tls.port, tls.tls.min_version, tls.tls.client_certificates) == (2763, "1.3", "required")
    assert tls.tls.certificate == str(certs / "house.pfx")
    assert "hush" not in repr(LocalAE.objects.filter(name="default-tls").values())
    monkeypatch.delenv("GATEWAY_DICOM__TLS_CERTIFICATE")
    endpoints_seed()
    assert [one.name for one in endpoints_wanted().endpoints] == ["default"]


def test_until_set_up_is_finished_every_endpoint_binds_loopback() -> None:
    LocalAE.objects.create(name="six", ae_title="A", host="::", port=1)
    LocalAE.objects.create(name="four", ae_title="A", host="10.0.0.1", port=2)
    LocalAE.objects.create(name="off", ae_title="A", port=3, enabled=False)
    hosts = {one.name: one.host for one in endpoints_wanted(loopback_only=True).endpoints}
    assert hosts == {"six": "::1", "four": "127.0.0.1"}


def test_endpoint_with_bad_files_or_a_taken_place_is_left_out_and_told(tmp_path: Path) -> None:
    endpoints_seed()
    default = LocalAE.objects.get(name="default")
    LocalAE.objects.create(name="broken", ae_title="A", port=1, tls=True, certificate=str(tmp_path / "none.pem"))
    LocalAE.objects.create(name="double", ae_title="A", host=default.host, port=default.port)
    wanted = endpoints_wanted()
    assert [one.name for one in wanted.endpoints] == ["default"]
    assert set(wanted.faults) == {"broken", "double"}
    endpoints_judge(wanted, {"third": "Another program listens there."})
    endpoints_judge(wanted, {"third": "Another program listens there."})
    keys = {machine_key(f"endpoint:{name}") for name in ("broken", "double", "third")}
    assert set(Alert.objects.values_list("key", "count")) == {(key, 1) for key in keys}
    endpoints_judge(Wanted(), {})
    assert not Alert.objects.filter(healed_at__isnull=True).exists()


def test_password_of_an_endpoint_is_kept_encrypted_and_out_of_the_trail(tmp_path: Path) -> None:
    pfx = issue(tmp_path, "house").pfx(tmp_path / "house.pfx", "secret word")
    row = LocalAE(name="own", ae_title="A", port=5, tls=True, certificate=str(pfx))
    row.full_clean()
    endpoint_save(row, actor="user:x", password="secret word", changed=["name", "new_password"])
    assert "secret word" not in LocalAE.objects.get().password
    (one,) = endpoints_wanted().endpoints
    assert one.tls is not None
    assert "secret word" not in str(AuditEvent.objects.get().detail)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"port": 0}, "port"),
        ({"port": 70000}, "port"),
        ({"port": 104, "host": "10.0.0.1"}, "port"),
        ({"tls": True}, "certificate"),
        ({"client_certificates": "required"}, "client_ca"),
        ({"certificate": "../../etc/key.pem"}, "certificate"),
        ({"ae_title": "SEVENTEEN_LETTERS"}, "ae_title"),
        ({"ae_title": " A"}, "ae_title"),
        ({"ae_title": "A\\B"}, "ae_title"),
    ],
)
def test_endpoint_that_cannot_work_is_refused_with_the_field(values: dict[str, object], field: str) -> None:
    LocalAE.objects.create(name="other", ae_title="A", port=104)
    with pytest.raises(ValidationError) as caught:
        LocalAE(**{"name": "new", "ae_title": "A", "port": 105, **values}).full_clean()
    assert field in caught.value.error_dict


@pytest.mark.parametrize(
    ("values", "field"), [({"networks": "10.0.0.0/33"}, "networks"), ({"certificates": "abc"}, "certificates")]
)
def test_peer_that_cannot_be_judged_is_refused_with_the_field(values: dict[str, str], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RemoteAE(ae_title="A", **values).full_clean()
    assert field in caught.value.error_dict


class FakeAcceptor:
    """Answers as the listeners do."""

    def __init__(self) -> None:
        control_path().parent.mkdir(mode=0o700, exist_ok=True)
        self.rows = [
            {
                "connection": 1,
                "receiver": 0,
                "address": "10.0.0.7",
                "port": 50,
                "association_id": "abc",
                "connected_at": NOW.isoformat(),
                "calling_ae_title": "CT_1",
                "bytes_received": 2_500_000,
            }
        ]
        self.server = ControlServer(control_path(), self.answer)

    def answer(self, request: dict[str, object]) -> dict[str, object]:
        if request["command"] == "live":
            return {"associations": self.rows}
        return {"found": request["association_id"] == "abc"}

    def __enter__(self) -> "FakeAcceptor":
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()


def test_living_associations_are_listed_for_pages_and_at_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeAcceptor() as acceptor:
        (one,) = associations_live().associations
        assert (one.calling_ae_title, one.connected_at, one.bytes_received) == ("CT_1", NOW, 2_500_000)
        call_command("associations")
        assert "CT_1" in (shown := capsys.readouterr().out)
        assert "2.5" in shown
        acceptor.rows.clear()
        call_command("associations")
        assert "Nobody" in capsys.readouterr().out


def test_ending_one_is_audited_and_an_unknown_one_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeAcceptor():
        call_command("associations", "--end", "abc")
        with pytest.raises(CommandError, match="No association"):
            call_command("associations", "--end", "xyz")
    event = AuditEvent.objects.get()
    assert (event.actor, event.subject) == ("command:associations", "association:abc")


def test_without_listeners_page_and_command_say_so() -> None:
    assert not associations_live().running
    for arguments in ([], ["--end", "abc"]):
        with pytest.raises(CommandError, match="do not answer"):
            call_command("associations", *arguments)
