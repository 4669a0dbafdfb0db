"""What can go wrong on the DICOM network, in words an operator can act on."""

import errno


class DimseError(Exception):
    """The base of every error of this package: a stable `code`, and a message free of PHI that says what to do.

    `permanent` means that the same call fails again until a person changes something.
    """

    def __init__(self, message: str, *, code: str, permanent: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.permanent = permanent


class ConfigurationError(DimseError):
    """A value of ours that the standard does not allow (codes `ae-title-invalid`, `sop-class-invalid`, ...)."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, code=code, permanent=True)


class ListenError(DimseError):
    """A port that cannot be listened on (codes `port-in-use`, `port-forbidden`, `address-unknown`, `listen-failed`)."""


class AssociationError(DimseError):
    """An association that could not be opened or did not end in order.

    Codes: `address-unknown`, `connection-refused`, `connection-timeout`, `connection-failed`, `association-rejected`
    (then `reason` is one of `REJECT_REASONS`), `association-timeout`, `association-aborted`, `connection-lost`,
    `response-timeout`, `response-invalid`, `file-vanished`, `echo-refused`.
    """

    def __init__(self, message: str, *, code: str, permanent: bool = False, reason: str = "") -> None:
        super().__init__(message, code=code, permanent=permanent)
        self.reason = reason


REJECT_REASONS: dict[tuple[int, int], tuple[str, str]] = {
    (1, 1): ("no-reason-given", "the peer gives no reason"),
    (1, 2): ("application-context-not-supported", "the peer does not know the DICOM application context"),
    (1, 3): ("calling-ae-title-not-recognised", "the peer does not know our AE title: have it entered there"),
    (1, 7): ("called-ae-title-not-recognised", "the peer has another AE title: correct it here"),
    (2, 1): ("no-reason-given", "the peer gives no reason"),
    (2, 2): ("protocol-version-not-supported", "the peer speaks another protocol version"),
    (3, 1): ("temporary-congestion", "the peer is busy: try again later"),
    (3, 2): ("local-limit-exceeded", "the peer has too many associations: try again later"),
}
"""(source, diagnostic) of an A-ASSOCIATE-RJ -> stable word and advice (PS3.8 table 9-21)."""


def rejection_error(*, result: int, source: int, diagnostic: int) -> AssociationError:
    """The error for an A-ASSOCIATE-RJ; `permanent` as the peer says it is (result 1)."""
    reason, advice = REJECT_REASONS.get((source, diagnostic), ("unknown", f"reason {source}/{diagnostic}"))
    return AssociationError(
        f"The peer rejected the association: {advice}.",
        code="association-rejected",
        permanent=result == 1,
        reason=reason,
    )


def listen_error(exc: OSError, *, host: str, port: int) -> ListenError:
    """The error for a port that could not be bound."""
    where = f"port {port} on {host or 'all addresses'}"
    if exc.errno == errno.EADDRINUSE:
        return ListenError(
            f"Another program listens on {where}: stop it, or choose another port.", code="port-in-use", permanent=True
        )
    if exc.errno in (errno.EACCES, errno.EPERM):
        return ListenError(
            f"This user may not listen on {where}: choose a port above 1023.", code="port-forbidden", permanent=True
        )
    if exc.errno == errno.EADDRNOTAVAIL:
        return ListenError(
            f"This machine does not have the address of {where}.", code="address-unknown", permanent=True
        )
    name = errno.errorcode.get(exc.errno or 0, "unknown")
    return ListenError(f"Listening on {where} failed ({name}).", code="listen-failed")


def connect_error(exc: OSError | None, *, address: str, port: int) -> AssociationError:
    """The error for a TCP connection that could not be opened."""
    where = f"{address}:{port}"
    if isinstance(exc, ConnectionRefusedError):
        return AssociationError(
            f"Nothing listens on {where}: check address and port, and that the peer runs.", code="connection-refused"
        )
    if isinstance(exc, TimeoutError):
        return AssociationError(
            f"No answer from {where}: check the network and the firewall.", code="connection-timeout"
        )
    name = errno.errorcode.get(exc.errno or 0, "unknown") if exc is not None else "unknown"
    return AssociationError(f"The connection to {where} failed ({name}).", code="connection-failed")
