"""What is begun with an event while its row is still on its way into the journal."""

import asyncio


class NeverStored(Exception):
    """The row did not come into the journal; the homeserver repeats what was in it."""


class Landing:
    """Tells whoever began early whether the row is safe by now."""

    __slots__ = ("_ended", "_is_stored")

    def __init__(self) -> None:
        self._ended = asyncio.Event()
        self._is_stored = False

    def end(self, *, is_stored: bool) -> None:
        """The commit is over."""
        self._is_stored = is_stored
        self._ended.set()

    async def wait(self) -> None:
        """Return once the row is stored. Raises :class:`NeverStored`."""
        await self._ended.wait()
        if not self._is_stored:
            raise NeverStored
