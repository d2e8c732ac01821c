"""A channel of others is bridged when its operators agree, and for as long as they like."""

from datetime import timedelta
from pathlib import Path

import pytest

from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.settings.records import Address, DatabaseSettings, Settings, WebSettings
from tests.flow.channels import read_texts, tell
from tests.flow.networks import NEAR, Modules, connected, irc_module, one_after_another
from tests.flow.records import acts
from tests.flow.rooms import BOT, enter, ghost
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.trestle import Town, make_modules, running, wait_until

pytestmark = one_after_another
RULES = "The rules, and whom to turn to: https://public.example/bridged"


@pytest.fixture
def modules(irc: IrcServer) -> Modules:
    """The channels of a network that is others'."""
    return irc_module(irc, own_network=False, contact="admin@test.example")


@pytest.fixture
def settings(
    town: Town, folder: Path, database_settings: DatabaseSettings, modules: Modules
) -> Settings:
    """A bridge with a public page."""
    web = WebSettings(
        public_listen=Address("127.0.0.1", 0), public_url="https://public.example", policy="Kind."
    )
    return town.settings_for(folder, database_settings, modules=make_modules(modules), web=web)


async def ask(person: MatrixUser, room: str, channel: str, answer: str = "") -> None:
    """Say that the channel should be bridged, and hear that its operators were asked."""
    await person.say(room, f"!trestle bridge near {channel}")
    asked = f"{channel} on near belongs to those who run it. I have asked those who are there"
    await person.wait_for_text(room, answer or asked)


