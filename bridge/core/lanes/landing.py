"""What is begun with an event while its row is still on its way into the journal."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

Stored = Callable[[], Awaitable[None]]
"""Returns once an event is safe."""


async def now_stored() -> None:
    """Of what is safe already."""


class NeverStored(Exception):
    """The row did not come into the journal; the homeserver repeats what was in it."""


class Landing:
    """Tells whoever began early whether the row is safe by now."""

    __slots__ = ("_ended", "_is_stored", "ended_at", "is_awaited")

    def __init__(self) -> None:
        self._ended = asyncio.Event()
        self._is_stored = False
        self.is_awaited = False
        """Something was begun with."""
        self.ended_at = 0.0
        """When (``monotonic``) the commit was over."""

    @property
    def is_over(self) -> bool:
        """Whether the commit is over, or was given up."""
        return self._ended.is_set()

    def end(self, *, is_stored: bool) -> None:
        """The commit is over."""
        self._is_stored, self.ended_at = is_stored, monotonic()
        self._ended.set()

    async def wait(self) -> None:
        """Return once the row is stored. Raises :class:`NeverStored`."""
        await self._ended.wait()
        if not self._is_stored:
            raise NeverStored
