"""A room follows its chat over changes in quick succession, failures and cuts."""

from dataclasses import replace

import pytest

from bridge.core.chatfacts import ChatFacts
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import RemoteAccess
from bridge.sdk.ids import RoomId
from tests.core.ground import CHAT, ROOM, Ground


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