async def test_an_operators_yes_bridges_the_channel_and_nobody_elses_does(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    room = await enter(alice, name="Hall")
    await bea.join(room)
    async with irc_user(irc.port, "olga") as olga, irc_user(irc.port, "carl") as carl:
        await olga.join("#hall")
        await carl.join("#hall")
        await bea.say(room, "!trestle bridge near #hall")
        await alice.wait_for_text(room, "you need the power")
        await ask(alice, room, "#hall")
        question = await olga.expect("PRIVMSG olga", f"{alice.id} asks to bridge #hall")
        assert "the room Hall on Matrix, a chat network" in question
        await olga.expect("/msg trestle yes #hall", "/msg trestle no #hall")
        await olga.expect("/msg trestle status, leave, block", "Contact: admin@test.example.")
        await ask(alice, room, "#hall", "were asked already, and have until")

        await tell(carl, "yes #hall", "the server does not say that you are an operator of #hall")
        await tell(olga, "yes #hole", "the server does not say that you are an operator of #hole")
        assert not app.parts.portals.in_room(room)  # type: ignore[arg-type]
        await tell(olga, "yes #hall", "#hall is bridged to Hall now.")
        await alice.wait_for_text(room, "bridged to #hall on near: olga, who runs it, agreed.")
        told = await carl.expect(
            "NOTICE #hall", f"the Matrix room Hall now: {alice.id} asked for it"
        )
        assert "can end it at any time: /msg trestle help says how." in told
        await tell(olga, "yes #hall", "nobody asks to bridge #hall just now")
        await alice.say(room, "good morning")
        assert await read_texts(carl, 1) == [(alice.id[1:].partition(":")[0], "good morning")]

    olgas = ghost("olga")
    assert [(act.action, act.actor, act.subject) for act in await acts(app)] == [
        ("ask", alice.id, alice.id), ("agree", olgas, alice.id), ("bridge", alice.id, alice.id),
    ]  # fmt: skip


async def test_a_no_and_silence_leave_the_channel_alone_and_in_peace(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    room = await enter(alice, name="Den")
    database, consents = app.parts.database, app.parts.consents
    async with irc_user(irc.port, "olga") as olga:
        await ask(alice, room, "#nobody", "no operator of #nobody is to be seen from outside")
        await olga.join("#den")
        await olga.join("#nook")
        await ask(alice, room, "#den")
        await tell(olga, "no #den", "#den is not bridged, and you are not asked again for a day")
        await alice.wait_for_text(room, "not bridged: olga, who runs it, does not want it.")
        await ask(alice, room, "#den", "those who run #den do not want it; they are not asked")
        await ask(alice, room, "#nook")
        assert await consents.look()
        past = database.clock.now() - timedelta(seconds=1)
        await database.core.execute(
            "UPDATE consent SET answer_by = $1 WHERE state = 'asked'", past
        )
        assert not await consents.look()
        await alice.wait_for_text(room, "#nook on near is not bridged: nobody who runs it has")
        await tell(olga, "yes #nook", "nobody asks to bridge #nook just now")
        await ask(alice, room, "#nook", "those who run #nook did not answer")
    assert not app.parts.portals.all


async def test_an_operator_who_is_invisible_from_outside_learns_what_to_do(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    room = await enter(alice, name="Mist")
    async with irc_user(irc.port, "olga") as olga:
        await olga.join("#mist")
        olga.say("MODE olga +i")  # Many networks, and some clients, set it for everybody.
        await olga.sync()
        await ask(alice, room, "#mist", "or they are invisible (user mode +i")
        await tell(olga, "yes #mist", "(+i): show it for a moment, and say /mode olga -i")
        olga.say("MODE olga -i")
        await olga.sync()
        await ask(alice, room, "#mist")
        await tell(olga, "yes #mist", "#mist is bridged to Mist now.")
        olga.say("MODE olga +i")  # In the channel the relay sees who has the sign.
        await tell(olga, "status #mist", "#mist is bridged to the Matrix room Mist, 1 person in")
        await olga.expect("NOTICE", RULES)


async def test_what_was_asked_is_not_forgotten_by_a_restart_and_power_that_was_lost_counts(
    town: Town, irc: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    room, taken = await enter_later(alice, "Kept"), await enter_later(alice, "Taken", "11")
    modules = make_modules(irc_module(irc, own_network=False, nick="later"))
    settings = town.settings_for(folder, database_settings, modules=modules)
    async with irc_user(irc.port, "olga") as olga:
        await olga.join("#kept")
        await olga.join("#taken")
        async with running(settings):
            for place, channel in ((room, "#kept"), (taken, "#taken")):
                await alice.wait_until_joined(place, BOT)
                await ask(alice, place, channel)
        await alice.set_state(
            taken, "m.room.power_levels", {"users": {bea.id: 100, alice.id: 0, BOT: 0}}
        )
        async with running(settings) as app:
            await wait_until(lambda: app.parts.introduced)
            await connected(app.parts.instances[NEAR])
            olga.say("PRIVMSG later :yes #taken")
            await olga.expect("NOTICE", "may not bridge that room any more")
            olga.say("PRIVMSG later :yes #kept")
            await olga.expect("NOTICE", "#kept is bridged to Kept now.")


async def enter_later(person: MatrixUser, name: str, version: str = "12") -> str:
    """A room to which the bot is invited, whenever it is there."""
    return await person.create_room(
        preset="public_chat", name=name, invite=[BOT], room_version=version
    )


async def test_an_operator_sees_limits_and_ends_the_bridge_and_both_sides_are_told(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    room = await enter(alice, name="Square")
    await bea.join(room)
    nick = bea.id[1:].partition(":")[0]
    async with irc_user(irc.port, "olga") as olga, irc_user(irc.port, "carl") as carl:
        await olga.join("#square")
        await carl.join("#square")
        await ask(alice, room, "#square")
        await tell(olga, "yes #square", f"is bridged to Square now. {RULES}")
        await bea.say(room, "hello")
        await carl.expect("PRIVMSG #square", "hello")
        await alice.set_state(room, "m.room.power_levels", {"users": {bea.id: 50, BOT: 100}})
        carl.say(f"WHOIS {nick}")
        await carl.expect(" 311 ", f":{bea.id} (Trestle, a bridge to Matrix; contact: admin@")
        carl.say(f"PRIVMSG {nick} :\x01VERSION\x01")
        await carl.expect("VERSION Trestle, a bridge to Matrix, for", bea.id, "admin@test")
        carl.say(f"PRIVMSG {nick} :\x01CLIENTINFO\x01")
        await carl.expect("CLIENTINFO ACTION CLIENTINFO PING TIME VERSION")

        await tell(carl, "help", "Say /msg trestle and one of these. Contact: admin@test.example.")
        await carl.expect("NOTICE carl :leave: the bridge ends")
        await carl.expect("NOTICE carl :no #channel: ")
        await tell(
            carl, "leave", "operator of no bridged channel just now; say it once more with the"
        )
        await tell(olga, "status", f"the Matrix room Square, 2 people in it; {alice.id} asked")
        await tell(olga, "block nobody", "nobody from Matrix is called nobody here")
        for _ in range(2):  # The second time it is so already, and the channel hears nothing.
            await tell(olga, f"block {nick}", f"{bea.id} is blocked in #square")
        await carl.expect("PART #square", "is blocked in this channel")
        await carl.expect("NOTICE #square", f"Nothing of {bea.id} is carried into this channel")
        await alice.wait_for_text(room, f"takes nothing of {bea.id} any more: olga, who runs it")
        await bea.say(room, "am I heard?")
        await bea.say(room, "and now?")
        no = f"stays in Matrix: those who run #square take nothing of {bea.id}, until they unblock"
        await bea.wait_for_text(room, no)
        await bea.say(room, "!trestle near topic past the block")
        await bea.wait_for_text(room, f"those who run #square take nothing of {bea.id}.")
        await tell(olga, "status", f"Blocked: {bea.id}.")
        await tell(olga, f"unblock {nick}", f"{bea.id} is no longer blocked")
        await tell(olga, "block test.example", "test.example is blocked in #square")
        await alice.say(room, "and I?")
        await alice.wait_for_text(room, f"those who run #square take nothing of {alice.id}")
        assert sum(no in str(event["content"]["body"]) for event in bea.heard(room)) == 1
        assert await app.parts.items.count_parked() == {}
        await tell(olga, "unblock test.example #square", "test.example is no longer blocked")
        await bea.say(room, "back again")
        await carl.expect("PRIVMSG #square", "back again")
        assert sum(f"Nothing of {bea.id} is carried" in one for one in carl.heard) == 1

        await tell(olga, "leave", "#square is no longer bridged")
        await carl.expect("NOTICE #square", "no longer bridged to Matrix, as olga wishes")
        await alice.wait_for_text(room, "is no longer bridged here: olga, who runs it, ended it.")
        await wait_until(lambda: not app.parts.portals.all)
        await ask(alice, room, "#square", "those who run #square do not want it")
