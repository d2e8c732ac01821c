"""A room follows its chat over changes in quick succession, failures and cuts."""

import asyncio
import contextlib
from dataclasses import replace
from typing import cast

import pytest

from bridge.core.lanes.lane import Item, Lane
from bridge.core.lanes.progress import Row
from bridge.core.portals.portals import Portals
from bridge.core.rooms.chatfacts import ChatFacts
from bridge.model import Follow, Puppets
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import Rank, RemoteAccess, RemoteRanks
from bridge.sdk.ids import InstanceId, RemoteUserId, RoomId, UserId
from tests.core.ground import ALICE, CHAT, FEED, NEAR, ROOM, Ground


def access(*, is_open: bool = True, listed: bool = True) -> RemoteAccess:
    return RemoteAccess(chat=CHAT, listed=listed, open=is_open)


async def persistently(ground: Ground, facts: ChatFacts, event: RemoteAccess) -> None:
    """Take it as a module's host does: once more when it fails, after a while."""
    with pytest.raises(TemporaryFailure):
        await facts.receive(event)
    ground.arrive()
    await facts.receive(event)


async def test_a_room_follows_a_chat_that_changes_faster_than_the_outbox_runs() -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    await facts.receive(access(is_open=False))
    await facts.receive(access())
    ground.arrive()
    assert (ground.join_rule, facts.portal.closed) == ("public", False)
    await facts.receive(access(is_open=False))
    ground.arrive()
    assert (ground.join_rule, facts.portal.closed) == ("invite", True)
    await facts.receive(access())
    await facts.receive(access(is_open=False))
    ground.arrive()
    assert (ground.join_rule, facts.portal.closed) == ("invite", True)
    await facts.receive(access())
    ground.arrive()
    assert (ground.join_rule, facts.portal.closed) == ("public", False)
    # What people have decided since is theirs, though we put another rule before.
    ground.join_rule = "invite"
    await facts.receive(access(is_open=False))
    await facts.receive(access())
    ground.arrive()
    assert ground.join_rule == "invite"


@pytest.mark.parametrize("fails", ["set_access", "put state"])
async def test_a_failure_at_any_step_leaves_no_room_closed_for_good_nor_open(fails: str) -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    await facts.receive(access())
    for is_open, rule in ((False, "invite"), (True, "public")):
        event = access(is_open=is_open)
        ground.failing.add(fails)
        await persistently(ground, facts, event)
        ground.arrive()
        assert (ground.join_rule, facts.portal.closed) == (rule, not is_open)
        assert (ground.stored["open"], ground.stored["closed"]) == (is_open, not is_open)


@pytest.mark.parametrize("cut", ["put state", "set_access"])
async def test_a_restart_in_the_midst_of_it_finds_what_was_begun(cut: str) -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    for is_open, rule in ((False, "invite"), (True, "public")):

        async def fail() -> None:
            ground.failing.add(cut)

        ground.meanwhile["put state"] = fail
        with pytest.raises(TemporaryFailure):
            await facts.receive(access(is_open=is_open))
        ground.arrive()
        facts = ChatFacts(replace(ground.portal, **ground.stored), ground.house)
        await facts.receive(access(is_open=is_open))
        ground.arrive()
        assert (ground.join_rule, facts.portal.closed) == (rule, not is_open)


@pytest.mark.parametrize("fails", ["put list", "set_listed"])
async def test_a_chat_that_hides_leaves_the_list_though_it_fails_at_first(fails: str) -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    await facts.receive(access())
    ground.failing.add(fails)
    await persistently(ground, facts, access(listed=False))
    ground.arrive()
    assert ground.listed == [True, False]
    assert facts.portal.listed is False


async def test_a_room_that_is_left_goes_off_the_list_though_that_fails_at_first() -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    assert not facts.hide()
    await facts.receive(access())
    ground.failing.add("put list")
    with pytest.raises(TemporaryFailure):
        await ground.put(facts.hide())
    # Nor does what fails after that, as a move does, leave it there.
    facts.hide()
    await ground.put(facts.hide())
    facts.forget_listing()
    facts.portal = replace(facts.portal, room=RoomId("!new"))
    await facts.show()
    assert [(one.room, one.content["listed"]) for one in ground.waiting] == [
        (ROOM, True), (ROOM, False), ("!new", True),
    ]  # fmt: skip


async def test_what_is_chosen_while_a_chat_changes_stays_chosen() -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)

    async def pause() -> None:
        facts.portal = replace(facts.portal, paused=True, privacy=True)

    ground.meanwhile["set_access"] = pause
    await facts.receive(access(listed=False))
    assert (facts.portal.paused, facts.portal.privacy) == (True, True)
    assert facts.portal.listed is False


