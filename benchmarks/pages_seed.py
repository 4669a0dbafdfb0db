"""A hospital's four weeks in the database: studies in every state, their uploads, attempts, parts, alerts, audit trail.

Runs inside Django (`python -c "... fill(10000)"`), on SQLite and PostgreSQL alike. Columns that are not named here get
their model's default, so a new column needs nothing here.
"""

import random
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.contrib.auth.models import User
from django.db import connection, models
from django.utils.timezone import now

from benchmarks.index import INSTANCES, SERIES, Seed, Values
from gateway_project.core.folding import name_fold
from gateway_project.core.sessions import SessionStore
from studies.models import StudyState

# fmt: off
FAMILIES = (
    "Smith", "Müller", "García", "Nguyen", "Kowalska", "O'Brien", "Ivanova", "Sørensen", "Yilmaz", "Rossi",
    "Papadopoulos", "Schmidt", "Jones", "Haddad", "Fernández", "Lindqvist", "van-der-Berg", "Özdemir", "Dubois",
    "Kim", "Tanaka", "Weber", "Novák", "Andersson", "Silva",
)
GIVEN = (
    "Anna", "Jan", "María", "Wei", "Ayşe", "Pierre", "Olga", "Lars", "Fatima", "Giulia", "Nikos", "Emma", "Hiroshi",
    "Tomáš", "Inês", "Noah", "Zofia", "Ali",
)
# fmt: on
# Of a hundred studies, these are not simply home yet.
STATES = {7: StudyState.FAILED_TRANSIENT, 23: StudyState.FAILED_PERMANENT, 41: StudyState.SETTLED}
LATEST = {1: StudyState.RECEIVING, 2: StudyState.UPLOADING, 3: StudyState.SETTLED}
JOB_STATES = {
    StudyState.FAILED_TRANSIENT: "ready",
    StudyState.FAILED_PERMANENT: "parked",
    StudyState.UPLOADING: "running",
    StudyState.SETTLED: "ready",
}
FAULT = {"error_code": "connection-refused", "error_words": "Nothing listens at the vault's address."}
ALERTS, OPEN_ALERTS, QUARANTINED, ASSOCIATIONS = 300, 12, 400, 30
PASSWORD_FREE = "benchmark"
BATCH_ROWS = 5_000


def fill(studies: int) -> str:
    """Writes everything; answers a session key of an administrator."""
    connection.ensure_connection()
    with Writer() as writer:
        for name, rows in Hospital(studies, moment=now()).tables():
            writer.write(apps.get_model(name), rows)
    user = User.objects.create_superuser("benchmark", password=None)
    session = SessionStore()
    session.update({"_auth_user_id": str(user.pk), "_auth_user_backend": "django.contrib.auth.backends.ModelBackend"})
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


