"""The HTTP client of a DICOMweb server (PS3.18 10.5, Store Transaction): every failure is one `VaultError`.

Built on the same transport as a vault's client: answers bounded, deadlines that hold, redirects never followed,
credentials sent to the configured address only and never shown.
"""

import time
from collections.abc import Callable, Sequence

import requests

from network.dicomweb.errors import DicomwebError
from network.dicomweb.stow import ANSWER_TYPE, ANSWER_TYPES, Part, StoreAnswer, StoreRequest, answer_parse
from uploads.client import SLOWEST_BYTES_PER_SECOND
from uploads.ports import VaultError
from uploads.stow.credentials import Credentials, HeaderAuth
from uploads.transport import answer_read, failure_translate, refusal_translate
from uploads.ways import session_open

ANSWER_BYTES = 32 * 1024 * 1024

# What a server says of a whole request: the same objects in smaller requests tell which of them it means.
_REFUSED = {
    400: ("stow-refused", "The server refuses the request as malformed."),
    409: ("stow-refused", "The server stored nothing and does not say why."),
    413: ("stow-too-large", "The server, or a proxy before it, refuses a request of this size; raise its limit."),
    415: ("stow-refused", "The server does not take this kind of object, or no multipart request at all."),
}
# The transport's words for what is known to be otherwise here: nothing is asked, all that is unconfirmed is sent again.
_WORDS = {
    "timeout": "The server did not answer in time; what it has not confirmed is sent again.",
    "connection-lost": "The connection to the server was lost; what it has not confirmed is sent again.",
    "unauthorized": "The server does not accept our credentials; enter valid ones, then resume.",
    "forbidden": "The server forbids us to store; ask its operator, then resume.",
    "not-found": "There is no DICOMweb store at this address; check it.",
}


class RequestRefusedError(VaultError):
    """The server refused the request as a whole: smaller ones may tell which object it means."""


class StowClient:
    """Stores instances by STOW-RS at `<base_url>/studies`. One client may be shared by the threads of one process.

    `timeout_seconds` is the longest silence while sending, and the longest wait from the last byte sent to the last
    byte of the answer; sending a request may take that and what it takes at `slowest_bytes_per_second`. Plain http is
    for loopback: anywhere else it raises `insecure-address`, as patients' data would be shown to the network. `ca` and
    `proxy` as in `uploads.ways.session_open`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        credentials: Credentials,
        timeout_seconds: float = 300,
        connect_seconds: float = 10,
        slowest_bytes_per_second: float = SLOWEST_BYTES_PER_SECOND,
        ca: str = "",
        proxy: str | None = None,
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/studies"
        self._timeout = (connect_seconds, timeout_seconds)
        self._slowest = slowest_bytes_per_second
        self._credentials = credentials
        self._session = session_open(
            base_url,
            auth=HeaderAuth(credentials),
            headers={"Accept": ANSWER_TYPE, "User-Agent": "gateway-stow-client/1"},
            timeout_seconds=timeout_seconds,
            ca=ca,
            proxy=proxy,
        )

    def __repr__(self) -> str:
        return f"StowClient({self._url!r})"

    def close(self) -> None:
        """Closes the kept connections; the client may be used again afterwards."""
        self._session.close()

    def store(self, parts: Sequence[Part], *, on_progress: Callable[[int], None] | None = None) -> StoreAnswer:
        """What the server says of each instance; may be repeated, as a SOP Instance UID is stored once.

        Nothing counts as stored that the answer does not name. Credentials that are refused are renewed once, if they
        can be. Raises RequestRefusedError for a request refused as a whole, else VaultError; what reading a part or
        `on_progress` raises ends the request and is passed on.
        """
        request = StoreRequest(parts, on_progress=self._in_time(parts, on_progress))
        try:
            answer = self._post(request, on_progress)
            if answer is None and self._credentials.renew():
                answer = self._post(request, on_progress)
        except requests.RequestException as error:
            # `from None`: the chained error holds addresses, and a proxy's may hold a password
            raise _said(failure_translate(error)) from None
        except DicomwebError as error:
            # a part that is longer or shorter than it was a moment ago: somebody writes to the store
            raise VaultError(error.code, str(error)) from error
        if answer is None:
            raise VaultError("unauthorized", _WORDS["unauthorized"], lane_fault=True)
        return answer

    def _in_time(self, parts: Sequence[Part], on_progress: Callable[[int], None] | None) -> Callable[[int], None]:
        """Ends a request that is taken too slowly, however steadily: `timeout`. Sent again, it has its time anew."""
        allowed_seconds = self._timeout[1] + sum(part.size_bytes for part in parts) / self._slowest
        before, until = 0, 0.0

        def progress(content_bytes: int) -> None:
            nonlocal before, until
            if not before or content_bytes <= before:
                until = time.monotonic() + allowed_seconds
            before = content_bytes
            if on_progress is not None:
                on_progress(content_bytes)
            if time.monotonic() > until:
                raise VaultError(
                    "timeout", "The server takes the bytes too slowly; it is tried again.", lane_fault=True
                )

        return progress

    def _post(self, request: StoreRequest, on_progress: Callable[[int], None] | None) -> StoreAnswer | None:
        """None when the credentials were refused."""
        headers = {"Content-Type": request.content_type}
        with self._session.post(
            self._url, data=request, headers=headers, timeout=self._timeout, allow_redirects=False, stream=True
        ) as response:
            if response.status_code == 401:
                return None
            if response.status_code in (200, 202, 409) and _content_type(response) in ANSWER_TYPES:
                if on_progress is not None:
                    on_progress(request.content_bytes)  # an answer that begins is progress: its end may take as long
                return self._read(response)
            raise self._refused(response)

    def _read(self, response: requests.Response) -> StoreAnswer:
        try:
            return answer_parse(answer_read(response.raw, limit=ANSWER_BYTES, deadline_seconds=self._timeout[1]))
        except VaultError as error:
            raise _said(error) from None
        except DicomwebError:
            raise _unknown_answer() from None

    def _refused(self, response: requests.Response) -> VaultError:
        if response.status_code in (200, 202):
            return _unknown_answer()
        if response.status_code in _REFUSED:
            return RequestRefusedError(*_REFUSED[response.status_code], permanent=True)
        error = refusal_translate(response.raw, deadline_seconds=self._timeout[1])
        if error.permanent:
            return RequestRefusedError("stow-refused", f"The server refuses the request (HTTP {response.status_code}).",
                                       permanent=True)  # fmt: skip
        return _said(error)


def _said(error: VaultError) -> VaultError:
    words = _WORDS.get(error.code)
    if words is None:
        return error
    return VaultError(
        error.code,
        words,
        permanent=error.permanent,
        lane_fault=error.lane_fault,
        retry_after_seconds=error.retry_after_seconds,
    )


def _content_type(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _unknown_answer() -> VaultError:
    return VaultError(
        "stow-answer-unknown",
        "The server answered without DICOM JSON, so nothing is taken as stored; check the address and the server.",
        lane_fault=True,
    )
