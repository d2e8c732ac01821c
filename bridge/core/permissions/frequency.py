"""How often people have done lately what each may do only so often."""

import asyncio
from collections import deque

from bridge.matrix.cache import Recent
from bridge.sdk.ids import UserId

_REMEMBERED = 10_000
"""So many people are remembered; whoever did it longest ago is forgotten first."""


class Frequency:
    """``most`` times in ``seconds`` each."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._done: Recent[UserId, deque[float]] = Recent(_REMEMBERED)

    def __len__(self) -> int:
        """How many people are remembered."""
        return len(self._done)

    def count(self, person: UserId) -> bool:
        """Count once more; False, and nothing is counted, where that is too often."""
        now = asyncio.get_running_loop().time()
        done = self._done.get(person)
        if done is None:
            done = deque(maxlen=self._most)
            self._done.put(person, done)
        if len(done) == self._most and now - done[0] < self._seconds:
            return False
        done.append(now)
        return True
