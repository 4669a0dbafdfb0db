"""Overrides in the database, for reading; the services that change them are in `option_store.py`."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import Error, connection

from gateway_project.core.models import ConfigOverride, ConfigVersion
from gateway_project.core.options import StoreUnavailableError

NO_TABLE = -1


class DjangoOverrideStore:
    """Reads the two tables; before `migrate` made them it is an empty store that asks again.

    A connection that it had to open is closed again, so that a listener's thread does not keep one for this.
    """

    def __init__(self) -> None:
        self._table_seen = False

    def version(self) -> int:
        with _connection():
            if not self._table_exists():
                return NO_TABLE
            return ConfigVersion.objects.filter(pk=1).values_list("version", flat=True).first() or 0

    def load(self) -> dict[str, object]:
        with _connection():
            return dict(ConfigOverride.objects.values_list("key", "value")) if self._table_exists() else {}

    def _table_exists(self) -> bool:
        # Asked instead of tried: on PostgreSQL a query that fails would spoil the caller's transaction.
        if not self._table_seen:
            tables = connection.introspection.table_names()
            self._table_seen = {ConfigOverride._meta.db_table, ConfigVersion._meta.db_table} <= set(tables)
        return self._table_seen


@contextmanager
def _connection() -> Iterator[None]:
    opened_here = connection.connection is None
    try:
        yield
    except Error as error:
        raise StoreUnavailableError("the table of settings cannot be read; is the database up?") from error
    finally:
        if opened_here:
            connection.close()