def moderated(*, is_so: bool = True, heard: bool = False) -> RemoteAccess:
    return RemoteAccess(chat=CHAT, listed=True, open=True, moderated=is_so, relay_heard=heard)


def ranks(*, is_all: bool = False, own: Rank | None = None, **theirs: Rank) -> RemoteRanks:
    return RemoteRanks(
        chat=CHAT, ranks={RemoteUserId(who): rank for who, rank in theirs.items()},
        own={} if own is None else {ALICE: own}, is_all=is_all,
    )  # fmt: skip


async def test_only_who_is_heard_in_a_moderated_chat_speaks_in_the_room_until_it_ends() -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    bob, carl, feed = (
        ground.namespaces.ghost(NEAR, RemoteUserId("bob")),
        ground.namespaces.ghost(NEAR, RemoteUserId("carl")),
        ground.namespaces.bot_of(FEED),
    )
    ground.members = {ALICE, bob, carl, feed, ground.namespaces.bot}
    await facts.receive(ranks(bob=Rank.VOICED, own=Rank.MODERATOR, is_all=True))
    await facts.receive(moderated())
    ground.arrive()
    # Of our own people the network gives nobody more than a voice.
    assert ground.levels == {"users": {bob: 1, ALICE: 1, feed: 1}, "events_default": 1}
    await facts.let_speak(bob)
    assert not ground.waiting
    # Services are heard, whatever they are in the chat.
    await facts.let_speak(carl)
    await facts.let_speak(carl)
    assert len(ground.waiting) == 1
    await facts.receive(ranks(own=Rank.NONE))
    ground.arrive()
    assert ground.levels["users"] == {bob: 1, carl: 1, feed: 1}
    await facts.receive(ranks(own=Rank.VOICED))
    await facts.receive(moderated(is_so=False))
    await facts.let_speak(carl)
    ground.arrive()
    assert ground.levels == {"users": {bob: 1, ALICE: 1}, "events_default": 0}
    assert (facts.portal.quieted, ground.stored["quieted"]) == (False, False)
    await facts.receive(ranks(own=Rank.NONE))
    ground.arrive()
    assert ground.levels["users"] == {bob: 1}


async def test_a_room_that_people_limited_or_opened_stays_as_they_have_it() -> None:
    for theirs in ({"events_default": 1}, {"events_default": 50}, {"users_default": 1}):
        ground = Ground()
        facts = ChatFacts(ground.portal, ground.house)
        ground.levels |= theirs
        await facts.receive(moderated())
        await facts.receive(moderated(is_so=False))
        ground.arrive()
        assert ground.levels == {"users": {}, **theirs}
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    await facts.receive(moderated())
    ground.arrive()
    ground.levels["events_default"] = 0
    facts = ChatFacts(replace(ground.portal, **ground.stored), ground.house)
    await facts.receive(moderated())
    ground.arrive()
    assert ground.levels["events_default"] == 0


async def test_who_may_speak_follows_a_chat_that_changes_faster_than_the_outbox_runs() -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    for is_so in (True, False, True, False, True):
        await facts.receive(moderated(is_so=is_so))
    ground.arrive()
    assert (ground.levels["events_default"], facts.portal.quieted) == (1, True)
    await facts.receive(moderated(is_so=False))
    await facts.receive(moderated())
    await facts.receive(moderated(is_so=False))
    ground.arrive()
    assert (ground.levels["events_default"], facts.portal.quieted) == (0, False)


@pytest.mark.parametrize("fails", ["set_quieted", "put powers"])
async def test_a_failure_at_any_step_leaves_no_room_silent_for_good(fails: str) -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    for is_so, level in ((True, 1), (False, 0)):
        ground.failing.add(fails)
        await persistently(ground, facts, moderated(is_so=is_so))
        ground.arrive()
        assert (ground.levels["events_default"], facts.portal.quieted) == (level, is_so)
    # Cut off in the midst of it, and the chat is not moderated any more after that.
    ground.failing.add(fails)
    with pytest.raises(TemporaryFailure):
        await facts.receive(moderated())
    ground.arrive()
    facts = ChatFacts(replace(ground.portal, **ground.stored), ground.house)
    await facts.receive(moderated(is_so=False))
    ground.arrive()
    assert (ground.levels["events_default"], facts.portal.quieted) == (0, False)


async def test_a_room_is_limited_only_while_it_follows_and_nobody_is_heard_for_all() -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    for changes, heard, level in (
        ({"follow": Follow.TOPIC}, False, 0),
        ({}, False, 1),
        ({"paused": True}, False, 0),
        ({}, True, 1),
        ({"puppets": Puppets.RELAY}, True, 0),
        ({"puppets": Puppets.LOGIN}, False, 1),
        ({"puppets": Puppets.LOGIN}, True, 0),
    ):
        facts.portal = replace(ground.portal, quieted=facts.portal.quieted, **changes)
        facts.overhear(moderated(heard=heard))
        await facts.review()
        ground.arrive()
        assert ground.levels.get("events_default", 0) == level, (changes, heard)


