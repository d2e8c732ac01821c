"""The worst night: the data is gone, a backup is there, and the room goes on."""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncpg

from bridge.demo.matrix_user import MatrixUser
from bridge.demo.processes import free_port
from bridge.settings import DatabaseSettings
from bridge.storage.postgres import EmbeddedPostgres
from tests.admin.commands import Outcome, run_program
from tests.flow.test_conversation import bridge, irc_module
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.program import TrestleProgram
from tests.rigs.trestle import Town, make_modules

OLD = "16"


async def command(program: TrestleProgram, *words: object) -> Outcome:
    """Run a command of the command line with the program's config."""
    done = await asyncio.to_thread(run_program, *words, "-c", program.config)
    assert done.code == 0, done.said
    return done


async def talk(alice: MatrixUser, room: str, carl: IrcUser, words: str) -> None:
    """A line crosses in both directions, once."""
    await alice.say(room, f"{words} to IRC")
    await carl.expect("PRIVMSG #night", f"{words} to IRC")
    carl.say(f"PRIVMSG #night :{words} to Matrix")
    await alice.wait_for_text(room, f"{words} to Matrix")


async def test_the_room_goes_on_after_the_data_is_gone_and_through_every_move(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    """Backed up on a server of an older major version, restored into the embedded one."""
    server = EmbeddedPostgres(folder / "server", major=OLD)
    server.settings |= {"port": str(free_port())}
    async with run_ngircd() as irc:
        settings = town.settings_for(
            folder, DatabaseSettings(), modules=make_modules(irc_module(irc))
        )
        try:
            await server.start()
            place = f"?host={server.socket_dir}&port={server.settings['port']}"
            admin = f"postgresql://postgres:{server.password}@/"
            url = await plain_login(f"{admin}postgres{place}", place)
            program = TrestleProgram(
                replace(settings, database=DatabaseSettings(url=url)), folder, {}
            )
            await program.start()
            alice = await town.person("alice")
            room = await bridge(alice, "#night")
            async with (
                irc_user(irc.port, "carl") as carl,
                irc_user(irc.port, "watcher") as watcher,
            ):
                await carl.join("#night")
                await watcher.join("#night")
                await talk(alice, room, carl, "before")
                wrote = await command(program, "backup", folder / "night.trestle")
                assert "Postgres 16" in wrote.output
                await talk(alice, room, carl, "since")
                await program.kill()
                shutil.rmtree(settings.state_dir)
                await server.stop()
                text = program.config.read_text()
                program.config.write_text(text.replace(url, "embedded"))
                restored = await command(program, "restore", folder / "night.trestle")
                assert "This is generation 2" in restored.output
                await program.start()
                await talk(alice, room, carl, "restored")
                # What came after the backup is found in the room, and is as new to this state as
                # what the homeserver lost: it crosses once more.
                first = await said_until(watcher, lambda said: said.count("since") == 2)
                assert sorted(first) == ["before", "restored", "since", "since"]
                refused = await asyncio.to_thread(
                    run_program, "restore", folder / "night.trestle", "--force", "-c",
                    program.config,
                )  # fmt: skip
                assert "another Trestle is at work" in refused.errors
                await program.program.stop(limit=25)
                for target in (database_settings.url, "embedded"):
                    await command(program, "database", "move", "--to", target)
                    await program.start()
                    await talk(alice, room, carl, f"moved {target[:8]}")
                    await program.program.stop(limit=25)
                said = await said_until(watcher, lambda said: len(said) == 2)
                held = [e["content"].get("body", "") for e in await alice.messages(room, 2000)]
        finally:
            await program.program.stop(limit=25)
            await server.stop()
    assert said == ["moved postgres", "moved embedded"]
    to_matrix = [text for text in held if text.endswith("to Matrix")]
    assert len(to_matrix) == len(set(to_matrix)) == 5


async def said_until(watcher: IrcUser, enough: Callable[[list[str]], bool]) -> list[str]:
    """What comes from Matrix, until it is enough."""
    said: list[str] = []
    async with asyncio.timeout(60):
        while not enough(said):
            line = await watcher.read()
            if "PRIVMSG #night" in line and line.endswith(" to IRC"):
                said.append(line.partition(" :")[2].removesuffix(" to IRC"))
    return said


async def plain_login(admin_url: str, place: str) -> str:
    """A database of a login that may make roles and nothing more; give its URL."""
    admin = await asyncpg.connect(admin_url)
    try:
        await admin.execute("CREATE ROLE bridger LOGIN CREATEROLE PASSWORD 'made-up'")
        await admin.execute("CREATE DATABASE bridger OWNER bridger")
    finally:
        await admin.close()
    return f"postgresql://bridger:made-up@/bridger{place}"
