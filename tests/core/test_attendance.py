"""Who leaves a chat while the ghost is on its way into the room does not stay behind."""

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest

from bridge.core.outbox.roomlane import RoomLane
from bridge.core.portals.portals import Portals
from bridge.core.rooms.attendance import Attendance
from bridge.core.rooms.chatfacts import ChatFacts
from bridge.core.rooms.haste import AT_ONCE
from bridge.matrix.client import HomeserverAway
from bridge.model import Members, SendKind
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import (
    RemoteJoin,
    RemoteLeave,
    RemoteMembers,
    RemoteRename,
    RemoteUser,
)
from bridge.sdk.ids import LoginId, RemoteChatId, RemoteUserId, UserId
from tests.core.ground import CHAT, NEAR, ROOM, Ground


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


@pytest.mark.parametrize("leaves", [True, False])
async def test_who_leaves_while_the_ghost_that_was_called_in_enters_leaves_after_that(
    leaves: bool,
) -> None:
    ground = Ground()
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    await attendance.receive(RemoteMembers(chat=CHAT, users=(user("carl"),)))

    async def enter(called: RemoteUser) -> None:
        ground.members |= ghosts(ground, called.name)
        if leaves:
            await attendance.receive(LEAVE)

    await attendance.let_in(RemoteUserId("carl"), enter)
    ground.arrive()
    there = () if leaves else ("carl",)
    assert ground.members == await attendance.present() == ghosts(ground, *there)


async def test_a_homeserver_that_does_not_know_us_just_now_is_asked_again() -> None:
    ground = Ground()
    ground.refusing.add("joined_members")
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    await attendance.receive(RemoteJoin(chat=CHAT, user=user("carl")))
    assert attendance.waiting == 0
    await attendance.catch_up()
    assert attendance.waiting == 1


async def test_who_comes_and_goes_while_the_homeserver_is_away_waits_for_nobody() -> None:
    ground = Ground()
    ground.members = ghosts(ground, "anna", "bob", "carl", "dora", "eve")
    ground.is_away = True
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    there = tuple(map(user, ("bob", "carl", "dora", "fred", "gina")))
    await attendance.receive(RemoteMembers(chat=CHAT, users=there))
    # Whoever spoke is in the room by that, and goes as people do.
    attendance.note_spoke(user("fred"))
    await attendance.receive(RemoteLeave(chat=CHAT, user=user("fred"), reason="bye"))
    await attendance.receive(RENAME)
    await attendance.receive(RemoteLeave(chat=CHAT, user=user("dora"), reason="enough"))
    await attendance.receive(RemoteJoin(chat=CHAT, user=user("hans")))
    await attendance.let_go(RemoteUserId("eve"))
    assert [(one.kind, one.content) for one in ground.waiting] == [
        (SendKind.LEAVE, {"reason": "bye"})
    ]
    with pytest.raises(HomeserverAway):
        await attendance.catch_up()
    ground.arrive()
    ground.is_away = False
    await attendance.catch_up()
    reasons = {one.user: one.content.get("reason") for one in ground.waiting}
    anna, carl, dora, eve, karl = (
        ground.namespaces.ghost(NEAR, RemoteUserId(one))
        for one in ("anna", "carl", "dora", "eve", "karl")
    )
    assert reasons == {
        anna: None, carl: "is now known as karl", dora: "enough", eve: None, karl: None
    }  # fmt: skip
    await attendance.admit(10)
    ground.arrive()
    assert ground.members == ghosts(ground, "bob", "karl", "gina", "hans")
    assert await attendance.present() == ground.members
    await attendance.catch_up()
    assert not ground.waiting


async def test_where_the_network_has_not_told_who_is_there_nobody_goes_for_that() -> None:
    ground = Ground()
    ground.members = ghosts(ground, "anna", "carl")
    ground.is_away = True
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    await attendance.receive(LEAVE)
    ground.is_away = False
    await attendance.catch_up()
    ground.arrive()
    assert ground.members == ghosts(ground, "anna")


