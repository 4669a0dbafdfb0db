"""One 2 GB multi-frame object through the whole gateway: how much memory any of its processes takes for it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage as MultiFrame

from benchmarks.gateway import GatewayReceiver, gateway_running
from benchmarks.objects import CT, SMALL, TILE, VARIANTS, ObjectFactory, pixels_make, uid_new
from benchmarks.peers import BenchmarkError
from benchmarks.processes import PeakWatch, growth_told
from benchmarks.receive import until_shown
from benchmarks.report import MB, Clock, Figure, TableRow, tell
from benchmarks.scu import DataSet, Sender, part10_read
from tests.gateway_harness import Gateway, wait_until

TILES = (CT.edge // TILE) ** 2
FRAMES = 4096  # of 512 kB: 2 GiB
TO_REACH = "each under 64 MiB more"
UPLOAD_SECONDS = 300.0
SETTLE = {"GATEWAY_SETTLING__SCAN_SECONDS": "0.5", "GATEWAY_SETTLING__INACTIVITY_SECONDS": "0"}
UPLOADS = "SELECT state, count(*) FROM uploads_uploadjob GROUP BY state"


def large(folder: Path, *, rounds: int, quick: bool, clock: Clock) -> list[TableRow]:
    """Measures once, receiving and uploading apart. Raises BenchmarkError unless the object arrives and is uploaded."""
    frames = 16 if quick else FRAMES
    with gateway_running(folder, whole=True, **SETTLE) as gateway:
        uploaded(gateway, 0, part10_read(next(ObjectFactory(SMALL).contents(1))))  # everybody has done it once
        size_bytes = frames * CT.edge * CT.edge * 2
        received, sealed = uploaded(gateway, size_bytes, multi_frame(frames))
    name = f"one object of {size_bytes / MB:.0f} MB ({frames} frames)"
    return [Figure(f"receive {name}", received, TO_REACH), Figure(f"upload {name}, vault included", sealed, TO_REACH)]


def multi_frame(frames: int) -> DataSet:
    """Made while it is sent. The frames repeat after 4 MB, which is beyond what zstd-3 looks back (2 MB)."""
    head = Dataset()
    head.SOPClassUID, head.SOPInstanceUID = MultiFrame, uid_new()
    head.StudyInstanceUID, head.SeriesInstanceUID = uid_new(), uid_new()
    head.PatientName, head.PatientID, head.Modality = "Benchmark^Synthetic", "BENCHMARK", "OT"
    head.SamplesPerPixel, head.PhotometricInterpretation, head.NumberOfFrames = 1, "MONOCHROME2", frames
    head.Rows = head.Columns = CT.edge
    head.BitsAllocated = head.BitsStored = 16
    head.HighBit, head.PixelRepresentation = 15, 1
    sink = DicomBytesIO()
    sink.is_little_endian, sink.is_implicit_VR = True, False
    write_dataset(sink, head)
    length = frames * CT.edge * CT.edge * 2
    pixel_data = b"\xe0\x7f\x10\x00OW\0\0" + length.to_bytes(4, "little")

    variants = [pixels_make(CT.edge, number * TILES) for number in range(VARIANTS)]  # no tile twice

    def pieces() -> Iterator[bytes]:
        yield sink.getvalue() + pixel_data
        for number in range(frames):
            yield variants[number % VARIANTS]

    return DataSet(MultiFrame, head.SOPInstanceUID, pieces())


def uploaded(gateway: Gateway, size_bytes: int, data_set: DataSet) -> tuple[str, str]:
    """Sends one object and waits until it is uploaded; what was measured of each, in words."""
    receiver = GatewayReceiver(gateway)
    jobs = sum(count for _state, count in gateway.rows(UPLOADS))

    def send() -> tuple[float, float]:
        began = time.perf_counter()
        sender = Sender(receiver.port, called=receiver.ae_title, sop_class=data_set.sop_class_uid)
        sender.store(data_set)
        sender.release()
        return began, time.perf_counter()

    def upload() -> float:
        began = time.perf_counter()
        wait_until(lambda: done(gateway, jobs + 1), seconds=UPLOAD_SECONDS, what="the upload")
        return time.perf_counter() - began

    received = watched(gateway, size_bytes, lambda: until_shown(receiver, 1, send), "received")
    return received, watched(gateway, size_bytes, upload, "uploaded")


def watched(gateway: Gateway, size_bytes: int, step: Callable[[], float], word: str) -> str:
    with PeakWatch(gateway) as watch:
        seconds = step()
    told = f"{seconds:.3g} s, {size_bytes / MB / seconds:.3g} MB/s; memory at most {growth_told(watch.growth())}"
    if size_bytes:
        tell(f"  {size_bytes / MB:.0f} MB {word}: {told}")
    return told


def done(gateway: Gateway, jobs: int) -> bool:
    states = dict(gateway.rows(UPLOADS))
    if set(states) - {"ready", "running", "done"}:
        raise BenchmarkError(f"An upload did not end well: {states}; see {gateway.log}.")
    return states.get("done", 0) == jobs