async def test_a_limit_that_cannot_be_lifted_now_stays_ours_and_is_lifted_later() -> None:
    ground = Ground()
    facts, bot = ChatFacts(ground.portal, ground.house), ground.namespaces.bot
    await facts.receive(moderated())
    ground.arrive()
    ground.is_demoted = True
    await facts.receive(moderated(is_so=False))
    ground.arrive()
    assert (ground.levels["events_default"], facts.portal.quieted) == (1, True)
    ground.is_demoted = False
    # Put out of the room, it can do as little.
    ground.evictions._known.put((ROOM, bot), True)
    await facts.review()
    assert (facts.portal.quieted, len(ground.waiting)) == (True, 0)
    ground.evictions.forgive(ROOM, bot)
    await facts.review()
    ground.arrive()
    assert (ground.levels["events_default"], facts.portal.quieted) == (0, False)
    await facts.receive(moderated())
    ground.arrive()
    assert (ground.levels["events_default"], facts.portal.quieted) == (1, True)


async def test_a_change_of_power_in_the_room_lifts_what_could_not_be_lifted() -> None:
    ground = Ground()
    door = Portals(ground.house)._open(ground.portal)
    await door.facts.receive(moderated())
    ground.arrive()
    ground.is_demoted = True
    await door.facts.receive(moderated(is_so=False))
    ground.arrive()
    ground.is_demoted = False
    event = {"type": "m.room.power_levels", "state_key": "", "room_id": ROOM, "content": {},
             "event_id": "$power", "sender": ALICE}  # fmt: skip
    await door.acts.handle(Item(cast(Row, None), 0, event, cast(Lane, None)))
    ground.arrive()
    assert (ground.levels["events_default"], door.portal.quieted) == (0, False)


async def test_a_room_that_a_bridge_moves_into_is_limited_as_the_one_before() -> None:
    ground = Ground()
    door = Portals(ground.house)._open(ground.portal)
    bob = ground.namespaces.ghost(NEAR, RemoteUserId("bob"))
    await door.facts.receive(ranks(bob=Rank.VOICED, own=Rank.VOICED, is_all=True))
    await door.facts.receive(moderated())
    ground.arrive()
    ground.levels = {"users": {}}
    door.become(replace(door.portal, room=RoomId("!new")))
    await door.facts.review()
    assert {one.room for one in ground.waiting} == {"!new"}
    ground.arrive()
    assert ground.levels == {"users": {bob: 1, ALICE: 1}, "events_default": 1}


async def test_what_changes_in_the_chat_while_nothing_crosses_is_in_the_room_after_that() -> None:
    ground = Ground()
    portals = Portals(ground.house)
    door = portals._open(ground.portal)
    bob, carl = (ground.namespaces.ghost(NEAR, RemoteUserId(one)) for one in ("bob", "carl"))
    await door.receive(ranks(bob=Rank.MODERATOR, own=Rank.VOICED, is_all=True))
    await door.receive(moderated())
    ground.arrive()
    await portals.set_paused(door, True, ALICE)
    ground.arrive()
    assert ground.levels == {"users": {bob: 50, ALICE: 1}, "events_default": 0}
    await door.receive(ranks(bob=Rank.NONE, carl=Rank.VOICED, own=Rank.NONE))
    await door.receive(access(is_open=False))
    await door.receive(moderated())
    ground.arrive()
    assert ground.levels["users"] == {bob: 50, ALICE: 1}
    ground.failing.add("put powers")
    await portals.set_paused(door, False, ALICE)
    await door.facts.review()
    ground.arrive()
    assert ground.levels == {"users": {carl: 1}, "events_default": 1}
    await door.facts.review()
    assert not ground.waiting


