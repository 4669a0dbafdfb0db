"""How a DICOMweb server knows us: nothing, a password, a token, or a token that a token server gives (OAuth).

No secret is ever logged, raised or shown.
"""

import base64
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote_plus

import requests
from requests.auth import AuthBase

from uploads.ports import VaultError
from uploads.transport import answer_read, failure_translate, refusal_translate
from uploads.ways import session_open

ANSWER_BYTES = 64 * 1024
LIFETIME_SECONDS = 300.0
"""Of a token whose server does not say how long it is good (RFC 6749 5.1 lets it)."""
EARLY_SECONDS = 60.0
"""A token is renewed this long before it expires, or when nine tenths of its time are over if that is later."""

_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


class Credentials(Protocol):
    """What stands in the Authorization header. Every method may raise VaultError."""

    def header(self) -> str | None:
        """The header's value, None for no header."""

    def renew(self) -> bool:
        """The server refused the value: answers whether another try with a new one makes sense."""


class Fixed:
    """The same value always: none, a bearer token (RFC 6750), a name and password (RFC 7617)."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    @classmethod
    def none(cls) -> "Fixed":
        return cls(None)

    @classmethod
    def bearer(cls, token: str) -> "Fixed":
        if not _HEADER_SAFE.fullmatch(token):
            raise VaultError("token-invalid", "The token holds characters that no header can carry.", permanent=True)
        return cls(f"Bearer {token}")

    @classmethod
    def basic(cls, user: str, password: str) -> "Fixed":
        if ":" in user:
            raise VaultError("token-invalid", "A user name with a colon cannot be sent.", permanent=True)
        return cls(f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode('ascii')}")

    def header(self) -> str | None:
        return self._value

    def renew(self) -> bool:
        return False


class HeaderAuth(AuthBase):
    """Puts the credentials into a request; being an auth object also keeps requests from reading a .netrc file."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        value = self._credentials.header()
        if value is not None:
            request.headers["Authorization"] = value
        return request


class ClientCredentials:
    """A token by the client credentials grant (RFC 6749 4.4), kept until shortly before it expires.

    The client proves itself by HTTP Basic, which every token server must take (2.3.1). One object may be shared by the
    threads of a process. The token server's failures are faults of the lane: `unauthorized` when it refuses the
    client, `oauth-failed` when it refuses otherwise or answers what is no token, else what `failure_translate` says.
    """

    def __init__(
        self,
        token_url: str,
        *,
        client_id: str,
        secret: str,
        scope: str = "",
        timeout_seconds: float = 30,
        ca: str = "",
        proxy: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = token_url
        self._form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._good_until = 0.0
        self._session = session_open(
            token_url,
            auth=HeaderAuth(Fixed.basic(quote_plus(client_id), quote_plus(secret))),
            headers={"Accept": "application/json"},
            timeout_seconds=timeout_seconds,
            ca=ca,
            proxy=proxy,
        )

    def __repr__(self) -> str:
        return f"ClientCredentials({self._url!r})"

    def header(self) -> str | None:
        with self._lock:
            if self._clock() >= self._good_until:
                self._fetch()
            return f"Bearer {self._token}"

    def renew(self) -> bool:
        with self._lock:
            self._good_until = 0.0
        return True

    def _fetch(self) -> None:
        asked_at = self._clock()
        try:
            token, lifetime = _token_parse(self._ask())
        except requests.RequestException as error:
            raise _told_apart(failure_translate(error)) from None
        self._token = token
        self._good_until = asked_at + lifetime - min(EARLY_SECONDS, lifetime / 10)

    def _ask(self) -> bytes:
        timeout = (min(10.0, self._timeout_seconds), self._timeout_seconds)
        with self._session.post(
            self._url, data=self._form, timeout=timeout, allow_redirects=False, stream=True
        ) as response:
            if response.status_code in (400, 401, 403):
                raise VaultError(
                    "unauthorized",
                    "The token server does not accept client id, secret or scope; enter valid ones.",
                    lane_fault=True,
                )
            if response.status_code != 200:
                raise _told_apart(refusal_translate(response.raw, deadline_seconds=self._timeout_seconds))
            try:
                return answer_read(response.raw, limit=ANSWER_BYTES, deadline_seconds=self._timeout_seconds)
            except VaultError as error:
                raise _told_apart(error) from None


def _told_apart(error: VaultError) -> VaultError:
    """The same fault, said of the token server and not of the vault; always the lane's."""
    return VaultError(
        "oauth-failed",
        f"The token server gave no token ({error.code}); check its address and that it runs.",
        lane_fault=True,
        retry_after_seconds=error.retry_after_seconds,
    )


def _token_parse(answer: bytes) -> tuple[str, float]:
    """Token and lifetime in seconds (RFC 6749 5.1); only a bearer token is of use."""
    failure = VaultError("oauth-failed", "The token server's answer holds no bearer token.", lane_fault=True)
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        raise failure from None
    token = document.get("access_token") if isinstance(document, dict) else None
    if not isinstance(token, str) or not _HEADER_SAFE.fullmatch(token):
        raise failure
    if str(document.get("token_type", "")).lower() != "bearer":
        raise failure
    lifetime = document.get("expires_in", LIFETIME_SECONDS)
    if isinstance(lifetime, str) and lifetime.isascii() and lifetime.isdecimal():  # a known flaw of some servers
        lifetime = int(lifetime[:9])
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not 0 < lifetime < 1e9:
        lifetime = LIFETIME_SECONDS
    return token, float(lifetime)