async def test_who_comes_in_by_what_an_earlier_process_left_does_not_stay_for_that() -> None:
    ground = Ground()
    ground.lane = RoomLane(ROOM, deque(), beyond=2, until=7, left=7)
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    await attendance.receive(RemoteMembers(chat=CHAT, users=(user("bob"),)))
    # What this one puts is not waited for: by whom somebody comes in is known.
    ground.lane = RoomLane(ROOM, deque(), beyond=1, until=9, last=6, left=7)
    with pytest.raises(HomeserverAway):
        await attendance.catch_up()
    ground.members = ghosts(ground, "anna")
    ground.lane = RoomLane(ROOM, deque(), beyond=1, until=9, last=7, left=7)
    await attendance.catch_up()
    ground.arrive()
    assert not ground.members
    assert attendance.waiting == 1


async def test_who_speaks_while_it_is_asked_who_is_there_is_there() -> None:
    ground = Ground()
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)

    async def speak() -> None:
        attendance.note_spoke(user("carl"))

    ground.meanwhile["joined_members"] = speak
    assert await attendance.present() == ghosts(ground, "carl")


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


async def test_who_comes_back_before_their_leaving_is_in_the_room_is_there_after_it() -> None:
    ground = Ground()
    ground.is_away = True
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    carl = RemoteJoin(chat=CHAT, user=user("carl"))
    attendance.note_spoke(user("carl"))
    await attendance.receive(LEAVE)
    await attendance.receive(carl)
    # The homeserver is back, and the room has what was said, but not the leaving yet.
    ground.is_away = False
    ground.members = ghosts(ground, "carl")
    await attendance.catch_up()
    ground.arrive()
    await attendance.admit(2)
    ground.arrive()
    assert ground.members == await attendance.present() == ghosts(ground, "carl")


async def test_who_speaks_again_after_it_was_missed_that_they_left_stays() -> None:
    ground = Ground()
    ground.is_away = True
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    await attendance.receive(LEAVE)
    attendance.note_spoke(user("carl"))
    ground.is_away = False
    ground.members = ghosts(ground, "carl")
    await attendance.catch_up()
    ground.arrive()
    assert ground.members == ghosts(ground, "carl")


async def test_the_ghost_of_somebody_whose_new_name_was_missed_leaves_their_direct_chat() -> None:
    ground = Ground()
    door = Portals(ground.house)._open(replace(ground.portal, receiver=LoginId(7)))
    ground.members = ghosts(ground, "carl")
    ground.is_away = True
    attendance = door.arrivals.attendance
    await attendance.receive(RENAME)
    door.become(replace(door.portal, chat=RemoteChatId("karl"), chat_name="karl"))
    ground.is_away = False
    await attendance.catch_up()
    ground.arrive()
    assert ground.members == await attendance.present() == ghosts(ground, "karl")


async def test_no_ghost_comes_into_a_room_that_is_paused_or_has_put_our_bot_out() -> None:
    ground = Ground()
    door = Portals(ground.house)._open(ground.portal)
    attendance = door.arrivals.attendance
    ground.is_away = True
    await attendance.receive(RemoteMembers(chat=CHAT, users=(user("carl"),)))
    ground.is_away, ground.is_bot_out = False, True
    with pytest.raises(HomeserverAway, match="not in the room"):
        await attendance.catch_up()
    assert await attendance.present() == set()
    ground.is_bot_out = False
    ground.members = ghosts(ground, "anna")
    door.portal = replace(door.portal, paused=True)
    await attendance.catch_up()
    assert (attendance.waiting, list(ground.waiting)) == (0, [])
    door.portal = replace(door.portal, paused=False)
    ground.wanted.clear()
    attendance.review()
    assert ground.wanted == [attendance]
    await attendance.catch_up()
    ground.arrive()
    assert (attendance.waiting, ground.members) == (1, set())


