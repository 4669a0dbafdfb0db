"""Why a query is not answered, or not to its end."""

from network.dimse import statuses
from network.dimse.errors import DimseError


class QueryError(DimseError):
    """A query that ends with a failure: what its peer is told is `status` and the message, at most 64 ASCII characters
    and free of PHI (PS3.4 table C.4-1).

    Codes: `identifier-garbled`, `identifier-too-long` (C000), `identifier-mismatch` (A900), `query-forbidden` (0124),
    `query-too-many-answers`, `query-too-slow`, `query-busy` (A700), `query-failed` (C001).
    """

    def __init__(self, message: str, *, code: str, status: int, permanent: bool = True) -> None:
        super().__init__(message, code=code, permanent=permanent)
        self.status = status


def garbled(detail: str) -> QueryError:
    return QueryError(f"identifier unreadable: {detail}", code="identifier-garbled", status=statuses.CANNOT_UNDERSTAND)


def mismatch(detail: str) -> QueryError:
    return QueryError(detail, code="identifier-mismatch", status=statuses.DATASET_MISMATCH)
