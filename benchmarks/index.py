"""Receiving with a million instances in the index, in turns with the same gateway whose index is empty."""

import hashlib
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pysqlite3

from benchmarks.gateway import GatewayReceiver, gateway_running
from benchmarks.receive import LoadRun, loads, warm_up
from benchmarks.report import Clock, Row, TableRow, tell

STUDIES, SERIES, INSTANCES = 10_000, 4, 25  # of each one above
EMPTY = "gateway, empty index"
TO_REACH = "0.9x"
CACHE_KIB = 2 * 2**20
MOMENT = "2026-01-{day:02d} {hour:02d}:15:00.000000"
DATABASE = "gateway.sqlite3"
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
Values = dict[str, object]


def index(folder: Path, *, rounds: int, quick: bool, clock: Clock) -> list[TableRow]:
    """Measures both gateways; raises BenchmarkError when an object did not arrive."""
    studies = 10 if quick else STUDIES
    with ExitStack() as stack:
        gateways = []
        for name, label in (("full", GatewayReceiver.label), ("empty", EMPTY)):
            place = folder / name
            place.mkdir()
            prepare = partial(seeded, studies=studies) if name == "full" else None
            gateway = stack.enter_context(gateway_running(place, prepare=prepare))
            gateways.append(GatewayReceiver(gateway, label))
        warm_up(folder, gateways)
        runs = [LoadRun(load) for load in loads(quick=quick) if not load.once]
        done = 0
        while clock.allows(done, rounds):
            for run in runs:
                run.round(folder, gateways, number=done)
            done += 1
    known = f"{studies * SERIES * INSTANCES:,} instances in the index"
    return [
        Row(f"{run.figure()}, {known}", run.measures[GatewayReceiver.label], EMPTY, run.measures[EMPTY], TO_REACH)
        for run in runs
    ]


def seeded(
    data: Path, *, studies: int, series: int = SERIES, instances: int = INSTANCES, then: Sequence[str] = ()
) -> None:
    """Writes the rows of settled, uploaded studies into a migrated database that no process has open; `then` are
    statements that change them.
    """
    began = time.monotonic()
    connection = pysqlite3.connect(data / DATABASE, isolation_level=None)
    try:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}", "foreign_keys=OFF"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        for table, rows in Seed(studies, series, instances).tables():
            insert(connection, table, rows)
        for statement in then:
            connection.execute(statement)
        connection.execute("COMMIT")
        faults = connection.execute("PRAGMA foreign_key_check").fetchmany(5) if studies < STUDIES else []
        if faults:
            raise AssertionError(f"The seed does not fit the schema: {faults}")
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
    os.sync()
    size = (data / DATABASE).stat().st_size
    tell(f"  seeded {studies:,} studies in {time.monotonic() - began:.0f} s, {size / 1e6:.0f} MB of database")


