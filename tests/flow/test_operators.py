"""What a channel's operators say holds, though a homeserver or another chat keeps us waiting."""

import asyncio
from pathlib import Path

import pytest

from bridge.core.consent.moderators import Moderators
from bridge.core.traffic.doorway import Doorway
from bridge.demo.matrix_user import PATIENCE
from bridge.running.parts import Parts
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import ModeratorWish, RemoteChat, RemoteUser, Wish
from bridge.sdk.ids import RemoteChatId, RemoteUserId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.consents import ConsentStore
from tests.conformance.stage import ALICE, ROOM, play
from tests.flow.channels import tell
from tests.flow.networks import NEAR, Run, connected, irc_module, on_each_server
from tests.flow.rooms import BOT
from tests.flow.scripted import follow_a_list
from tests.rigs import vivid_bridge
from tests.rigs.cluster import until_one_waits
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, refuse
from tests.rigs.trestle import wait_until

OLGA = RemoteUser(id=RemoteUserId("olga"), name="olga")
SLOW = RoomId(f"!slow:{SERVER}")


async def check_that_one_chat_does_not_hold_up_another(parts: Parts, held: asyncio.Event) -> None:
    """While it is being asked about one chat, an operator of another answers."""
    consents, near = parts.consents, parts.instances[NEAR]
    chat = RemoteChat(id=RemoteChatId("#quiet"), name="#quiet")
    await consents.bridge(near, "#quiet", RoomId(f"!quiet:{SERVER}"), UserId(ALICE))
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        asking = group.create_task(consents.bridge(near, "#slow", SLOW, UserId(ALICE)))
        await wait_until(held.is_set)
        async with consents._one_at_a_time(NEAR, chat.id):
            # It comes in time, and is read later.
            answer = group.create_task(consents.refuse(NEAR, chat, OLGA))
            await asyncio.sleep(0)
            await parts.database.core.execute(
                "UPDATE consent SET answer_by = $1 WHERE chat = '#quiet'",
                parts.database.clock.now(),
            )  # fmt: skip
            assert await consents.look()
        assert "not asked again for a day" in await answer
        asking.cancel()


async def check_that_nobody_has_it_go_on(parts: Parts, door: Doorway) -> None:
    """Neither the relay, which connects anew, nor the people of the room."""
    near, portal = parts.instances[NEAR], door.portal
    assert parts.portals.find(NEAR, portal.chat) is door
    assert portal.chat not in [one.id for one in parts.portals.chats(NEAR)]
    with pytest.raises(PermanentFailure, match="have ended its bridge"):
        await parts.portals.set_paused(door, False, UserId(ALICE))
    with pytest.raises(PermanentFailure, match="have ended its bridge"):
        await parts.consents.bridge(near, portal.chat, portal.room, UserId(ALICE))
    assert portal.paused


async def check_that_no_name_shields_a_homeserver(
    parts: Parts, olga: IrcUser, chat: RemoteChat
) -> None:
    """Whoever takes its name in the room, or for a nick in the channel."""
    answer = "That is the homeserver; people called so: @evil.example:good.example."
    await tell(olga, "block evil.example", answer)
    assert parts.house.blocks.of(NEAR, chat.id) == ["evil.example"]
    relay, eve = parts.instances[NEAR].relay, UserId("@eve:evil")
    assert relay is not None
    moderators = Moderators(parts.house, parts.plumbing, parts.consents)
    for about, whom in (("Evil", "evil"), ("eve_", eve)):
        for word in (Wish.BLOCK, Wish.UNBLOCK):
            wish = ModeratorWish(chat=chat, moderator=OLGA, wish=word, about=about, person=eve)
            assert (await moderators.obey(relay.row, wish)).startswith(f"{whom} is ")


async def check_that_a_nick_is_blocked_all_the_same(parts: Parts, chat: RemoteChat) -> None:
    """Though nobody tells who is in the room."""
    relay, carl = parts.instances[NEAR].relay, UserId(f"@carl:{SERVER}")
    assert relay is not None
    moderators = Moderators(parts.house, parts.plumbing, parts.consents)
    wish = ModeratorWish(chat=chat, moderator=OLGA, wish=Wish.BLOCK, about="c", person=carl)
    assert (await moderators.obey(relay.row, wish)).startswith(f"{carl} is blocked")


async def check_that_operators_see_and_limit_it_all_the_same(olga: IrcUser) -> None:
    """The same, of those who ask how it is, and of a whole homeserver."""
    await tell(olga, "block worse.example", "worse.example is blocked in #ended")
    await tell(olga, "status", f"#ended is bridged to a Matrix room; {ALICE} asked for it.")
    await olga.expect("NOTICE olga", "Blocked: ", "worse.example")


async def check_that_it_stays_ended(parts: Parts, door: Doorway) -> None:
    """A repeat is told to nobody, and a new process knows of it."""
    assert not await parts.consents.withdraw(door, BOT, "again")
    await check_that_nobody_has_it_go_on(parts, door)
    parts.consents._ended.clear()
    door.facts.is_ended = False
    await parts.consents.load()
    await check_that_nobody_has_it_go_on(parts, door)


