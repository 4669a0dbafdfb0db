"""The listeners as an operator meets them: rows and options followed live, refusals in the trail, one ended."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from network.dimse import scu
from network.dimse.scu import association
from tests.dicom_samples import study_files
from tests.gateway_harness import Gateway, free_ports, listens, wait_until
from tests.network.certificates import issue

pytestmark = [pytest.mark.timeout(120)]
ECHO = [scu.VERIFICATION_PROPOSAL]
ADMINISTRATOR = (
    "from gateway_project.wiring.setup import administrator_create;"
    "administrator_create(username='first', password='a long pass phrase 7')"
)
OPTION = "from gateway_project.core.option_store import option_set; option_set({!r}, {!r}, actor='user:x')"


def peer(port: int, *, calling: str = "JUDGE") -> dict:
    return {"address": "127.0.0.1", "port": port, "calling_ae_title": calling, "called_ae_title": "GATEWAY"}


def refused(port: int, **values) -> str:
    try:
        scu.echo(**peer(port, **values))
    except scu.AssociationError as error:
        return error.reason or error.code
    return ""


def add_endpoint(gateway: Gateway, **values) -> None:
    words = json.dumps({"ae_title": "GATEWAY", "host": "127.0.0.1", **values})
    done = gateway.code(
        f"import json; from network.models import LocalAE; LocalAE.objects.create(**json.loads({words!r}))"
    )
    assert done.returncode == 0, done.stderr


def test_endpoint_rows_are_followed_while_associations_live(gateway: Gateway) -> None:
    gateway.start_listeners()
    (port,) = free_ports(1)
    with association(ECHO, **peer(gateway.dimse_port)) as opened:
        add_endpoint(gateway, name="second", port=port)
        wait_until(lambda: listens(port), what="the second endpoint")
        with association(ECHO, **peer(port)) as second:
            gateway.code(
                "from network.models import LocalAE; LocalAE.objects.filter(name='second').update(enabled=False)"
            )
            wait_until(lambda: not listens(port), what="the end of the second endpoint")
            scu.echo_on(second)
        gateway.code(ADMINISTRATOR)  # from now on beyond loopback: bound anew, on the same port
        wait_until(lambda: "listening as configured" in gateway.log.read_text(), what="the end of set-up")
        scu.echo_on(opened)
    wait_until(lambda: not refused(gateway.dimse_port), what="the default endpoint")


@pytest.mark.dcmtk
def test_tls_endpoint_of_the_options_stores_and_the_live_list_knows(gateway: Gateway, tmp_path: Path) -> None:
    house = issue(tmp_path, "house")
    certs = gateway.data / "certs"
    certs.mkdir(mode=0o700)
    house.pfx(certs / "house.pfx", "word")
    (port,) = free_ports(1)
    tls = {"TLS_CERTIFICATE": "house.pfx", "TLS_CERTIFICATE_PASSWORD": "word", "TLS_PORT": str(port)}
    process = gateway.start_listeners(**{f"GATEWAY_DICOM__{name}": value for name, value in tls.items()})
    wait_until(lambda: listens(port), what="the TLS port")
    files = study_files(tmp_path / "study", count=3)
    command = ["storescu", "-v", "-aec", "GATEWAY", "+tla", "+cf", str(house.public), "127.0.0.1", str(port)]
    env = os.environ | {"TCP_NODELAY": "1"}
    sent = subprocess.run([*command, *files], capture_output=True, text=True, timeout=60, env=env, check=False)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    wait_until(lambda: gateway.value("SELECT count(*) FROM studies_instance") == 3, what="the objects")
    recorded = "SELECT tls, outcome FROM network_associationrecord"
    wait_until(lambda: gateway.rows(recorded) == [(1, "released")], what="the record of the association")
    gateway.stop(process)
    assert not (gateway.data / "run" / "listeners.sock").exists()


def test_rejections_are_audited_in_numbers_and_rules_need_no_restart(gateway: Gateway) -> None:
    process = gateway.start_listeners()
    assert refused(gateway.dimse_port) == ""
    assert gateway.code(OPTION.format("DICOM.BLOCKED_CALLING", ["JUDGE"])).returncode == 0
    wait_until(lambda: refused(gateway.dimse_port) == "calling-ae-title-not-recognised", what="the new rule")
    for _ in range(20):
        assert refused(gateway.dimse_port)
    assert refused(gateway.dimse_port, calling="OTHER") == ""
    alerts = "SELECT detail FROM core_auditevent WHERE event = 'Security Alert' ORDER BY id"
    wait_until(lambda: gateway.rows(alerts), what="the first record")
    gateway.stop(process)
    details = [json.loads(detail) for (detail,) in gateway.rows(alerts)]
    assert 1 <= len(details) <= 2
    assert sum(detail["count"] for detail in details) == 21
    assert details[0]["reason"] == "calling-ae-blocked"
    assert gateway.rows("SELECT times FROM network_associationrecord WHERE outcome = 'rejected'") == [(21,)]


def test_one_association_is_ended_from_another_process(gateway: Gateway) -> None:
    gateway.start_listeners()
    with association(ECHO, **peer(gateway.dimse_port, calling="KEPT")) as kept:
        opened = association(ECHO, **peer(gateway.dimse_port, calling="ENDED"))
        one = opened.__enter__()
        listed = gateway.manage("associations").stdout
        line = next(line for line in listed.splitlines() if " ENDED " in line)
        ended = gateway.manage("associations", "--end", line.split()[0])
        assert ended.returncode == 0, ended.stderr
        wait_until(lambda: not one.is_quiet(), what="the abort")
        scu.echo_on(kept)
    trail = "SELECT actor FROM core_auditevent WHERE detail LIKE '%association ended%'"
    assert gateway.rows(trail) == [("command:associations",)]
    outcomes = "SELECT calling_ae_title, outcome, reason FROM network_associationrecord"
    wait_until(lambda: ("ENDED", "aborted", "ended-by-operator") in gateway.rows(outcomes), what="the history")


def test_endpoint_that_cannot_be_had_opens_an_alert_and_harms_nothing(gateway: Gateway) -> None:
    add_endpoint(gateway, name="broken", port=1, tls=True, certificate="nowhere.pem")
    gateway.start_listeners()
    alerts = "SELECT words FROM core_alert WHERE \"key\" = 'endpoint:broken' AND healed_at IS NULL"
    ((words,),) = wait_until(lambda: gateway.rows(alerts), what="the alert")
    assert "nowhere.pem" in words
    assert refused(gateway.dimse_port) == ""
    gateway.code("from network.models import LocalAE; LocalAE.objects.filter(name='broken').delete()")
    wait_until(lambda: not gateway.rows(alerts), what="the healing")
