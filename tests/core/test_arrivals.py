"""What is told of a chat names nobody who wants no part in it."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from bridge.core.portals.portals import Portals
from bridge.core.rooms.chatfacts import ChatFacts
from bridge.core.traffic.arrivals import Arrivals
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.dates import SAID_AT
from bridge.matrix.evictions import Evictions
from bridge.model import LinkKind, LoginRow, Members, SystemClock
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import (
    MessageKind,
    RemoteEdit,
    RemoteMessage,
    RemoteRemark,
    RemoteShutOut,
    RemoteUser,
)
from bridge.sdk.ids import LoginId, RemoteChatId, RemoteMessageId, RemoteUserId, UserId
from bridge.sdk.login import LoginKind
from bridge.sdk.rich import Rich
from bridge.telemetry import Telemetry
from tests.core.ground import CHAT, NEAR, Ground

EPOCH = datetime.fromtimestamp(0, UTC)


def user(nick: str) -> RemoteUser:
    return RemoteUser(id=RemoteUserId(nick), name=nick)


def remark(*nicks: str) -> RemoteRemark:
    return RemoteRemark(
        chat=CHAT, id=RemoteMessageId(" ".join(nicks)), text=" and ".join(nicks),
        people=tuple(map(user, nicks)),
    )  # fmt: skip


class Wary(Ground):
    """Knows people who opted out."""

    def __init__(self, is_out: Callable[[UserId], bool]) -> None:
        super().__init__()
        self.is_out = is_out

    def cover(self, *who: object) -> bool:
        """Whether somebody wants no part in it."""
        return self.is_out(UserId(str(who[0])))


async def test_a_remark_that_names_somebody_who_opted_out_is_left_out() -> None:
    ground = Wary(lambda one: one == Ground().namespaces.ghost(NEAR, RemoteUserId("eve")))
    arrivals = Arrivals(ChatFacts(ground.portal, ground.house), ground.house)
    for nicks in (("eve", "carl"), ("carl", "eve"), ("carl", "dora")):
        await arrivals.receive(remark(*nicks))
    (said,) = ground.waiting
    assert said.content["body"] == "carl and dora"
    # As the portal's it is held back with all that the chat says, and is nobody's message.
    assert (said.portal, said.link) == (ground.portal.id, LinkKind.REMARK)


async def test_what_the_relay_comes_to_while_the_bot_is_out_of_the_room_is_taken_note_of() -> None:
    ground = Ground()
    bot, house = ground.namespaces.bot, cast(Any, ground.house)
    house.telemetry = Telemetry()
    evictions = cast(Any, ground).evictions = Evictions(cast(Any, ground), bot.__eq__)
    door = Doorway(ground.portal, ground.house)
    out = RemoteShutOut(chat=CHAT, reason="we are banned from it")
    await door.receive(out)
    evictions._known.put((ground.portal.room, bot), True)
    await door.receive(RemoteShutOut(chat=CHAT))
    evictions._known.put((ground.portal.room, bot), False)
    await door.receive(out)
    assert ["I am out of" in one.content["body"] for one in ground.waiting] == [True, True]


async def test_a_room_is_told_once_each_way_that_its_relay_is_out_whatever_restarts() -> None:
    ground = Ground()

    def restart() -> Arrivals:
        facts = ChatFacts(replace(ground.portal, **ground.stored), ground.house)
        return Arrivals(facts, ground.house)

    out, back = RemoteShutOut(chat=CHAT, reason="we are banned from it"), RemoteShutOut(chat=CHAT)
    await restart().receive(back)
    ground.failing.add("set_shut_out")
    arrivals = restart()
    with pytest.raises(TemporaryFailure):
        await arrivals.receive(out)
    await arrivals.receive(out)
    for event in (out, back, back):
        await restart().receive(event)
    assert ["I am out of" in one.content["body"] for one in ground.waiting] == [True, False]


@pytest.mark.parametrize(
    ("reason", "is_told_to_come_back"),
    [
        ("we are banned from it", True),
        (f"say {as_typed('unbridge')}, then {as_typed('bridge far #new')}", True),
        (f"it is #new: say {as_typed('unbridge')}, then {as_typed('bridge near #new')}", False),
    ],
)
async def test_a_room_is_told_to_bridge_its_chat_again_unless_another_is_to_be(
    reason: str, is_told_to_come_back: bool
) -> None:
    ground = Ground()
    arrivals = Arrivals(ChatFacts(ground.portal, ground.house), ground.house)
    await arrivals.receive(RemoteShutOut(chat=CHAT, reason=reason))
    (said,) = ground.waiting
    body, again = said.content["body"], as_typed(f"bridge near {ground.portal.chat_name}")
    assert body.endswith(
        f"Once that is over, say {again}." if is_told_to_come_back else f"{reason}."
    )


def message(nick: str) -> RemoteMessage:
    return RemoteMessage(
        chat=CHAT, id=RemoteMessageId(f"from {nick}"), sender=user(nick), kind=MessageKind.TEXT,
        body=Rich.plain("hello"), at=SystemClock().now(),
    )  # fmt: skip


async def test_what_is_told_late_bears_the_time_at_which_it_was_said_and_nothing_else_does() -> (
    None
):
    ground = Ground()
    arrivals = Arrivals(ChatFacts(ground.portal, ground.house), ground.house)
    now = ground.house.clock.now()
    day = timedelta(days=1)
    late = {timedelta(seconds=20), timedelta(hours=2), 2 * day, 6.9 * day}
    # What no clock says that is right.
    others = {-2 * day, 7.1 * day, now - EPOCH}
    # Of a network whose clock is slow also what is told at once seems to be of before.
    for ago, is_late in itertools.product((*late, *others), (True, False)):
        said = RemoteMessage(
            chat=CHAT, id=RemoteMessageId(str(ago)), sender=user("carl"), at=now - ago,
            kind=MessageKind.TEXT, body=Rich.plain("hello"), late=is_late,
        )  # fmt: skip
        edit = RemoteEdit(
            chat=CHAT, id=RemoteMessageId(f"edit {ago}"), target=said.id, sender=user("carl"),
            kind=MessageKind.TEXT, body=Rich.plain("hello!"), at=now - ago,
        )  # fmt: skip
        for one in (said, edit):
            await arrivals.receive(one)
            sent = ground.waiting.pop()
            stamp = sent.content[SAID_AT]
            assert abs(stamp - one.at.timestamp() * 1000) <= 1
            # Clients show the edit with the latest time, and that of one told live is now.
            is_dated = one is said and is_late and ago in late
            assert sent.said_at == (stamp if is_dated else None), ago


async def test_only_who_says_something_in_a_room_as_a_ghost_is_let_speak_there() -> None:
    eve, carl = (Ground().namespaces.ghost(NEAR, RemoteUserId(one)) for one in ("eve", "carl"))
    ground = Wary(lambda one: one == eve)
    portals = Portals(ground.house)
    relay = LoginRow(id=LoginId(1), instance=NEAR, owner=None, kind=LoginKind.RELAY)
    door = portals._open(ground.portal)
    # Another chat of the room is such that not everybody may.
    portals._open(replace(ground.portal, id=2, chat=RemoteChatId("#other"), quieted=True))
    for portal in (
        replace(ground.portal, members=Members.NONE), replace(ground.portal, paused=True),
    ):  # fmt: skip
        door.portal = portal
        for nick in ("eve", "dora"):
            await portals.receive(NEAR, relay, message(nick))
        ground.arrive()
        assert ground.levels["users"] == {}
    door.portal = ground.portal
    for nick in ("eve", "carl", "carl"):
        await portals.receive(NEAR, relay, message(nick))
    assert [one.user for one in ground.waiting][1:] == [carl, carl]
    ground.arrive()
    assert ground.levels["users"] == {carl: 1}
