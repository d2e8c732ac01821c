"""A durable map in memory, for tests of what keeps things in it."""

from collections.abc import Mapping
from datetime import timedelta

from bridge.sdk.ids import RoomId


class MemoryStore:
    """What ``sdk.Store`` promises, for the length of a test."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.subjects: dict[str, str | None] = {}
        self.terms: dict[str, timedelta | None] = {}
        """For how long each was to be kept."""

    async def get(self, key: str) -> bytes | None:
        """Return a value."""
        return self.rows.get(key)

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        subject: str | None = None,
        room: RoomId | None = None,
        keep_for: timedelta | None = None,
    ) -> None:
        """Keep a value."""
        self.rows[key] = value
        self.subjects[key] = subject
        self.terms[key] = keep_for

    async def delete(self, key: str) -> None:
        """Forget a value."""
        self.rows.pop(key, None)

    async def find(self, prefix: str) -> Mapping[str, bytes]:
        """Return what begins with the prefix."""
        return {key: value for key, value in self.rows.items() if key.startswith(prefix)}
