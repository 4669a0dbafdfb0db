"""That every machine on one database keeps its objects in one and the same store."""

from studies.dicom.errors import DicomError
from studies.selectors import store_open

WORDS = (
    "STORAGE.ROOT of this machine is another store than that of the others on its database. Set GATEWAY_STORAGE__ROOT "
    "on all of them to one directory of a shared file system."
)


def store_mark() -> str:
    """The name that the store bears, made when it has none."""
    return store_open().name()


def store_mark_fits(mark: str) -> bool:
    """Whether the store here bears that name."""
    try:
        return store_mark() == mark
    except DicomError:
        return False
