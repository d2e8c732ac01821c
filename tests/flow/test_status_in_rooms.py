"""What ``status`` says in a bridged room whose network is away."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from bridge.demo.matrix_user import PATIENCE
from bridge.settings.records import DatabaseSettings
from tests.flow.chats import answer
from tests.flow.networks import irc_module
from tests.flow.rooms import enter
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, running


async def test_a_room_reads_why_its_network_is_away(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with AsyncExitStack() as server:
        irc = await server.enter_async_context(run_ngircd())
        modules = make_modules(irc_module(irc))
        async with running(town.settings_for(folder, database_settings, modules=modules)):
            alice = await town.person("alice")
            room = await enter(alice, room_version="11")
            assert "bridged to #gone" in await answer(alice, room, "bridge near #gone")
            assert "#gone on near: running." in await answer(alice, room, "status")
            await server.aclose()
            why = f"reconnecting (127.0.0.1:{irc.port} cannot be reached: Connection refused; for "
            async with asyncio.timeout(PATIENCE):
                while f"#gone on near: {why}" not in await answer(alice, room, "status"):
                    pass
