"""Invitations that never came are taken up once, whatever a homeserver says of them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.core.intake.unanswered import Unanswered
from bridge.matrix.client import MatrixError
from bridge.model import Transaction
from bridge.sdk.errors import TemporaryFailure, TrestleError
from bridge.sdk.ids import UserId

FIRST, SECOND = UserId("@first:hs"), UserId("@second:hs")


def invitation(name: str) -> dict[str, Any]:
    return {"event_id": f"${name}", "room_id": f"!{name}"}


LOST = invitation("lost")


@dataclass
class World:
    """What the homeserver has, and what was taken up."""

    waiting: dict[UserId, list[dict[str, Any]]] = field(default_factory=dict)
    refused: dict[UserId, TrestleError] = field(default_factory=dict)
    taken: list[dict[str, Any]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    """Ids of what was taken up before."""
    at_work: set[str] = field(default_factory=set)
    """Rooms in which an invitation is being answered."""
    answered: str | None = None
    """The room in which one is once it was asked about."""
    late: list[dict[str, Any]] = field(default_factory=list)
    """What the first bot is invited to once it was asked about."""

    can_be_asked: bool = True

    async def ask(self, user: UserId) -> Sequence[dict[str, Any]] | None:
        """What is open."""
        if not self.can_be_asked:
            return None
        if (error := self.refused.get(user)) is not None:
            raise error
        events = self.waiting.get(user, [])
        if events and self.answered is not None:
            self.waiting[user] = [one for one in events if one["room_id"] != self.answered]
        if user == FIRST and self.late:
            self.waiting[user] = [*self.waiting.get(user, []), *self.late]
            self.late = []
        return events

    async def accept(self, transaction: Transaction) -> None:
        """Take it up."""
        self.taken += transaction.events


def unanswered(world: World) -> Unanswered:
    return Unanswered(
        ask=world.ask, accept=world.accept, bots=lambda: [FIRST, SECOND],
        is_known=world.known.__contains__, is_at_work=world.at_work.__contains__, grace=0.0,
    )  # fmt: skip


async def test_what_nobody_answers_or_has_answered_is_taken_up() -> None:
    world = World(known={"$c"}, at_work={"!d"}, answered="!e")
    world.waiting = {FIRST: [invitation(name) for name in "abcde"], SECOND: [LOST]}
    await unanswered(world).look()
    assert world.taken == [invitation("a"), invitation("b"), LOST]


async def test_what_comes_while_one_waits_has_its_own_time_to_arrive() -> None:
    again = {**LOST, "event_id": "$again"}
    world = World(waiting={FIRST: [LOST], SECOND: [invitation("a")]}, late=[again])
    looking = unanswered(world)
    await looking.look()
    assert world.taken == [LOST, invitation("a")]
    world.known |= {"$lost", "$a"}
    await looking.look()
    assert world.taken == [LOST, invitation("a"), again]


@pytest.mark.parametrize(
    "error",
    [TemporaryFailure("it is away"), MatrixError(403, "M_FORBIDDEN", "no appservices here")],
)
async def test_a_bot_that_cannot_be_looked_after_keeps_no_other_waiting(
    error: TrestleError,
) -> None:
    world = World(refused={FIRST: error}, waiting={SECOND: [LOST]})
    await unanswered(world).look()
    assert world.taken == [LOST]


async def test_a_homeserver_that_cannot_be_asked_is_said_to_be_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looking = unanswered(World(can_be_asked=False))
    with caplog.at_level(logging.INFO):
        await looking.look()
        await looking.look()
    assert caplog.text.count("MSC4186") == 1


async def test_what_cannot_be_taken_up_now_is_found_again() -> None:
    world = World(waiting={FIRST: [LOST]})

    async def refuse(transaction: Transaction) -> None:
        raise TemporaryFailure("the database is away")

    world.accept = refuse  # type: ignore[method-assign]
    with pytest.raises(TemporaryFailure):
        await unanswered(world).look()
    del world.accept
    await unanswered(world).look()
    assert world.taken == [LOST]
