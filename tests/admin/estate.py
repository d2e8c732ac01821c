"""Installations to be spoilt, one after another, beside one real Synapse and one real Postgres."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.web_request import BaseRequest

from bridge.config import load
from bridge.demo.processes import free_port
from bridge.demo.synapse import Synapse
from bridge.doctor import Doctor, Finding, Surroundings
from bridge.init import write_registration
from bridge.sdk.ids import InstanceId
from bridge.settings.records import DatabaseSettings, Settings
from bridge.wholefile import write_whole
from tests.admin.commands import read_yaml
from tests.admin.conftest import installed, make
from tests.rigs.cluster import Cluster, run_cluster
from tests.rigs.trestle import make_modules
from tests.rigs.yaml import dump

NOWHERE = "-nowhere.invalid"
"""A name that no host can have: that nobody has it, the system says at once and asks nobody."""

HERE = Surroundings(in_container=False)
"""Where the tests run does not matter to them."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the doctor is to look at."""

    settings: Settings
    registration: Path
    surroundings: Surroundings = HERE

    async def examine(self) -> list[Finding]:
        """Let it look."""
        return await Doctor(self.settings, self.registration, self.surroundings).examine()


@dataclass(frozen=True)
class Estate:
    """A Synapse, a Postgres without any role of ours, and a folder for each installation."""

    folder: Path
    synapse: Synapse
    cluster: Cluster


@dataclass(frozen=True)
class Bench:
    """One test's own copy of an installation's files."""

    estate: Estate
    folder: Path

    @property
    def config(self) -> Path:
        """The settings of the good one."""
        return self.folder / "config.yaml"

    @property
    def registration(self) -> Path:
        """What they come with."""
        return self.folder / "registration.yaml"

    def lay_out(self, name: str) -> "Bench":
        """Have the files of an installation; paths in them are this folder's."""
        for file in ("config.yaml", "registration.yaml"):
            shutil.copy(self.estate.folder / name / file, self.folder / file)
        return self

    def settings(self, name: str = "good") -> Settings:
        """An installation's settings as the program reads them, with a place of its own."""
        return load(self.lay_out(name).config)

    def case(self, settings: Settings, *, matching: bool = False, **more: Any) -> Case:
        """What the doctor sees; ``matching``: with the registration that these ask for."""
        if matching:
            write_registration(settings, self.registration)
        return Case(settings=settings, registration=self.registration, **more)

    def appservice(self, name: str = "good", *, matching: bool = False, **changes: Any) -> Case:
        """A case with other values under ``appservice``."""
        settings = self.settings(name)
        changed = replace(settings, appservice=replace(settings.appservice, **changes))
        return self.case(changed, matching=matching)

    def homeserver(self, *, matching: bool = False, **changes: Any) -> Case:
        """A case with other values under ``homeserver``."""
        settings = self.settings()
        changed = replace(settings, homeserver=replace(settings.homeserver, **changes))
        return self.case(changed, matching=matching)

    def database(self, url: str, owner_url: str | None = None) -> Case:
        """A case with another database."""
        database = DatabaseSettings(url=url, owner_url=owner_url)
        return self.case(replace(self.settings(), database=database))

    def module(self, module: str, **options: object) -> Case:
        """A case whose only module is this one."""
        modules = make_modules({"libera": (module, options)})
        assert InstanceId("libera") in modules
        return self.case(replace(self.settings(), modules=modules), matching=True)

    def change_config(self, **sections: Any) -> Path:
        """Change the good one's file of settings; None removes a key. Give the file."""
        document = read_yaml(self.lay_out("good").config)
        for section, changes in sections.items():
            document[section] = {**document[section], **changes}
            for key in [key for key, value in changes.items() if value is None]:
                del document[section][key]
        write_whole(self.config, dump(document).encode())
        return self.config