async def test_a_voice_that_was_given_before_a_restart_is_taken_when_it_is_gone() -> None:
    ground = Ground()
    bea, mod = UserId("@bea:test.example"), UserId("@mod:test.example")
    facts = ChatFacts(ground.portal, ground.house)
    await facts.receive(ranks(is_all=True))
    await facts.receive(moderated())
    both = replace(ranks(is_all=True), own={ALICE: Rank.VOICED, bea: Rank.VOICED})
    await facts.receive(both)
    ground.arrive()
    ground.levels["users"][mod] = 50
    assert ground.levels["users"] == {ALICE: 1, bea: 1, mod: 50}
    facts = ChatFacts(replace(ground.portal, **ground.stored), ground.house)
    # One change does not tell who has none.
    await facts.receive(replace(ranks(), own={bea: Rank.VOICED}))
    ground.arrive()
    assert ground.levels["users"] == {ALICE: 1, bea: 1, mod: 50}
    await facts.receive(replace(ranks(is_all=True), own={bea: Rank.VOICED}))
    ground.arrive()
    assert ground.levels["users"] == {bea: 1, mod: 50}
    # Later it is as people have it.
    ground.levels["users"][ALICE] = 1
    await facts.receive(replace(ranks(is_all=True), own={bea: Rank.VOICED}))
    ground.arrive()
    assert ground.levels["users"] == {ALICE: 1, bea: 1, mod: 50}


@pytest.mark.parametrize("fails", [False, True])
async def test_a_room_that_is_untied_while_its_chat_becomes_moderated_is_not_limited_after_it(
    fails: bool,
) -> None:
    ground = Ground()
    facts = ChatFacts(ground.portal, ground.house)
    carl = ground.namespaces.ghost(NEAR, RemoteUserId("carl"))
    begun = asyncio.Event()

    async def untie() -> None:
        begun.set()
        with contextlib.suppress(TemporaryFailure):
            async with facts.leaving() as unlimited:
                await ground.put(unlimited)
                if fails:
                    raise TemporaryFailure("the database is away")

    async with asyncio.TaskGroup() as tasks:

        async def begin() -> None:
            """Untie it while a change is on its way."""
            tasks.create_task(untie())
            await begun.wait()

        ground.meanwhile["set_quieted"] = begin
        await facts.receive(moderated())
    ground.arrive()
    assert ground.levels["events_default"] == 0
    await facts.receive(moderated())
    await facts.let_speak(carl)
    ground.arrive()
    # Where it is not untied after all, it is as it was.
    assert ground.levels["events_default"] == (1 if fails else 0)
    assert (carl in ground.levels["users"]) is fails


async def test_a_bot_that_comes_later_speaks_and_the_main_bot_makes_good_what_it_missed() -> None:
    ground = Ground()
    portals = Portals(ground.house)
    portals.on_empowered = ground.want
    door = portals._open(ground.portal)
    feed, bot = ground.namespaces.bot_of(FEED), ground.namespaces.bot
    await door.receive(moderated())
    await portals.bot_came(feed, ROOM)
    ground.arrive()
    assert ground.levels == {"users": {feed: 1}, "events_default": 1}
    ground.evictions._known.put((ROOM, bot), True)
    await door.receive(ranks(carl=Rank.HELPER, is_all=True))
    await door.receive(moderated(is_so=False))
    ground.evictions.forgive(ROOM, bot)
    await portals.bot_came(bot, ROOM)
    ground.arrive()
    carl = ground.namespaces.ghost(NEAR, RemoteUserId("carl"))
    assert ground.levels == {"users": {carl: 25}, "events_default": 0}


async def test_a_room_of_two_moderated_chats_opens_when_neither_of_them_is_moderated() -> None:
    ground = Ground()
    portals = Portals(ground.house)
    near = portals._open(ground.portal)
    far = portals._open(replace(ground.portal, id=2, instance=InstanceId("far")))
    feed, bot = ground.namespaces.bot_of(FEED), ground.namespaces.bot
    ground.members = {feed, bot}
    for first, second in ((near, far), (far, near)):
        await first.receive(moderated())
        ground.arrive()
        await second.receive(moderated())
        await first.receive(moderated(is_so=False))
        ground.arrive()
        assert ground.levels == {"users": {feed: 1}, "events_default": 1}
        assert [one.portal.quieted for one in (first, second)] == [False, True]
        await second.receive(moderated(is_so=False))
        ground.arrive()
        assert ground.levels == {"users": {}, "events_default": 0}
    # Of one whose room is untied, too, it is left to the other.
    for door in (near, far):
        await door.receive(moderated())
    async with near.facts.leaving() as unlimited:
        assert not unlimited
        await far.receive(moderated(is_so=False))
    ground.arrive()
    assert ground.levels == {"users": {}, "events_default": 0}


async def test_a_room_opens_when_both_of_its_chats_cease_to_be_moderated_at_once() -> None:
    ground = Ground()
    portals = Portals(ground.house)
    near = portals._open(ground.portal)
    far = portals._open(replace(ground.portal, id=2, instance=InstanceId("far")))
    for door in (near, far):
        await door.receive(moderated())

    async def end_the_other() -> None:
        await far.receive(moderated(is_so=False))

    ground.meanwhile["set_quieted"] = end_the_other
    await near.receive(moderated(is_so=False))
    ground.arrive()
    assert ground.levels == {"users": {}, "events_default": 0}
