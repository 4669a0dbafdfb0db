"""Every file that pydicom bundles is sent: kept byte for byte as on the wire and found again in the vault, or refused.

DCMTK's storescu sends what it can propose; the few syntaxes that it does not know go with our own SCU. The judge of
"as on the wire" is a tap between sender and gateway, because storescu may re-encode before it sends.
"""

import hashlib
import os
import subprocess
from array import array
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from network.dimse.scu import send_instances
from tests.dicom_samples import bundled_root, dataset_of
from tests.dicom_tap import Message, Tap
from tests.gateway_harness import DRAIN, SETTLE, Gateway

pytestmark = [pytest.mark.dcmtk, pytest.mark.timeout(300)]

STORESCU_OPTION = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}


def bundled_by_syntax() -> dict[str, list[Path]]:
    """Every file that says who it is and how it is encoded: what a sender can send at all."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(p for p in bundled_root().rglob("*") if p.is_file()):
        try:
            dataset = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID", "SOPClassUID"])
        except (InvalidDicomError, ValueError, EOFError, NotImplementedError, OSError):
            continue
        if "SOPInstanceUID" in dataset and "SOPClassUID" in dataset and "TransferSyntaxUID" in dataset.file_meta:
            found[str(dataset.file_meta.TransferSyntaxUID)].append(path)
    return found


def send_all(tap: Tap) -> int:
    """Sends every file; answers how many were tried."""
    tried = 0
    for syntax, files in bundled_by_syntax().items():
        tried += len(files)
        option = STORESCU_OPTION.get(syntax)
        if option is None:
            send_instances(
                files, address="127.0.0.1", port=tap.port, calling_ae_title="JUDGE", called_ae_title="GATEWAY"
            )
        else:
            command = ["storescu", "-nh", "-R", option, "-aec", "GATEWAY", "-aet", "JUDGE", "127.0.0.1", str(tap.port)]
            env = os.environ | {"TCP_NODELAY": "1"}
            subprocess.run([*command, *map(str, files)], capture_output=True, env=env, timeout=120, check=False)
    return tried


def unidentified() -> set[str]:
    """The files that do not say which study and series they belong to, judged by pydicom."""
    datasets = [dcmread(p, stop_before_pixels=True) for files in bundled_by_syntax().values() for p in files]
    return {str(d.SOPInstanceUID) for d in datasets if not d.get("StudyInstanceUID") or not d.get("SeriesInstanceUID")}


def re_encoded() -> set[str]:
    """The objects that are bundled in several native encodings of the same content, judged by pydicom."""
    found: dict[str, list[tuple[Dataset, bytes]]] = defaultdict(list)
    for files in bundled_by_syntax().values():
        for path in files:
            dataset = dcmread(path)
            syntax = dataset.file_meta.TransferSyntaxUID
            if not syntax.is_compressed and "PixelData" in dataset:
                content = Dataset({e.tag: e for e in dataset if e.tag.group not in (0x7FE0, 0xFFFC)})
                pixels = array("H", dataset.PixelData)
                if not syntax.is_little_endian and dataset["PixelData"].VR == "OW":  # words of 16 bits
                    pixels.byteswap()
                found[str(dataset.SOPInstanceUID)].append((content, pixels.tobytes()))
    return {uid for uid, all_ in found.items() if any(one == two for one, two in combinations(all_, 2))}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_every_bundled_file_is_kept_as_on_the_wire_or_refused(gateway: Gateway, tmp_path: Path) -> None:
    listeners = gateway.start_listeners()
    tap = Tap(gateway.dimse_port)
    tried = send_all(tap)
    tap.close()
    gateway.stop(listeners)
    assert tried > 100
    assert len(tap.messages) > 0.9 * tried, "most files must really have been sent"
    stored = [m for m in tap.messages if m.status == 0]
    refused = [m for m in tap.messages if m.status != 0]
    _stored_as_sent(gateway, stored)
    _refused_with_a_reason(gateway, refused)
    _found_in_the_vault(gateway, stored, tmp_path)


def _stored_as_sent(gateway: Gateway, stored: list[Message]) -> None:
    rows = gateway.rows("SELECT sop_instance_uid, sha256, path FROM studies_instance")
    sent, kept = {(m.sop_instance_uid, sha256(m.dataset)) for m in stored}, {(uid, digest) for uid, digest, _ in rows}
    assert kept <= sent
    known_otherwise = {uid for uid, _digest in sent - kept}
    assert known_otherwise <= {uid for uid, _digest in kept} & re_encoded()
    for _uid, digest, path in rows:
        assert sha256(dataset_of(gateway.store / path)) == digest
    on_disk = [p for p in (gateway.store / "objects").rglob("*") if p.is_file()]
    assert len(on_disk) == len(rows)
    assert not [p for p in (gateway.store / "incoming").rglob("*") if p.is_file()]


def _refused_with_a_reason(gateway: Gateway, refused: list[Message]) -> None:
    rows = gateway.rows("SELECT sha256, code, reason, count FROM studies_quarantinedobject")
    assert all(m.status is not None and m.status != 0 for m in refused)
    assert {sha256(m.dataset) for m in refused} == {digest for digest, *_rest in rows}
    assert sum(count for *_rest, count in rows) == len(refused)
    assert all(code and reason for _digest, code, reason, _count in rows)
    assert {code for _digest, code, *_rest in rows} == {"identity-missing"}
    assert {m.sop_instance_uid for m in refused} == unidentified()


def _found_in_the_vault(gateway: Gateway, stored: list[Message], tmp_path: Path) -> None:
    gateway.start_vault()
    for code in (SETTLE, DRAIN):
        done = gateway.code(code)
        assert done.returncode == 0, done.stderr
    assert gateway.rows("SELECT DISTINCT state FROM uploads_uploadjob") == [("done",)]
    assert gateway.rows("SELECT DISTINCT state FROM studies_study") == [("uploaded",)]
    opened = set()
    for (upload_id,) in gateway.rows("SELECT upload_id FROM uploads_uploadjob"):
        target = tmp_path / "opened" / upload_id
        target.parent.mkdir(exist_ok=True)
        for file in gateway.open_upload(upload_id, target)["files"]:
            opened.add((file["sop_instance_uid"], sha256(dataset_of(target / file["path"]))))
    assert opened == set(gateway.rows("SELECT sop_instance_uid, sha256 FROM studies_instance"))
    assert {uid for uid, _digest in opened} == {m.sop_instance_uid for m in stored}
