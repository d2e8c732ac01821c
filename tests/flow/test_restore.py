"""The worst night: the data is gone, a backup is there, and the room goes on."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from bridge.demo.matrix_user import MatrixUser
from bridge.demo.processes import free_port
from bridge.settings.records import DatabaseSettings
from bridge.storage.postgres import EmbeddedPostgres
from tests.admin.commands import Outcome, run_program
from tests.flow.networks import irc_module
from tests.flow.rooms import bridge
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
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
    file = folder / "night.trestle"
    async with run_ngircd() as irc, old_server(folder / "server") as (server, url):
        modules = make_modules(irc_module(irc))
        settings = town.settings_for(folder, DatabaseSettings(url=url), modules=modules)
        program = TrestleProgram(settings, folder, {})
        try:
            await program.start()
            alice = await town.person("alice")
            room = await bridge(alice, "#night")
            async with someone_in(irc) as carl:
                await talk(alice, room, carl, "before")
                assert "Postgres 16" in (await command(program, "backup", file)).output
                await talk(alice, room, carl, "since")
            await program.kill()
            shutil.rmtree(settings.state_dir)
            await server.stop()
            program.config.write_text(program.config.read_text().replace(url, "embedded"))
            assert "generation 2" in (await command(program, "restore", file)).output
            async with someone_in(irc) as carl:
                await program.start()
                await talk(alice, room, carl, "restored")
                # What came after the backup lies in the room, but had crossed before.
                assert "[after_restore]" in program.log_text()
                assert not any("since to IRC" in line for line in carl.heard)
            await refuses_while_it_runs(program, file)
            await program.program.stop(limit=25)
            for target in (database_settings.url, "embedded"):
                await command(program, "database", "move", "--to", target)
                async with someone_in(irc) as carl:
                    await program.start()
                    await talk(alice, room, carl, f"moved {target[:8]}")
                    assert sum(" to IRC" in line for line in carl.heard) == 1
                await program.program.stop(limit=25)
            held = [e["content"].get("body", "") for e in await alice.messages(room, 2000)]
        finally:
            await program.program.stop(limit=25)
    to_matrix = [text for text in held if text.endswith("to Matrix")]
    assert len(to_matrix) == len(set(to_matrix)) == 5


async def refuses_while_it_runs(program: TrestleProgram, file: Path) -> None:
    """A backup can be taken again, and no restore is begun."""
    await command(program, "backup", "--force", file)
    refused = await asyncio.to_thread(
        run_program, "restore", file, "--force", "-c", program.config
    )
    assert "another Trestle is at work" in refused.errors


@asynccontextmanager
async def old_server(folder: Path) -> AsyncIterator[tuple[EmbeddedPostgres, str]]:
    """A server of an older major version, and the URL of a database of a plain login's."""
    server = EmbeddedPostgres(folder, major=OLD)
    server.settings |= {"port": str(free_port())}
    try:
        await server.start()
        place = f"?host={server.socket_dir}&port={server.settings['port']}"
        yield (
            server,
            await plain_login(f"postgresql://postgres:{server.password}@/postgres{place}", place),
        )
    finally:
        await server.stop()


@asynccontextmanager
async def someone_in(irc: IrcServer) -> AsyncIterator[IrcUser]:
    """Carl, in the channel. Who reads nothing for long is thrown out: so not for all of it."""
    async with irc_user(irc.port, "carl") as carl:
        await carl.join("#night")
        yield carl
        await carl.quit()


async def plain_login(admin_url: str, place: str) -> str:
    """A database of a login that may make roles and nothing more; give its URL."""
    admin = await asyncpg.connect(admin_url)
    try:
        await admin.execute("CREATE ROLE bridger LOGIN CREATEROLE PASSWORD 'made-up'")
        await admin.execute("CREATE DATABASE bridger OWNER bridger")
    finally:
        await admin.close()
    return f"postgresql://bridger:made-up@/bridger{place}"
