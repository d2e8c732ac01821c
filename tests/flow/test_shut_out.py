"""A relay that is out of its channel for good: the room hears of it, and gets it back."""

from pathlib import Path

import pytest

from bridge.demo.matrix_user import MatrixUser
from bridge.sdk.ids import InstanceId
from bridge.settings.records import DatabaseSettings, Settings
from tests.flow.chats import order
from tests.flow.networks import Modules, Run, irc_module, on_each_server
from tests.flow.rooms import bridge
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.trestle import Town, make_modules, running, wait_until

NEAR = InstanceId("near")
BANNED = "we are banned from it (the server: Cannot join"
OUT, BACK = "I am out of #door on near", "I am in #door on near again"


@pytest.fixture
def modules(irc: IrcServer) -> Modules:
    return irc_module(irc, rejoin_seconds=0.1)


async def tell_of(person: MatrixUser, room: str, text: str, number: int) -> None:
    """Wait until something was said in the room so often, and no more often."""

    def said() -> int:
        return sum(text in str(one["content"].get("body")) for one in person.heard(room))

    await person.wait_until(lambda: said() >= number)
    assert said() == number


async def kick(carl: IrcUser, modes: str) -> None:
    """Have the relay out, and not let in again."""
    carl.say(f"MODE #door {modes}", "KICK #door trestle :go")
    await carl.expect("KICK #door trestle")


async def test_a_room_whose_relay_is_out_for_good_hears_of_it_and_gets_it_back_by_a_wish(
    settings: Settings, carl: IrcUser, alice: MatrixUser
) -> None:
    await carl.join("#door")
    async with running(settings):
        room = await bridge(alice, "#door")
        await alice.say(room, "first")
        await carl.expect("PRIVMSG #door :first")
        await kick(carl, "+b trestle!*@*")
        await tell_of(alice, room, OUT, 1)
        await order(alice, room, "!trestle status", BANNED)
        await alice.say(room, "!trestle bridge near #door")
        await alice.wait_for_text(room, "I could not do that: #door cannot be joined")
        carl.say("MODE #door -b trestle!*@*")
        await carl.expect("MODE #door -b")
        await alice.say(room, "!trestle bridge near #door")
        await tell_of(alice, room, BACK, 1)
        carl.say("PRIVMSG #door :hear me")
        await alice.wait_for_text(room, "hear me")

        # A key that is set while it is there it would learn.
        await kick(carl, "+b trestle!*@*")
        await tell_of(alice, room, OUT, 2)
        carl.say("MODE #door +k secret", "MODE #door -b trestle!*@*")
        await carl.expect("MODE #door -b")
        await alice.say(room, "!trestle sync")
        await alice.wait_for_text(room, "it needs a key")
        carl.say("MODE #door -k secret")
        await carl.expect("MODE #door -k")
        await alice.say(room, "!trestle sync")
        await tell_of(alice, room, BACK, 2)

        await kick(carl, "+i")
        await tell_of(alice, room, OUT, 3)
        for word in ("pause", "resume"):
            await alice.say(room, f"!trestle {word}")
        await alice.wait_for_text(room, "But I am not there yet: #door cannot be joined")
        carl.say("INVITE trestle #door")
        await tell_of(alice, room, BACK, 3)


@on_each_server
async def test_an_operators_invitation_brings_in_a_relay_that_a_restart_kept_out(
    town: Town, folder: Path, database_settings: DatabaseSettings, run: Run
) -> None:
    async with run() as irc, irc_user(irc.port, "carl") as carl:
        alice = await town.person("alice")
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc))
        )
        await carl.join("#door")
        async with running(settings):
            room = await bridge(alice, "#door")
        carl.say("MODE #door +i")
        await carl.expect("MODE #door", "+i")
        async with running(settings):
            await tell_of(alice, room, OUT, 1)
            carl.say("INVITE trestle #door")
            await tell_of(alice, room, BACK, 1)
            carl.say("PRIVMSG #door :there you are")
            await alice.wait_for_text(room, "there you are")
        assert not any("somebody in Matrix has to say" in one for one in carl.heard)


async def test_a_restart_neither_tells_a_room_anew_that_its_relay_is_out_nor_forgets_it(
    settings: Settings, carl: IrcUser, alice: MatrixUser
) -> None:
    await carl.join("#door")
    async with running(settings):
        room = await bridge(alice, "#door")
        await kick(carl, "+b trestle!*@*")
        await tell_of(alice, room, OUT, 1)
    async with running(settings) as app:
        await wait_until(lambda: bool(app.parts.instances[NEAR].trouble))
        await order(alice, room, "!trestle status", BANNED)
        await tell_of(alice, room, OUT, 1)
    carl.say("MODE #door -b trestle!*@*")
    await carl.expect("MODE #door -b")
    async with running(settings):
        await tell_of(alice, room, BACK, 1)
    await tell_of(alice, room, OUT, 1)