class Hospital(Seed):
    """The rows of benchmarks.index, spread over the four weeks before `moment`, and what belongs to them."""

    def __init__(self, studies: int, *, moment: datetime) -> None:
        super().__init__(studies)
        self._count, self._now = studies, moment

    def tables(self) -> Iterator[tuple[str, Iterable[Values]]]:
        yield "core.lane", self._lanes()
        yield "uploads.vault", self._vaults()
        yield "studies.study", self._studies()
        yield "studies.series", self._series_rows()
        yield "studies.studyrevision", self._revision_rows()
        yield "studies.instance", self._numbered(self._instance_rows())
        yield "uploads.uploadjob", self._jobs()
        yield "uploads.uploadattempt", self._attempts()
        yield "uploads.uploadpart", self._parts()
        yield "core.alert", self._alerts()
        yield "core.auditevent", self._events()
        yield "studies.quarantinedobject", self._quarantined()
        yield "network.associationrecord", self._associations()

    def _at(self, study: int) -> datetime:
        """The last study came now, the first four weeks ago."""
        return self._now - timedelta(days=28) * (self._count - 1 - study) / self._count

    def _moment(self, study: int) -> str:
        return self._at(study).isoformat(" ")

    def _state(self, study: int) -> StudyState:
        latest = LATEST.get(self._count - study)
        return latest or STATES.get(study % 100, StudyState.UPLOADED)

    @staticmethod
    def _numbered(rows: Iterator[Values]) -> Iterator[Values]:
        for number, row in enumerate(rows):
            yield {"id": number + 1, **row}

    def _lanes(self) -> Iterator[Values]:
        for number, name in enumerate(("vault:1", "vault:2")):
            yield {
                "id": number + 1,
                "name": name,
                "title": f"Vault {number + 1}",
                "faults": number,
                **LANE_FAULT[number],
            }

    def _vaults(self) -> Iterator[Values]:
        for number in range(2):
            yield {
                "id": number + 1,
                "name": f"vault-{number + 1}",
                "base_url": "https://vault.hospital.example/",
                "lane_id": number + 1,
                "required": number == 0,
            }

    def _studies(self) -> Iterator[Values]:
        for number, row in enumerate(self._study_rows()):
            state = self._state(number)
            name = f"{FAMILIES[number * 7 % len(FAMILIES)]}^{GIVEN[number * 11 % len(GIVEN)]}"
            row |= {"state": state, "patient_name": name, "patient_name_folded": name_fold(name), "conflict": False}
            row["reason"] = FAULT["error_words"] if state.startswith("failed") else ""
            row["open_since"] = row["received_at"] if state == StudyState.RECEIVING else None
            yield row

    def _jobs(self) -> Iterator[Values]:
        for number in range(self._count):
            state, at = self._state(number), self._moment(number)
            job = JOB_STATES.get(state, "done")
            done = job == "done"
            yield {
                "id": number + 1,
                "queue": "upload",
                "lane_id": 1,
                "vault_id": 1,
                "revision_id": number + 1,
                "state": job,
                "attempts": 1,
                "upload_id": f"{number:032x}",
                "run_after": at,
                "created_at": at,
                "started_at": at,
                "ended_at": at,
                "files_total": SERIES * INSTANCES + 2,
                "files_done": SERIES * INSTANCES + 2 if done else 0,
                "receipt": "x" * 800 if done else "",
                "receipt_id": f"r-{number}" if done else "",
                "receipt_at": at if done else None,
                **(FAULT if state.startswith("failed") else {}),
            }

    def _attempts(self) -> Iterator[Values]:
        pk = 0
        for number in range(self._count):
            failed = self._state(number).startswith("failed")
            for attempt in range(4 if failed else 1):
                pk += 1
                yield {
                    "id": pk,
                    "job_id": number + 1,
                    "claim_id": str(uuid.UUID(int=pk)),
                    "number": attempt + 1,
                    "started_at": self._moment(number),
                    "ended_at": self._moment(number),
                    "result": "failed" if failed else "done",
                    **(FAULT if failed else {}),
                }

    def _parts(self) -> Iterator[Values]:
        bits = random.Random(2).getrandbits
        each = SERIES * INSTANCES
        for number in range(self._count):
            at = self._moment(number)
            for within in range(each):
                yield {
                    "job_id": number + 1,
                    "instance_id": number * each + within + 1,
                    "name": f"file-{within + 1:05d}.gve",
                    "file_id": f"{bits(128):032x}",
                    "run_id": f"{number:032x}",
                    "sha256": f"{bits(256):064x}",
                    "content_sha256": f"{bits(256):064x}",
                    "size_bytes": 300_000,
                    "content_size_bytes": 526_000,
                    "staged_at": at,
                    "confirmed_at": at,
                }

    def _alerts(self) -> Iterator[Values]:
        for number in range(ALERTS):
            opened = self._now - timedelta(hours=2 * number)
            yield {
                "id": number + 1,
                "key": f"study:{number + 1}:conflict",
                "code": "patient-conflict",
                "words": "The instances of one study name different patients. Nothing was merged or changed.",
                "link": f"/studies/{number + 1}/",
                "opened_at": opened,
                "seen_at": opened,
                "healed_at": None if number < OPEN_ALERTS else opened + timedelta(hours=1),
            }

    def _events(self) -> Iterator[Values]:
        for number in range(self._count * 5):
            study = number // 5
            yield {
                "uid": str(uuid.UUID(int=number)),
                "at": self._moment(study),
                "event": "DICOM Instances Transferred" if number % 5 < 3 else "Study State",
                "actor": f"ae:CT_{study % 20}",
                "subject": f"study:{study + 1}",
                "detail": '{"instances": 25}',
            }

    def _quarantined(self) -> Iterator[Values]:
        for number in range(QUARANTINED):
            yield {
                "id": number + 1,
                "sha256": f"{number:064x}",
                "size_bytes": 526_000,
                "code": "dataset-truncated",
                "reason": "The dataset ends in the middle of an element.",
                "source_ae_title": f"CT_{number % 20}",
            }

    def _associations(self) -> Iterator[Values]:
        for number in range(ASSOCIATIONS):
            yield {
                "id": number + 1,
                "association_id": f"{number:032x}",
                "calling_ae_title": f"CT_{number % 20}",
                "called_ae_title": "GATEWAY",
                "outcome": "released",
                "opened_at": self._moment(number % self._count),
            }


