"""Durable timers: moments that a bot waits for, kept over restarts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable

from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import MessageKind
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.rich import Rich

LONGEST_WAIT = timedelta(days=30)
LONGEST_NOTE = 8192
LONGEST_KEY = 255
MOST_TIMERS = 10_000
"""Of one instance, those put aside among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """A moment that an instance waits for."""

    key: str
    """The module's own name for it; one timer a key."""
    at: datetime
    """When it is due, in UTC."""
    note: bytes = b""
    """What the module wants to know then."""
    room: RoomId | None = None
    """Where it answers. If the bot is no longer there when it is due, it does not ring."""
    subject: UserId | None = None
    """Whom it is about."""


class Timers(Protocol):
    """An instance's timers. The bot must be a ``HearsTimers``.

    A timer rings at least once after its time: late if the program was not running then, and
    again if the program ended while it rang. Timers of one instance ring one after another. The
    note is sealed with the key of the day on which it is due, so a timer waits at most
    ``LONGEST_WAIT``, and one that could not ring for 13 days after its time is forgotten with
    that key. Key, room and subject are not sealed: never put what somebody wrote into the key.
    """

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
        """Have it ring at a time or after a while, instead of an earlier one with that key.

        A time that is past is now. Returns when it is stored. Raises ``ValueError`` unless there
        is exactly one of ``at`` (with its time zone) and ``after``; ``PermanentFailure`` if it
        is too far away, too long, or one too many; ``TemporaryFailure`` when the database is
        away.
        """
        ...

    async def cancel(self, key: str) -> bool:
        """Forget it; False if there is none. One that rings at this moment rings on."""
        ...

    async def list(
        self, *, room: RoomId | None = None, subject: UserId | None = None
    ) -> Sequence[Timer]:
        """Those that wait, the next one first; only of the room and about the person, if given."""
        ...


class TimerCall(Protocol):
    """What a bot may do while its timer rings."""

    async def reply(self, answer: str | Rich, *, kind: MessageKind = MessageKind.NOTICE) -> None:
        """Say it in the timer's room. Said once, though the timer may ring twice.

        Clients make no sound for a notice; what should wake a person is a ``TEXT``. Raises
        ``PermanentFailure`` if the timer has no room or the bot is not there any more.
        """
        ...


@runtime_checkable
class HearsTimers(Protocol):
    """A bot that sets timers."""

    async def on_timer(self, timer: Timer, call: TimerCall) -> None:
        """Its time has come. Returning is the acknowledgement: the timer is gone then.

        After a ``TemporaryFailure`` it rings again until it goes through; after a
        ``PermanentFailure`` it is put aside. Any other failure, and exceeding the host's
        deadline, is tried again with growing pauses and put aside after three tries. Set the same
        key again in here for something that comes back regularly.
        """
        ...


def check_timer(
    now: datetime,
    key: str,
    at: datetime | None,
    after: timedelta | None,
    note: bytes,
) -> datetime:
    """Give the moment in UTC at which it rings. For hosts; raises what ``Timers.set`` promises."""
    if (at is None) == (after is None):
        raise ValueError("a timer needs either `at` or `after`")
    if at is None:
        at = now + after if after is not None else now
    elif at.tzinfo is None:
        raise ValueError("the `at` of a timer needs a time zone; host.now() has one")
    if not isinstance(note, bytes):
        raise ValueError("the note of a timer is bytes")  # noqa: TRY004 - one class for all
    at = max(at.astimezone(UTC), now)
    if at - now > LONGEST_WAIT:
        raise PermanentFailure(f"a timer waits at most {LONGEST_WAIT.days} days")
    if len(note) > LONGEST_NOTE:
        raise PermanentFailure(f"a timer's note has at most {LONGEST_NOTE} bytes")
    if not 0 < len(key) <= LONGEST_KEY:
        raise PermanentFailure(f"a timer's key has 1 to {LONGEST_KEY} characters")
    return at
