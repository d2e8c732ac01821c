"""A channel whose operator ended its bridge is left in peace, also where nobody is asked."""

from datetime import timedelta
from pathlib import Path

import pytest

from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.model import Permission
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.flow.channels import tell
from tests.flow.networks import irc_module
from tests.flow.rooms import bridge
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, running, wait_until

NO = "those who run #peace have said no: it is not bridged before"
HOW = "unless an admin of this bridge says so in a room: !trestle bridge near #peace"
ALIAS = "#_trestle_near_=23peace:test.example"


async def check_that_nobody_brings_it_back(app: App, alice: MatrixUser, room: str) -> None:
    """Neither by the bot, nor by the alias, nor by looking for it."""
    said = len(alice.heard(room))
    await alice.say(room, "!trestle bridge near #peace")
    await alice.say(room, "!trestle near join #peace")
    await alice.wait_until(
        lambda: sum(NO in str(e["content"]["body"]) for e in alice.heard(room)[said:]) == 2
    )
    assert all(
        HOW in str(event["content"]["body"]) for event in alice.heard(room)[said:]
        if NO in str(event["content"]["body"])
    )  # fmt: skip
    status, _ = await alice.try_call("POST", f"v3/join/{ALIAS.replace('#', '%23')}", {})
    assert status == 404
    near = app.parts.instances[InstanceId("near")]
    chat = await app.parts.plumbing.read_chat(near, "#peace")
    assert not await app.parts.plumbing.may_open(near, chat)
    assert not app.parts.portals.all


async def check_that_the_settings_do_not_either(app: App, admin: MatrixUser, room: str) -> None:
    """Though an admin answers for what they declare."""
    near = app.parts.instances[InstanceId("near")]
    with pytest.raises(PermanentFailure, match=NO):
        await app.parts.plumbing.bridge(near, "#peace", RoomId(room), UserId(admin.id))


async def check_that_the_relay_stayed_out(olga: IrcUser) -> None:
    await olga.sync()
    ended = max(number for number, line in enumerate(olga.heard) if " PART #peace" in line)
    assert not any(" JOIN " in line for line in olga.heard[ended:])


async def test_on_a_network_of_ones_own_an_operators_end_holds_for_a_day_unless_an_admin_lifts_it(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice, root = await town.person("alice"), await town.person("root")
    async with run_ngircd() as irc, irc_user(irc.port, "olga") as olga:
        await olga.join("#peace")
        settings = town.settings_for(
            folder,
            database_settings,
            modules=make_modules(irc_module(irc)),
            permissions={root.id: Permission.ADMIN},
        )
        async with running(settings) as app:
            room = await bridge(alice, "#peace")
            await tell(
                olga, "leave", "#peace is no longer bridged, and for a day nobody but an admin of "
                "this bridge has it bridged again.",
            )  # fmt: skip
            await wait_until(lambda: not app.parts.portals.all)
            await check_that_nobody_brings_it_back(app, alice, room)
            await check_that_the_settings_do_not_either(app, root, room)
        async with running(settings) as app:
            await wait_until(lambda: app.parts.introduced)
            await check_that_nobody_brings_it_back(app, alice, room)
            await check_that_the_relay_stayed_out(olga)
            # An admin, who is told nothing that they would have to ask for elsewhere.
            await bridge(root, "#peace")
            await tell(olga, "leave", "#peace is no longer bridged")
            await wait_until(lambda: not app.parts.portals.all)
            database = app.parts.database
            await database.core.execute(
                "UPDATE consent SET until = $1", database.clock.now() - timedelta(seconds=1)
            )
            await bridge(alice, "#peace")
