"""With the privacy filter a room has what its channel says only while all who read are seen."""

import asyncio
from dataclasses import replace
from pathlib import Path

from bridge.core.consent.privacy import STATE_TYPE
from bridge.core.traffic.doorway import Doorway
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.model import Members, Permission, Puppets
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import RemoteChatId, RoomId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, play
from tests.flow.networks import NEAR, Run, connected, irc_module, on_each_server
from tests.flow.rooms import BOT, bridge, ghost, give_power, wait_for_member
from tests.rigs.irc_user import irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked
from tests.rigs.trestle import Town, make_modules, running, wait_until

HELD = "does not come here while not everybody here is seen there"
OPEN = "what is said there comes here again"


def times(person: MatrixUser, room: str, text: str) -> int:
    return sum(text in str(one["content"].get("body")) for one in person.heard(room))


def is_blocked(person: MatrixUser, room: str) -> list[bool]:
    """What the room's state has said, in order."""
    return [
        one["content"]["blocked"] for one in person.events
        if one["type"] == STATE_TYPE and one["room_id"] == room
    ]  # fmt: skip


@on_each_server
async def test_nothing_comes_in_while_somebody_reads_who_is_not_seen_in_the_channel(
    town: Town, folder: Path, database_settings: DatabaseSettings, run: Run
) -> None:
    async with run() as irc, irc_user(irc.port, "carl") as carl:
        alice, bea = await town.person("alice"), await town.person("bea")
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc)),
            permissions={bea.id: Permission.RELAY},
        )  # fmt: skip
        await carl.join("#shy")
        async with running(settings) as app:
            room = await bridge(alice, "#shy")
            await give_power(alice, room, {BOT: 50})
            await alice.say(room, "!trestle set privacy on")
            await alice.wait_for_text(room, "privacy is on for #shy")
            # Whoever reads and may be there is told, and comes.
            await carl.expect(" JOIN ", "#shy")
            await alice.wait_for_text(room, OPEN)
            assert times(alice, room, "from a connection of your own") == 1
            carl.say("PRIVMSG #shy :to those who are here")
            await alice.wait_for_text(room, "to those who are here")
            # Bea may have no connection: while she reads, nothing comes.
            await bea.join(room)
            (door,) = app.parts.portals.all
            await wait_until(lambda: door.portal.blocked)
            carl.say("PRIVMSG #shy :not for bea", "PRIVMSG #shy :nor this")
            held = await alice.wait_for_text(room, bea.id)
            assert HELD in held["content"]["body"]
            await alice.say(room, "!trestle status")
            await alice.wait_for_text(room, "held back: not all here are seen there")
            await alice.say(room, "the other way is open")
            await carl.expect(":the other way is open")
            core = app.parts.database.core
            dropped = "SELECT count(*) FROM outbox WHERE state = 'dropped'"
            async with asyncio.timeout(PATIENCE):
                while await core.fetchval(dropped) < 2:
                    await alice.sync(0.1)
            await bea.leave(room)
            await wait_until(lambda: not door.portal.blocked)
            carl.say("PRIVMSG #shy :all are seen again")
            await alice.wait_for_text(room, "all are seen again")
            await alice.wait_until(lambda: len(is_blocked(alice, room)) == 4)
            books = await app.parts.bookkeeper.balance()
            assert books["to_matrix"] == 0
        said = [str(one["content"].get("body")) for one in await alice.messages(room)]
        assert "not for bea" not in said
        assert "nor this" not in said
        # Once when it begins and once when it ends, each time; at first alice was not there.
        assert (times(alice, room, HELD), times(alice, room, OPEN)) == (2, 2)
        assert is_blocked(alice, room) == [True, False, True, False]


