"""What people say about what was put aside of their room, and what they are told."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from bridge.core.oversight.aside import Aside
from bridge.core.oversight.byhand import Choice, Step
from bridge.matrix.cache import Recent
from bridge.model import ParkReason
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import RoomId, UserId

_AT_ONCE = 20
"""Parked things, or sentences about them, that one answer holds."""
_SECONDS = 10.0
"""For how long one command works on many: well below what a command may take."""
_COUNT = re.compile(r"[0-9]{1,9}")
_NOTHING = "Nothing of that kind is parked of this room."
_REMEMBERED = 1000
"""People in rooms of whom it is known what they have not tried again yet."""


class ParkedCommand:
    """Obeys ``parked``, for one room at a time."""

    def __init__(self, aside: Aside, *, seconds: float = _SECONDS) -> None:
        """``seconds``: after which it answers, though more are left."""
        self._aside = aside
        self._seconds = seconds
        self._rest: Recent[tuple[RoomId, UserId], set[str]] = Recent(_REMEMBERED)
        """What is left of all that somebody has tried again: each is tried once."""

    async def obey(self, room: RoomId, by: UserId, words: Sequence[str]) -> str:
        """Do it; give the answer. Raises a ``DeliveryError``."""
        match words:
            case ():
                return await self._list(room)
            case ("retry", "all", *rest):
                found = Choice(reason=_reason(rest)).among(await self._aside.all(room))
                return await self._retry(room, by, frozenset(one.name for one in found))
            case ("retry", "rest"):
                left = self._rest.get((room, by))
                if left is None:
                    raise PermanentFailure(
                        "nothing is left of what you tried again here; to begin anew, say "
                        f"{as_typed('parked retry all')}"
                    )
                return await self._retry(room, by, frozenset(left))
            case ("drop", "all", *rest):
                return await self._drop_all(room, by, rest)
            case ("retry", name):
                await self._aside.retry(name, room, by=by)
                return "It runs again."
            case ("drop", name):
                await self._aside.drop(name, room, by=by)
                return "It is gone."
        raise PermanentFailure(
            f"say {as_typed('parked')}, or {as_typed('parked retry')} or "
            f"{as_typed('parked drop')} with a name, or with all and maybe a reason"
        )

    async def _list(self, room: RoomId) -> str:
        found = await self._aside.all(room)
        lines = [f"{one.name}: {one.reason}, {one.detail}" for one in found[-_AT_ONCE:]]
        if len(found) > _AT_ONCE:
            lines.insert(0, f"{len(found)} in all; the newest {_AT_ONCE}:")
        return "\n".join(lines) or "Nothing of this room is parked."

    async def _retry(self, room: RoomId, by: UserId, names: frozenset[str]) -> str:
        """Try those again, each once; what there is no time for is noted."""
        steps = self._aside.retry_all(Choice(room=room, names=names), by=by)
        steps = self._noting((room, by), names, steps)
        return await self._through(steps, "run again", lambda _: "retry rest")

    async def _noting(
        self, whose: tuple[RoomId, UserId], names: frozenset[str],
        steps: AsyncGenerator[Step, None],
    ) -> AsyncGenerator[Step, None]:  # fmt: skip
        """The steps; what they have not come to is the rest, until there is none."""
        left = set(names)  # One for all steps: there are as many of those as names.
        self._rest.put(whose, left)
        async with aclosing(steps):
            async for step in steps:
                left.discard(step.name)
                if not left:
                    self._drop_rest(whose, left)
                yield step
        self._drop_rest(whose, left)  # Others have let go what it did not come to.

    def _drop_rest(self, whose: tuple[RoomId, UserId], left: set[str]) -> None:
        if self._rest.get(whose) is left:  # Else it was begun anew meanwhile.
            self._rest.drop(whose)

    async def _drop_all(self, room: RoomId, by: UserId, words: Sequence[str]) -> str:
        """Their number must be said with it: nobody lets go what they have not seen."""
        number = int(words[-1]) if words and _COUNT.fullmatch(words[-1]) else None
        reason = _reason(words if number is None else words[:-1])

        def order(count: int) -> str:
            return f"drop all {reason or ''} {count}"

        if number is None:
            found = Choice(reason=reason).among(await self._aside.all(room))
            return (
                f"That lets {len(found)} go for good. {_to_go_on(order(len(found)))}"
                if found
                else _NOTHING
            )
        choice = Choice(room=room, reason=reason, expected=number)
        return await self._through(self._aside.drop_all(choice, by=by), "gone", order)

    async def _through(
        self, steps: AsyncGenerator[Step, None], what: str, again: Callable[[int], str]
    ) -> str:
        """Work on many for as long as a command may take; say how far it came, how to go on."""
        end = asyncio.get_running_loop().time() + self._seconds
        faults: list[str] = []
        done, total, cut = 0, 0, ""
        try:
            async with aclosing(steps):
                async for step in steps:
                    done, total = step.done, step.total
                    faults += step.faults
                    if asyncio.get_running_loop().time() >= end:
                        break
        except TemporaryFailure as error:
            if not done:
                raise
            cut = f" Then it came to a stop: {str(error).rstrip('.')}."
        if not total:
            return _NOTHING
        said = f"{done - len(faults)} {what}.{cut}"
        if faults:
            said += f" {len(faults)} cannot:"
        lines = [said, *faults[:_AT_ONCE]]
        if len(faults) > _AT_ONCE:
            lines.append(f"and {len(faults) - _AT_ONCE} more")
        if done < total:
            lines.append(f"{total - done} are left. {_to_go_on(again(total - done))}")
        return "\n".join(lines)


def _to_go_on(order: str) -> str:
    return f"To go on, say: {as_typed(' '.join(('parked', *order.split())))}"


def _reason(words: Sequence[str]) -> ParkReason | None:
    text = " ".join(words).casefold()
    if not text:
        return None
    if text not in list(ParkReason):
        raise PermanentFailure(f"{text[:20]!r} is no reason; there are {', '.join(ParkReason)}")
    return ParkReason(text)
