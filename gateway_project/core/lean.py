"""What the gateway's long-lived processes need not load."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ABSENT = "numpy"


class _Absence(MetaPathFinder):
    """Says of one module that it is not there (so does None in `sys.modules`, but psycopg stumbles over that)."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == ABSENT:
            raise ModuleNotFoundError(f"{ABSENT} is left out of this process on purpose ({__name__})", name=ABSENT)
        return None


def numpy_leave_out() -> None:
    """Makes numpy absent in this process, before pydicom is imported. May be repeated.

    pydicom loads it wherever it is installed: 0.15 s of each start and 17 MB of each process: listeners, workers, web.
    Only pictures need it, and they are made in processes of their own (`studies.dicom.render_worker`), which do
    not call this. pydicom says what is missing when it is asked for pixels here.
    """
    if not any(isinstance(finder, _Absence) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Absence())