def insert(connection: pysqlite3.Connection, table: str, rows: Iterator[Values]) -> None:
    """All rows have the columns of the first, which must be all that the table has."""
    first = next(rows)
    columns = [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
    if set(columns) - {"id"} != set(first) - {"id"}:
        raise AssertionError(f"The seed of {table} does not fit its columns: {sorted({*columns} ^ {*first})}")
    names, marks = ", ".join(f'"{column}"' for column in first), ", ".join("?" * len(first))
    statement = f"INSERT INTO {table} ({names}) VALUES ({marks})"
    connection.execute(statement, tuple(first.values()))
    connection.executemany(statement, (tuple(row.values()) for row in rows))


def key_of(*uids: str) -> str:
    """As long and as random as the gateway's folder names; none is compared with them."""
    return hashlib.sha256("\n".join(uids).encode()).hexdigest()[:32]


class Seed:
    """Rows as receiving, settling and uploading leave them; UIDs and keys are random, which is the worst for an index.

    The files that they name are not there: receiving looks at those of known instances only.
    """

    def __init__(self, studies: int, series: int = SERIES, instances: int = INSTANCES) -> None:
        self._random = random.Random(1)
        self._series_count, self._instance_count = series, instances
        self._uids = [self._uid() for _ in range(studies)]
        self._series = [[self._uid() for _ in range(series)] for _ in range(studies)]

    def _uid(self) -> str:
        return f"2.25.{10**38 + self._random.getrandbits(125)}"

    def tables(self) -> Iterator[tuple[str, Iterator[Values]]]:
        yield "studies_study", self._study_rows()
        yield "studies_series", self._series_rows()
        yield "studies_studyrevision", self._revision_rows()
        yield "studies_instance", self._instance_rows()

    def _moment(self, study: int) -> str:
        return MOMENT.format(day=1 + study % 28, hour=study % 24)

    def _study_rows(self) -> Iterator[Values]:
        for number, uid in enumerate(self._uids):
            moment = self._moment(number)
            yield {
                "id": number + 1,
                "study_instance_uid": uid,
                "key": key_of(uid),
                "state": "uploaded",
                "state_since": moment,
                "reason": "",
                "patient_name": f"Seeded^Number {number}",
                "patient_name_folded": f"seeded^number {number}",
                "patient_id": f"SEED{number // 3:06d}",
                "issuer_of_patient_id": "",
                "patient_birth_date": f"19{number % 90 + 10}-05-17",
                "patient_sex": "FMO"[number % 3],
                "accession_number": f"A{number:08d}",
                "study_id": str(number),
                "study_date": moment[:10],
                "study_time": "09:30:00",
                "timezone_offset": "",
                "study_description": "CT of the abdomen with contrast",
                "referring_physician_name": "Referring^Somebody",
                "institution_name": "Benchmark Hospital",
                "source_ae_title": f"CT_{number % 20}",
                "modalities": "CT",
                "instance_count": self._series_count * self._instance_count,
                "series_count": self._series_count,
                "size_bytes": self._series_count * self._instance_count * 526_000,
                "conflict": 0,
                "created_at": moment,
                "open_since": None,
                "received_at": moment,
            }

    def _series_rows(self) -> Iterator[Values]:
        for number, study_uid in enumerate(self._uids):
            for within, uid in enumerate(self._series[number]):
                yield {
                    "id": number * self._series_count + within + 1,
                    "study_id": number + 1,
                    "series_instance_uid": uid,
                    "key": key_of(study_uid, uid),
                    "modality": "CT",
                    "series_number": within + 1,
                    "series_description": "Axial 1.5 mm, soft tissue",
                    "body_part_examined": "ABDOMEN",
                    "protocol_name": "Abdomen venous",
                    "station_name": f"CT_{number % 20}",
                    "manufacturer": "Benchmark",
                    "series_date": self._moment(number)[:10],
                    "series_time": "09:31:00",
                    "timezone_offset": "",
                    "instance_count": self._instance_count,
                    "size_bytes": self._instance_count * 526_000,
                    "created_at": self._moment(number),
                }

    def _revision_rows(self) -> Iterator[Values]:
        for number in range(len(self._uids)):
            moment = self._moment(number)
            yield {
                "id": number + 1,
                "study_id": number + 1,
                "number": 1,
                "state": "dispatched",
                "reason": "quiet",
                "reason_words": "quiet for 10 min",
                "actor": "",
                "instance_count": self._series_count * self._instance_count,
                "size_bytes": self._series_count * self._instance_count * 526_000,
                "opened_at": moment,
                "received_at": moment,
                "settled_at": moment,
                "dispatched_at": moment,
            }

    def _instance_rows(self) -> Iterator[Values]:
        bits = self._random.getrandbits
        for number, study_uid in enumerate(self._uids):
            moment, study_key, association = self._moment(number), key_of(study_uid), f"{bits(128):032x}"
            for within, series_uid in enumerate(self._series[number]):
                folder = f"objects/{study_key}/{key_of(study_uid, series_uid)}"
                for instance in range(self._instance_count):
                    key = f"{bits(128):032x}"
                    yield {
                        "study_id": number + 1,
                        "series_id": number * self._series_count + within + 1,
                        "revision_id": number + 1,
                        "sop_instance_uid": self._uid(),
                        "sop_class_uid": CT_CLASS,
                        "transfer_syntax_uid": EXPLICIT,
                        "version": 1,
                        "current": 1,
                        "key": key,
                        "path": f"{folder}/{key}.dcm",
                        "size_bytes": 526_000,
                        "sha256": f"{bits(256):064x}",
                        "instance_number": instance + 1,
                        "number_of_frames": None,
                        "rows": 512,
                        "columns": 512,
                        "flags": "",
                        "source_ae_title": f"CT_{number % 20}",
                        "receiving_ae_title": "GATEWAY",
                        "association_id": association,
                        "received_at": moment,
                        "file_deleted_at": None,
                    }
