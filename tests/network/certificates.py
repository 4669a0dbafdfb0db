"""Certificates for tests: a CA, what it signs, and the same as PFX; made in milliseconds, good for an hour."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Issued:
    """One certificate with its key, as files; `pem` holds both."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    pem: Path
    public: Path

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def pfx(self, path: Path, password: str) -> Path:
        path.write_bytes(
            pkcs12.serialize_key_and_certificates(
                b"x", self.key, self.certificate, None, serialization.BestAvailableEncryption(password.encode())
            )
        )
        return path


def issue(directory: Path, name: str, *, by: Issued | None = None) -> Issued:
    """A certificate for this name, signed by `by`, or a CA that signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(by.key if by else key, hashes.SHA256())
    )
    public = directory / f"{name}.crt"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = directory / f"{name}.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + public.read_bytes()
    )
    return Issued(certificate, key, pem, public)
