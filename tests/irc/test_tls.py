"""Whom connections trust, which they have in common, and what each shows."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from bridge.demo.matrix_user import PATIENCE
from bridge.networks.irc.client import certfp
from bridge.networks.irc.connections.dial import Way, open_server
from bridge.networks.irc.connections.tls import make_context
from bridge.networks.irc.network.keepsakes import CERTIFICATE
from bridge.networks.irc.settings import IrcSettings, ServerSettings
from bridge.sdk.errors import ModuleNotReady
from bridge.sdk.ids import LoginId
from bridge.sdk.login import Login, LoginKind
from bridge.sdk.secret import Secret
from tests.irc.stage import Host, Network, outcome, running, user_id
from tests.rigs.certificates import Certificates, make_certificates

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def tls_server(made: Certificates, shown: Path) -> AsyncIterator[int]:
    """A server that says to each the fingerprint of the certificate which it was shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(shown)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        pem = ssl.DER_cert_to_PEM_cert(der).encode() if der else None
        writer.write(f"{certfp.fingerprint(pem) if pem else 'nothing'}\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def connect(port: int, ca_file: Path, shown: Path | None = None) -> tuple[object, str]:
    """Connect; return the connection's context and what the server says."""
    known = {"host": "127.0.0.1", "port": port, "ca_file": str(ca_file)}
    settings = IrcSettings.model_validate({"servers": [known]})
    way = Way(flood=(1, 1.0), certificate=shown)
    async with open_server(settings.servers[0], settings, way, "u") as (reader, writer):
        context = writer.get_extra_info("ssl_object").context
        said = (await reader.readline()).decode().strip()
        writer.close()
        return context, said


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Somebody's certificate."""
    file = tmp_path / "own.pem"
    file.write_bytes(certfp.make("alice", NOW))
    return file


async def test_connections_that_trust_the_same_have_it_once_and_each_its_own_certificate(
    tmp_path: Path, own: Path
) -> None:
    made = make_certificates(tmp_path)
    async with tls_server(made, own) as port:
        first, _ = await connect(port, made.authority)
        by_certificate, said = await connect(port, made.authority, own)
        assert said == certfp.fingerprint(own.read_bytes())
        assert by_certificate is not first
        # What one shows the next does not.
        assert await connect(port, made.authority) == (first, "nothing")


async def test_a_file_of_issuers_that_has_changed_is_read_anew(tmp_path: Path, own: Path) -> None:
    (tmp_path / "other").mkdir()
    made, other = make_certificates(tmp_path), make_certificates(tmp_path / "other")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(other.authority.read_bytes())
    async with tls_server(made, own) as port:
        with pytest.raises(ModuleNotReady, match="is not trusted"):
            await connect(port, trusted)
        trusted.write_bytes(other.authority.read_bytes() + made.authority.read_bytes())
        before, _ = await connect(port, trusted)
        renewed = tmp_path / "renewed.pem"
        renewed.write_bytes(made.authority.read_bytes())
        renewed.replace(trusted)
        after, _ = await connect(port, trusted)
        assert after is not before
        server = ServerSettings(host="127.0.0.1", port=port, ca_file=trusted)
        trusted.unlink()
        with pytest.raises(ModuleNotReady, match="cannot be used"):
            await make_context(server, None)


def locked(pem: bytes) -> bytes:
    """The same certificate, with a password on its key."""
    begin = pem.index(b"-----BEGIN PRIVATE KEY")
    key = serialization.load_pem_private_key(pem[begin:], None)
    return pem[:begin] + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"sesame"),
    )  # fmt: skip


async def test_nobody_is_asked_for_the_password_of_a_key(own: Path) -> None:
    own.write_bytes(locked(own.read_bytes()))
    program = (
        "import asyncio, pathlib, sys\n"
        "from bridge.networks.irc.connections.tls import make_context\n"
        "from bridge.networks.irc.settings import ServerSettings\n"
        "server = ServerSettings(host='irc.test')\n"
        "asyncio.run(make_context(server, pathlib.Path(sys.argv[1])))\n"
    )
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(own), start_new_session=True,
        stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert started.stdin is not None
    assert started.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE):
            errors = await started.stderr.read()
    finally:
        started.stdin.close()
        await started.wait()
    assert b"without a password" in errors


async def test_a_person_whose_certificate_cannot_be_used_is_told_what_to_do(own: Path) -> None:
    network = Network(0, servers=[{"host": "127.0.0.1", "port": 1}])
    login = Login(
        id=LoginId(9), kind=LoginKind.AUTOMATIC, owner=user_id("Ann"), name="Ann",
        secrets={CERTIFICATE: Secret(locked(own.read_bytes()).decode())},
    )  # fmt: skip
    client = network.connector.connect(login, Host(network.store))
    async with running(client) as run, asyncio.TaskGroup() as tasks:
        tasks.create_task(outcome(client, "#room", "hello"))
        said = str(await run.wait_for_error())
    assert said.startswith("Your certificate cannot be used: ")
    assert "!trestle test certfp new" in said
    assert "/proc" not in said


def test_a_name_that_is_too_long_for_a_certificate_is_cut() -> None:
    assert certfp.is_whole(certfp.make("ö" * 60, NOW))


def test_a_certificate_is_whole_with_its_own_open_key_alone() -> None:
    pem, other = certfp.make("alice", NOW), certfp.make("bea", NOW)
    begin = pem.index(b"-----BEGIN PRIVATE KEY")
    assert certfp.is_whole(pem)
    assert certfp.is_whole(pem.strip())
    for broken in (b"", pem[:begin], pem[begin:], pem[:begin] + other[begin:], locked(pem)):
        assert not certfp.is_whole(broken)
