"""Atheme: the accounts of a network, as NickServ and for SASL, linked to an InspIRCd."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import START_SECONDS, IrcServer, unprivileged

LINK_PASSWORD = "made-up"
_MODULES = (
    "protocol/inspircd", "backend/opensex", "crypto/pbkdf2v2",
    "nickserv/main", "nickserv/register", "nickserv/identify", "nickserv/cert", "nickserv/logout",
    "nickserv/status", "nickserv/set_core", "nickserv/set_password",
    "saslserv/main", "saslserv/plain", "saslserv/external",
)  # fmt: skip


def _configure(folder: Path, link_port: int) -> Path:
    modules = "\n".join(f'loadmodule "modules/{name}";' for name in _MODULES)
    service = 'nick = "{0}"; user = "services"; host = "services.test"; real = "{0}";'
    file = folder / "atheme.conf"
    file.write_text(f"""
{modules}
serverinfo {{
  name = "services.test"; desc = "Services for tests"; numeric = "00A"; recontime = 1;
  netname = "Test"; hidehostsuffix = "users.test"; adminname = "Test";
  adminemail = "test@example.org"; registeremail = "noreply@example.org"; mta = "/bin/true";
  maxlogins = 50; maxusers = 0; auth = none; casemapping = rfc1459;
}};
uplink "irc.test" {{
  host = "127.0.0.1"; port = {link_port};
  send_password = "{LINK_PASSWORD}"; receive_password = "{LINK_PASSWORD}";
}};
nickserv {{ {service.format("NickServ")} }};
saslserv {{ {service.format("SaslServ")} }};
database {{ commit_interval = 60; }};
""")
    return file


async def _wait_until_linked(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    async with asyncio.timeout(START_SECONDS), irc_user(port, "waiter") as waiter:
        while True:
            if process.returncode is not None:
                said = await asyncio.to_thread(log.read_text, "utf-8", "replace")
                raise RuntimeError(f"the services ended: {said}")
            waiter.say("WHOIS NickServ")
            while " 318 " not in (text := await waiter.read()):
                if " 311 " in text:
                    return
            await asyncio.sleep(0.1)


@asynccontextmanager
async def run_services(*, sasl: bool = True) -> AsyncIterator[IrcServer]:
    """Run an InspIRCd with services, to which one can sign in by SASL or only by NickServ."""
    folder = Path(tempfile.mkdtemp(prefix="trestle-services-"))
    try:
        async with run_inspircd(link_password=LINK_PASSWORD, sasl=sasl) as server:
            file, log = _configure(folder, server.link_port), folder / "output"
            if os.getuid() == 0:
                for path in (folder, file):
                    shutil.chown(path, "nobody", "nogroup")
            command = ["atheme-services", "-n", "-c", str(file), "-D", str(folder),
                       "-l", str(folder / "log"), "-p", str(folder / "pid")]  # fmt: skip
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *unprivileged(command), stdout=output, stderr=output, cwd=folder
                )
            try:
                await _wait_until_linked(process, server.port, log)
                yield server
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def register(server: IrcServer, nick: str, password: str, *fingerprints: str) -> None:
    """Make an account, which knows these certificates."""
    async with irc_user(server.port, nick) as user:
        user.say(f"PRIVMSG NickServ :REGISTER {password} {nick}@example.org")
        await user.expect("NickServ", "is now registered")
        for one in fingerprints:
            user.say(f"PRIVMSG NickServ :CERT ADD {one}")
            await user.expect("NickServ", "Added fingerprint")
