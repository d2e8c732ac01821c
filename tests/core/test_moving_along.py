"""What waits for a room whose portal moves, over crashes and whatever is put meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.model import Outgoing, Portal, SendKind, SystemClock
from bridge.running.parts import Parts
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, LoginId, RemoteChatId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, DICE, play, settings_for
from tests.core.outgoing import away, say
from tests.rigs.cluster import until_one_waits
from tests.rigs.owner import owner_of
from tests.rigs.scripted_homeserver import (
    SERVER,
    Answer,
    Asked,
    Rule,
    ScriptedHomeserver,
    refuse,
    scripted_homeserver,
)
from tests.rigs.trestle import running, wait_until

OLD, NEW = RoomId(f"!old:{SERVER}"), RoomId(f"!new:{SERVER}")
BOT = f"@trestle:{SERVER}"
MANY = 400
"""More than a room holds in memory."""


SLOW = """
CREATE FUNCTION wait_long() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER wait_long AFTER UPDATE ON portal
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_long()
"""
"""Has the commit of a move take as long as somebody holds that lock."""


def closed(asked: Asked, room: str = NEW, minutes: float = 0) -> Answer | None:
    """Refuse what is said in the old room: it is replaced by another since so many minutes."""
    if asked.parts[:2] != ("rooms", OLD):
        return None
    if asked.parts[2:4] == ("state", "m.room.tombstone"):
        return Answer(
            content={
                "content": {"replacement_room": room},
                "origin_server_ts": int((SystemClock().now().timestamp() - 60 * minutes) * 1000),
            }
        )
    return refuse(403, "M_FORBIDDEN") if asked.parts[2] == "send" else None


def gather(homeserver: ScriptedHomeserver) -> None:
    """Have the bots in both rooms."""
    homeserver.rooms |= {OLD: {BOT, DICE, ALICE}, NEW: {BOT, DICE, ALICE}}


async def tie(parts: Parts, name: str, receiver: LoginId | None = None) -> Portal:
    """Have a chat's portal in the old room; ``receiver``: it is that login's alone."""
    chat = RemoteChat(id=RemoteChatId(name), name=name)
    door = await parts.portals.add(
        instance=InstanceId(name), chat=chat, room=OLD, created_by=UserId(ALICE),
        receiver=receiver,
    )  # fmt: skip
    return door.portal


@asynccontextmanager
async def tied(
    database: DatabaseSettings, folder: Path, *rules: Rule, receiver: LoginId | None = None
) -> AsyncIterator[tuple[ScriptedHomeserver, Parts, Portal]]:
    """Have a Trestle with the bots in both rooms, and a chat's portal in the old one."""
    async with play(database, folder, rules=rules) as stage:
        gather(stage.homeserver)
        parts = stage.app.parts
        yield stage.homeserver, parts, await tie(parts, "mine", receiver)


def lines(portal: Portal, texts: Sequence[str], room: RoomId = OLD) -> list[Outgoing]:
    """What is said in a chat, of which each line is known by its text."""
    return [
        replace(say(text, room), portal=portal.id, remote_id=text, transaction_id=f"t {text}")
        for text in texts
    ]


async def move(parts: Parts, portal: Portal, *, takes: bool = True) -> None:
    """Move the portal into the new room."""
    door = parts.portals.numbered(portal.id)
    assert door is not None
    await parts.portals.move(door, NEW, UserId(ALICE), takes=takes)


async def rooms_of(parts: Parts) -> dict[str, str]:
    """For which room each entry of the outbox is, by its transaction id."""
    rows = await parts.database.core.fetch("SELECT transaction_id, room FROM outbox")
    return {row["transaction_id"]: row["room"] for row in rows}


async def count_moves(parts: Parts) -> int:
    """How many moves the audit knows of."""
    core = parts.database.core
    return int(await core.fetchval("SELECT count(*) FROM audit WHERE action = 'move'"))


