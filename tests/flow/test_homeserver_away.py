"""While the homeserver is away, what is said on the network is stored; the rest is made good."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from bridge.app import App
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.model import Follow
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import RemoteChatId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, play
from tests.flow.channels import nick_of
from tests.flow.networks import NEAR, irc_module
from tests.flow.rooms import BOT, bridge, ghost, invitation, joined, state
from tests.rigs.breaking_wire import BreakingWire, breaking_wire
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scale import chance
from tests.rigs.scripted_homeserver import (
    SERVER,
    Answer,
    Asked,
    ScriptedHomeserver,
    refuse,
)
from tests.rigs.trestle import Town, make_modules, running, wait_until

LINES = 50


def through(irc: IrcServer, wire: BreakingWire) -> dict[str, tuple[str, dict[str, object]]]:
    """The network behind a wire; who reconnects is there at once."""
    module = irc_module(irc, mode="relay")
    module["near"][1]["servers"] = [{"host": "127.0.0.1", "port": wire.port, "tls": False}]
    return module


def stored(app: App, room: str) -> Callable[[int], bool]:
    """Whether so much of the chat lies in the outbox for its room."""
    return lambda number: app.parts.sender.holding().get(RoomId(room), 0) >= number


async def talk(carl: IrcUser, channel: str, said: list[str], what: str) -> None:
    """Say much, and see that the relay has read it all: it answers."""
    texts = [f"{what} {number}" for number in range(LINES)]
    carl.say(*(f"PRIVMSG {channel} :{text}" for text in texts))
    said += texts
    await carl.wait_for_answer_of("trestle")


async def room_of(app: App, alice: MatrixUser, channel: str) -> str:
    """The room that is made for a channel by its alias: it follows all of that."""
    parts = app.parts
    # Else it is not known yet that there is such a channel.
    await wait_until(lambda: parts.introduced and parts.instances[NEAR].is_connected)
    alias = parts.namespaces.alias(NEAR, RemoteChatId(channel))
    return str((await alice.call("POST", f"v3/join/{quote(alias)}", {}))["room_id"])


async def said_by(alice: MatrixUser, room: str, nick: str) -> list[str]:
    """All that a ghost has said, in order, as the homeserver has it."""
    return [
        one["content"]["body"] for one in await alice.messages(room)
        if one["type"] == "m.room.message" and one["sender"] == ghost(nick)
    ]  # fmt: skip


async def test_what_is_said_while_the_homeserver_is_away_is_stored_and_all_is_made_good_after_it(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    channel, said = "#far", list[str]()
    async with (
        run_ngircd() as irc,
        breaking_wire(town.synapse.port, chance("homeserver")) as to_homeserver,
        breaking_wire(irc.port, chance("irc")) as to_irc,
        irc_user(irc.port, "carl") as carl,
        irc_user(irc.port, "dora") as dora,
        irc_user(irc.port, "eve") as eve,
    ):
        url = f"http://127.0.0.1:{to_homeserver.port}"
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(through(irc, to_irc)),
            homeserver=replace(town.settings.homeserver, url=url),
        )  # fmt: skip
        alice = await town.person("alice")
        for one in (carl, dora):
            await one.join(channel)
        async with running(settings) as app:
            room = await room_of(app, alice, channel)
            await alice.wait_until(lambda: joined(alice, room) == {"carl", "dora"})
            to_homeserver.cut()
            carl.say(f"TOPIC {channel} :second", f"MODE {channel} +v dora")
            await eve.join(channel)
            await talk(carl, channel, said, "later")
            await wait_until(lambda: stored(app, room)(LINES))
            # Without it the relay comes back, too.
            to_irc.cut()
            await carl.expect("QUIT", "trestle")
            to_irc.mend()
            await carl.expect("JOIN", channel)
            await dora.quit("enough")
            await talk(carl, channel, said, "back")
            await wait_until(lambda: stored(app, room)(2 * LINES))
        async with running(settings) as app:
            await carl.expect("JOIN", channel)
            carl.say(f"MODE {channel} +o eve", f"TOPIC {channel} :third")
            await talk(carl, channel, said, "anew")
            await wait_until(lambda: stored(app, room)(3 * LINES))
            eve.say("NICK evelyn")
            await carl.expect("NICK", "evelyn")
            to_homeserver.mend()
            await alice.wait_until(lambda: joined(alice, room) == {"carl", "evelyn"})
            await alice.wait_for_text(room, said[-1])
            assert await said_by(alice, room, "carl") == said
            await _is_as_the_channel(alice, room)


async def _is_as_the_channel(alice: MatrixUser, room: str) -> None:
    """Topic and powers."""
    wanted = {ghost("carl"): 50, ghost("evelyn"): 50}

    async def found() -> tuple[object, dict[str, int]]:
        users = (await state(alice, room, "m.room.power_levels"))["users"]
        near = {user: level for user, level in users.items() if level and "_near_" in user}
        return (await state(alice, room, "m.room.topic")).get("topic"), near

    async with asyncio.timeout(PATIENCE):
        while await found() != ("third", wanted):
            await alice.sync()


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_room_that_always_fails_holds_up_neither_what_is_said_there_nor_another(
    folder: Path, database_settings: DatabaseSettings, hangs: bool
) -> None:
    bad, good = RoomId(f"!bad:{SERVER}"), RoomId(f"!good:{SERVER}")
    mended = asyncio.Event()

    def is_broken(asked: Asked) -> bool:
        is_bad = asked.method == "GET" and asked.parts[:2] == ("rooms", bad)
        # What was said before is asked for as it is bridged.
        return is_bad and "messages" not in asked.parts and not mended.is_set()

    def hold(asked: Asked) -> asyncio.Event | None:
        return mended if hangs and is_broken(asked) else None

    def answer(asked: Asked) -> Answer | None:
        if is_broken(asked) and not hangs:
            return refuse(500, "M_UNKNOWN")
        is_levels = asked.method == "GET" and "m.room.power_levels" in asked.parts
        return Answer(content={"users": {BOT: 100}}) if is_levels else None

    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        for name in ("#bad", "#good"):
            await carl.join(name)
        modules = irc_module(irc, mode="relay")
        async with play(database_settings, folder, modules=modules) as stage:
            homeserver, parts = stage.homeserver, stage.app.parts
            homeserver.rules.append(answer)
            homeserver.hold = hold
            near = parts.instances[NEAR]
            await wait_until(lambda: near.is_connected)
            for room, name in ((bad, "#bad"), (good, "#good")):
                chat = RemoteChat(id=RemoteChatId(name), name=name)
                async with parts.portals.expecting(NEAR, chat.id):
                    await near.join(chat)
                    await parts.portals.add(
                        instance=NEAR, chat=chat, room=room, created_by=UserId(ALICE)
                    )
            for door in parts.portals.all:
                assert door.portal.follow is Follow.TOPIC
            texts = [f"line {number}" for number in range(LINES)]
            for name in ("#bad", "#good"):
                carl.say(f"TOPIC {name} :of {name}", f"MODE {name} +m")
                carl.say(*(f"PRIVMSG {name} :{text}" for text in texts))
            await carl.wait_for_answer_of("trestle")
            await wait_until(lambda: stored(stage.app, bad)(LINES))
            await homeserver.wait_until(lambda: homeserver.texts(good) == texts)
            assert not homeserver.texts(bad)
            mended.set()
            await homeserver.wait_until(lambda: homeserver.texts(bad) == texts)
            for room in (bad, good):
                await wait_until(partial(has_topic, homeserver, room))


def has_topic(homeserver: ScriptedHomeserver, room: str) -> bool:
    """Whether it was set there, once."""
    return len(homeserver.of("PUT", "rooms", room, "state", "m.room.topic")) == 1


async def test_what_is_said_to_one_person_alone_is_stored_and_a_stranger_hears_that_it_is_not(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with (
        run_ngircd() as irc,
        breaking_wire(town.synapse.port, chance("homeserver")) as wire,
        irc_user(irc.port, "carl") as carl,
        irc_user(irc.port, "eve") as eve,
    ):
        url = f"http://127.0.0.1:{wire.port}"
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc)),
            homeserver=replace(town.settings.homeserver, url=url),
        )  # fmt: skip
        alice = await town.person("alice")
        await carl.join("#talk")
        async with running(settings) as app:
            nick = await nick_of(alice, await bridge(alice, "#talk"), carl)
            carl.say(f"PRIVMSG {nick} :psst")
            chat, _ = await invitation(alice, ghost("carl"))
            await alice.join(chat)
            await alice.wait_for_text(chat, "psst")
            session = app.parts.instances[NEAR].find_session(UserId(alice.id))
            assert session is not None
            session.client._host.patience = 0.5
            wire.cut()
            eve.say(f"PRIVMSG {nick} :who are you?")
            await eve.expect("NOTICE eve", "not carried to Matrix: the homeserver does not answer")
            carl.say(f"PRIVMSG {nick} :stored")
            await wait_until(lambda: stored(app, chat)(1))
            wire.mend()
            await alice.wait_for_text(chat, "stored")
            eve.say(f"PRIVMSG {nick} :and now?")
            other, _ = await invitation(alice, ghost("eve"))
            await alice.join(other)
            await alice.wait_for_text(other, "and now?")
