"""What is said in a room while one of ours is coming in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from bridge.app import App
from bridge.core.intake.watch import watch_name
from bridge.demo.matrix_user import MatrixUser
from bridge.model import Permission
from bridge.sdk.ids import RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import DICE, ROOM, ask, play
from tests.flow.rooms import BOT, ghost
from tests.flow.scripted import BEA, invite
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.scripted_homeserver import SERVER, Asked
from tests.rigs.trestle import Town, wait_until


@asynccontextmanager
async def locked(app: App, table: str) -> AsyncIterator[None]:
    """Nothing can be written into a table."""
    async with app.parts.database.core.acquire() as connection, connection.transaction():
        await connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        yield


async def begin_chat(person: MatrixUser) -> str:
    """Have somebody begin a direct chat with carl, of which our bot hears first."""
    chat = await person.create_room(
        preset="trusted_private_chat", is_direct=True, invite=[ghost("carl")]
    )
    await person.wait_until_joined(chat, BOT)
    return chat


async def say(app: App, person: MatrixUser, room: str, text: str) -> None:
    """Say something that has to wait."""

    def newest() -> str:
        lane = app.parts.router.lanes[watch_name(RoomId(room))]
        return str(lane.queue[-1].event["content"].get("body"))

    await person.say(room, text)
    await wait_until(lambda: newest() == text, 60)


async def test_what_is_said_to_somebody_who_is_just_coming_is_said_to_them_in_order(
    town: Town, irc: IrcServer, app: App
) -> None:
    async with irc_user(irc.port, "carl") as carl:
        alice = await town.person("alice")
        async with AsyncExitStack() as still:
            async with locked(app, "portal"):
                chat = await begin_chat(alice)
                await say(app, alice, chat, "one")
                await say(app, alice, chat, "two")
                assert not app.parts.portals.in_room(RoomId(chat))
                await still.enter_async_context(locked(app, "bot_room"))
            await wait_until(lambda: bool(app.parts.portals.in_room(RoomId(chat))), 60)
            await say(app, alice, chat, "three")
        for text in ("one", "two", "three"):
            assert (await carl.expect("PRIVMSG carl :")).endswith(f" :{text}")
        # Done once more, as after a kill at a bad moment, it stays as it is.
        (invited,) = (
            one for one in alice.events
            if one["type"] == "m.room.member" and one["room_id"] == chat
            and (one["state_key"], one["content"]["membership"]) == (ghost("carl"), "invite")
        )  # fmt: skip
        await app.parts.routes.watcher.handle(invited)
        there = await app.parts.intents.joined_members(RoomId(chat))
        assert set(there) == {alice.id, BOT, ghost("carl")}


@pytest.mark.parametrize("is_open", [False, True])
async def test_what_is_said_to_somebody_who_is_just_coming_is_no_order_though_the_bot_came_first(
    town: Town, irc: IrcServer, app: App, is_open: bool
) -> None:
    async with irc_user(irc.port, "carl") as carl:
        alice = await town.person("alice")
        async with AsyncExitStack() as still:
            begun = await still.enter_async_context(AsyncExitStack())
            await begun.enter_async_context(locked(app, "portal"))
            chat = await alice.create_room(
                preset="trusted_private_chat", is_direct=True, invite=[BOT, ghost("carl")]
            )
            await alice.wait_until_joined(chat, ghost("carl"))
            assert app.parts.routes.has_seat(UserId(BOT), RoomId(chat))
            if is_open:  # The bot does not know yet whose chat it is.
                await still.enter_async_context(locked(app, "bot_room"))
                await begun.aclose()
                await wait_until(lambda: bool(app.parts.portals.in_room(RoomId(chat))), 60)
            await say(app, alice, chat, "hi carl")
            await say(app, alice, chat, "status")
        for text in ("hi carl", "status"):
            assert (await carl.expect("PRIVMSG carl :")).endswith(f" :{text}")
        await alice.say(chat, "!trestle nonsense")
        await alice.wait_for_text(chat, "I do not know 'nonsense'")
        said = [str(one["content"]["body"]) for one in alice.heard(chat, BOT)]
        assert not [one for one in said if "I bridge rooms" not in one and "nonsense" not in one]


async def test_who_invites_the_bot_alone_is_heard_while_it_is_just_coming(
    town: Town, app: App
) -> None:
    alice = await town.person("alice")
    async with locked(app, "told"):  # Its greeting holds up what comes of the invitation.
        chat = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[BOT])
        await alice.wait_until_joined(chat, BOT)
        await alice.say(chat, "nonsense")
        await alice.wait_for_text(chat, "I do not know that")


async def test_what_is_done_in_a_direct_chat_does_not_overtake_what_waits_to_be_said_there(
    town: Town, irc: IrcServer, app: App
) -> None:
    async with irc_user(irc.port, "carl") as carl:
        alice = await town.person("alice")
        lanes = app.parts.router.lanes
        async with AsyncExitStack() as still:
            async with locked(app, "portal"):
                chat = await begin_chat(alice)
                await say(app, alice, chat, "one")
                await still.enter_async_context(locked(app, "bot_room"))
            room = RoomId(chat)
            await wait_until(lambda: bool(app.parts.portals.in_room(room)), 60)
            (door,) = app.parts.portals.in_room(room)
            await alice.set_state(chat, "m.room.topic", {"topic": "boats"})
            name = quote(alice.id, safe="")
            await alice.call("PUT", f"v3/profile/{name}/displayname", {"displayname": "Al"})
            # The homeserver tells a room of that when it finds the time.
            await alice.wait_until(lambda: any(
                one["room_id"] == chat and one["content"].get("displayname") == "Al"
                for one in alice.events
            ))  # fmt: skip
            await say(app, alice, chat, "two")
            waiting = [item.event["type"] for item in lanes[watch_name(room)].queue][-4:]
            talk = "m.room.message"
            assert waiting == [talk, "m.room.topic", "m.room.member", talk]
            # Of what comes after it in its lane nobody would believe that it is still to do.
            assert lanes[door.name].slot.newest is None
            # Nor is there anything in it if the ghost is put out of the room just now.
            put_out = {
                "type": "m.room.member", "event_id": "$out", "room_id": chat,
                "state_key": ghost("carl"), "sender": alice.id,
                "content": {"membership": "leave"},
            }  # fmt: skip
            there = app.parts.routes(put_out)
            assert [lane.consumer.name for lane in there] == [watch_name(room)]
        for text in ("one", "two"):
            assert (await carl.expect("PRIVMSG carl :")).endswith(f" :{text}")
        members = await app.parts.intents.joined_members(room)
        assert set(members) == {alice.id, BOT, ghost("carl")}


async def test_what_is_said_to_a_bot_that_is_just_coming_is_heard_though_another_hears_already(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    bot, room = f"@trestle:{SERVER}", RoomId(ROOM)
    async with play(database_settings, folder, permissions={BEA: Permission.USER}) as stage:
        homeserver = stage.homeserver
        assert stage.app.parts.routes.has_seat(UserId(DICE), room)
        answered, joins = asyncio.Event(), 0

        def hold(asked: Asked) -> asyncio.Event | None:
            nonlocal joins
            is_join = asked.parts == ("rooms", room, "join") and asked.user == bot
            joins += is_join
            return answered if is_join and joins == 1 else None

        homeserver.hold = hold
        assert await stage.put(invite(room, bot, sender=BEA)) == 200
        await homeserver.wait_until(lambda: bot in homeserver.rooms.get(room, ()))
        said = {"msgtype": "m.text", "body": "!trestle ping"}
        assert await stage.put(ask("", room, sender=BEA, content=said)) == 200
        await homeserver.wait_until(lambda: "I am here." in homeserver.texts(room))
        answered.set()


async def test_what_is_deleted_while_it_waits_to_be_said_in_a_direct_chat_is_not_said(
    town: Town, irc: IrcServer, app: App
) -> None:
    async with irc_user(irc.port, "carl") as carl:
        alice = await town.person("alice")
        async with locked(app, "portal"):
            chat = await begin_chat(alice)
            wrong = await alice.say(chat, "what nobody is to read")
            # So many that the chat hears the first ones before the last is handed on.
            others = [f"word {number}" for number in range(15)]
            for text in others:
                await say(app, alice, chat, text)
            path = f"v3/rooms/{quote(chat)}/redact/{quote(wrong)}/r1"
            await alice.call("PUT", path, {})
            waiting = app.parts.router.lanes[watch_name(RoomId(chat))].queue
            await wait_until(lambda: waiting[-1].event["type"] == "m.room.redaction")
        for text in others:
            assert (await carl.expect("PRIVMSG carl :")).endswith(f" :{text}")
        assert not any("nobody is to read" in line for line in carl.heard)
