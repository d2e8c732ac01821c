"""The README's commands, typed as somebody new would, beside a Synapse that runs already."""

import asyncio
import re
import shlex
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from ruamel.yaml import YAML

from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.demo.processes import free_port
from bridge.demo.synapse import Synapse
from tests.admin.commands import Terminal, typed
from tests.deploy.conftest import Fresh, first_hour
from tests.rigs.irc_user import irc_user
from tests.rigs.miniircd import run_miniircd_at

MINUTES = 10
BOT = "@trestle:test.example"
IRC_PORT = 6667
"""The default of IRC without TLS: somebody new names no other."""

ANSWERS = (
    ("Server name (the part of your Matrix ids after the colon):", "test.example"),
    ("Your Matrix id", "@alice:test.example"),
    ("Which to switch on", "irc:near dice"),
    ("servers[0].host", "127.0.0.1"),
    ("servers[0].tls", "n"),
    ("own_network", "y"),
    ("contact", "admin@test.example"),
)


def answer(person: Terminal, url: str) -> str:
    """Answer what `trestle init` asks; give the lines that it prints for the homeserver."""
    person.wait_for("URL of the homeserver")
    person.type(f"{url}\n")
    for question, words in ANSWERS:
        person.wait_for(question)
        person.type(f"{words}\n")
    assert person.end() == 0, person.shown
    return person.shown.partition("homeserver.yaml:\n\n")[2].partition("\nRestart")[0]


@asynccontextmanager
async def ready(words: Sequence[str], folder: Path) -> AsyncIterator[None]:
    """Run Trestle in a terminal until the block ends, then press Ctrl-C."""
    with typed(words, folder) as terminal:
        await asyncio.to_thread(terminal.wait_for, "[ready]")
        yield
        assert await asyncio.to_thread(terminal.interrupt) in (0, 130), terminal.shown


async def claim(port: int) -> None:
    """Have the port for this process: a demo beside us would take it, too."""
    async with asyncio.timeout(PATIENCE):
        while free_port(port) != port:
            await asyncio.sleep(1)


@pytest.mark.timeout(900)
async def test_from_nothing_to_a_bridged_message_in_ten_minutes(
    fresh: Fresh, folder: Path
) -> None:
    lines = first_hour()
    assert len(lines) + 1 <= 6  # One more is said in the room.
    make, restart, run = lines[2:]
    await claim(IRC_PORT)
    before = Synapse(folder, server_name="test.example")
    await before.start()
    try:
        async with run_miniircd_at(IRC_PORT), aiohttp.ClientSession() as session:
            began = time.monotonic()
            with typed(shlex.split(make), fresh.folder) as person:
                printed = await asyncio.to_thread(answer, person, before.url)
            files = YAML(typ="safe").load(printed)["app_service_config_files"]
            assert re.fullmatch(r"systemctl restart [\w-]*synapse", restart)
            await before.stop()
            after = Synapse(
                folder, server_name="test.example", port=before.port,
                registrations=tuple(map(Path, files)),
            )  # fmt: skip
            await after.start()
            try:
                async with ready(shlex.split(run), fresh.folder):
                    await converse(await MatrixUser(session, after.url, "alice").register())
                    took = fresh.seconds + time.monotonic() - began
            finally:
                await after.kill()
    finally:
        await before.kill()
    assert took < MINUTES * 60
    assert sorted(one.name for one in fresh.folder.iterdir() if one.suffix == ".yaml") == [
        "config.yaml", "registration.yaml",
    ]  # fmt: skip


async def converse(alice: MatrixUser) -> None:
    """Bridge a room by the sixth command, and have a message cross each way."""
    room = await alice.create_room(preset="public_chat")
    await alice.invite(room, BOT)
    await alice.wait_until_joined(room, BOT)
    await alice.say(room, "!trestle bridge near #channel")
    await alice.wait_for_text(room, "This room is bridged to")
    async with irc_user(IRC_PORT, "carl") as carl:
        await carl.join("#channel")
        await alice.say(room, "hello from the first hour")
        await carl.expect("PRIVMSG #channel", "hello from the first hour")
        carl.say("PRIVMSG #channel :welcome")
        await alice.wait_for_text(room, "welcome")
