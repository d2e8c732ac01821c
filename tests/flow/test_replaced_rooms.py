"""What the network says while a room is replaced by another is lost on neither side of that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from bridge.app import App
from bridge.core.traffic.doorway import Doorway
from bridge.demo.matrix_user import MatrixUser
from bridge.model import SendKind, SystemClock
from bridge.sdk.events import (
    MessageKind,
    RemoteEdit,
    RemoteMessage,
    RemoteReaction,
    RemoteRedaction,
    RemoteUser,
)
from bridge.sdk.ids import RemoteMessageId, RemoteUserId, RoomId
from bridge.sdk.rich import Rich
from bridge.settings.records import Settings
from tests.flow.networks import one_after_another
from tests.flow.rooms import BOT, bridge, ghost, give_power, state, wait_for_member
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.trestle import Town, running, wait_until

pytestmark = one_after_another
CARL = ghost("carl")


@dataclass(frozen=True)
class Speaker:
    """Somebody of a network that has more than IRC has."""

    door: Doorway
    nick: str = "carl"

    @property
    def user(self) -> RemoteUser:
        """Who it is there."""
        return RemoteUser(id=RemoteUserId(self.nick), name=self.nick)

    async def say(self, text: str, reply_to: str = "") -> None:
        """Say something, by which it is known, too."""
        await self.door.receive(RemoteMessage(
            chat=self.door.portal.chat, id=RemoteMessageId(text), sender=self.user,
            kind=MessageKind.TEXT, body=Rich.plain(text), at=SystemClock().now(),
            reply_to=RemoteMessageId(reply_to) if reply_to else None,
        ))  # fmt: skip

    async def edit(self, target: str, text: str) -> None:
        """Say it in other words."""
        await self.door.receive(RemoteEdit(
            chat=self.door.portal.chat, id=RemoteMessageId(text), target=RemoteMessageId(target),
            sender=self.user, kind=MessageKind.TEXT, body=Rich.plain(text), at=SystemClock().now(),
        ))  # fmt: skip

    async def react(self, target: str, key: str) -> None:
        """React to it."""
        await self.door.receive(RemoteReaction(
            chat=self.door.portal.chat, id=RemoteMessageId(f"{target} {key}"), key=key,
            target=RemoteMessageId(target), sender=self.user,
        ))  # fmt: skip

    async def take_back(self, target: str) -> None:
        """Take it back."""
        await self.door.receive(RemoteRedaction(
            chat=self.door.portal.chat, target=RemoteMessageId(target), sender=self.user
        ))  # fmt: skip


@asynccontextmanager
async def bridged(
    town: Town, irc: IrcServer, app: App, channel: str
) -> AsyncIterator[tuple[MatrixUser, IrcUser, RoomId, Speaker]]:
    """Have carl in a channel that is bridged to a room of an old version."""
    alice = await town.person("alice")
    async with irc_user(irc.port, "carl") as carl:
        await carl.join(channel)
        room = RoomId(await bridge(alice, channel, version="10"))
        await give_power(alice, room, {BOT: 100})
        (door,) = app.parts.portals.in_room(room)
        yield alice, carl, room, Speaker(door)


async def upgrade(alice: MatrixUser, room: RoomId) -> str:
    """Replace the room; give the new one."""
    upgraded = await alice.call("POST", f"v3/rooms/{room}/upgrade", {"new_version": "11"})
    return str(upgraded["replacement_room"])


def is_waiting(app: App) -> bool:
    """Whether something waits for a move."""
    return any("taking its place" in lane.trouble for lane in app.parts.sender.standing())


def is_put(app: App, room: RoomId, what: str) -> bool:
    """Whether an entry of that kind, or with those words, waits for the room."""
    lane = app.parts.sender.lane_of(room)
    return lane is not None and any(
        what in {one.outgoing.kind, one.outgoing.content.get("body")} for one in lane.queue
    )


async def count_parked(app: App) -> int:
    """How many entries of the outbox were put aside."""
    core = app.parts.database.core
    return int(await core.fetchval("SELECT count(*) FROM outbox WHERE state = 'parked'"))


async def test_what_is_said_while_a_bridge_moves_is_in_the_new_room_once_and_in_order(
    town: Town, irc: IrcServer, app: App
) -> None:
    parts = app.parts
    async with bridged(town, irc, app, "#quay") as (alice, carl, room, speaker):
        await speaker.say("in the old one")
        first = await alice.wait_for_text(room, "in the old one")
        async with parts.plumbing.holding(speaker.door):  # It does not follow the tombstone yet.
            new = await upgrade(alice, room)
            for text in ("one", "two"):
                await speaker.say(text)
            await speaker.say("an answer", reply_to="in the old one")
            await speaker.react("in the old one", "+1")
            await speaker.edit("two", "two, in other words")
            await speaker.take_back("two")
            await speaker.react("one", "+1")
            await speaker.take_back("in the old one")
            await wait_until(lambda: is_waiting(app))
            carl.say("PRIVMSG #quay :by IRC")
            await wait_until(lambda: is_put(app, room, "by IRC"))
        await speaker.say("five")
        await alice.wait_for_text(new, "five")
        await alice.wait_for_text(new, "The bridge to #quay on near has moved here.")
        await wait_until(lambda: not parts.sender.holding())
        said = [event["content"] for event in alice.heard(new, CARL)]
        assert [one["body"] for one in said] == ["one", "an answer", "by IRC", "five"]
        assert not any("m.relates_to" in one for one in said)
        await alice.wait_until(lambda: any(
            one["type"] == "m.reaction" and one["room_id"] == new for one in alice.events
        ))  # fmt: skip
        assert [one["content"]["body"] for one in alice.heard(room, CARL)] == ["in the old one"]
        event = await alice.call("GET", f"v3/rooms/{room}/event/{first['event_id']}")
        assert not event["content"]
        await wait_for_member(alice, room, CARL, "leave")
        assert CARL in await alice.members(new)
        assert not await count_parked(app)


async def test_what_is_about_an_event_of_a_room_that_was_left_is_never_put_into_the_new_one(
    town: Town, irc: IrcServer, app: App
) -> None:
    parts = app.parts
    async with bridged(town, irc, app, "#mole") as (alice, _, room, speaker):
        for text in ("alpha", "beta"):
            await speaker.say(text)
        events = [await alice.wait_for_text(room, text) for text in ("alpha", "beta")]
        new = await upgrade(alice, room)
        await alice.wait_for_text(new, "The bridge to #mole on near has moved here.")
        await speaker.react("alpha", "+1")
        await speaker.say("an answer", reply_to="alpha")
        await speaker.edit("alpha", "in other words")
        await speaker.take_back("beta")
        await speaker.say("the last")
        await alice.wait_for_text(new, "the last")
        await wait_until(lambda: not parts.sender.holding())
        said = [event["content"] for event in alice.heard(new, CARL)]
        assert [one["body"] for one in said] == ["an answer", "in other words", "the last"]
        assert not any("m.relates_to" in one for one in said)
        contents = [
            (await alice.call("GET", f"v3/rooms/{room}/event/{one['event_id']}"))["content"]
            for one in events
        ]
        assert [bool(one) for one in contents] == [True, False]
        assert CARL not in await alice.members(room)
        assert not await count_parked(app)


async def test_who_leaves_the_chat_while_its_bridge_moves_is_in_neither_room_afterwards(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice, parts = await town.person("alice"), app.parts
    async with irc_user(irc.port, "dora") as dora:
        await dora.join("#dock")
        async with irc_user(irc.port, "carl") as carl:
            await carl.join("#dock")
            room = RoomId(await bridge(alice, "#dock", version="10"))
            await wait_for_member(alice, room, CARL, "join")
            (door,) = parts.portals.in_room(room)
            async with parts.plumbing.holding(door):
                new = await upgrade(alice, room)
                carl.say("PRIVMSG #dock :good bye")
                await wait_until(lambda: is_waiting(app))
                carl.say("PART #dock :off")
                await dora.expect("PART #dock")
                await wait_until(lambda: is_put(app, room, SendKind.LEAVE))
        await alice.wait_for_text(new, "good bye")
        await wait_for_member(alice, new, CARL, "leave")
        await wait_for_member(alice, room, CARL, "leave")
        await wait_for_member(alice, new, ghost("dora"), "join")
        await wait_until(lambda: not parts.sender.holding())
        assert CARL not in await alice.members(new)
        assert not await count_parked(app)


async def test_what_waits_for_a_move_that_is_refused_or_never_comes_is_put_aside(
    town: Town, irc: IrcServer, app: App
) -> None:
    parts = app.parts
    async with bridged(town, irc, app, "#berth") as (alice, _, room, speaker):
        await speaker.say("in time")
        await alice.wait_for_text(room, "in time")
        strange = await alice.create_room(preset="public_chat")
        async with parts.plumbing.holding(speaker.door):
            await alice.set_state(room, "m.room.tombstone", {"replacement_room": strange})
            levels = await state(alice, room, "m.room.power_levels")
            await alice.set_state(room, "m.room.power_levels", {**levels, "events_default": 50})
            await speaker.say("to nowhere")
            await wait_until(lambda: is_waiting(app))
            assert not await count_parked(app)
        await alice.wait_for_text(room, "stays here: the new room does not say that it replaces")
        await wait_until(lambda: not parts.sender.holding())
        assert await count_parked(app) == 1

        async with parts.plumbing.holding(speaker.door):
            # It is closed, and no room takes its place.
            await alice.set_state(room, "m.room.tombstone", {"replacement_room": ""})
            await speaker.say("to nowhere either")
            await wait_until(lambda: not parts.sender.holding())
            assert await count_parked(app) == 2
        assert speaker.door.portal.room == room


async def test_what_waits_for_a_move_waits_over_a_restart_too(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    alice = await town.person("alice")
    async with irc_user(irc.port, "carl") as carl:
        await carl.join("#slip")
        async with AsyncExitStack() as held, running(settings) as app:
            room = RoomId(await bridge(alice, "#slip", version="10"))
            await give_power(alice, room, {BOT: 100})
            (door,) = app.parts.portals.in_room(room)
            speaker = Speaker(door)
            await speaker.say("in the old one")
            await alice.wait_for_text(room, "in the old one")
            # The process ends before it follows the tombstone.
            await held.enter_async_context(app.parts.plumbing.holding(door))
            new = await upgrade(alice, room)
            for text in ("one", "two", "three"):
                await speaker.say(text)
            await speaker.take_back("two")
            await wait_until(lambda: is_waiting(app))
        async with running(settings) as app:
            await alice.wait_for_text(new, "three")
            await alice.wait_for_text(new, "The bridge to #slip on near has moved here.")
            await wait_until(lambda: not app.parts.sender.holding())
            said = [event["content"]["body"] for event in alice.heard(new, CARL)]
            assert said == ["one", "three"]
            await wait_for_member(alice, room, CARL, "leave")
            assert not await count_parked(app)


async def test_a_chat_that_talks_through_a_move_is_in_both_rooms_whole_once_and_in_order(
    town: Town, irc: IrcServer, app: App
) -> None:
    parts = app.parts
    told, gone, is_over = list[str](), set[str](), asyncio.Event()
    async with bridged(town, irc, app, "#ferry") as (alice, _, room, speaker):

        async def talk() -> None:
            while not is_over.is_set():
                told.append(f"line {len(told)}")
                await speaker.say(told[-1])
                if len(told) % 5 == 0:  # The second last: it may be anywhere on its way.
                    gone.add(told[-2])
                    await speaker.take_back(told[-2])
                await wait_until(lambda: parts.sender.waiting < 10 or is_waiting(app))

        async with asyncio.TaskGroup() as group:
            group.create_task(talk())
            await alice.wait_for_text(room, "line 5")
            new = await upgrade(alice, room)
            await alice.wait_for_text(new, "The bridge to #ferry on near has moved here.")
            is_over.set()
        await speaker.say("the end")
        await alice.wait_for_text(new, "the end")
        await wait_until(lambda: not parts.sender.holding())
        events = [*await alice.messages(room), *await alice.messages(new)]
        bodies = [
            one["content"]["body"] for one in events
            if one["type"] == "m.room.message" and one["sender"] == CARL and one["content"]
        ]  # fmt: skip
        assert bodies == [*(text for text in told if text not in gone), "the end"]
        assert not await count_parked(app)
        assert CARL not in await alice.members(room)
        assert CARL in await alice.members(new)