async def test_neither_a_topic_nor_the_reason_of_a_part_comes_in_while_the_room_is_held_back(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with (
        run_ngircd() as irc, irc_user(irc.port, "carl") as carl, irc_user(irc.port, "dora") as dora
    ):  # fmt: skip
        alice, bea = await town.person("alice"), await town.person("bea")
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc)),
            permissions={bea.id: Permission.RELAY},
        )  # fmt: skip
        await carl.join("#coy")
        await dora.join("#coy")
        async with running(settings) as app:
            room = await bridge(alice, "#coy")
            await give_power(alice, room, {BOT: 50})
            await alice.wait_until_joined(room, "@_trestle_near_dora:test.example")
            await alice.say(room, "!trestle set privacy on")
            await alice.wait_for_text(room, OPEN)
            await bea.join(room)
            (door,) = app.parts.portals.all
            await wait_until(lambda: door.portal.blocked)
            carl.say("TOPIC #coy :come at four", "TOPIC #coy :come at six")
            await carl.expect("TOPIC #coy", "six")
            dora.say("PART #coy :meet at five")
            gone = await wait_for_member(alice, room, "@_trestle_near_dora:test.example", "leave")
            assert "reason" not in gone["content"]
            assert topics(alice, room) == []
            # While nothing crosses, it does not come, and what people set instead holds.
            await alice.say(room, "!trestle pause")
            await alice.wait_for_text(room, "until you say !trestle resume")
            await bea.leave(room)
            await wait_until(lambda: not door.portal.blocked)
            await door.facts.topic.put_held()
            await alice.set_state(room, "m.room.topic", {"topic": "come at nine"})
            await wait_until(lambda: door.facts.topic.text == "come at nine")
            await alice.say(room, "!trestle resume")
            await alice.wait_for_text(room, "Messages cross")
            await door.facts.topic.put_held()
            await bea.join(room)
            await wait_until(lambda: door.portal.blocked)
            carl.say("TOPIC #coy :come at ten")
            await wait_until(lambda: door.facts.topic.is_held)
            await bea.leave(room)
            await alice.wait_until(lambda: topics(alice, room) == ["come at nine", "come at ten"])


def topics(person: MatrixUser, room: str) -> list[str]:
    """What the room's topic was, in order."""
    return [
        one["content"]["topic"] for one in person.events
        if one["type"] == "m.room.topic" and one["room_id"] == room
    ]  # fmt: skip


async def test_who_comes_to_read_while_a_ghost_comes_to_speak_does_not_read_it(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    room, dora_here = RoomId(f"!club:{SERVER}"), ghost("dora")
    doors: list[Doorway] = []

    def bring_alice(asked: Asked) -> Answer | None:
        if asked.parts[2:] == ("join",) and asked.user == dora_here:
            note_alice(doors[0], "join")
        return None

    async with (
        run_ngircd() as irc,
        play(database_settings, folder, rules=[bring_alice], modules=irc_module(irc)) as stage,
        irc_user(irc.port, "carl") as carl,
        irc_user(irc.port, "dora") as dora,
    ):
        parts, homeserver = stage.app.parts, stage.homeserver
        network = await connected(parts.instances[NEAR])
        homeserver.rooms[room] = {BOT}
        chat = RemoteChat(id=RemoteChatId("#shy"), name="#shy")
        door = await parts.portals.add(instance=NEAR, chat=chat, room=room, created_by=BOT)
        door.portal = replace(
            door.portal, privacy=True, puppets=Puppets.RELAY, members=Members.SPEAKERS
        )
        doors.append(door)
        await network.join(chat)
        await carl.join("#shy")
        await dora.join("#shy")
        carl.say("PRIVMSG #shy :for nobody yet")
        said = homeserver.texts
        await homeserver.wait_until(lambda: "for nobody yet" in said(room))
        dora.say("PRIVMSG #shy :not for alice")
        await wait_until(lambda: door.portal.blocked and not parts.sender.waiting)
        note_alice(door, "leave")
        await wait_until(lambda: not door.portal.blocked)
        dora.say("PRIVMSG #shy :for all")
        await homeserver.wait_until(lambda: "for all" in said(room))
        assert "not for alice" not in said(room)
        # Whoever is there asks for nothing more.
        joins = homeserver.of("POST", "rooms", room, "join")
        assert [one.user for one in joins].count(dora_here) == 1


def note_alice(door: Doorway, membership: str) -> None:
    """Have it known that Alice comes into the room, or leaves it."""
    door.audience.note({"state_key": ALICE, "content": {"membership": membership}})