class LateAnswer:
    """Keeps what is asked about the old room's history waiting, while it is read back."""

    def __init__(self, homeserver: ScriptedHomeserver) -> None:
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        homeserver.hold = self.hold

    def hold(self, asked: Asked) -> asyncio.Event | None:
        """What the homeserver waits for before it answers."""
        if asked.parts[:3] != ("rooms", OLD, "messages"):
            return None
        self.asked.set()
        return self.may_answer


async def states(parts: Parts) -> dict[str, int]:
    """How many entries of the outbox are in which state."""
    rows = await parts.database.core.fetch("SELECT state, count(*) FROM outbox GROUP BY state")
    return {row["state"]: row["count"] for row in rows}


async def test_very_much_that_waits_goes_along_in_order_and_before_what_is_put_afterwards(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder, rules=[closed, away]) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        gather(homeserver)
        mine, other = await tie(parts, "mine"), await tie(parts, "other")
        texts, others = [[f"{who} {n}" for n in range(MANY)] for who in ("mine", "other")]
        for at in range(0, MANY, 50):
            await parts.sender.put([
                *lines(mine, texts[at : at + 50]), *lines(other, others[at : at + 50])
            ])  # fmt: skip
        await parts.sender.put([say("the new room's own", NEW)])
        await move(parts, mine)
        assert parts.sender.holding() == {OLD: MANY, NEW: MANY + 1}
        await parts.sender.put(lines(mine, ["composed before"]))  # For the room that it had.
        await parts.sender.put(lines(mine, ["put afterwards"], NEW))
        homeserver.rules.remove(away)
        after = ["composed before", "put afterwards"]
        await homeserver.wait_until(lambda: after[-1] in homeserver.texts(NEW))
        assert homeserver.texts(NEW) == ["the new room's own", *texts, *after]
        await move(parts, other)
        await homeserver.wait_until(lambda: others[-1] in homeserver.texts(NEW))
        assert homeserver.texts(NEW)[MANY + 3 :] == others
        await wait_until(lambda: not parts.sender.holding())
        assert parts.sender._held == 0
        assert not homeserver.texts(OLD)
        await wait_until(lambda: not parts.sender._lanes)


