"""Nicks that our connections gave back a moment ago."""

import asyncio

FORMER_SECONDS = 30.0
"""How long a nick that one of us gave back still marks its user name as ours. The listening
connection may lag behind the one that changed."""


class GivenBack:
    """One network's; each with since when, in seconds of the loop, and with which user name."""

    def __init__(self) -> None:
        self.nicks: dict[str, tuple[float, str]] = {}

    def note(self, nick: str, user: str, most: int) -> None:
        """Take note of one; of more than ``most`` the oldest are forgotten, be they young yet: a
        server may have us change our nick without end."""
        now = asyncio.get_running_loop().time()
        self.nicks.pop(nick, None)
        self.nicks[nick] = (now, user)
        while len(self.nicks) > most or now - self._oldest() >= FORMER_SECONDS:
            del self.nicks[next(iter(self.nicks))]

    def _oldest(self) -> float:
        since, _ = next(iter(self.nicks.values()))
        return since
