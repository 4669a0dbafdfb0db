"""dcmjs-dimse as the sender: what it puts on the wire is what is kept, in any encoding; what it breaks off is not."""

from pathlib import Path

import pytest
from pydicom import dcmread

from tests.crash.test_receiving_crash import incoming
from tests.dicom_samples import bundled_root, dataset_of, study_files, uid_of
from tests.dicom_tap import Tap
from tests.gateway_harness import Gateway, wait_until
from tests.outside.dcmjs import dcmjs_ended, dcmjs_start

pytestmark = [pytest.mark.dcmjs, pytest.mark.timeout(120)]

IMPLICIT = bundled_root() / "MR_small_implicit.dcm"
JPEG = bundled_root() / "SC_rgb_jpeg_dcmtk.dcm"
LARGE_SIDE = 512
"""Pixels: half a megabyte, which is several PDUs."""


def kept(gateway: Gateway) -> dict[str, bytes]:
    """The encoded data set of every object that has a row; none lies on disk without one, none is under way."""
    rows = dict(gateway.rows("SELECT sop_instance_uid, path FROM studies_instance"))
    on_disk = {str(p.relative_to(gateway.store)) for p in (gateway.store / "objects").rglob("*") if p.is_file()}
    assert on_disk == set(rows.values())
    assert not incoming(gateway)
    assert gateway.value("SELECT count(*) FROM studies_quarantinedobject") == 0
    return {uid: dataset_of(gateway.store / path) for uid, path in rows.items()}


def test_objects_of_three_encodings_over_three_associations_are_kept_as_on_the_wire(
    gateway: Gateway, tmp_path: Path
) -> None:
    files = [*study_files(tmp_path / "study", count=7), IMPLICIT, JPEG]
    listeners = gateway.start_listeners()
    tap = Tap(gateway.dimse_port)
    sent = dcmjs_ended(dcmjs_start(tap.port, *files, associations=3))
    tap.close()
    gateway.stop(listeners)

    assert sent.echoes == [0, 0, 0]
    assert sent.associations == ["released"] * 3
    assert sent.statuses == dict.fromkeys(files, 0)
    assert kept(gateway) == {message.sop_instance_uid: message.dataset for message in tap.messages}
    syntaxes = dict(gateway.rows("SELECT sop_instance_uid, transfer_syntax_uid FROM studies_instance"))
    assert syntaxes == {uid_of(path): dcmread(path).file_meta.TransferSyntaxUID for path in files}
    assert len(set(syntaxes.values())) == 3
    records = gateway.rows("SELECT outcome, objects_stored FROM network_associationrecord")
    assert records == [("released", 3)] * 3


@pytest.mark.parametrize(("cut", "outcome"), [("abort", "aborted"), ("destroy", "lost")])
def test_association_cut_in_the_midst_of_a_data_set_leaves_nothing_and_harms_nobody(
    gateway: Gateway, tmp_path: Path, cut: str, outcome: str
) -> None:
    broken = study_files(tmp_path / "broken", count=2, side=LARGE_SIDE)
    honest = study_files(tmp_path / "honest", count=4)
    listeners = gateway.start_listeners()
    senders = [
        dcmjs_start(gateway.dimse_port, *broken, calling="BROKEN", associations=2, cut=cut),
        dcmjs_start(gateway.dimse_port, *honest, calling="HONEST"),
    ]
    cut_short, whole = [dcmjs_ended(sender) for sender in senders]
    ends = "SELECT outcome, objects_stored FROM network_associationrecord WHERE calling_ae_title = 'BROKEN'"
    wait_until(lambda: len(gateway.rows(ends)) == 2, what="the end of the broken associations")
    gateway.stop(listeners)

    assert cut_short.echoes == [0, 0]
    assert cut_short.associations == ["cut", "cut"]
    assert cut_short.statuses == {}
    assert gateway.rows(ends) == [(outcome, 0)] * 2
    assert whole.statuses == dict.fromkeys(honest, 0)
    assert set(kept(gateway)) == {uid_of(path) for path in honest}