async def test_a_move_is_whole_wherever_the_process_ends(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    texts = [f"line {number}" for number in range(MANY)]
    async with scripted_homeserver() as homeserver:
        homeserver.rules += [closed, away]
        gather(homeserver)
        settings = settings_for(homeserver, database_settings, folder)
        async with running(settings) as app:
            portal = await tie(app.parts, "mine")
            await app.parts.sender.put(lines(portal, texts))
        async with running(settings) as app:  # So far nothing of the move was done.
            parts = app.parts
            await parts.sender.put(lines(portal, ["more"]))
            outbox = parts.sender._outbox
            waiting = await outbox.moves.waiting(portal.id, [OLD], {})
            assert [one.outgoing.remote_id for one in waiting] == [*texts, "more"]
            going = [replace(one, outgoing=replace(one.outgoing, room=NEW)) for one in waiting]
            # As the process leaves it that ends as soon as the move is stored.
            await outbox.moves.move(portal.id, NEW, going, [])
        homeserver.rules.remove(away)
        async with running(settings) as app:
            (door,) = app.parts.portals.all
            assert door.portal.room == NEW
            await app.parts.sender.put(lines(portal, ["afterwards"], NEW))
            await homeserver.wait_until(lambda: "afterwards" in homeserver.texts(NEW))
            assert homeserver.texts(NEW) == [*texts, "more", "afterwards"]
            assert not homeserver.texts(OLD)
            await wait_until(lambda: not app.parts.sender.holding())
            assert (await states(app.parts)).keys() == {"sent"}


async def test_a_move_of_whose_commit_nobody_heard_is_done_again_and_nothing_is_said_twice(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    texts = [f"line {number}" for number in range(MANY)]
    async with tied(database_settings, folder, closed) as (homeserver, parts, portal):
        gone = replace(lines(portal, ["gone"])[0], kind=SendKind.REDACT, about=texts[3])
        await parts.sender.put([*lines(portal, texts), gone])
        owner, core = await owner_of(parts.database), parts.database.core
        await owner.execute(SLOW)
        await owner.execute("SELECT pg_advisory_lock(7)")

        async def fail() -> None:
            with pytest.raises(TemporaryFailure):
                await move(parts, portal)

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(fail())
            await until_one_waits(owner)
            waits = await owner.fetchval("SELECT pid FROM pg_locks WHERE NOT granted")
            for holder in core._holders:  # type: ignore[attr-defined]
                if holder._con is not None and holder._con.get_server_pid() == waits:
                    holder._con.terminate()  # The server does not notice before it has committed.
        await owner.execute("SELECT pg_advisory_unlock(7)")
        await owner.execute("DROP FUNCTION wait_long CASCADE")
        await owner.close()
        assert await core.fetchval("SELECT room FROM portal") == NEW
        assert not parts.portals.in_room(NEW)
        await move(parts, portal)
        await homeserver.wait_until(lambda: texts[-1] in homeserver.texts(NEW))
        assert homeserver.texts(NEW) == [*texts[:3], *texts[4:]]
        await wait_until(lambda: not parts.sender.holding())
        assert await states(parts) == {"sent": MANY - 1, "dropped": 2}


async def test_what_the_old_room_has_though_no_answer_came_is_not_said_in_the_new_one(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with tied(database_settings, folder) as (homeserver, parts, portal):
        taken: list[str] = []

        def lose_answer(asked: Asked) -> Answer | None:
            if asked.parts[:2] != ("rooms", OLD) or asked.parts[2] != "send":
                return None
            if not taken:
                homeserver.take(asked)
                taken.append(asked.path)
            return refuse(502, "M_UNKNOWN")

        homeserver.rules.append(lose_answer)
        about = replace(lines(portal, ["an answer"])[0], about="first")
        gone = replace(lines(portal, ["gone"])[0], kind=SendKind.REDACT, content={}, about="first")
        await parts.sender.put([*lines(portal, ["first", "second"]), about, gone])
        await homeserver.wait_until(lambda: bool(taken))
        await move(parts, portal)
        await homeserver.wait_until(lambda: "an answer" in homeserver.texts(NEW))
        assert homeserver.texts(NEW) == ["second", "an answer"]
        assert "m.relates_to" not in homeserver.said[-1].content
        homeserver.rules.clear()
        await wait_until(lambda: not parts.sender.holding())
        assert homeserver.texts(OLD) == ["first"]
        redacted = [one for one in homeserver.asked if "redact" in one.parts]
        assert [one.parts[1] for one in redacted] == [OLD]
        assert await states(parts) == {"sent": 4}


async def test_a_move_waits_for_what_is_just_put_into_the_room_and_nothing_waits_for_that(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with tied(database_settings, folder) as (homeserver, parts, portal):
        going_on = asyncio.Event()
        asked_for: list[str] = []

        async def may_go(outgoing: Outgoing) -> bool:
            asked_for.append(outgoing.room)
            await going_on.wait()
            return True

        parts.sender.may_go = may_go
        await parts.sender.put(lines(portal, ["first", "second"]))
        await wait_until(lambda: asked_for == [OLD])
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(move(parts, portal))
            await wait_until(lambda: bool(parts.sender.lane(OLD).turn._waiting))
            await parts.sender.put(lines(portal, ["third"]))  # It is not kept waiting.
            assert not homeserver.texts(OLD)
            going_on.set()
        await homeserver.wait_until(lambda: "third" in homeserver.texts(NEW))
        assert homeserver.texts(OLD) == ["first"]
        assert homeserver.texts(NEW) == ["second", "third"]
        # What may go is asked of the room into which it goes.
        assert asked_for == [OLD, NEW, NEW]


async def test_what_is_put_while_a_move_is_stored_is_of_the_new_room(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with tied(database_settings, folder) as (homeserver, parts, portal):
        along, core = parts.sender.along, parts.database.core
        async with (
            asyncio.timeout(30), asyncio.TaskGroup() as group, core.acquire() as connection,
            connection.transaction(),
        ):  # fmt: skip
            await connection.execute("LOCK TABLE outbox IN SHARE MODE")
            group.create_task(parts.sender.put(lines(portal, ["first"])))
            await wait_until(lambda: bool(along._putting))
            group.create_task(move(parts, portal))
            await wait_until(lambda: bool(along._moving))
            group.create_task(parts.sender.put(lines(portal, ["second"])))
        await homeserver.wait_until(lambda: "second" in homeserver.texts(NEW))
        assert homeserver.texts(NEW) == ["first", "second"]
        assert not along._putting
        assert not along._moving


async def test_a_move_for_which_the_old_room_is_not_still_in_time_can_be_done_again(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with tied(database_settings, folder) as (homeserver, parts, portal):
        parts.sender.along.standstill_limit = 0.1
        async with parts.sender.lane(OLD).turn:
            with pytest.raises(TemporaryFailure, match="not over yet"):
                await move(parts, portal)
        assert not parts.portals.in_room(NEW)
        assert not await count_moves(parts)  # It did not happen.
        await parts.sender.put(lines(portal, ["first"]))
        await homeserver.wait_until(lambda: homeserver.texts(OLD) == ["first"])
        await move(parts, portal)
        assert parts.portals.in_room(NEW)
        assert await count_moves(parts) == 1


async def test_what_is_said_while_the_old_room_is_looked_through_is_stored_at_once_and_goes_along(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with tied(database_settings, folder, closed) as (homeserver, parts, portal):
        late = LateAnswer(homeserver)
        await parts.sender.put(lines(portal, ["first"]))
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(move(parts, portal))
            await late.asked.wait()
            about = replace(lines(portal, ["third"])[0], about="first")
            await parts.sender.put([*lines(portal, ["second"]), about])
            assert not parts.portals.in_room(NEW)
            late.may_answer.set()
        await homeserver.wait_until(lambda: "third" in homeserver.texts(NEW))
        assert homeserver.texts(NEW) == ["first", "second", "third"]
        assert "m.relates_to" in homeserver.said[-1].content  # Both are in the new room.


async def test_a_chat_that_ends_during_its_move_goes_nowhere(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with tied(database_settings, folder, closed, receiver=LoginId(99)) as (
        homeserver,
        parts,
        portal,
    ):
        late = LateAnswer(homeserver)
        await parts.sender.put(lines(portal, ["a secret"]))
        (door,) = parts.portals.in_room(OLD)

        async def fail() -> None:
            with pytest.raises(PermanentFailure, match="ended"):
                await move(parts, portal)

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(fail())
            await late.asked.wait()
            await parts.portals.direct_chats.end(door)
            late.may_answer.set()
        await wait_until(lambda: not parts.sender.holding())
        assert not homeserver.texts(NEW)
        assert set((await rooms_of(parts)).values()) == {OLD}
        assert not await count_moves(parts)


async def test_a_chat_does_not_end_while_its_move_is_stored(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with tied(database_settings, folder, receiver=LoginId(99)) as (
        homeserver,
        parts,
        portal,
    ):
        (door,) = parts.portals.in_room(OLD)
        core = parts.database.core
        async with (
            asyncio.timeout(30), asyncio.TaskGroup() as group, core.acquire() as connection,
            connection.transaction(),
        ):  # fmt: skip
            await connection.execute("LOCK TABLE portal IN SHARE MODE")
            group.create_task(move(parts, portal))
            await until_one_waits(core)
            group.create_task(parts.portals.direct_chats.end(door))
        await homeserver.wait_until(lambda: BOT not in homeserver.rooms[NEW])
        assert BOT in homeserver.rooms[OLD]
        assert not parts.portals.all


@pytest.mark.parametrize(("room", "minutes"), [("", 0), ("?", 0), (OLD, 0), (NEW, 6), (NEW, -6)])
async def test_a_tombstone_that_is_old_or_names_no_other_room_has_nothing_wait(
    database_settings: DatabaseSettings, folder: Path, room: str, minutes: float
) -> None:
    def rule(asked: Asked) -> Answer | None:
        return closed(asked, room, minutes)

    async with play(database_settings, folder, rules=[rule]) as stage:
        parts = stage.app.parts
        gather(stage.homeserver)
        await parts.sender.put(lines(await tie(parts, "mine"), ["to nowhere"]))
        await wait_until(lambda: not parts.sender.holding())
        assert await states(parts) == {"parked": 1}


async def test_what_was_parked_or_found_late_for_a_room_that_was_left_is_said_in_the_new_one(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    def rule(asked: Asked) -> Answer | None:
        return closed(asked, minutes=6)

    async with play(database_settings, folder, rules=[rule]) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        gather(homeserver)
        portal, outbox = await tie(parts, "mine"), parts.sender._outbox
        await parts.sender.put(lines(portal, ["parked"]))
        await wait_until(lambda: not parts.sender.holding())
        assert await states(parts) == {"parked": 1}
        await move(parts, portal)
        row = await parts.database.core.fetchrow("SELECT day, seq FROM outbox")
        assert row is not None
        again = await outbox.take_back(row["day"], row["seq"])
        assert again is not None
        parts.sender.push(again)
        await homeserver.wait_until(lambda: homeserver.texts(NEW) == ["parked"])
        # As it is with a commit of which nobody had heard.
        for queued in await outbox.add(lines(portal, ["late"])):
            parts.sender.push(queued)
        await homeserver.wait_until(lambda: homeserver.texts(NEW) == ["parked", "late"])
        await wait_until(lambda: not parts.sender.holding())
        assert await states(parts) == {"sent": 2}
        assert await rooms_of(parts) == {"t parked": NEW, "t late": NEW}


async def test_what_one_person_alone_is_told_goes_along_only_where_nobody_else_is_seen_to_read(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    def unseen(asked: Asked) -> Answer | None:
        is_it = asked.parts == ("rooms", NEW, "joined_members")
        return refuse(403, "M_FORBIDDEN") if is_it else None

    async with tied(database_settings, folder, closed, receiver=LoginId(99)) as (
        homeserver,
        parts,
        portal,
    ):
        (door,) = parts.portals.in_room(OLD)
        upgrades = parts.portals.on_tombstone.__self__  # type: ignore[attr-defined]
        assert await upgrades._may_read_along(door, NEW)
        homeserver.rules.insert(0, unseen)
        assert not await upgrades._may_read_along(door, NEW)
        await parts.sender.put(lines(portal, ["a secret"]))
        await move(parts, portal, takes=False)
        await parts.sender.put(lines(portal, ["another"]))
        await wait_until(lambda: not parts.sender.holding())
        assert await states(parts) == {"parked": 2}
        assert not homeserver.texts(NEW)


async def test_what_nobody_foresaw_when_it_is_asked_for_a_move_is_one_entrys_trouble(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async def may_follow(portal: int, room: RoomId) -> bool:
        raise RuntimeError("nobody foresaw it")

    async with tied(database_settings, folder, closed) as (homeserver, parts, portal):
        parts.sender.along.may_follow = may_follow
        await parts.sender.put([*lines(portal, ["first"]), say("elsewhere")])
        await homeserver.wait_until(lambda: bool(homeserver.said))
        await wait_until(lambda: not parts.sender.holding())
        assert await states(parts) == {"parked": 1, "sent": 1}


async def test_what_waits_for_a_move_was_refused_so_that_nothing_is_read_back_for_it(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder, rules=[closed]) as stage:
        parts = stage.app.parts
        gather(stage.homeserver)
        await parts.sender.put(lines(await tie(parts, "mine"), ["first"]))
        lane = parts.sender.lane(OLD)
        await wait_until(lambda: lane.is_resting and "taking its place" in lane.trouble)
        assert not lane.tried
