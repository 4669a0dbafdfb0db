"""TLS for DIMSE (PS3.15 B.12, BCP 195): contexts from files, and a handshake with a deadline.

Only TLS 1.2 with forward secrecy and authenticated encryption, or 1.3; no renegotiation, no compression.
"""

import contextlib
import functools
import hashlib
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from network.dimse.errors import ConfigurationError, DimseError

HANDSHAKE_SECONDS = 5.0
_TLS12_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!DSS"
_PFX_SUFFIXES = (".pfx", ".p12")
_FILE_BYTES_MAX = 1 << 20

MinVersion = Literal["1.2", "1.3"]
ClientCertificates = Literal["none", "optional", "required"]


class HandshakeError(DimseError):
    """A TLS handshake that failed or did not end in time (codes `tls-handshake-timeout`, `tls-handshake-failed`)."""


@dataclass(frozen=True)
class TlsSettings:
    """What one endpoint needs for TLS: absolute paths of files, read when the first connection comes.

    `certificate` is a PEM chain (then `private_key` may be a file of its own) or a PFX; the password opens either.
    """

    certificate: str
    private_key: str = ""
    password: str = ""
    min_version: MinVersion = "1.2"
    client_certificates: ClientCertificates = "none"
    client_ca: str = ""

    def __repr__(self) -> str:
        return f"TlsSettings({self.certificate!r}, min_version={self.min_version!r})"


def context_of(settings: TlsSettings) -> ssl.SSLContext:
    """The context for these settings, made anew only when a file has changed since. Raises ConfigurationError."""
    return _context_cached(settings, tuple(_stamp(path) for path in _files(settings)))


@dataclass(frozen=True)
class ClientTlsSettings:
    """How we call a peer over TLS: absolute paths of files.

    `ca` is what its certificate must lead to (empty: the system's); with `check_name` it must name the peer's address.
    `certificate`, `private_key` and `password` as in TlsSettings: ours, for a peer that wants one.
    """

    ca: str = ""
    check_name: bool = True
    certificate: str = ""
    private_key: str = ""
    password: str = ""
    min_version: MinVersion = "1.2"

    def __repr__(self) -> str:
        return f"ClientTlsSettings({self.ca!r}, check_name={self.check_name})"


def client_context_of(settings: ClientTlsSettings) -> ssl.SSLContext:
    """The context for these settings, the same object until a file has changed. Raises ConfigurationError."""
    files = [path for path in (settings.ca, settings.certificate, settings.private_key) if path]
    return _client_context_cached(settings, tuple(_stamp(path) for path in files))


def handshake(
    connection: socket.socket, settings: TlsSettings, *, seconds: float = HANDSHAKE_SECONDS
) -> tuple[ssl.SSLSocket, str]:
    """The connection as TLS, and the SHA-256 fingerprint of the verified client certificate ("" without one).

    The deadline is for the whole handshake, however slowly the peer talks. On any failure the connection is closed and
    HandshakeError raised, or ConfigurationError when our own files are at fault. The socket given must not be used
    afterwards.
    """
    try:
        context = context_of(settings)
        connection.settimeout(seconds)
        secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    except (ConfigurationError, OSError):
        connection.close()
        raise
    try:
        secured.do_handshake()
        certificate = secured.getpeercert(binary_form=True)
    except TimeoutError as exc:
        secured.close()
        raise HandshakeError(
            "The peer did not finish its TLS handshake in time.", code="tls-handshake-timeout"
        ) from exc
    except (OSError, ValueError) as exc:
        secured.close()
        raise HandshakeError(
            "The TLS handshake failed: compare version, certificate and trust on both sides.",
            code="tls-handshake-failed",
        ) from exc
    return secured, hashlib.sha256(certificate).hexdigest() if certificate else ""


def _files(settings: TlsSettings) -> list[str]:
    return [path for path in (settings.certificate, settings.private_key, settings.client_ca) if path]


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        state = Path(path).stat()
    except OSError as exc:
        raise ConfigurationError(
            f"The file {path} for TLS cannot be read: correct the path or its rights.", code="tls-file-unreadable"
        ) from exc
    return state.st_ino, state.st_size, state.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _context_cached(settings: TlsSettings, _stamps: tuple[tuple[int, int, int], ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(_TLS12_CIPHERS)
    try:
        _identity_load(context, settings)
        if settings.client_certificates != "none":
            context.load_verify_locations(cafile=settings.client_ca or None)
            context.verify_mode = ssl.CERT_REQUIRED if settings.client_certificates == "required" else ssl.CERT_OPTIONAL
    except (OSError, ValueError, TypeError) as exc:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            "Certificate, private key, password or client CA for TLS cannot be used: check that they are PEM or PFX "
            "and belong together.",
            code="tls-certificate-invalid",
        ) from exc
    return context


@functools.lru_cache(maxsize=64)
def _client_context_cached(settings: ClientTlsSettings, _stamps: tuple[tuple[int, int, int], ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(_TLS12_CIPHERS)
    context.check_hostname = settings.check_name
    try:
        if settings.ca:
            context.load_verify_locations(cafile=settings.ca)
        else:
            context.load_default_certs()
        if settings.certificate:
            _identity_load(context, settings)
    except (OSError, ValueError, TypeError) as exc:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            "CA, certificate, private key or password for TLS cannot be used: check that they are PEM or PFX and "
            "belong together.",
            code="tls-certificate-invalid",
        ) from exc
    return context


def _identity_load(context: ssl.SSLContext, settings: "TlsSettings | ClientTlsSettings") -> None:
    if not settings.certificate.lower().endswith(_PFX_SUFFIXES):
        # A callback, not a string: without one OpenSSL would ask at the terminal.
        context.load_cert_chain(settings.certificate, settings.private_key or None, password=settings.password.encode)
        return
    with Path(settings.certificate).open("rb") as stream:
        content = stream.read(_FILE_BYTES_MAX)
    key, certificate, others = pkcs12.load_key_and_certificates(content, settings.password.encode() or None)
    if key is None or certificate is None:
        raise ValueError("the PFX holds no private key or no certificate")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem += b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (certificate, *others))
    with _in_memory(pem) as path:
        context.load_cert_chain(path)


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path under which OpenSSL can read this; it never touches a disk."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
