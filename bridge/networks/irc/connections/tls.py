"""Whom a connection trusts, and the certificate that it shows.

The system's issuers are most of a MiB once they are read: connections that trust the same issuers
share them.
"""

import asyncio
import os
import ssl
from functools import lru_cache
from pathlib import Path

from bridge.networks.irc.connections.reader import reason_of
from bridge.networks.irc.settings import ServerSettings
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import ModuleNotReady

MOST_KEPT = 16
"""Contexts of different servers, and of files that have changed since."""

Stamp = tuple[int, int, int] | None
"""By which a file is known to be the same as before; None: it is not there."""


async def make_context(
    server: ServerSettings, certificate: Path | None, *, kept_at: str = ""
) -> ssl.SSLContext:
    """Make what a TLS connection to a server needs, or share what was made.

    A file of issuers that has changed is read anew. ``kept_at``: the instance whose login
    keeps the certificate itself; then its path says nothing to anybody. Raises
    ``ModuleNotReady`` with a sentence.
    """
    try:
        if certificate is None:
            return _shared(server.ca_file, server.tls_verify, _stamps(server.ca_file))
        # No two contexts can share the issuers, so they are read again: in a thread.
        context = await asyncio.to_thread(_read, server.ca_file, server.tls_verify)
    except OSError as error:
        raise ModuleNotReady(
            f"ca_file {server.ca_file} cannot be used: {reason_of(error)}."
        ) from error
    try:
        # Without a password OpenSSL would ask for one at the terminal, and everything would wait.
        context.load_cert_chain(certificate, password="")
    except OSError as error:
        if kept_at:
            raise ModuleNotReady(
                f"Your certificate cannot be used: {reason_of(error)}. Say "
                f"{as_typed(f'{kept_at} certfp new')} for another, or "
                f"{as_typed(f'{kept_at} certfp off')} to do without."
            ) from error
        raise ModuleNotReady(
            f"certificate_file {certificate} cannot be used: {reason_of(error)}. It must hold "
            "a certificate and its key without a password, as PEM."
        ) from error
    return context


@lru_cache(maxsize=MOST_KEPT)
def _shared(ca_file: Path | None, verify: bool, stamps: tuple[Stamp, ...]) -> ssl.SSLContext:
    del stamps  # They are for the cache, to which a file that has changed is another one.
    return _read(ca_file, verify)


def _read(ca_file: Path | None, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _stamps(ca_file: Path | None) -> tuple[Stamp, ...]:
    if ca_file is not None:
        return (_stamp(ca_file),)
    system = ssl.get_default_verify_paths()
    return tuple(_stamp(Path(one)) for one in (system.cafile, system.capath) if one)


def _stamp(path: Path) -> Stamp:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
