"""Why a network is away, since when, and when it is tried again: the same wherever one looks."""

import re
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from bridge.core.oversight.statuslines import in_lines
from bridge.settings.records import Address, DatabaseSettings, WebSettings
from tests.flow.chats import Chat, answers, order
from tests.flow.networks import NEAR, irc_module
from tests.flow.rooms import bridge
from tests.rigs.irc_user import irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.people import sign_in
from tests.rigs.trestle import Town, make_modules, running, wait_until

SENTENCE = re.compile(r"\S.*; for \d+ s; (the next try is in \d+ (s|min)|it is being tried now)\b")


async def test_since_when_a_network_is_away_and_when_it_is_tried_again_is_said_everywhere(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice = await town.person("alice")
    async with AsyncExitStack() as server, aiohttp.ClientSession() as web:
        irc = await server.enter_async_context(run_ngircd())
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc)),
            web=WebSettings(listen=Address("127.0.0.1", 0), manager_url="http://m.example"),
        )  # fmt: skip
        async with running(settings) as app:
            room = await bridge(alice, "#away")
            async with irc_user(irc.port, "carl") as carl:
                await carl.join("#away")
                await alice.say(room, "hello")
                await carl.expect(":hello")
            chat, program = await Chat.begun_by(alice), await sign_in(app, web, alice.id)
            await server.aclose()
            sessions = app.parts.instances[NEAR].sessions
            assert [one.row.owner for one in sessions] == [None, alice.id]
            await wait_until(lambda: all("next try" in one.supervisor.trouble for one in sessions))
            await order(alice, room, "!trestle status", "; for ")
            said = [answers(alice, room)[-1]]
            await chat.say("near status")
            said.append(await chat.expect("You are not connected: "))
            (portal,) = (await program.ask("GET", "/portals"))["portals"]
            said.append(portal["reason"])
            lines = in_lines(await app.parts.status.look())
            said += [one for one in lines if one.startswith(("near: ", "  login "))]
            # In the status: of the network, and of each of its two logins.
            assert [bool(SENTENCE.search(one)) for one in said] == [True] * 6, said
