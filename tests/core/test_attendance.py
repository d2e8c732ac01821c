"""Who leaves a chat while the ghost is on its way into the room does not stay behind."""

import pytest

from bridge.core.attendance import Attendance
from bridge.core.chatfacts import ChatFacts
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import RemoteJoin, RemoteLeave, RemoteRename, RemoteUser
from bridge.sdk.ids import RemoteUserId, UserId
from tests.core.ground import CHAT, NEAR, Ground


def user(nick: str) -> RemoteUser:
    return RemoteUser(id=RemoteUserId(nick), name=nick)


def ghosts(ground: Ground, *nicks: str) -> set[UserId]:
    return {ground.namespaces.ghost(NEAR, RemoteUserId(one)) for one in nicks}


LEAVE = RemoteLeave(chat=CHAT, user=user("carl"), reason="")
RENAME = RemoteRename(chat=CHAT, old=user("carl"), new=user("karl"))


@pytest.mark.parametrize(("event", "there"), [(LEAVE, ()), (RENAME, ("karl",))])
async def test_who_goes_while_the_ghost_is_let_in_goes_after_that(
    event: RemoteLeave | RemoteRename, there: tuple[str, ...]
) -> None:
    ground = Ground()
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    await attendance.receive(RemoteJoin(chat=CHAT, user=user("carl")))

    async def go() -> None:
        await attendance.receive(event)

    ground.meanwhile["put join"] = go
    await attendance.admit(2)
    ground.arrive()
    assert ground.members == await attendance.present() == ghosts(ground, *there)
    assert attendance.waiting == 0


async def test_a_homeserver_that_does_not_say_who_is_there_is_waited_for() -> None:
    ground = Ground()
    ground.refusing.add("joined_members")
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    come = RemoteJoin(chat=CHAT, user=user("carl"))
    with pytest.raises(TemporaryFailure, match="M_UNKNOWN_TOKEN"):
        await attendance.receive(come)
    await attendance.receive(come)
    assert attendance.waiting == 1


async def test_who_could_not_be_let_in_or_came_again_meanwhile_is_let_in_later() -> None:
    ground = Ground()
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    come = RemoteJoin(chat=CHAT, user=user("carl"))
    await attendance.receive(come)
    ground.failing.add("put join")
    with pytest.raises(TemporaryFailure):
        await attendance.admit(2)
    assert await attendance.present() == set()

    async def go_and_come() -> None:
        await attendance.receive(LEAVE)
        await attendance.receive(RemoteJoin(chat=CHAT, user=user("carl")))

    ground.meanwhile["put join"] = go_and_come
    await attendance.admit(2)
    await attendance.admit(2)
    ground.arrive()
    assert ground.members == await attendance.present() == ghosts(ground, "carl")
    assert attendance.waiting == 0


async def test_who_says_no_while_the_homeserver_is_away_leaves_when_it_is_back() -> None:
    ground = Ground()
    ground.members = ghosts(ground, "carl", "dora")
    ground.refusing.add("joined_members")
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    attendance.let_go_soon(RemoteUserId("carl"))
    attendance.let_go_soon(RemoteUserId("absent"))
    with pytest.raises(TemporaryFailure, match="M_UNKNOWN_TOKEN"):
        await attendance.admit(2)
    assert await attendance.admit(2) == 1
    ground.arrive()
    assert ground.members == await attendance.present() == ghosts(ground, "dora")
    # Of whom it is known that they are not there nothing is asked.
    attendance.let_go_soon(RemoteUserId("absent"))
    assert attendance.waiting == 0
