"""Timers in memory, rung when a test lets time pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import MessageKind
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.rich import Rich
from bridge.sdk.testing.store import FakeClock, check_text
from bridge.sdk.timers import MOST_TIMERS, Timer, check_timer


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A timer that was set; another number each time."""

    number: int
    timer: Timer


class FakeTimers:
    """What ``sdk.Timers`` promises, in memory. It outlives the bots that use it."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._waiting: dict[str, Waiting] = {}
        self._numbers = count(1)
        self.set_so_far: list[Timer] = []
        """All that were ever set."""

    async def set(
        self,
        key: str,
        *,
        at: datetime | None = None,
        after: timedelta | None = None,
        note: bytes = b"",
        room: RoomId | None = None,
        subject: UserId | None = None,
    ) -> Timer:
        """Have it ring; raises as ``sdk.Timers`` says."""
        at = check_timer(self._clock.now(), key, at, after, note)
        for text in (key, room or "", subject or ""):
            check_text(text)
        if key not in self._waiting and len(self._waiting) >= MOST_TIMERS:
            raise PermanentFailure(f"there are {MOST_TIMERS} timers, and no room for more")
        timer = Timer(key=key, at=at, note=note, room=room, subject=subject)
        self._waiting[key] = Waiting(number=next(self._numbers), timer=timer)
        self.set_so_far.append(timer)
        return timer

    async def cancel(self, key: str) -> bool:
        """Forget it; False if there is none."""
        return self._waiting.pop(key, None) is not None

    async def list(
        self, *, room: RoomId | None = None, subject: UserId | None = None
    ) -> Sequence[Timer]:
        """Those that wait, the next one first."""
        return [
            one.timer
            for one in self.waiting
            if (room is None or one.timer.room == room)
            and (subject is None or one.timer.subject == subject)
        ]

    @property
    def waiting(self) -> Sequence[Waiting]:
        """All that wait, the next one first."""
        return sorted(self._waiting.values(), key=lambda one: (one.timer.at, one.number))

    def find_due(self, until: datetime, room: RoomId | None) -> Waiting | None:
        """The first that is due by then, of those that have this room or none."""
        for one in self.waiting:
            if one.timer.at <= until and one.timer.room in {room, None}:
                return one
        return None

    def finish(self, rung: Waiting) -> None:
        """It has rung. One that was set anew meanwhile stays."""
        if self._waiting.get(rung.timer.key) == rung:
            del self._waiting[rung.timer.key]


class FakeTimerCall:
    """What ``sdk.TimerCall`` promises; remembers the answers of this run."""

    def __init__(self, room: RoomId | None) -> None:
        self._room = room
        self.answers: list[tuple[Rich, MessageKind]] = []

    async def reply(self, answer: str | Rich, *, kind: MessageKind = MessageKind.NOTICE) -> None:
        """Take an answer. Raises ``PermanentFailure`` for a timer without a room."""
        if not isinstance(answer, str | Rich):
            raise TypeError(f"reply() takes text or Rich, not {answer!r}")
        if self._room is None:
            raise PermanentFailure("the timer has no room")
        self.answers.append((Rich.plain(answer) if isinstance(answer, str) else answer, kind))
