"""Sending and echoing as the requestor: files go out with exactly the bytes they hold, in the encoding they have."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import ImplicitVRLittleEndian

from network.dimse import statuses
from network.dimse.contexts import VERIFICATION
from network.dimse.errors import AssociationError
from network.dimse.part10_head import SendableFile, sendable_file
from network.dimse.requestor import CONTEXTS_MAX, DEFAULT_TIMEOUTS, RequestedAssociation, Timeouts, association

__all__ = ["DEFAULT_TIMEOUTS", "SendReport", "SendResult", "Timeouts", "echo", "send_instances"]

SLOWEST_BYTES_PER_SECOND = 500_000
"""A response is waited for as long as a line of this speed would take for the object, and `dimse_seconds` more."""


@dataclass(frozen=True)
class SendResult:
    """What became of one file. `status` is the peer's answer; without one it is None and `code` says why.

    Codes: `file-unreadable` (no whole Part 10 file), `context-rejected` (the peer does not take this SOP class in this
    transfer syntax), `refused` (a failure status). Empty when the peer has stored it.
    """

    path: Path
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    status: int | None = None
    code: str = ""
    comment: str = ""
    bytes_sent: int = 0

    @property
    def is_stored(self) -> bool:
        """The peer has taken the object over."""
        return self.status is not None and statuses.is_stored(self.status)


@dataclass
class SendReport:
    """What became of all files, in the order of sending."""

    results: list[SendResult] = field(default_factory=list)
    associations: int = 0

    @property
    def stored(self) -> int:
        """How many the peer has taken over."""
        return sum(result.is_stored for result in self.results)


def send_instances(
    files: Iterable[Path],
    *,
    address: str,
    port: int,
    calling_ae_title: str,
    called_ae_title: str,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    on_result: Callable[[SendResult], None] | None = None,
) -> SendReport:
    """Send every file by C-STORE, its data set byte for byte as stored; nothing is transcoded (PS3.4 annex B).

    One association, and another for each 128 further pairs of SOP class and transfer syntax. `on_result` hears of each
    file as soon as its fate is known. May be repeated: a receiver knows an object by its SOP instance UID. Raises
    AssociationError when an association cannot be opened or breaks: files not reported until then are not known to be
    stored.
    """
    report = SendReport()

    def told(result: SendResult) -> None:
        report.results.append(result)
        if on_result is not None:
            on_result(result)

    sendable = list(_sendable(files, told))
    for batch in _batches(sendable):
        pairs = list(dict.fromkeys(_pair(file) for file in batch))
        report.associations += 1
        with association(
            pairs,
            address=address,
            port=port,
            calling_ae_title=calling_ae_title,
            called_ae_title=called_ae_title,
            timeouts=timeouts,
        ) as opened:
            accepted = {(str(cx.abstract_syntax), str(cx.transfer_syntax[0])) for cx in opened.accepted_contexts}
            for number, file in enumerate(batch):
                if _pair(file) not in accepted:
                    told(_result(file, code="context-rejected"))
                else:
                    told(_sent(opened, file, number % 0xFFFF + 1, timeouts))
    return report


def echo(
    *, address: str, port: int, calling_ae_title: str, called_ae_title: str, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> float:
    """The seconds that a C-ECHO took in an established association (PS3.4 annex A). Raises AssociationError."""
    with association(
        [(VERIFICATION, str(ImplicitVRLittleEndian))],
        address=address,
        port=port,
        calling_ae_title=calling_ae_title,
        called_ae_title=called_ae_title,
        timeouts=timeouts,
    ) as opened:
        if not opened.is_established:
            raise AssociationError("The peer does not offer verification.", code="echo-refused", permanent=True)
        started = time.monotonic()
        answer = opened.send_c_echo()
        if "Status" not in answer:
            raise opened.failure()
        if answer.Status != statuses.SUCCESS:
            raise AssociationError(f"The peer answered the echo with status {answer.Status:04X}.", code="echo-refused")
        return time.monotonic() - started


def _sendable(files: Iterable[Path], told: Callable[[SendResult], None]) -> Iterator[SendableFile]:
    for path in files:
        try:
            file = sendable_file(path)
        except OSError:
            file = None
        if file is None:
            told(SendResult(path, code="file-unreadable"))
        else:
            yield file


def _batches(files: Sequence[SendableFile]) -> Iterator[list[SendableFile]]:
    """The files in batches of at most 128 pairs each, in order within a batch."""
    pairs = list(dict.fromkeys(_pair(file) for file in files))
    for start in range(0, len(pairs), CONTEXTS_MAX):
        chosen = set(pairs[start : start + CONTEXTS_MAX])
        yield [file for file in files if _pair(file) in chosen]


def _sent(opened: RequestedAssociation, file: SendableFile, message_id: int, timeouts: Timeouts) -> SendResult:
    if not opened.is_established:
        raise opened.failure()
    opened.dimse_timeout = timeouts.dimse_seconds + file.dataset_bytes / SLOWEST_BYTES_PER_SECOND
    try:
        answer = opened.send_c_store(file.path, msg_id=message_id)
    except OSError as exc:
        raise AssociationError(
            "A file could not be read while it was sent, the association was aborted: check the disk.",
            code="file-vanished",
        ) from exc
    except RuntimeError as exc:  # the association ended a moment ago
        raise opened.failure() from exc
    if "Status" not in answer:
        raise opened.failure()
    status = int(answer.Status)
    code = "" if statuses.is_stored(status) else "refused"
    # The peer's comment is free text and may name a patient: for the person who asked, never for a log.
    comment = str(answer.get("ErrorComment", ""))
    return _result(file, code=code, status=status, comment=comment, bytes_sent=file.dataset_bytes)


def _result(
    file: SendableFile, *, code: str, status: int | None = None, comment: str = "", bytes_sent: int = 0
) -> SendResult:
    return SendResult(
        path=file.path,
        sop_class_uid=file.sop_class_uid,
        sop_instance_uid=file.sop_instance_uid,
        transfer_syntax_uid=file.transfer_syntax_uid,
        status=status,
        code=code,
        comment=comment,
        bytes_sent=bytes_sent,
    )


def _pair(file: SendableFile) -> tuple[str, str]:
    return file.sop_class_uid, file.transfer_syntax_uid
