"""A network whose chats have aliases of the admin's choice, on a real homeserver."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import aiohttp

from bridge.demo.matrix_user import MatrixUser
from bridge.demo.synapse import Synapse
from bridge.matrix.registration import registration
from bridge.model import InstanceRules
from bridge.running.roster import namespaces_of
from bridge.settings.records import DatabaseSettings, Settings
from tests.flow.channels import wait_for_relay
from tests.flow.networks import NEAR, irc_module
from tests.flow.rooms import state
from tests.rigs.irc_user import irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import make_modules, make_settings, running
from tests.rigs.yaml import dump


@asynccontextmanager
async def homeserver_for(settings: Settings) -> AsyncIterator[Synapse]:
    """A homeserver that knows the registration of these settings."""
    folder = Path(tempfile.mkdtemp(prefix="trestle-hs-"))
    folder.chmod(0o711)
    file = folder / "registration.yaml"
    file.write_text(dump(registration(settings.appservice, namespaces_of(settings), ())))
    synapse = Synapse(folder, server_name="test.example", registrations=(file,))
    try:
        await synapse.start()
        yield synapse
    finally:
        await synapse.kill()
        shutil.rmtree(folder, ignore_errors=True)


async def test_an_alias_by_the_template_leads_into_its_channel_and_another_one_nowhere(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    rules = InstanceRules(alias_template="#irc_{network}_{chat}")
    async with run_ngircd() as irc:
        modules = make_modules(irc_module(irc), {NEAR: rules})
        settings = replace(
            make_settings(folder / "state", database=database_settings), modules=modules
        )
        async with homeserver_for(settings) as synapse, aiohttp.ClientSession() as session:
            homeserver = replace(settings.homeserver, url=synapse.url)
            async with (
                running(replace(settings, homeserver=homeserver)),
                irc_user(irc.port, "carl") as carl,
            ):
                alice = await MatrixUser(session, synapse.url, "alice").register()
                for channel in ("#a=3ab", "#ä{x}", "#hall"):
                    await carl.join(channel)
                    spelled = channel.replace("=3a", "=3d3a")
                    alias = f"#irc_near_{spelled}:test.example"
                    joined = await alice.call("POST", f"v3/join/{quote(alias)}", {})
                    room = str(joined["room_id"])
                    await wait_for_relay(carl, channel)
                    await alice.say(room, f"I am in {channel}")
                    await carl.expect(f"PRIVMSG {channel} :I am in {channel}")
                    shown = await state(alice, room, "m.room.canonical_alias")
                    assert shown["alias"] == alias
                for other in ("#irc_near_hall", "#irc_far_#hall"):
                    alias = quote(f"{other}:test.example")
                    status, _ = await alice.try_call("POST", f"v3/join/{alias}", {})
                    assert status == 404, other
                # As it is spelled without a template: the same channel, and so the same room.
                alias = quote("#_trestle_near_=23hall:test.example")
                assert (await alice.call("POST", f"v3/join/{alias}", {}))["room_id"] == room
