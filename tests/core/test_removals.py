"""Whom a chat puts out while its room does not follow goes later, if that is so yet."""

import asyncio
from dataclasses import replace

import pytest

from bridge.core.portals.portals import Portals
from bridge.core.rooms.chatfacts import ChatFacts
from bridge.matrix.client import MatrixError
from bridge.model import Follow, SendKind
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import RemoteRemoval, Removal
from bridge.sdk.ids import UserId
from tests.core.ground import ALICE, CHAT, Ground

BEA, CARL = UserId("@bea:test.example"), UserId("@carl:test.example")


def removal(user: UserId, how: Removal) -> RemoteRemoval:
    return RemoteRemoval(chat=CHAT, user=user, by=None, how=how)


def put(ground: Ground) -> list[tuple[SendKind, str]]:
    """Who is put out of the room or let in."""
    kinds = {SendKind.KICK, SendKind.BAN, SendKind.UNBAN}
    return [(one.kind, one.target) for one in ground.waiting if one.kind in kinds]


@pytest.mark.parametrize("change", [{"paused": True}, {"follow": Follow.TOPIC}])
async def test_a_ban_that_changes_while_the_room_does_not_follow_is_made_up_for(
    change: dict[str, object],
) -> None:
    ground = Ground()
    door = Portals(ground.house)._open(ground.portal)
    await door.receive(removal(ALICE, Removal.BAN))
    door.portal = replace(door.portal, **change)  # type: ignore[arg-type]
    await door.receive(removal(ALICE, Removal.UNBAN))
    for how in (Removal.UNBAN, Removal.BAN, Removal.KICK):
        await door.receive(removal(BEA, how))
    await door.receive(removal(CARL, Removal.KICK))
    assert door.put_out == {BEA, CARL}
    assert put(ground) == [(SendKind.BAN, ALICE)]
    door.portal = ground.portal
    await door.facts.review()
    # Who was kicked only may be back.
    made_up = [(SendKind.BAN, ALICE), (SendKind.UNBAN, ALICE), (SendKind.BAN, BEA)]
    assert put(ground) == made_up
    await door.facts.review()
    assert put(ground) == made_up


async def test_what_follows_while_a_ban_is_made_up_for_is_done_after_it_or_instead() -> None:
    ground = Ground()
    door = Portals(ground.house)._open(ground.portal)
    door.portal = replace(door.portal, paused=True)
    for user in (ALICE, BEA):
        await door.receive(removal(user, Removal.BAN))
    door.portal = ground.portal

    async def fail() -> None:
        ground.failing.add("may_remove")

    ground.meanwhile["may_remove"] = fail
    await door.facts.review()
    assert not put(ground)
    await door.receive(removal(ALICE, Removal.UNBAN))
    ground.failing.add("put ban")
    with pytest.raises(TemporaryFailure):
        await door.receive(removal(CARL, Removal.BAN))
    await door.facts.review()
    assert put(ground) == [
        (SendKind.UNBAN, ALICE), (SendKind.BAN, BEA), (SendKind.BAN, CARL),
    ]  # fmt: skip


async def miss_kick(ground: Ground) -> ChatFacts:
    """Have Alice kicked while the homeserver is away."""
    facts = ChatFacts(ground.portal, ground.house)
    ground.is_away = True
    await facts.receive(removal(ALICE, Removal.KICK))
    ground.is_away = False
    return facts


@pytest.mark.parametrize("change", [{"paused": True}, {"follow": Follow.TOPIC}])
async def test_a_kick_that_was_missed_is_let_go_when_the_room_does_not_follow(
    change: dict[str, object],
) -> None:
    ground = Ground()
    facts = await miss_kick(ground)
    facts.portal = replace(facts.portal, **change)  # type: ignore[arg-type]
    await facts.catch_up()
    facts.portal = ground.portal
    await facts.review()
    assert not put(ground)


async def test_a_kick_that_was_missed_is_let_go_when_the_homeserver_refuses_it() -> None:
    ground = Ground()
    facts = await miss_kick(ground)
    ground.refusal = MatrixError(403, "M_FORBIDDEN", "no")
    ground.refusing.add("may_remove")
    await facts.catch_up()
    await facts.review()
    assert not put(ground)


async def test_a_kick_that_is_made_up_for_twice_at_once_is_done_once() -> None:
    ground = Ground()
    facts = await miss_kick(ground)

    async def review() -> None:
        # Not to be waited for here: it waits for this one.
        reviews.append(group.create_task(facts.review()))
        while not facts._removals._in_turn._waiters:
            await asyncio.sleep(0)

    reviews: list[asyncio.Task[None]] = []
    ground.meanwhile["may_remove"] = review
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        await facts.catch_up()
    assert reviews
    assert put(ground) == [(SendKind.KICK, ALICE)]
