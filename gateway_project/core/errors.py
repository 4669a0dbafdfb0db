"""Errors that the job machinery understands."""

from datetime import datetime


class GatewayError(Exception):
    """An error of ours: a stable code for programs, and words free of PHI that say what to do."""

    code = "internal"
    permanent = False

    def __init__(self, message: str, *, code: str | None = None, permanent: bool | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if permanent is not None:
            self.permanent = permanent


class LeaseLostError(GatewayError):
    """Another process holds this job now; whatever we still did for it must not be written."""

    code = "lease-lost"


class JobFault(GatewayError):  # noqa: N818 - a fault of the work or of the lane, not of the program
    """Why a job could not be finished.

    `lane_fault`: the destination's fault, not the job's: opens the lane's circuit and costs no attempt.
    `hard_stop`: a lane fault that no retry mends (another key, a refused token): the lane waits for a person.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        permanent: bool = False,
        lane_fault: bool = False,
        hard_stop: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, code=code, permanent=permanent)
        self.lane_fault = lane_fault or hard_stop
        self.hard_stop = hard_stop
        self.retry_after_seconds = retry_after_seconds


class LaneWaitsError(GatewayError):
    """Raised by work whose lane may not be used before `until`: its attempt is given back, and the lane waits."""

    code = "lane-waits"

    def __init__(self, until: datetime) -> None:
        super().__init__("the time window of this lane has closed; the work goes on in the next one")
        self.until = until


class JobWaitsError(GatewayError):
    """Raised by work that cannot be done before `until`, through nobody's fault: its attempt is given back."""

    code = "job-waits"

    def __init__(self, until: datetime) -> None:
        super().__init__("what this waits for has not come yet")
        self.until = until


class StopAskedError(GatewayError):
    """Raised by work that polls `stopping()`: its attempt is given back, and it goes on after the restart."""

    code = "stop-asked"

    def __init__(self) -> None:
        super().__init__("the gateway is stopping; the work goes on after the restart")