async def check_that_nobody_came(person: IrcUser, since: str) -> None:
    """Nor did the relay come back for the bans."""
    await person.sync()
    assert not any(" JOIN " in line for line in person.heard[person.heard.index(since) :])


async def test_who_has_a_bridge_go_on_at_the_same_moment_does_not_overtake_what_operators_say(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    with vivid_bridge.installed():
        async with play(database_settings, folder, modules={"near": ("vivid", {})}) as stage:
            parts = stage.app.parts
            near, core = parts.instances[NEAR], parts.database.core
            await wait_until(lambda: near.relay is not None)
            door = await parts.plumbing.bridge(near, "hall", RoomId(ROOM), UserId(ALICE))
            await parts.portals.set_paused(door, True, UserId(ALICE))
            store = ConsentStore(parts.database)
            async with (
                asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group,
                core.acquire() as connection, connection.transaction(),
            ):  # fmt: skip
                await connection.execute("LOCK TABLE portal IN SHARE MODE")
                group.create_task(parts.portals.set_paused(door, False, UserId(ALICE)))
                await until_one_waits(core)
                group.create_task(parts.consents.withdraw(door, BOT, "enough"))
                while await store.find(NEAR, door.portal.chat) is None:
                    await asyncio.sleep(0.02)
            assert door.facts.is_ended
            assert door.portal.paused
            assert await core.fetchval("SELECT paused FROM portal")


async def test_what_operators_end_does_not_wait_until_it_is_known_who_may_speak_in_the_room(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    with vivid_bridge.installed():
        async with play(database_settings, folder, modules={"near": ("vivid", {})}) as stage:
            parts = stage.app.parts
            near = parts.instances[NEAR]
            await wait_until(lambda: near.relay is not None)
            door = await parts.plumbing.bridge(near, "hall", RoomId(ROOM), UserId(ALICE))
            # Held while the homeserver is asked for that.
            async with asyncio.timeout(PATIENCE), door.facts._limiting:
                assert await parts.consents.withdraw(door, BOT, "enough")
            await check_that_it_stays_ended(parts, door)


@on_each_server
async def test_what_operators_say_waits_for_no_homeserver_and_no_other_chat(
    database_settings: DatabaseSettings, folder: Path, run: Run
) -> None:
    away, held, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def fail(asked: Asked) -> Answer | None:
        return refuse(500, "M_UNKNOWN") if away.is_set() else None

    def hold(asked: Asked) -> asyncio.Event | None:
        if asked.parts[1:4] != (SLOW, "state", "m.room.name"):
            return None
        held.set()
        return never

    async with (
        run() as irc,
        irc_user(irc.port, "olga") as olga,
        irc_user(irc.port, "carl") as carl,
        play(
            database_settings, folder, rules=[fail], modules=irc_module(irc, own_network=False)
        ) as stage,
    ):
        homeserver, parts = stage.homeserver, stage.app.parts
        homeserver.hold = hold
        near = parts.instances[NEAR]
        for channel in ("#quiet", "#slow", "#ended"):
            await olga.join(channel)
        await carl.join("#ended")
        await connected(near)
        await check_that_one_chat_does_not_hold_up_another(parts, held)

        room, chat = RoomId(f"!ended:{SERVER}"), await parts.plumbing.read_chat(near, "#ended")
        people = {ALICE, "@mallory:evil.example", "@evil.example:good.example", "@eve:evil"}
        homeserver.rooms[room] = {BOT, *people}
        door = await parts.plumbing.tie(near, chat, room, UserId(ALICE))
        await check_that_no_name_shields_a_homeserver(parts, olga, chat)

        carl.say("PRIVMSG #ended :before")
        await homeserver.wait_until(lambda: "before" in homeserver.texts(room))
        await follow_a_list(parts, door, olga)
        away.set()
        await check_that_a_nick_is_blocked_all_the_same(parts, chat)
        await check_that_operators_see_and_limit_it_all_the_same(olga)
        await tell(olga, "leave #ended", "#ended is no longer bridged")
        await carl.expect("NOTICE #ended", "no longer bridged to Matrix, as olga wishes")
        await carl.expect("MODE #ended -b", "spam*!*@*")
        left = await carl.expect("PART #ended", "as olga wishes")
        carl.say("PRIVMSG #ended :after")
        await check_that_it_stays_ended(parts, door)
        await parts.policies.enforce(door)
        away.clear()
        await wait_until(lambda: parts.portals.find(NEAR, chat.id) is None)
        assert not parts.policies.of(door)
        await check_that_nobody_came(carl, left)
        await homeserver.wait_until(lambda: homeserver.rooms[room] == {BOT, *people})
        texts = homeserver.texts(room)
        assert sum("is no longer bridged here" in text for text in texts) == 1
        assert "after" not in texts
