"""Honest senders of several makes. Each answers which of the objects were acknowledged, whatever else befell it."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from tests.crash.test_receiving_crash import acknowledged
from tests.outside.dcmjs import PACKAGE, dcmjs_start, dcmjs_told
from tests.outside.npm import npm_missing
from tests.soak.stock import Item

LONGEST_SECONDS = 90
"""Far more than any deadline of the gateway: a sender that is left waiting for so long is a finding."""
PYNETDICOM_SECONDS = 10
"""Its requestor waits in vain for as long when the connection is lost between two objects."""
Send = Callable[[int, Sequence[Item]], set[str]]
"""Port and objects -> the SOP Instance UIDs that were answered with Success."""


def told_by(sender: subprocess.Popen) -> str:
    """All that a sender says until it ends. Raises TimeoutExpired."""
    with sender:
        try:
            return sender.communicate(timeout=LONGEST_SECONDS)[0]
        finally:
            sender.kill()


def paths(items: Sequence[Item]) -> list[Path]:
    return [item.path for item in items]


def storescu(port: int, items: Sequence[Item], *, tuned: bool) -> set[str]:
    env = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    command = ["storescu", "-v", "-aec", "GATEWAY", "-aet", "STORESCU", "127.0.0.1", str(port)]
    sender = subprocess.Popen(
        [*command, *map(str, paths(items))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env | ({"TCP_NODELAY": "1"} if tuned else {}),
    )
    return acknowledged(told_by(sender), paths(items))


def storescu_tuned(port: int, items: Sequence[Item]) -> set[str]:
    return storescu(port, items, tuned=True)


def storescu_as_installed(port: int, items: Sequence[Item]) -> set[str]:
    """With Nagle's algorithm."""
    return storescu(port, items, tuned=False)


def pynetdicom(port: int, items: Sequence[Item]) -> set[str]:
    entity = AE("PYNETDICOM")
    entity.add_requested_context(CTImageStorage, [ExplicitVRLittleEndian])
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = PYNETDICOM_SECONDS
    opened = entity.associate("127.0.0.1", port, ae_title="GATEWAY")
    stored = set()
    for item in items:
        if not opened.is_established:
            break
        try:
            answer = opened.send_c_store(item.path)
        except RuntimeError:  # the association ended between the two lines
            break
        if "Status" in answer and answer.Status == 0:
            stored.add(item.uid)
    if opened.is_established:
        opened.release()
    return stored


def dcmjs(port: int, items: Sequence[Item]) -> set[str]:
    uids = {item.path: item.uid for item in items}
    sent = dcmjs_told(told_by(dcmjs_start(port, *uids, associations=2)))
    return {uids[path] for path, status in sent.statuses.items() if status == 0}


def senders_installed() -> dict[str, Send]:
    found: dict[str, Send] = {"pynetdicom": pynetdicom}
    if shutil.which("storescu"):
        found |= {"storescu-tuned": storescu_tuned, "storescu-as-installed": storescu_as_installed}
    if not npm_missing(PACKAGE):
        found["dcmjs"] = dcmjs
    return found