LANE_FAULT: tuple[dict[str, Any], ...] = ({}, {"fault_code": FAULT["error_code"], "fault_words": FAULT["error_words"]})


class Writer:
    """Rows in bulk: COPY on PostgreSQL, one transaction on SQLite; afterwards the counters and statistics fit."""

    def __init__(self) -> None:
        self.postgres = connection.vendor == "postgresql"

    def __enter__(self) -> "Writer":
        if not self.postgres:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA synchronous=OFF")
                cursor.execute("PRAGMA cache_size=-1000000")
        return self

    def __exit__(self, *_error: object) -> None:
        if self.postgres:
            with connection.cursor() as cursor:
                cursor.execute("SET statement_timeout = 0")
                cursor.execute("VACUUM ANALYZE")

    def write(self, model: type[models.Model], rows: Iterable[Values]) -> None:
        """Every row has the columns of the first."""
        rows = iter(rows)
        first = next(rows)
        values = self._defaults(model) | first
        fields = [field for field in model._meta.concrete_fields if field.column in values]
        columns = [str(field.column) for field in fields]
        fixed = [values[column] for column in columns]
        places = {column: place for place, column in enumerate(columns)}
        if unknown := set(first) - set(columns):
            raise AssertionError(f"The seed of {model.__name__} names columns that are not there: {sorted(unknown)}")
        lines = (self._line(fixed, places, row) for row in self._all(first, rows))
        names = ", ".join(connection.ops.quote_name(column) for column in columns)
        table = connection.ops.quote_name(model._meta.db_table)
        (self._copy if self.postgres else self._insert)(table, names, len(columns), lines)
        if self.postgres and "id" in columns:
            with connection.cursor() as cursor:
                cursor.execute(
                    f"SELECT setval(pg_get_serial_sequence('{model._meta.db_table}', 'id'), max(id)) FROM {table}"
                )

    @staticmethod
    def _all(first: Values, rows: Iterator[Values]) -> Iterator[Values]:
        yield first
        yield from rows

    @staticmethod
    def _line(fixed: list[object], places: dict[str, int], row: Values) -> list[object]:
        line = list(fixed)
        for column, value in row.items():
            line[places[column]] = value
        return line

    @staticmethod
    def _defaults(model: type[models.Model]) -> Values:
        """What Django itself would write into the columns that a row does not name."""
        made = model()
        values: Values = {}
        for field in model._meta.concrete_fields:
            if not field.primary_key or not isinstance(field, models.AutoField):
                value = field.get_db_prep_save(getattr(made, field.attname), connection)
                values[str(field.column)] = getattr(value, "dumps", str)(value.obj) if hasattr(value, "obj") else value
        return values

    @staticmethod
    def _copy(table: str, names: str, _count: int, lines: Iterable[list[object]]) -> None:
        with connection.cursor() as cursor, cursor.cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for line in lines:
                copy.write_row(line)

    @staticmethod
    def _insert(table: str, names: str, count: int, lines: Iterable[list[object]]) -> None:
        statement = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * count)})"
        connection.ensure_connection()
        with connection.connection as raw:
            raw.execute("BEGIN")
            raw.executemany(statement, lines)