Spoil = Callable[[Bench], AbstractAsyncContextManager[Case | Path]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to misconfigure, and what must be said of it."""

    check: str
    """Who must say it; ``settings`` if the start itself does."""
    words: tuple[str, ...]
    """All of them in one sentence."""
    spoil: Spoil
    level: str = "bad"
    also: tuple[str, ...] = ()
    """Who else finds something bad about it."""

    @property
    def name(self) -> str:
        """In words."""
        return self.spoil.__name__


@dataclass
class Rows:
    """A part of the table."""

    all: list[Row] = field(default_factory=list)

    def row(
        self, check: str, *words: str, level: str = "bad", also: tuple[str, ...] = ()
    ) -> Callable[[Callable[[Bench], AsyncIterator[Case | Path]]], None]:
        """Add a row. The function breaks something, gives what to look at, and mends it."""

        def add(function: Callable[[Bench], AsyncIterator[Case | Path]]) -> None:
            self.all.append(
                Row(check=check, words=words, spoil=asynccontextmanager(function), level=level,
                    also=also)
            )  # fmt: skip

        return add


# --- the estate ---


def _spoil_registration(file: Path, **changes: Any) -> Path:
    """A copy of the file with other values: what the homeserver has read."""
    copy = file.with_name("as-read.yaml")
    write_whole(copy, dump({**read_yaml(file), **changes}).encode())
    return copy


def _registrations(folder: Path, synapse: Synapse, database: str) -> list[Path]:
    """``trestle init`` for each installation; what the homeserver is given of it."""

    def install(name: str, *more: str) -> Path:
        return Path(make(
            folder / name, synapse, database, f"appservice.id={name}",
            f"appservice.prefix=_{name}_", f"appservice.bot_localpart={name}", *more,
        )[0])  # fmt: skip

    def namespace(*users: str) -> dict[str, Any]:
        rows = [{"exclusive": True, "regex": regex} for regex in users]
        return {"users": rows, "aliases": [], "rooms": []}

    port = free_port()
    install("unread")
    rival = {
        "id": "rival", "url": None, "as_token": "rival-as-token", "hs_token": "rival-hs-token",
        "sender_localpart": "rival", "namespaces": namespace("@wanted:.*", "@_wanted_.*"),
    }  # fmt: skip
    write_whole(folder / "rival.yaml", dump(rival).encode())
    good = install("good")
    return [
        good,
        install("far", f"appservice.url=http://127.0.0.1:{free_port()}"),
        install("nameless", "appservice.url=http://nowhere.invalid:29333"),
        install("tls", f"appservice.url=https://127.0.0.1:{port}",
                f"appservice.listen=127.0.0.1:{port}"),
        install("six", f"appservice.url=http://[::1]:{port}",
                f"appservice.listen=127.0.0.1:{port}"),
        _spoil_registration(install("silent"), url=None),
        _spoil_registration(install("renamed"), id="somebody"),
        _spoil_registration(install("narrow"), namespaces=namespace("@narrow:test.example")),
        _spoil_registration(install("wanted")),
        folder / "rival.yaml",
    ]  # fmt: skip


@asynccontextmanager
async def run_estate() -> AsyncIterator[Estate]:
    """Have it until the block ends."""
    async with (
        run_cluster() as cluster,
        installed(await cluster.fresh(), _registrations) as (folder, synapse),
    ):
        yield Estate(folder, synapse, cluster)


# --- what may stand in between ---


@asynccontextmanager
async def answering(
    status: int, headers: Mapping[str, str] | None = None, *, port: int = 0
) -> AsyncIterator[str]:
    """A program that gives everybody the same answer; its URL."""

    async def answer(request: BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(status=status, headers=headers, text="somebody else")

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def relay(
    target: int,
    *,
    tls: ssl.SSLContext | None = None,
    change: Callable[[bytes], bytes] = lambda data: data,
) -> AsyncIterator[int]:
    """A port that leads to another of this machine; what comes back from there is changed."""

    async def pass_on(
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        how: Callable[[bytes], bytes],
    ) -> None:
        while data := await source.read(65536):
            sink.write(how(data))
        sink.close()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(pass_on(reader, there_writer, lambda data: data))
                both.create_task(pass_on(there_reader, writer, change))
        except* ConnectionError:
            pass
        finally:
            for end in (writer, there_writer):
                end.transport.abort()

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