@pytest.mark.parametrize("is_away", [False, True])
async def test_however_often_somebody_changes_their_name_the_homeserver_is_not_to_follow(
    is_away: bool,
) -> None:
    ground = Ground()
    ground.members, ground.is_away = ghosts(ground, "carl"), is_away
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    await attendance.receive(RemoteMembers(chat=CHAT, users=(user("carl"),)))
    attendance.note_spoke(user("carl"))
    names = ["carl", *(f"carl{number}" for number in range(3000))]
    for old, new in pairwise(names):
        await attendance.receive(RemoteRename(chat=CHAT, old=user(old), new=user(new)))
    assert len(ground.waiting) <= AT_ONCE
    ground.arrive()
    if is_away:
        ground.is_away = False
        await attendance.catch_up()
        ground.arrive()
    # And then the room shows whom the chat has.
    while attendance.waiting:
        await attendance.admit(2)
        ground.arrive()
    assert ground.members == await attendance.present() == ghosts(ground, names[-1])


async def test_who_comes_and_goes_without_end_is_in_the_room_if_they_were_there_last() -> None:
    ground = Ground()
    ground.members = ghosts(ground, "carl", "dora")
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    await attendance.receive(RemoteMembers(chat=CHAT, users=(user("carl"), user("dora"))))
    for nick in ("carl", "dora"):
        for _ in range(1000):
            await attendance.receive(RemoteLeave(chat=CHAT, user=user(nick), reason=""))
            await attendance.receive(RemoteJoin(chat=CHAT, user=user(nick)))
            attendance.note_spoke(user(nick))
    await attendance.receive(RemoteLeave(chat=CHAT, user=user("dora"), reason=""))
    # What was said brought the ghosts in each time.
    assert len(ground.waiting) <= AT_ONCE
    ground.arrive()
    while attendance.waiting:
        await attendance.admit(2)
        ground.arrive()
    assert await attendance.present() == ghosts(ground, "carl")
    assert ghosts(ground, "dora").isdisjoint(ground.members)


async def test_a_list_of_nobody_empties_a_large_room_in_turn() -> None:
    ground = Ground()
    people = tuple(user(f"p{number}") for number in range(1000))
    ground.members = ghosts(ground, *(one.id for one in people))
    attendance = Attendance(ChatFacts(ground.portal, ground.house), ground.house)
    await attendance.receive(RemoteMembers(chat=CHAT, users=people))
    await attendance.receive(RemoteMembers(chat=CHAT, users=()))
    assert not ground.waiting
    # Those who are listed again before their turn stay.
    await attendance.receive(RemoteMembers(chat=CHAT, users=people[:990]))
    while attendance.waiting:
        await attendance.admit(2)
        ground.arrive()
    assert ground.members == await attendance.present() == ghosts(
        ground, *(one.id for one in people[:990])
    )  # fmt: skip


def crowd(ground: Ground, members: Members) -> tuple[Attendance, tuple[RemoteUser, ...]]:
    """Three hundred people whose ghosts are in the room."""
    ground.portal = replace(ground.portal, members=members)
    people = tuple(user(f"p{number}") for number in range(300))
    ground.members = ghosts(ground, *(one.id for one in people))
    return Attendance(ChatFacts(ground.portal, ground.house), ground.house), people


async def leave(attendance: Attendance, people: Iterable[RemoteUser]) -> None:
    for one in people:
        await attendance.receive(RemoteLeave(chat=CHAT, user=one, reason="split"))


async def admit_all(ground: Ground, attendance: Attendance) -> None:
    ground.arrive()
    while attendance.waiting:
        await attendance.admit(2)
        ground.arrive()


