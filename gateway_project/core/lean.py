"""What the gateway's long-lived processes need not load."""

import sys


def numpy_leave_out() -> None:
    """Makes numpy absent in this process, before pydicom is imported.

    pydicom loads it wherever it is installed: 0.15 s of each start and 17 MB of each process: listeners, workers, web.
    Only pictures need it, and they are made in processes of their own (`studies.dicom.render_worker`), which do
    not call this. pydicom says what is missing when it is asked for pixels here.
    """
    sys.modules.setdefault("numpy", None)  # type: ignore[arg-type]  # what Python documents for "there is no such module"
