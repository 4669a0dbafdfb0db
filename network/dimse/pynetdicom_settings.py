"""pynetdicom and pydicom, told once for this process to decode nothing and to log nobody's data."""

import logging

import pydicom.config
import pynetdicom._config

logger = logging.getLogger(__name__)


def pynetdicom_prepare() -> None:
    """Afterwards this process logs no identifier or value of a peer, sends files as they are, and validates no value.

    Process-wide, may be repeated. pynetdicom's own log lines carry texts of exceptions, which may quote what a peer
    sent: they are replaced by ours, which name only the place and the kind of exception.
    """
    config = pynetdicom._config
    config.LOG_HANDLER_LEVEL = "none"
    config.LOG_REQUEST_IDENTIFIERS = False
    config.LOG_RESPONSE_IDENTIFIERS = False
    config.STORE_RECV_CHUNKED_DATASET = False
    config.STORE_SEND_CHUNKED_DATASET = True
    config.UNRESTRICTED_STORAGE_SERVICE = False
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    theirs = logging.getLogger("pynetdicom")
    theirs.setLevel(logging.WARNING)
    theirs.propagate = False
    theirs.handlers = [_PlaceOnly()]


class _PlaceOnly(logging.Handler):
    """Says where pynetdicom had something to say, and never what."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        extra = {"origin": f"{record.module}:{record.lineno}", "exception": kind}
        logger.log(record.levelno, "pynetdicom reported a problem", extra=extra)
