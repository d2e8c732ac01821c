"""How many of one room's people come and go at once; beyond that they do so in turn."""

import asyncio

AT_ONCE = 100
"""So many after a quiet time: a netsplit, say, or a class that ends."""
EACH_SECOND = 2.0
"""No more than come and go in turn (``core.rooms.gathering``): whoever changes their name a
hundred times a minute is not to have the homeserver follow."""


class Haste:
    """One room's."""

    def __init__(self) -> None:
        self._left = float(AT_ONCE)
        self._at = 0.0

    def take(self, number: int) -> bool:
        """Whether so many may come and go at once now; then they are counted."""
        now = asyncio.get_running_loop().time()
        self._left = min(AT_ONCE, self._left + (now - self._at) * EACH_SECOND)
        self._at = now
        if number > self._left:
            return False
        self._left -= number
        return True
