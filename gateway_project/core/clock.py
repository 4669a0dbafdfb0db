"""One source of time for everything that outlives a process: the database's."""

from datetime import datetime

from django.db import connection
from django.utils.timezone import make_aware, now


def database_now() -> datetime:
    """The database server's time, aware, in UTC: leases of several machines are judged by one clock.

    With SQLite the database is in this process, so its time is this machine's.
    """
    if connection.vendor == "sqlite":
        return now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment if moment.tzinfo else make_aware(moment)
