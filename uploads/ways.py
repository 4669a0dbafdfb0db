"""The way to a server: which addresses, proxies and authorities may be used, and a session that uses no others."""

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import cast
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import AuthBase
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.response import BaseHTTPResponse

from uploads.ports import VaultError
from uploads.transport import DeadlineAdapter, ca_context, failure_translate


def session_open(
    address: str,
    *,
    auth: AuthBase,
    headers: Mapping[str, str],
    timeout_seconds: float,
    ca: str = "",
    proxy: str | None = None,
) -> requests.Session:
    """A session for one server: its deadlines hold, it keeps no cookies, and its credentials come from `auth` alone.

    `ca` is what alone is trusted (PEM text, or the path of a PEM file), empty for the well-known authorities. Plain
    http is for loopback: anywhere else it would show secrets to the network. Without a `proxy` the environment's holds;
    none is used for loopback. Raises VaultError `address-invalid`, `insecure-address`, `proxy-invalid`, `ca-invalid`.
    """
    loopback = address_check(address)
    session = requests.Session()
    session.trust_env = not (loopback or proxy)
    if proxy and not loopback:
        proxy_check(proxy)
        session.proxies = {"http": proxy, "https": proxy}
    session.auth = auth
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"Accept-Encoding": "identity", **headers})
    for scheme in ("http://", "https://"):
        session.mount(scheme, DeadlineAdapter(timeout_seconds, ca=ca))
    return session


@dataclass(frozen=True)
class Way:
    """A session's way to one server (proxy, trust, credentials), worked out once: for many requests that differ in
    little. requests does all of it anew for each, which costs more than sending a small file.
    """

    pool: HTTPConnectionPool
    prefix: str
    headers: Mapping[str, str]

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Iterable[bytes | memoryview] | None,
        headers: Mapping[str, str],
        timeout: tuple[float, float],
    ) -> Iterator[BaseHTTPResponse]:
        """The answer, its body unread; `headers` has the length of a `body` that is no bytes. No redirect is followed.

        Raises VaultError as `failure_translate` says. `timeout` is that of connecting and of a silence.
        """
        connect_seconds, read_seconds = timeout
        try:
            response = self.pool.urlopen(
                method,
                self.prefix + path,
                body=body,  # type: ignore[arg-type]  # it also takes what is no bytes, as sockets do
                headers={**self.headers, **headers},
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
                preload_content=False,
                decode_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # `from None`: the chained error holds addresses, and a proxy's may hold a password
            raise failure_translate(error) from None
        try:
            yield response
        finally:
            response.close()  # harmless once it was read to its end: then its connection is back in the pool
            response.release_conn()


def way_open(session: requests.Session, address: str) -> Way:
    """The way of a session of `session_open` to its address. Raises VaultError for a proxy that is none."""
    try:
        prepared = session.prepare_request(requests.Request("GET", address))
        settings = session.merge_environment_settings(address, {}, None, None, None)
        adapter = cast("DeadlineAdapter", session.get_adapter(address))
        pool = adapter.get_connection_with_tls_context(
            prepared, settings["verify"], proxies=settings["proxies"], cert=settings["cert"]
        )
        adapter.cert_verify(pool, prepared.url, settings["verify"], settings["cert"])
        prefix = adapter.request_url(prepared, settings["proxies"])
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise failure_translate(error) from None
    return Way(cast("HTTPConnectionPool", pool), prefix.rstrip("/"), dict(prepared.headers))


def address_check(base_url: str) -> bool:
    """Whether the address is this machine's own; VaultError for one that would show a secret or is none."""
    parts = urlsplit(base_url)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise VaultError("address-invalid", "The address must be https://host/path and nothing more.", permanent=True)
    loopback = parts.hostname == "localhost"
    with contextlib.suppress(ValueError):  # a host name need not be an address
        loopback = loopback or ipaddress.ip_address(parts.hostname).is_loopback
    if parts.scheme == "http" and not loopback:
        raise VaultError(
            "insecure-address", "The address must begin with https:// (plain http: this machine only).", permanent=True
        )
    return loopback


def proxy_check(proxy: str) -> None:
    """Raises `proxy-invalid` for what is no address of an HTTP proxy."""
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port is not None
    except ValueError:
        usable = False
    if not usable or parts.path.strip("/") or parts.query or parts.fragment:
        raise VaultError("proxy-invalid", "The proxy must be http://name:password@host:port.", permanent=True)


def way_check(*, proxy: str | None, ca: str) -> None:
    """Raises `proxy-invalid` or `ca-invalid` for what no client could be made with."""
    if proxy:
        proxy_check(proxy)
    if ca:
        ca_context(ca)
