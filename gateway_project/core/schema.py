"""Whether the database and this code belong together: nothing of ours runs on a half state, or on a newer gateway's."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.executor import MigrationExecutor

from gateway_project.core.errors import GatewayError

logger = logging.getLogger(__name__)
NAMED = 3
ADVISORY_LOCK = 0x67617465776179  # "gateway": one number for all machines


class SchemaError(GatewayError):
    """The database may not be used by this code; the words say what to do."""

    code = "database-schema"
    permanent = True


def schema_check(*, migrating: bool = False) -> None:
    """Raises SchemaError (`database-newer`, `database-history`, `database-behind`) unless the database is this code's.

    With `migrating` one that is behind passes: the caller brings it up to date. A database that does not answer is not
    judged: who needs it waits for it anyway. Changes nothing.
    """
    try:
        _check(migrating=migrating)
    except OperationalError as error:
        logger.warning("database schema not checked", extra={"exception": type(error).__name__})


@contextmanager
def database_alone() -> Iterator[None]:
    """Only one machine at a time is inside; within there is no limit of time for a statement or a lock.

    With SQLite the lock of the data directory has seen to that already. Whoever dies inside lets the next one in.
    """
    if connection.vendor != "postgresql":
        yield
        return
    try:
        with connection.cursor() as cursor:
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                cursor.execute(f"SET {name} = 0")
            cursor.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
        yield
    finally:
        connection.close()  # gives up the lock, and the next connection has the limits again


def _check(*, migrating: bool) -> None:
    executor = MigrationExecutor(connection)
    loader = executor.loader
    replaced = {name for migration in loader.disk_migrations.values() for name in migration.replaces}
    known = {*loader.disk_migrations, *replaced}
    unknown = [one for one in loader.applied_migrations if one not in known and one[0] in loader.migrated_apps]
    newer = sorted(f"{app}.{name}" for app, name in unknown)
    if newer:
        raise SchemaError(
            f"The database was made by a newer version of the gateway: this one does not know {_few(newer)}. "
            "Install that version again, or put back the backup made before the upgrade.",
            code="database-newer",
        )
    try:
        loader.check_consistent_history(connection)
    except InconsistentMigrationHistory as error:
        raise SchemaError(
            "The database's history of upgrades has gaps, so nobody can say what it holds: put back a backup.",
            code="database-history",
        ) from error
    behind = [f"{step.app_label}.{step.name}" for step, _back in executor.migration_plan(loader.graph.leaf_nodes())]
    if behind and not migrating:
        raise SchemaError(
            f"The database is not up to date, an upgrade was not begun or not ended: {_few(behind)} are missing. "
            "Start the whole gateway (`make run`), or run `manage.py migrate` and start this again.",
            code="database-behind",
        )


def _few(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