async def test_who_waits_to_leave_does_so_whatever_is_chosen_meanwhile() -> None:
    for before, after, spoke in (
        (Members.SPEAKERS, Members.FULL, False), (Members.FULL, Members.NONE, True),
    ):  # fmt: skip
        ground = Ground()
        attendance, people = crowd(ground, before)
        await attendance.receive(RemoteMembers(chat=CHAT, users=people))
        if spoke:
            attendance.note_spoke(people[-1])
        await leave(attendance, people[:250])
        ground.portal = replace(ground.portal, members=after)
        attendance._facts.portal = ground.portal
        await attendance.adapt()
        new = replace(people[-1], name="P299")
        await attendance.receive(RemoteRename(chat=CHAT, old=people[-1], new=new))
        await admit_all(ground, attendance)
        here = people[250:] if after is Members.FULL else ()
        assert ground.members == ghosts(ground, *(one.id for one in here))


@pytest.mark.parametrize("members", [Members.FULL, Members.SPEAKERS])
async def test_who_is_back_just_as_the_ghost_leaves_is_in_the_room_and_can_leave_it(
    members: Members,
) -> None:
    ground = Ground()
    attendance, people = crowd(ground, members)
    await attendance.receive(RemoteMembers(chat=CHAT, users=people))
    await leave(attendance, people[:150])
    ground.arrive()
    first = next(iter(attendance._going))
    (who,) = (one for one in people if first in ghosts(ground, one.id))

    async def come_back() -> None:
        await attendance.receive(RemoteJoin(chat=CHAT, user=who))
        if members is Members.SPEAKERS:
            attendance.note_spoke(who)

    ground.meanwhile["put leave"] = come_back
    await attendance.admit(2)
    ground.arrive()
    if members is Members.SPEAKERS:
        ground.members.add(first)  # By what was said.
    await admit_all(ground, attendance)
    assert first in ground.members
    assert first in await attendance.present()
    await leave(attendance, [who])
    await admit_all(ground, attendance)
    assert first not in ground.members


async def test_who_does_not_want_to_be_shown_goes_before_those_who_wait() -> None:
    ground = Ground()
    attendance, people = crowd(ground, Members.SPEAKERS)
    await attendance.receive(RemoteMembers(chat=CHAT, users=people))
    await leave(attendance, people[:250])
    attendance.let_go_soon(people[-1].id)
    await attendance.admit(1)
    ground.arrive()
    assert ghosts(ground, people[-1].id).isdisjoint(ground.members)


@pytest.mark.parametrize("members", [Members.NONE, Members.SPEAKERS])
async def test_who_speaks_or_takes_a_name_while_they_wait_to_leave_is_out_where_none_is_shown(
    members: Members,
) -> None:
    ground = Ground()
    attendance, people = crowd(ground, Members.FULL)
    await attendance.receive(RemoteMembers(chat=CHAT, users=people))
    attendance._facts.portal = replace(ground.portal, members=members)
    await attendance.adapt()
    attendance.note_spoke(people[0])
    await attendance.receive(RemoteRename(chat=CHAT, old=people[1], new=user("q")))
    await admit_all(ground, attendance)
    here = people[:1] if members is Members.SPEAKERS else ()
    assert ground.members == await attendance.present() == ghosts(ground, *(o.id for o in here))


@pytest.mark.parametrize("after", [Members.FULL, Members.SPEAKERS])
async def test_who_does_not_want_to_be_shown_goes_whatever_is_said_or_chosen_meanwhile(
    after: Members,
) -> None:
    ground = Ground()
    before = Members.SPEAKERS if after is Members.FULL else Members.FULL
    attendance, people = crowd(ground, before)
    await attendance.receive(RemoteMembers(chat=CHAT, users=people))
    attendance.note_spoke(people[0])
    ground.out |= ghosts(ground, people[0].id)
    attendance.let_go_soon(people[0].id)
    attendance.note_spoke(people[0])  # It was being put.
    attendance._facts.portal = replace(ground.portal, members=after)
    await attendance.adapt()
    await admit_all(ground, attendance)
    assert ghosts(ground, people[0].id).isdisjoint(ground.members)
