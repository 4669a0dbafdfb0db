"""Data for the measurements: CT instances under new UIDs, with the pixels of a real scan. No two runs send the same."""

import secrets
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

TILE = 128
VARIANTS = 8
IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True)
class ObjectKind:
    """One sort of instance: `edge` pixels of 16 bits squared."""

    name: str
    edge: int


CT = ObjectKind("CT", 512)  # 512 kB of pixels
SMALL = ObjectKind("small", 56)  # 8 kB in all


class ObjectFactory:
    """Makes Part 10 files of one kind: explicit little endian, 78 attributes, the last of them Pixel Data."""

    def __init__(self, kind: ObjectKind) -> None:
        self.kind = kind
        self._marks = [uid_new() for _ in IDENTITY]
        pixels = [pixels_make(kind.edge, variant) for variant in range(VARIANTS)]
        encoded = encode(self._marks, kind.edge, pixels[0])
        self._head = encoded[: -len(pixels[0])]
        self._pixels = pixels

    def contents(self, count: int) -> Iterator[bytes]:
        """One study of one series; every call makes a new one."""
        study, series = uid_new(), uid_new()
        for number in range(count):
            head = self._head
            for mark, uid in zip(self._marks, (study, series, uid_new()), strict=True):
                head = head.replace(mark.encode(), uid.encode())
            yield head + self._pixels[number % VARIANTS]

    def write(self, folder: Path, count: int) -> int:
        """A new study as files in a new folder; answers its bytes."""
        folder.mkdir(parents=True)
        return sum((folder / f"{n:05d}.dcm").write_bytes(content) for n, content in enumerate(self.contents(count)))


def uid_new() -> str:
    """A UUID-derived UID (PS3.5 B.2) that is always 44 characters long, so that one can stand in another's place."""
    return f"2.25.{10**38 + secrets.randbelow(10**38)}"


def encode(uids: list[str], edge: int, pixels: bytes) -> bytes:
    """CT_small's attributes (without its private ones) around other pixels and UIDs; Pixel Data comes last."""
    source = dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset = Dataset()
    dataset.update({element.tag: element for element in source if not element.tag.is_private})
    del dataset["DataSetTrailingPadding"]
    for keyword, uid in zip(IDENTITY, uids, strict=True):
        setattr(dataset, keyword, uid)
    dataset.PatientName, dataset.PatientID = "Benchmark^Synthetic", "BENCHMARK"
    dataset.Rows = dataset.Columns = edge
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    sink = BytesIO()
    dataset.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def pixels_make(edge: int, variant: int) -> bytes:
    """CT_small's pixels, tiled; each tile mirrored, turned and shifted in value in its own way.

    So a compressor finds no tile a second time: zstd-3 makes 1.50 : 1 of this, and 1.43 : 1 of the scan itself.
    """
    source = array("h", dcmread(str(get_testdata_file("CT_small.dcm"))).PixelData)
    across = -(-edge // TILE)
    tiles = [tile_make(source, variant + number) for number in range(across * across)]
    found = array("h")
    for row in range(edge):
        first = row // TILE * across
        start = row % TILE * TILE
        line = array("h")
        for tile in tiles[first : first + across]:
            line.extend(tile[start : start + TILE])
        found.extend(line[:edge])
    return found.tobytes()


def tile_make(source: "array[int]", number: int) -> "array[int]":
    """The `number`-th of the tile's eight symmetries, at another brightness each time."""
    rows = [source[start : start + TILE] for start in range(0, TILE * TILE, TILE)]
    if number & 1:
        rows = [row[::-1] for row in rows]
    if number & 2:
        rows = rows[::-1]
    if number & 4:
        rows = [array("h", column) for column in zip(*rows, strict=True)]
    return array("h", (value + 7 * number for row in rows for value in row))
