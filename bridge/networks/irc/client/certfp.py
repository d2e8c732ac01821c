"""The certificate that a login shows, by which networks know its account (CertFP).

It is its own issuer: what counts is its fingerprint, which the account's owner tells NickServ.
"""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from bridge.networks.irc.wire import cut
from bridge.sdk.errors import ModuleNotReady

VALID_FOR = timedelta(days=20 * 365)
"""Only some servers look at its end, and refuse a certificate that has expired."""
MOST_NAME_BYTES = 64
"""Of a common name (RFC 5280)."""


def make(name: str, now: datetime) -> bytes:
    """Make a certificate with its key, as PEM."""
    # Imported here: 2 MiB, for what is made once in twenty years.
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cut(name, MOST_NAME_BYTES))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID_FOR)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem) + key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def fingerprint(pem: bytes) -> str:
    """Return what NickServ is told (``CERT ADD``): SHA-256 in hexadecimal digits.

    Raises ``ValueError`` for what is no certificate.
    """
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - As above.
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415

    return load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


@contextmanager
def in_memory(pem: bytes) -> Iterator[Path]:
    """Have a certificate with its key where OpenSSL can read it, and no disk ever does."""
    handle = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with os.fdopen(handle, "wb") as out:
        out.write(pem)
        out.flush()
        yield Path(f"/proc/self/fd/{handle}")


def is_whole(pem: bytes) -> bool:
    """Whether it is a certificate with its own key, which has no password."""
    with in_memory(pem) as file:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file, password="")
        except OSError:
            return False
    return True


def ensure(path: Path, name: str, now: datetime) -> tuple[str, bool]:
    """Have a certificate in the file, readable by us alone; return its fingerprint, and whether
    it was made just now.

    Raises ``ModuleNotReady`` if that cannot be.
    """
    try:
        try:
            return fingerprint(path.read_bytes()), False
        except FileNotFoundError:
            handle, part = tempfile.mkstemp(dir=path.parent)  # Readable by us alone.
            try:
                with os.fdopen(handle, "wb") as out:
                    out.write(make(name, now))
                # In one step, and never in place of another's.
                os.link(part, path)
            finally:
                os.unlink(part)
            return fingerprint(path.read_bytes()), True
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "there is no certificate in it"
        raise ModuleNotReady(f"certificate_file {path} cannot be used: {reason}.") from error
