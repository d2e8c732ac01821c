"""What waits for a room when its portal moves: what of it goes along, and in which order."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.outbox.moving import Plan, make_plan
from bridge.model import LinkKind, Outgoing, QueuedOutgoing, SendKind, SystemClock
from bridge.sdk.ids import RoomId, UserId
from tests.core.outgoing import say

OLD, NEW = RoomId("!old:test"), RoomId("!new:test")
THERE = ("there 1", "there 2")
"""Messages that are in the old room."""
WAITING = ("waits 1", "waits 2", "waits 3")
UNKNOWN = "never heard of"

ids = st.sampled_from((*THERE, *WAITING, UNKNOWN))
ghosts = st.sampled_from(("@carl:test", "@dora:test"))


@dataclass(frozen=True)
class Deed:
    """Something that the network told."""

    what: str
    about: str
    by: str

    def entry(self, number: int) -> Outgoing:
        """What is put for it."""
        one = replace(
            say(f"{number}", OLD), user=UserId(self.by), portal=7, remote_id=f"own {number}"
        )
        match self.what:
            case "message":
                return replace(one, remote_id=self.about) if self.about in WAITING else one
            case "answer":
                return replace(one, about=self.about)
            case "edit":
                changed = {"body": f"* {number}", "m.new_content": one.content}
                return replace(one, about=self.about, link=LinkKind.EDIT, content=changed)
            case "reaction":
                content = {"m.relates_to": {"key": "+1"}}
                return replace(one, about=self.about, link=LinkKind.REACTION, content=content)
            case "deletion":
                return replace(one, kind=SendKind.REDACT, about=self.about, remote_id=None)
            case "topic":
                return replace(one, kind=SendKind.STATE, remote_id=None)
        kind = SendKind.JOIN if self.what == "join" else SendKind.LEAVE
        return replace(one, kind=kind, remote_id=None)


deeds = st.lists(st.builds(
    Deed,
    st.sampled_from(
        ("message", "answer", "edit", "reaction", "deletion", "topic", "join", "leave")
    ),
    ids, ghosts,
), max_size=30)  # fmt: skip


def queued(told: Sequence[Deed]) -> list[QueuedOutgoing]:
    """All that was told, as it waits in the outbox."""
    now = SystemClock().now()
    return [
        QueuedOutgoing(day=now.date(), seq=seq, received_at=now + timedelta(seconds=seq),
                       outgoing=deed.entry(seq))
        for seq, deed in enumerate(told, 1)
    ]  # fmt: skip


async def is_there(about: str) -> bool:
    return about in THERE


def planned(told: Sequence[Deed]) -> tuple[list[QueuedOutgoing], Plan]:
    """What waits, and what becomes of it."""
    waiting = queued(told)
    return waiting, asyncio.run(make_plan(waiting, NEW, is_there))


def taken_back_later(waiting: Sequence[QueuedOutgoing], one: QueuedOutgoing) -> bool:
    """Whether what was said, or changed, is taken back after that."""
    said = one.outgoing
    names = {said.remote_id}
    if said.link in {LinkKind.EDIT, LinkKind.REACTION}:
        names.add(said.about)
    return said.kind is SendKind.EVENT and any(
        other.seq > one.seq and other.outgoing.kind is SendKind.REDACT
        and other.outgoing.about in names
        for other in waiting
    )  # fmt: skip


def expected(waiting: Sequence[QueuedOutgoing]) -> Iterator[int]:
    """The numbers of what is to go along, by the rules one by one."""
    for one in waiting:
        said = one.outgoing
        is_of_people = said.kind in {SendKind.EVENT, SendKind.JOIN, SendKind.LEAVE}
        is_idle = said.link is LinkKind.REACTION and said.about in THERE
        if is_of_people and not is_idle and not taken_back_later(waiting, one):
            yield one.seq


@given(deeds)
def test_all_that_people_said_goes_along_in_order_but_what_was_taken_back(
    told: list[Deed],
) -> None:
    waiting, plan = planned(told)
    assert list(plan.going) == list(expected(waiting))
    assert all(one.outgoing.room == NEW for one in plan.going.values())
    left_out = {one.seq for one in plan.left_out}
    assert not left_out & plan.going.keys()
    for one in waiting:
        said = one.outgoing
        if said.kind is SendKind.EVENT:
            assert (one.seq in plan.going) is not (one.seq in left_out)
        elif said.kind is SendKind.REDACT:  # Stays, if it takes back anything in the old room.
            assert (one.seq in left_out) is (said.about not in THERE)


@given(deeds)
def test_nothing_goes_along_that_is_about_an_event_of_the_old_room(told: list[Deed]) -> None:
    waiting, plan = planned(told)
    for one in plan.going.values():
        before = waiting[one.seq - 1].outgoing
        assert one.outgoing.about not in THERE
        assert "m.new_content" not in one.outgoing.content or one.outgoing.about
        if before.about and before.about not in THERE:
            assert one.outgoing == replace(before, room=NEW)
        if before.about in THERE:
            assert one.outgoing.content["body"] == f"{one.seq}"  # The words, by themselves.


def test_who_came_and_who_went_is_by_the_last_that_they_did() -> None:
    _, plan = planned([
        Deed("message", "waits 1", "@carl:test"), Deed("leave", "", "@carl:test"),
        Deed("leave", "", "@dora:test"), Deed("join", "", "@dora:test"),
    ])  # fmt: skip
    assert (plan.came(), plan.left()) == ({"@dora:test"}, {"@carl:test"})


def test_a_change_said_by_itself_is_found_by_what_it_changed_and_an_answer_is_not() -> None:
    waiting, plan = planned([Deed("edit", "there 1", "@carl:test"),
                             Deed("answer", "there 1", "@carl:test")])  # fmt: skip
    edit, answer = [one.outgoing for one in plan.going.values()]
    assert (edit.alias, answer.alias) == ("there 1", "")
    entry = waiting[0]
    named = replace(entry, outgoing=replace(entry.outgoing, alias="its own"))
    plan = asyncio.run(make_plan([named], NEW, is_there))
    assert plan.going[named.seq].outgoing.alias == "its own"
