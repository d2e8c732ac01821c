"""What is told of a chat names nobody who wants no part in it."""

from collections.abc import Callable
from typing import Any, cast

from bridge.core.arrivals import Arrivals
from bridge.core.chatfacts import ChatFacts
from bridge.core.doorway import Doorway
from bridge.matrix.evictions import Evictions
from bridge.model import LinkKind
from bridge.sdk.events import RemoteRemark, RemoteShutOut, RemoteUser
from bridge.sdk.ids import RemoteMessageId, RemoteUserId, UserId
from bridge.telemetry import Telemetry
from tests.core.ground import CHAT, NEAR, Ground


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
