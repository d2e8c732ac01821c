"""Something that others wait for until it is so."""

import asyncio


class Flag:
    """Works as ``asyncio.Event`` does, in a sixteenth of the memory while nobody waits: each of
    hundreds of connections has some."""

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: tuple[asyncio.Future[None], ...] = ()

    def is_set(self) -> bool:
        """Whether it is so."""
        return self._is_set

    def set(self) -> None:
        """Wake all who wait. Nobody waits from now on, until it is cleared."""
        self._is_set = True
        for one in self._waiting:
            if not one.done():
                one.set_result(None)

    def clear(self) -> None:
        """Have those who come wait. Whoever was woken goes on all the same."""
        self._is_set = False

    async def wait(self) -> None:
        """Return at once if it is set, else as soon as it was."""
        if self._is_set:
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = (*self._waiting, woken)
        try:
            await woken
        finally:
            self._waiting = tuple(one for one in self._waiting if one is not woken)
