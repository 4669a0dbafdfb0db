"""Query and retrieval by dcmjs-dimse, which shares no code with the gateway or pynetdicom."""

import json
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.dicom_samples import study_files, uid_of
from tests.flow.test_retrieve import peer_add, stored, storescp
from tests.gateway_harness import Gateway
from tests.outside.npm import HERE

pytestmark = [pytest.mark.dcmjs, pytest.mark.dcmtk, pytest.mark.timeout(120)]


def test_study_is_found_moved_and_got(gateway: Gateway, tmp_path: Path) -> None:
    peer_add(gateway, "VIEWER")
    gateway.start_listeners()
    files = study_files(tmp_path / "study")
    study = stored(gateway, files)
    with storescp(tmp_path / "pacs") as port:
        peer_add(gateway, "PACS", host="127.0.0.1", port=port)
        options = {
            "port": str(gateway.dimse_port),
            "calling": "VIEWER",
            "destination": "PACS",
            "study": study,
            "patient": str(dcmread(files[0]).PatientID),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        command = ["node", str(HERE / "dcmjs_query.cjs"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    found, moved, got = ([one for one in told if one.get("asked") == name] for name in ("find", "move", "get"))
    assert [(one["status"], one["study"]) for one in found] == [(0xFF00, study), (0x0000, None)]
    for responses in (moved, got):
        *pending, final = responses
        assert (final["status"], final["completed"], final["failed"], final["warnings"]) == (0, len(files), 0, 0)
        for one in pending:
            assert one["status"] == 0xFF00
            assert one["remaining"] + one["completed"] + one["failed"] + one["warnings"] == len(files)
    uids = sorted(map(uid_of, files))
    assert sorted(one["stored"] for one in told if "stored" in one) == uids
    assert sorted(map(uid_of, (tmp_path / "pacs").iterdir())) == uids
