"""An alert of a running gateway reaches a real mail server, which was down at first, past a killed worker."""

import os
import signal

import psutil
import pytest

from tests.core.notice_servers import mail_server, port_free
from tests.gateway_harness import Gateway, wait_until

pytestmark = [pytest.mark.timeout(150)]

OPEN = "from gateway_project.core.services.alerts import alert_open; alert_open('t', code='t', words='Look at this.')"
HEAL = "from gateway_project.core.services.alerts import alert_heal; alert_heal('t')"
TRY_NOW = """
from django.utils.timezone import now
from gateway_project.core.models import Lane
from gateway_project.core.services.lanes import lane_resume
lane_resume(Lane.objects.get(name="notices:email"), actor="user:anna", now=now())
"""
LANE = "SELECT count(*) FROM core_alert WHERE key = 'lane:notices:email' AND healed_at IS NULL"


def notice_processes(gateway: Gateway) -> list[psutil.Process]:
    return [process for process in gateway.strays() if "notices" in " ".join(process.cmdline())]


def test_mail_arrives_when_the_server_is_back_and_the_worker_was_killed(gateway: Gateway) -> None:
    port = port_free()
    settings = {
        "GATEWAY_ALERT__EMAIL_HOST": "localhost",
        "GATEWAY_ALERT__EMAIL_PORT": str(port),
        "GATEWAY_ALERT__EMAIL_TLS": "none",
        "GATEWAY_ALERT__EMAIL_TO": "anna@hospital.example",
        "GATEWAY_ALERT__GROUP_SECONDS": "0",
        "GATEWAY_ALERT__SPACING_SECONDS": "0",
    }
    process = gateway.run(**settings)
    assert gateway.code(OPEN).returncode == 0
    wait_until(lambda: gateway.value(LANE), seconds=60, what="the alert about the sending itself")
    for one in notice_processes(gateway):
        os.kill(one.pid, signal.SIGKILL)
    with mail_server(port=port) as box:
        assert gateway.code(TRY_NOW).returncode == 0
        wait_until(lambda: box.mails, seconds=90, what="the mail")
        assert box.subjects == ["[gateway-01] Needs a look: Look at this."]
        wait_until(lambda: not gateway.value(LANE), what="the healing of the alert about the sending")
        assert gateway.code(HEAL).returncode == 0
        wait_until(lambda: len(box.mails) > 1, seconds=60, what="the second mail")
        assert box.subjects[1:] == ["[gateway-01] Well again: Look at this."]
    assert gateway.stop(process) == 0
