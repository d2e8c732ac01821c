"""A clock that a test moves, and a durable map that forgets by it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import RoomId


class FakeClock:
    """Stands still until the test moves it."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, 12, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        """The time, in UTC."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Let time pass. Raises ``ValueError`` for a step back, which a host never makes."""
        if by < timedelta(0):
            raise ValueError("time does not go back")
        self._now += by


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kept value, with what the core exports, erases and expires it by."""

    value: bytes
    subject: str | None
    room: RoomId | None
    keep_for: timedelta | None
    until: datetime | None


class FakeStore:
    """What ``sdk.Store`` promises, in memory. It outlives the clients and bots that use it."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self._clock = clock or FakeClock()
        self._rows: dict[str, Row] = {}

    @property
    def rows(self) -> Mapping[str, Row]:
        """What is kept now, by key."""
        now = self._clock.now()
        self._rows = {
            key: row for key, row in self._rows.items() if row.until is None or row.until > now
        }
        return dict(self._rows)

    async def get(self, key: str) -> bytes | None:
        """The value, None if there is none or its time is over."""
        row = self.rows.get(key)
        return None if row is None else row.value

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        subject: str | None = None,
        room: RoomId | None = None,
        keep_for: timedelta | None = None,
    ) -> None:
        """Keep the value. Raises ``PermanentFailure`` for what the database cannot hold."""
        for text in (key, subject or "", room or ""):
            check_text(text)
        if not isinstance(value, bytes | bytearray | memoryview):
            raise PermanentFailure(f"the value of {key} is {type(value).__name__}, not bytes")
        self._rows[key] = Row(
            value=bytes(value),
            subject=subject,
            room=room,
            keep_for=keep_for,
            until=None if keep_for is None else self._clock.now() + keep_for,
        )

    async def delete(self, key: str) -> None:
        """Forget the key."""
        self._rows.pop(key, None)

    async def find(self, prefix: str) -> Mapping[str, bytes]:
        """All keys that begin with ``prefix``, with their values."""
        return {key: row.value for key, row in self.rows.items() if key.startswith(prefix)}


def check_text(text: str) -> None:
    """Raise ``PermanentFailure`` for what the database cannot hold."""
    if "\0" in text or not is_storable(text):
        raise PermanentFailure("it holds characters that cannot be stored")


def is_storable(text: str) -> bool:
    """Whether it is text that UTF-8 can hold (no half of a surrogate pair)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
