"""Both bridges on one IRC server, each with its own homeserver of the same make."""

import asyncio
import venv
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.demo.processes import Program, free_port, wait_until_listening
from tests.bench.homeserver import ADMIN, BenchHomeserver, bench_homeserver
from tests.rigs.program import trestle_program
from tests.rigs.scripted_homeserver import SERVER
from tests.rigs.trestle import make_settings
from tests.rigs.yaml import dump

CHANNELS = 50
HEISENBRIDGE = "heisenbridge==1.15.4"


@dataclass(slots=True)
class Side:
    """A running bridge, and how to reach it."""

    name: str
    homeserver: BenchHomeserver
    port: int
    """Where it takes transactions."""
    token: str
    pid: int
    wake: Callable[[int], dict[str, Any]]
    """The event that has somebody connect."""
    seats: int
    """How many of its people are in channels."""
    greets: bool
    """Whether what has somebody connect is a line for the channel."""

    def channel(self, number: int) -> str:
        """The channel that a person is in, and that a room is bridged to."""
        return f"#{self.name}{number % CHANNELS}"

    def room(self, number: int) -> str:
        """That room."""
        return f"!{self.name}{number % CHANNELS}"


def person_id(number: int) -> str:
    """Somebody of the Matrix side."""
    return f"@person{number}:{SERVER}"


def said(room: str, sender: str, text: str, event_id: str) -> dict[str, Any]:
    """A text message, as a homeserver hands it on."""
    return {
        "type": "m.room.message", "event_id": event_id, "room_id": room, "sender": sender,
        "origin_server_ts": 1_790_000_000_000, "unsigned": {"age": 12},
        "content": {"msgtype": "m.text", "body": text},
    }  # fmt: skip


@asynccontextmanager
async def trestle(irc_port: int, folder: Path, people: int) -> AsyncIterator[Side]:
    """Trestle as it is installed: embedded Postgres, nothing switched off, flood limits far up."""
    async with bench_homeserver(f"@trestle:{SERVER}") as homeserver:
        module = {
            "servers": [{"host": "127.0.0.1", "port": irc_port, "tls": False}],
            "own_network": True, "flood_burst": 1000, "flood_rate": 10_000, "nick": "trestle",
            "connect_rate": 1000, "connects_at_once": 50, "most_puppets": people,
        }  # fmt: skip
        settings = make_settings(
            folder / "state", homeserver_url=homeserver.url, modules={"near": ("irc", module)}
        )
        rooms = [
            {"room": f"!trestle{number}", "bridge": {"near": [f"#trestle{number}"]}}
            for number in range(CHANNELS)
        ]
        more: dict[str, Any] = {"rooms": rooms, "permissions": {"*": "user", ADMIN: "admin"}}
        async with trestle_program(settings, folder, **more) as program:
            async with asyncio.timeout(60):
                while program.log_text().count("[bridged ") < CHANNELS:
                    await asyncio.sleep(0.05)
            side = Side(
                "trestle", homeserver, settings.appservice.listen.port,
                settings.appservice.hs_tokens[0].reveal(), _pid(program.program),
                wake=lambda one: said(side.room(one), person_id(one), "hello", f"$hello{one}"),
                seats=people, greets=True,
            )  # fmt: skip
            yield side


@asynccontextmanager
async def heisenbridge(
    irc_port: int, folder: Path, people: int, python: Path | None = None
) -> AsyncIterator[Side]:
    """heisenbridge at its best: one of its people in each channel, the others only connected.

    Its people have rooms of their own, so that with two in a channel it would write each line
    twice. ``python`` has it installed; else it is installed here.
    """
    python = python or await _install(folder)
    async with bench_homeserver(f"@heisenbridge:{SERVER}") as homeserver:
        _furnish(homeserver, irc_port, people)
        port, token = free_port(), "token-of-the-homeserver"
        registration = folder / "heisenbridge.yaml"
        registration.write_text(dump({
            "id": "heisenbridge", "url": f"http://127.0.0.1:{port}", "as_token": "as-token",
            "hs_token": token, "rate_limited": False, "sender_localpart": "heisenbridge",
            "namespaces": {"users": [{"regex": "@irc_.*", "exclusive": True}]},
        }))  # fmt: skip
        program = Program("heisenbridge", folder / "heisenbridge.log")
        script = Path(__file__).with_name("hasty_heisenbridge.py")
        await program.start(
            [
                str(python),
                "-P",
                str(script),
                "-c",
                str(registration),
                "-p",
                str(port),
                homeserver.url,
            ]
        )
        try:
            await wait_until_listening(program, port, 60)
            await _wait_until_said(program, "Init done", 60)
            yield Side(
                "heisenbridge", homeserver, port, token, _pid(program),
                wake=lambda one: said(
                    f"!network{one}", person_id(one), "CONNECT", f"$connect{one}"
                ),
                seats=CHANNELS, greets=False,
            )  # fmt: skip
        finally:
            await program.stop()


async def _install(folder: Path) -> Path:
    """Install heisenbridge into an environment of its own; give its Python."""
    place = folder / "environment"
    await asyncio.to_thread(venv.create, place, with_pip=True)
    python = place / "bin" / "python"
    process = await asyncio.create_subprocess_exec(
        str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", HEISENBRIDGE
    )
    if await process.wait():
        raise RuntimeError(f"{HEISENBRIDGE} could not be installed from the package index")
    return python


def _furnish(homeserver: BenchHomeserver, irc_port: int, people: int) -> None:
    """Put into the homeserver what heisenbridge keeps there: its networks and rooms."""
    server = {"address": "127.0.0.1", "port": irc_port, "tls": False}
    homeserver.account_data["irc",] = {
        "networks": {"bench": {"name": "bench", "servers": [server]}},
        "owner": ADMIN, "allow": {f"*:{SERVER}": "user"},
    }  # fmt: skip
    _room(homeserver, "!control", "ControlRoom", ADMIN, {})
    for number in range(people):
        user, network = person_id(number), f"!network{number}"
        has = {"name": "bench", "nick": f"heisen{number}", "connected": False}
        _room(homeserver, network, "NetworkRoom", user, has)
        if number < CHANNELS:
            channel = {"name": f"#heisenbridge{number}", "network_id": network,
                       "network": "bench", "member_sync": "half"}  # fmt: skip
            _room(homeserver, f"!heisenbridge{number}", "ChannelRoom", user, channel)


def _room(
    homeserver: BenchHomeserver, room: str, kind: str, user: str, has: dict[str, Any]
) -> None:
    homeserver.account_data[room, "irc"] = {"type": kind, "user_id": user, **has}
    homeserver.rooms[room] = {homeserver.bot, user}


async def _wait_until_said(program: Program, text: str, limit: float) -> None:
    async with asyncio.timeout(limit):
        while text not in program.last_words():
            if program.exit_code is not None:
                raise RuntimeError(f"{program.name} ended: {program.last_words(20)}")
            await asyncio.sleep(0.1)


def _pid(program: Program) -> int:
    assert program.pid is not None
    return program.pid
