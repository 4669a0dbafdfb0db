"""What the gateway asks of any vault: the port behind which a vault's own protocol hides.

`uploads.client` speaks our HTTP interface (docs/vault-api.md); another vault's protocol is another class with these
methods.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from gateway_project.core.ports import Port
from uploads.envelope.receipt import StoredFile


class VaultError(Exception):
    """Every failure of a vault, in the words the upload lane decides by.

    `lane_fault`: the vault or the way to it is at fault, so the whole lane backs off and no attempt of a study is
    consumed. `permanent`: repeating the same request cannot succeed; the study needs a person. Neither: this one
    request may be repeated. `retry_after_seconds` is what the vault asked for, between 0 and a day, or None. The
    message holds no PHI, no token and no address.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        permanent: bool = False,
        lane_fault: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.permanent = permanent
        self.lane_fault = lane_fault
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class VaultDescription:
    """Who the vault says it is. Nothing here is trusted until an administrator has compared and pinned it."""

    vault_id: str
    receipt_jwk: dict[str, str]
    version: int
    demonstration: bool


@dataclass(frozen=True)
class UploadState:
    """What the vault holds of one upload, by file name; `receipt` (a JWS, unverified) once it is committed.

    An upload the vault has never heard of has no files and no receipt.
    """

    files: dict[str, StoredFile]
    receipt: str | None


@dataclass(frozen=True)
class VerifyPage:
    """What a vault found when it read some files of a committed upload again; nothing of it is signed.

    `damaged` names files that are missing or are not what was committed; `next_after` is None when all were read.
    """

    file_count: int
    checked: int
    damaged: tuple[str, ...]
    next_after: str | None


@dataclass(frozen=True)
class UploadPage:
    """Some of our uploads in a vault: id, and whether it is committed; `next_after` is None when there are no more."""

    uploads: tuple[tuple[str, bool], ...]
    next_after: str | None


class VaultPort(Protocol):
    """A vault. Every method raises `VaultError` and nothing else, and every method may be repeated."""

    def describe(self) -> VaultDescription:
        """Answers who the vault is and the public key its receipts are to be verified with."""

    def recipient_key(self, key_id: str) -> dict[str, str]:
        """Answers the recipient's public JWK; the caller compares it with the pin. Code `key-unknown` when there is
        none.
        """

    def upload_state(self, upload_id: str) -> UploadState:
        """Answers what is durably stored of this upload, so that a cut upload sends only what is missing."""

    def put(
        self,
        upload_id: str,
        name: str,
        source: BinaryIO | bytes,
        *,
        size_bytes: int,
        sha256: str,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Returns only when the vault says that exactly these bytes are durable under this name.

        Reads `size_bytes` from the source's present position; bytes are what was hashed and need not be again. `sha256`
        is the lower-case hex digest of those bytes.
        `on_progress` is told the bytes handed to the network so far; what it raises ends the transfer and is passed on.
        """

    def commit(self, upload_id: str, commitment: str) -> str:
        """Closes the upload and returns the receipt JWS as it came; it proves nothing until the caller has verified
        it.
        """


class ArchivePort(VaultPort, Protocol):
    """A vault that can also be asked about what it keeps; not every protocol has words for that."""

    def verify(self, upload_id: str, *, after: str = "") -> VerifyPage:
        """Asks the vault to read a committed upload again, from behind the file `after` on; the next page goes on."""

    def uploads_page(self, *, after: str = "") -> UploadPage:
        """Answers which uploads of ours the vault has, from behind the id `after` on; a page may be empty."""


class DeliveryPort(Protocol):
    """Told, inside the transaction, that an upload of this study has changed: the wiring projects the study's state."""

    def delivery_changed(self, study_id: int) -> None: ...


DELIVERY: Port[DeliveryPort] = Port("uploads.delivery")
