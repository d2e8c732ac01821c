"""A machine of a stranger's, in a folder: his paths, a homeserver, a service manager."""

import asyncio
import grp
import os
import pwd
import re
import shlex
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bridge.demo.processes import free_port
from bridge.demo.synapse import Synapse
from tests.deploy.blocks import Block
from tests.deploy.tools import DEPLOY
from tests.rigs.service_manager import Service

SERVER = "test.example"
COMMAND_SECONDS = 300.0

_SERVER = "modules.libera.servers[0]"
_HOST = f"{_SERVER}.host"

PATHS = (
    "/etc/bash_completion.d", "/etc/matrix-synapse", "/etc/prometheus", "/etc/systemd/system",
    "/etc/sysusers.d", "/etc/trestle", "/opt/trestle", "/usr/local/bin", "/usr/local/share",
    "/var/lib/trestle", "/var/log/trestle",
)  # fmt: skip
"""What the pages write to. Each is a place in the folder here; a path that is not listed fails."""

GIVEN = (
    "/etc/bash_completion.d", "/etc/matrix-synapse/conf.d", "/etc/prometheus", "/usr/local/bin",
    "/opt",
)  # fmt: skip
"""Folders that are there before Trestle is."""


class Ground:
    """Runs the lines of a page as they are, but for what another machine has otherwise."""

    def __init__(self, folder: Path, repository: Path, irc_port: int) -> None:
        """``irc_port``: where the network of the pages is, on this machine."""
        self.folder = folder
        self.irc_port = irc_port
        self._repository = repository
        self._receiver, self._ops = free_port(), free_port()
        for name in GIVEN:
            (folder / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
        (folder / "etc/passwd").touch()
        (folder / "etc/group").touch()
        (folder / "etc/login.defs").write_text("USERGROUPS_ENAB yes\n")  # As distributions do.
        for name in ("prometheus.yml", "alerts.yml"):
            text = (DEPLOY / "prometheus" / name).read_text()
            (folder / "etc/prometheus" / name).write_text(text)
        home = folder / "synapse"
        home.mkdir()
        self.synapse = Synapse(home, server_name=SERVER)
        self.service = Service(self.place("/etc/systemd/system/trestle.service"), folder, self.map)

    def place(self, path: str) -> Path:
        """Where a path of the pages is here."""
        return self.folder / path.lstrip("/")

    @property
    def config(self) -> Path:
        """The settings, as the pages call them."""
        return self.place("/etc/trestle/config.yaml")

    def users(self) -> list[str]:
        """The names of the users and groups that the pages made."""
        files = (self.place("/etc/passwd"), self.place("/etc/group"))
        return [line.partition(":")[0] for file in files for line in file.read_text().splitlines()]

    async def run(self, block: Block) -> str:
        """Run a block; give what it printed. Raises ``AssertionError`` if a line fails."""
        said = []
        for number, line in enumerate(block.lines):
            last = number == len(block.lines) - 1
            if line.startswith("systemctl "):
                await self._control(*line.split()[1:])
            else:
                said.append(await self._type(line, block.code if last else 0, block.place))
        return "".join(said)

    async def close(self) -> None:
        """End what runs."""
        await self.service.stop()
        await self.synapse.kill()

    def map(self, text: str) -> str:
        """Put the places of this ground for those of the pages."""
        for path in PATHS:
            text = re.sub(rf"(?<![\w.]){re.escape(path)}(?![\w.-])", str(self.place(path)), text)
        me, mine = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
        for theirs, ours in {
            "https://matrix.example.org": self.synapse.url,
            "--server-name example.org": f"--server-name {SERVER}",
            "@you:example.org": f"@you:{SERVER}",
            f"'{_HOST}=irc.libera.chat'": f"'{_HOST}=127.0.0.1' --set "
            f"'{_SERVER}.port={self.irc_port}' --set '{_SERVER}.tls=false'",
            "127.0.0.1:9184": f"127.0.0.1:{self._ops}",
            "-o root -g trestle": f"-o {me} -g {mine}",
            "chgrp trestle": f"chgrp {mine}",
            "runuser -u trestle -- ": "",  # Who is who is in `layout.py`.
            "-o matrix-synapse": f"-o {me}",
        }.items():
            text = text.replace(theirs, ours)
        if "trestle init " in text:  # The default ports may be somebody else's here.
            text += f" --set appservice.listen=127.0.0.1:{self._receiver}"
            text += f" --set ops.listen=127.0.0.1:{self._ops}"
        text = text.replace("userdel ", f"userdel --prefix {self.folder} ")
        return text.replace("systemd-sysusers", f"systemd-sysusers --root={self.folder}")

    async def _type(self, line: str, code: int, place: str) -> str:
        mapped = self.map(line)
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", mapped, cwd=self._repository, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PATH": f"{self.place('/usr/local/bin')}:{os.environ['PATH']}"},
        )  # fmt: skip
        async with asyncio.timeout(COMMAND_SECONDS):
            output, _ = await process.communicate()
        said = output.decode()
        assert process.returncode == code, f"{place}: {line}\n{said}\n{self.service.log[-2000:]}"
        return said

    async def _control(self, action: str, *words: str) -> None:
        """What systemd does, for the two services that there are."""
        match (action, *words):
            case ("daemon-reload",) | ("reload", "prometheus") | ("status", "trestle"):
                return
            case ("enable", "--now", "trestle"):
                await self.service.start()
            case ("restart", "trestle"):
                assert await self.service.stop() == 0, self.service.log
                assert "STOPPING=1" in self.service.heard
                await self.service.start()
            case ("disable", "--now", "trestle"):
                assert await self.service.stop() == 0, self.service.log
            case ("restart", "matrix-synapse"):
                await self.start_synapse()
            case _:
                raise AssertionError(f"nobody here knows: systemctl {shlex.join(words)}")

    async def start_synapse(self) -> None:
        """Start the homeserver, again if it runs, with what its folder of settings says."""
        await self.synapse.stop()
        settings: dict[str, Any] = {}
        for file in sorted(self.place("/etc/matrix-synapse/conf.d").iterdir()):
            settings |= YAML(typ="safe").load(file.read_text())
        files = tuple(map(Path, settings.get("app_service_config_files", ())))
        self.synapse = Synapse(
            self.synapse.folder, server_name=SERVER, port=self.synapse.port, registrations=files
        )
        await self.synapse.start()
