"""Who does not want to be bridged is not: neither what is said in Matrix nor on the network."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from bridge.core.permissions.optouts import EVERYWHERE
from bridge.demo.matrix_user import PATIENCE
from bridge.model import AuditAction
from bridge.sdk.events import RemoteTyping, RemoteUser
from bridge.sdk.ids import InstanceId, RemoteUserId, RoomId, UserId
from bridge.sdk.login import LoginKind
from bridge.settings.records import DatabaseSettings, Settings
from tests.conformance.stage import ALICE, play
from tests.flow.channels import wait_for_relay
from tests.flow.networks import connected, irc_module
from tests.flow.records import acts
from tests.flow.rooms import bridge, joined
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, refuse
from tests.rigs.trestle import Town, running


@asynccontextmanager
async def two_in(irc: IrcServer, channel: str) -> AsyncIterator[tuple[IrcUser, IrcUser]]:
    """Have carl and dora in a channel."""
    async with irc_user(irc.port, "carl") as carl, irc_user(irc.port, "dora") as dora:
        await carl.join(channel)
        await dora.join(channel)
        yield carl, dora


async def test_nothing_of_a_person_crosses_between_optout_and_optin_and_the_puppet_leaves(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with two_in(irc, "#quiet") as (carl, dora):
        alice, bea = await town.person("alice"), await town.person("bea")
        async with running(settings):
            room = await bridge(alice, "#quiet")
            await bea.join(room)
            await bea.say(room, "bea is heard")
            nick = (await carl.expect(":bea is heard")).removeprefix(":").partition("!")[0]
            await bea.say(room, "!trestle optout")
            await bea.wait_for_text(room, "Nothing that you say is bridged here")
            await carl.expect(f":{nick}!", "PART #quiet")
            await bea.say(room, "between us")
            await alice.say(room, "alice is heard")
            await carl.expect(":alice is heard")
        # It is remembered, also if a backup of before is restored; everywhere is more than here.
        database = await asyncpg.connect(settings.database.url)
        await database.execute("DELETE FROM opt_out")
        await database.close()
        async with running(settings) as app:
            await bea.say(room, "still between us")
            await bea.say(room, "!trestle optout everywhere")
            await bea.wait_for_text(room, "bridged anywhere")
            await bea.say(room, "!trestle optin")
            await bea.wait_for_text(room, "say !trestle optin everywhere")
            await bea.say(room, "!trestle optin everywhere")
            await bea.wait_for_text(room, "What you say is bridged again")
            await bea.say(room, "bea is back")
            await carl.expect(":bea is back")
            # A person on the network, by the ghost.
            (door,) = app.parts.portals.all
            await app.parts.optouts.add(UserId("@_trestle_near_carl:test.example"), door.portal.id)
            carl.say("PRIVMSG #quiet :carl between us")
            await carl.sync()
            dora.say("PRIVMSG #quiet :dora comes after carl")
            await alice.wait_for_text(room, "dora comes after carl")
            await app.parts.optouts.remove(UserId("@_trestle_near_carl:test.example"), 0)
            carl.say("PRIVMSG #quiet :carl is back")
            await alice.wait_for_text(room, "carl is back")
            assert [(act.actor, act.action, act.target) for act in await acts(app)][1:5] == [
                (bea.id, AuditAction.OPT_OUT, f"portal {door.portal.id}"),
                (bea.id, AuditAction.OPT_OUT, "everywhere"),
                (bea.id, AuditAction.OPT_IN, f"portal {door.portal.id}"),
                (bea.id, AuditAction.OPT_IN, "everywhere"),
            ]
    assert not any("between us" in line for line in carl.heard)
    assert not any("carl between us" in str(e["content"].get("body")) for e in alice.heard(room))


async def test_a_person_on_the_network_opts_out_by_a_word_and_the_ghost_leaves(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with two_in(irc, "#quiet") as (carl, dora):
        alice = await town.person("alice")
        async with running(settings):
            room = await bridge(alice, "#quiet")
            await alice.wait_until(lambda: "carl" in joined(alice, room))
            carl.say("PRIVMSG trestle :optout")
            await carl.expect("NOTICE carl", "carried to Matrix any more")
            await alice.wait_until(lambda: "carl" not in joined(alice, room))
            carl.say("PART #quiet", "JOIN #quiet", "PRIVMSG #quiet :carl between us")
            await carl.sync()
            dora.say("PRIVMSG #quiet :dora comes after carl")
            await alice.wait_for_text(room, "dora comes after carl")
            assert "carl" not in joined(alice, room)
        # It is remembered, and taken back likewise.
        async with running(settings) as app:
            await wait_for_relay(carl, "#quiet")
            carl.say("PRIVMSG #quiet :carl between us")
            await carl.sync()
            dora.say("PRIVMSG #quiet :dora is heard again")
            await alice.wait_for_text(room, "dora is heard again")
            carl.say("PRIVMSG trestle :OptIn")
            await carl.expect("NOTICE carl", "is carried to Matrix again")
            carl.say("PRIVMSG #quiet :carl says so")
            await alice.wait_for_text(room, "carl says so")
            # As somebody in Matrix whose own account it is.
            (door,) = app.parts.portals.all
            person = RemoteUser(id=RemoteUserId("carl"), name="carl")
            row = await app.parts.accounts.get_or_add_login(
                door.portal.instance, LoginKind.PERSON, UserId(alice.id)
            )
            await app.parts.double_puppets.identify(row, person.id)
            await app.parts.optouts.add(UserId(alice.id), door.portal.id)
            ghost = UserId("@_trestle_near_carl:test.example")
            assert ghost in await door.arrivals.attendance.present()
            await door.receive(RemoteTyping(chat=door.portal.chat, user=person, is_typing=True))
            assert app.parts.house.typing._shown.get((door.portal.room, ghost)) is None
            carl.say("PART #quiet", "JOIN #quiet")
            await carl.sync()
            dora.say("PRIVMSG #quiet :carl came back")
            await alice.wait_for_text(room, "carl came back")
            assert ghost not in await door.arrivals.attendance.present()
            assert door.arrivals.attendance.waiting == 0
    assert not any("carl between us" in str(e["content"].get("body")) for e in alice.heard(room))


async def test_the_connection_of_who_left_the_last_room_or_opted_out_everywhere_ends(
    town: Town,
    settings: Settings,
    carl: IrcUser,
) -> None:
    for channel in ("#one", "#two"):
        await carl.join(channel)
    alice, bea = await town.person("alice"), await town.person("bea")
    async with running(settings):
        rooms = [await bridge(alice, channel) for channel in ("#one", "#two")]
        for number, room in enumerate(rooms):
            await bea.join(room)
            await bea.say(room, f"bea {number}")
            await carl.expect(f":bea {number}")
        nick = bea.id[1:].partition(":")[0]
        await bea.leave(rooms[0])
        await carl.expect(f":{nick}!", "PART #one")
        await bea.say(rooms[1], "still here")
        await carl.expect(":still here")
        await bea.leave(rooms[1])
        await carl.expect(f":{nick}!", "PART #two")
        await gone(carl, nick)
        # The next message makes it anew.
        await bea.join(rooms[1])
        await bea.say(rooms[1], "again")
        await carl.expect(f":{nick}!", ":again")
        await bea.say(rooms[1], "!trestle optout everywhere")
        await bea.wait_for_text(rooms[1], "bridged anywhere")
        await gone(carl, nick)


async def gone(carl: IrcUser, nick: str) -> None:
    """Wait until nobody on the network has the nick."""
    async with asyncio.timeout(PATIENCE):
        while True:
            carl.say(f"ISON {nick}")
            if nick not in (await carl.expect(" 303 ")).partition(" 303 ")[2]:
                return


async def test_an_opt_out_is_noted_while_the_homeserver_is_away_and_the_ghost_leaves_later(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    away, room = asyncio.Event(), RoomId(f"!room:{SERVER}")

    def fail(asked: Asked) -> Answer | None:
        return refuse(500, "M_UNKNOWN") if away.is_set() else None

    async with (
        run_ngircd() as irc,
        irc_user(irc.port, "carl") as carl,
        play(database_settings, folder, rules=[fail], modules=irc_module(irc)) as stage,
    ):
        await carl.join("#room")
        parts, homeserver = stage.app.parts, stage.homeserver
        near = await connected(parts.instances[InstanceId("near")])
        homeserver.rooms[room] = {UserId(f"@trestle:{SERVER}"), UserId(ALICE)}
        chat = await parts.plumbing.read_chat(near, "#room")
        door = await parts.plumbing.tie(near, chat, room, UserId(ALICE))
        carl.say("PRIVMSG #room :before")
        ghost = parts.namespaces.ghost(near.name, RemoteUserId("carl"))
        await homeserver.wait_until(lambda: ghost in homeserver.rooms[room])
        await homeserver.wait_until(lambda: "before" in homeserver.texts(room))
        away.set()
        door.arrivals.attendance.moved()  # Who is in there has to be asked.
        for word, answer in (("optout", "any more"), ("optin", "again"), ("optout", "any more")):
            carl.say(f"PRIVMSG trestle :{word}", f"PRIVMSG #room :after {word}")
            await carl.expect("NOTICE carl", f"carried to Matrix {answer}")
            assert parts.optouts.cover(ghost, EVERYWHERE) == (word == "optout")
        away.clear()
        await homeserver.wait_until(lambda: ghost not in homeserver.rooms[room])
        assert "after optout" not in homeserver.texts(room)
