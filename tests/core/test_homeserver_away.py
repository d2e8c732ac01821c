"""What a chat is, while the homeserver is away: noted, and made good when it is back."""

import asyncio
from dataclasses import replace

import pytest

from bridge.core.rooms.catchingup import CatchingUp
from bridge.core.rooms.chatfacts import ChatFacts
from bridge.matrix.client import HomeserverAway
from bridge.model import Follow, Portal, SendKind
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import (
    Rank,
    RemoteAccess,
    RemoteEvent,
    RemoteRanks,
    RemoteRemoval,
    RemoteTopic,
    Removal,
)
from bridge.sdk.ids import RemoteUserId
from tests.core.ground import ALICE, CHAT, NEAR, Ground
from tests.rigs.trestle import wait_until


def topic(text: str, *, is_news: bool = True) -> RemoteTopic:
    return RemoteTopic(chat=CHAT, topic=text, is_news=is_news)


def ranks(*, is_all: bool = False, **theirs: Rank) -> RemoteRanks:
    named = {RemoteUserId(who): rank for who, rank in theirs.items()}
    return RemoteRanks(chat=CHAT, ranks=named, own={}, is_all=is_all)


CLOSED = RemoteAccess(chat=CHAT, listed=False, open=False, moderated=True)
OPEN = RemoteAccess(chat=CHAT, listed=True, open=True, moderated=False)
KICK = RemoteRemoval(chat=CHAT, user=ALICE, by=None, how=Removal.KICK)
EVENTS: list[RemoteEvent] = [
    ranks(is_all=True, bob=Rank.MODERATOR), topic("first"), ranks(carl=Rank.VOICED), CLOSED,
    KICK, topic("second"), ranks(bob=Rank.NONE),
]  # fmt: skip


async def test_all_that_a_chat_became_while_the_homeserver_was_away_is_in_the_room_after_it() -> (
    None
):
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    ground.is_away = True
    for event in EVENTS:
        await facts.receive(event)
    assert not ground.waiting
    with pytest.raises(HomeserverAway):
        await facts.catch_up()
    ground.is_away = False

    async def change() -> None:
        # It comes while the rest is made good, and is not lost between the two.
        await facts.receive(topic("third"))
        ground.failing.add("set_access")

    ground.meanwhile["put powers"] = change
    with pytest.raises(TemporaryFailure):
        await facts.catch_up()
    await facts.catch_up()
    kicks = [one.target for one in ground.waiting if one.kind is SendKind.KICK]
    ground.arrive()
    carl = ground.namespaces.ghost(NEAR, RemoteUserId("carl"))
    assert ground.topics == ["second", "third"]
    assert ground.levels == {"users": {carl: 1}, "events_default": 1}
    assert (ground.join_rule, facts.portal.listed, kicks) == ("invite", False, [ALICE])
    # What comes now is done at once.
    await facts.receive(topic("fourth"))
    ground.arrive()
    assert ground.topics[-1] == "fourth"


async def test_the_topic_that_people_set_after_the_chats_holds() -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    ground.is_away = True
    await facts.receive(topic("theirs"))
    ground.is_away = False
    facts.topic.note("ours")
    await facts.catch_up()
    assert not ground.waiting
    # What it became while nothing crossed is newer than what was missed before.
    ground.is_away = True
    await facts.receive(topic("theirs"))
    facts.portal = replace(facts.portal, paused=True)
    ground.is_away = False
    await facts.catch_up()
    facts.overhear(topic("newest"))
    facts.portal = replace(facts.portal, paused=False)
    await facts.review()
    ground.arrive()
    assert ground.topics == ["newest"]
    # News stay news, though a new connection finds what it became.
    ground.is_away = True
    facts = ChatFacts(replace(ground.portal, created_by=ALICE), ground.house)
    facts.topic.note("ours")
    facts.topic.miss(topic("theirs"))
    facts.topic.miss(topic("theirs now", is_news=False))
    ground.is_away = False
    await facts.topic.make_good()
    ground.arrive()
    assert ground.topics == ["newest", "theirs now"]


async def test_a_room_that_follows_the_topic_alone_has_what_is_known_of_its_chat() -> None:
    ground = Ground()
    portal: Portal = replace(ground.portal, follow=Follow.TOPIC, quieted=True)
    facts = ChatFacts(portal, ground.house)
    ground.is_away = True
    for event in EVENTS:
        await facts.receive(event)
    ground.is_away = False
    await facts.catch_up()
    ground.arrive()
    assert ground.topics == ["second"]
    assert ground.levels.get("events_default", 0) == 0
    assert (ground.stored["open"], facts.portal.quieted) == (False, False)


@pytest.mark.parametrize("follow", [Follow.TOPIC, Follow.ALL])
async def test_a_room_that_could_not_be_listed_is_once_the_homeserver_is_back(
    follow: Follow,
) -> None:
    ground = Ground()
    portal: Portal = replace(ground.portal, follow=follow, created_by=ALICE, listed=True)
    facts = ChatFacts(portal, ground.house)
    ground.is_away = True
    await facts.receive(OPEN)
    assert ground.wanted == [facts]
    with pytest.raises(HomeserverAway):
        await facts.catch_up()
    # While nothing crosses, nothing is done there; it is wanted anew when that is over.
    ground.is_away, facts.portal = False, replace(facts.portal, paused=True)
    await facts.catch_up()
    assert not ground.waiting
    facts.portal = replace(facts.portal, paused=False)
    await facts.review()
    assert ground.wanted == [facts, facts]
    await facts.catch_up()
    await facts.catch_up()
    ground.arrive()
    assert ground.listed == [True]


