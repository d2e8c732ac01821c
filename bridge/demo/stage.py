"""``trestle demo``: everything on this machine, and a conversation that crosses."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from rich.console import Console

from bridge.config import load
from bridge.demo.irc_user import IrcUser, plain
from bridge.demo.matrix_user import MatrixUser
from bridge.demo.processes import Program, dies_with_us, free_port, wait_until_listening
from bridge.demo.synapse import Synapse
from bridge.init import draft, write_files
from bridge.sdk.errors import ConfigError
from bridge.settings.records import Settings

_CHANNEL = "#lobby"
_SERVER = "localhost"
_BOT = f"@trestle:{_SERVER}"
_PASSWORD = "demo"  # noqa: S105 - the demo's people are on the loopback only

_LINES = (
    ("alice", "Good morning from Matrix!", ""),
    ("carl", "Morning, and welcome to \x02IRC\x02", ""),
    ("bea", "Does bold cross?", "Does <b>bold</b> cross?"),
    ("dora", "It does, both ways", ""),
    ("alice", "And two lines\nin one message", ""),
    ("carl", "Each \x1dcrosses\x1d once, in order", ""),
)


@dataclass(slots=True)
class Street:
    """What runs: where, and who lives there."""

    console: Console
    folder: Path
    settings: Settings
    synapse: Synapse
    irc_port: int
    bridge: Program
    ops_port: int


async def play(*, check: bool = False) -> int:
    """Run the demo. With ``check`` end after the conversation: 0 if all of it crossed, else 1.

    Raises ``ConfigError`` with the last words of a program that does not start.
    """
    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    async with _street(console) as street, aiohttp.ClientSession() as session:
        alice = await MatrixUser(session, street.synapse.url, "alice").register(_PASSWORD)
        bea = await MatrixUser(session, street.synapse.url, "bea").register(_PASSWORD)
        room = await _bridge_a_room(street, alice, bea)
        async with (
            IrcUser("carl", street.irc_port) as carl,
            IrcUser("dora", street.irc_port) as dora,
        ):
            for user in (carl, dora):
                await user.join(_CHANNEL)
            crossed = await _converse(console, room, alice, bea, carl, dora)
            seconds = time.monotonic() - began
            if check:
                return _summary(console, crossed, seconds)
            _look_around(street, seconds)
            await _stay(street)
    return 0


@asynccontextmanager
async def _street(console: Console) -> AsyncIterator[Street]:
    """Start everything; end everything on the way out."""
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="trestle-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        homeserver = folder / "homeserver"
        homeserver.mkdir()

        console.print("[dim]1/4[/] an IRC server ...")
        irc_port = free_port(6667)
        irc = Program("the IRC server", folder / "irc.log")
        await irc.start(irc_command(irc_port))
        stack.push_async_callback(irc.stop)
        await wait_until_listening(irc, irc_port, 20)

        console.print("[dim]2/4[/] a homeserver (Synapse) ...")
        ops_port = free_port(9184)
        synapse = Synapse(
            homeserver,
            server_name=_SERVER,
            port=free_port(8008),
            registrations=(folder / "registration.yaml",),
        )
        options = {
            "appservice.listen": f"127.0.0.1:{free_port(29333)}",
            "ops.listen": f"127.0.0.1:{ops_port}",
            "state_dir": str(folder / "state"),
            "modules.irc.own_network": True,
            "modules.irc.servers": [{"host": "127.0.0.1", "port": irc_port, "tls": False}],
        }
        document, settings = draft(
            homeserver_url=synapse.url, server_name=_SERVER, modules=["irc", "dice"],
            changes=options, folder=folder,
        )  # fmt: skip
        config, _ = write_files(document, settings, folder, force=True)
        await synapse.start()
        stack.push_async_callback(synapse.stop)

        console.print("[dim]3/4[/] Trestle, with a Postgres of its own ...")
        bridge = Program("Trestle", folder / "trestle.log")
        await bridge.start(
            [sys.executable, "-m", "bridge", "run", "-c", str(config)],
            prepare=dies_with_us(signal.SIGTERM),
        )
        stack.push_async_callback(bridge.stop, limit=25)
        await wait_until_ready(bridge, ops_port)
        yield Street(console, folder, load(config), synapse, irc_port, bridge, ops_port)
        console.print("[dim]Stopping everything ...[/]")


def irc_command(port: int) -> list[str]:
    """How the IRC server is started. Raises ``ConfigError`` if it is not installed."""
    program = Path(sys.executable).with_name("miniircd")
    if not program.exists():
        raise ConfigError(
            "the demo's IRC server is not installed: pip install 'matrix-trestle[demo]'"
        )
    command = [sys.executable, str(program), "--listen", "127.0.0.1", "--ports", str(port)]
    # Run by root, it insists on a user. Another than root would not die with us.
    return [*command, "--setuid", "root"] if os.geteuid() == 0 else command


async def wait_until_ready(bridge: Program, port: int) -> None:
    """Return when Trestle takes events. Raises ``ConfigError`` if it ends before."""
    await wait_until_listening(bridge, port, 180)
    async with aiohttp.ClientSession() as session, asyncio.timeout(180):
        while True:
            if bridge.exit_code is not None:
                raise ConfigError(f"Trestle ended at once:\n{bridge.last_words()}")
            async with session.get(f"http://127.0.0.1:{port}/ready") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.1)


async def _bridge_a_room(street: Street, alice: MatrixUser, bea: MatrixUser) -> str:
    """Bridge a room the way people do."""
    street.console.print(f"[dim]4/4[/] a room, bridged to {_CHANNEL} by asking {_BOT} ...")
    room = await alice.create_room(preset="public_chat", name="Lobby")
    await bea.join(room)
    await alice.invite(room, _BOT)
    await alice.wait_until_joined(room, _BOT)
    await alice.say(room, f"!trestle bridge irc {_CHANNEL}")
    await alice.wait_for_text(room, "This room is bridged to")
    return room


async def _converse(
    console: Console, room: str, alice: MatrixUser, bea: MatrixUser, carl: IrcUser, dora: IrcUser
) -> list[bool]:
    """Say each line and look for it on the other side; give, for each, whether it crossed."""
    console.print(f"\n[bold]Matrix room  <->  {_CHANNEL}[/]\n")
    speakers: dict[str, MatrixUser | IrcUser] = {
        "alice": alice,
        "bea": bea,
        "carl": carl,
        "dora": dora,
    }
    crossed = []
    for name, text, html in _LINES:
        speaker = speakers[name]
        began = time.monotonic()
        try:
            if isinstance(speaker, MatrixUser):
                await speaker.say(room, text, html)
                listener = dora
                for part in text.split("\n"):
                    await listener.wait_for(part)
            else:
                await speaker.say(_CHANNEL, text)
                await alice.wait_for_text(room, plain(text))
        except TimeoutError:
            console.print(f"  [red]lost[/]  {name}: {text}")
            crossed.append(False)
            continue
        milliseconds = (time.monotonic() - began) * 1000
        arrow = "Matrix → IRC" if isinstance(speaker, MatrixUser) else "IRC → Matrix"
        shown = plain(text).replace("\n", " / ")
        console.print(
            f"  [green]{arrow}[/]  [bold]{name}[/]: {shown}  [dim]{milliseconds:.0f} ms[/]"
        )
        crossed.append(True)
    return crossed


def _summary(console: Console, crossed: list[bool], seconds: float) -> int:
    good = sum(crossed)
    colour = "green" if all(crossed) else "red"
    console.print(
        f"\n[{colour}]{good} of {len(crossed)} messages crossed[/], "
        f"{seconds:.0f} s from start to end"
    )
    return 0 if all(crossed) else 1


def _look_around(street: Street, seconds: float) -> None:
    street.console.print(
        f"\nUp in {seconds:.0f} s. Look around:\n\n"
        f"  Matrix    {street.synapse.url}  (any client; users alice, bea; password {_PASSWORD})\n"
        f"  IRC       /connect 127.0.0.1 {street.irc_port}   then   /join {_CHANNEL}\n"
        f"  bot       say !trestle help in the room, or invite @_trestle_dice:{_SERVER}\n"
        f"  metrics   http://127.0.0.1:{street.ops_port}/metrics\n"
        f"  logs      {street.folder}\n\n"
        "Ctrl-C ends all of it and leaves nothing behind."
    )


async def _stay(street: Street) -> None:
    """Wait for Ctrl-C, or say which program ended before it."""
    while True:
        await asyncio.sleep(1)
        for program in (street.bridge, street.synapse.program):
            if program.exit_code is not None:
                raise ConfigError(
                    f"{program.name} ended ({program.exit_code}):\n{program.last_words()}"
                )