async def not_listed_yet(ground: Ground) -> ChatFacts:
    """A room of which it could not be asked whether it is to be listed, and can be now."""
    portal: Portal = replace(ground.portal, follow=Follow.TOPIC, listed=True, open=True)
    facts = ChatFacts(portal, ground.house)
    ground.is_away = True
    await facts.receive(OPEN)
    ground.is_away = False
    return facts


async def test_a_chat_that_hides_while_it_is_asked_whether_to_list_its_room_is_not_listed() -> (
    None
):
    ground = Ground()
    facts = await not_listed_yet(ground)
    async with asyncio.TaskGroup() as tasks:

        async def hide() -> None:
            tasks.create_task(facts.receive(CLOSED))
            await wait_until(lambda: facts._access is CLOSED)

        ground.meanwhile["is_listed"] = hide
        await facts.catch_up()
    ground.arrive()
    assert ground.listed == [False]


async def test_a_room_is_listed_though_the_database_is_away_when_it_catches_up() -> None:
    ground = Ground()
    facts = await not_listed_yet(ground)
    ground.failing.add("put list")
    with pytest.raises(TemporaryFailure, match="put list"):
        await facts.catch_up()
    await facts.catch_up()
    await facts.catch_up()
    ground.arrive()
    assert ground.listed == [True]


async def test_a_topic_that_was_missed_is_not_put_over_a_newer_one() -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    ground.is_away = True
    await facts.receive(topic("first"))
    ground.is_away = False

    async def set_theirs() -> None:
        facts.topic.note("people's")

    ground.meanwhile["can"] = set_theirs
    await facts.catch_up()
    assert (facts.topic.text, list(ground.waiting)) == ("people's", [])
    # It comes after the pause, or with our bot, before what was missed is looked at.
    facts.topic.miss(topic("second"))
    await facts.receive(topic("third"))
    await facts.review()
    ground.arrive()
    assert ground.topics == ["third"]


async def test_ghosts_keep_their_powers_until_the_network_has_told_everybodys() -> None:
    ground = Ground()
    bob, carl = (ground.namespaces.ghost(NEAR, RemoteUserId(one)) for one in ("bob", "carl"))
    ground.levels = {"users": {bob: 50}}
    facts = ChatFacts(ground.portal, ground.house)
    ground.is_away = True
    await facts.receive(replace(CLOSED, moderated=False))
    await facts.receive(ranks(carl=Rank.VOICED))
    ground.is_away = False
    await facts.catch_up()
    ground.arrive()
    assert ground.levels["users"] == {bob: 50, carl: 1}
    assert ground.join_rule == "invite"


@pytest.mark.parametrize(("event", "question"), [(topic("late"), "can"), (KICK, "may_remove")])
async def test_nothing_is_done_in_a_room_that_is_left_while_it_catches_up(
    event: RemoteEvent, question: str
) -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    ground.is_away = True
    await facts.receive(event)
    ground.is_away = False

    async def leave() -> None:
        async with facts.leaving():
            pass

    ground.meanwhile[question] = leave
    await facts.catch_up()
    assert not ground.waiting


class Room:
    """One that lacks something, until it may have it."""

    def __init__(self) -> None:
        self.tries = 0
        self.is_answered = asyncio.Event()
        self.is_whole = asyncio.Event()
        self.fails: Exception | None = HomeserverAway("no answer")

    async def catch_up(self) -> None:
        """Fail, hang, or succeed."""
        self.tries += 1
        if self.fails is not None:
            raise self.fails
        await self.is_answered.wait()
        self.is_whole.set()


async def test_a_room_that_fails_or_hangs_keeps_no_other_from_catching_up() -> None:
    rooms = CatchingUp(first=0.01, longest=0.02)
    away, strange, hanging, well, gone = (Room() for _ in range(5))
    strange.fails = ValueError("nobody foresaw that")
    hanging.fails = well.fails = None
    well.is_answered.set()
    for one in (away, strange, gone):
        rooms.want(one)
    rooms.forget(gone)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        running = group.create_task(rooms.run())
        for one in (hanging, well, well):
            rooms.want(one)
        await well.is_whole.wait()
        while away.tries < 3 or strange.tries < 3:
            await asyncio.sleep(0.01)
        for one in (away, strange):
            one.fails = None
            one.is_answered.set()
            await one.is_whole.wait()
        running.cancel()
    assert (well.tries, gone.tries, hanging.tries) == (1, 0, 1)


async def test_a_room_that_is_forgotten_is_left_alone_at_once_and_for_good() -> None:
    rooms, gone, well = CatchingUp(first=0.01, longest=0.02), Room(), Room()
    gone.fails = well.fails = None
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        running = group.create_task(rooms.run())
        rooms.want(gone)
        while not gone.tries:
            await asyncio.sleep(0.01)
        rooms.forget(gone)
        gone.is_answered.set()
        well.is_answered.set()
        for one in (gone, well):
            rooms.want(one)
        await well.is_whole.wait()
        running.cancel()
    assert (gone.tries, gone.is_whole.is_set()) == (1, False)
