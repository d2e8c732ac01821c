"""How long a server has been silent; and what is done about it."""

import asyncio
from collections.abc import Callable


class Lifeline:
    """One connection's. A server that says nothing is called; if that gets no answer, it is given
    up."""

    def __init__(
        self, patience: float, limit: float, call: Callable[[], object],
        give_up: Callable[[float], None],
    ) -> None:  # fmt: skip
        """``call``: called after ``patience`` seconds of silence. ``give_up``: called with the
        seconds of it, ``limit`` seconds later."""
        self._patience = patience
        self._limit = limit
        self._call = call
        self._give_up = give_up
        self._time = asyncio.get_running_loop().time
        self._timer: asyncio.TimerHandle | None = None
        self._is_cut = False
        self._silent_since = 0.0
        self._waited = 0.0
        self._was_called = False
        self.is_waiting = False
        """Whether nothing that the server said is unread."""

    @property
    def waited(self) -> float:
        """Seconds that we waited for the server to say something, in all.

        What lies unread because we are slow is not waited for: by this clock a silence is the
        server's own.
        """
        return self._waited + (self._time() - self._silent_since if self.is_waiting else 0.0)

    def wait(self) -> None:
        """Take note that from now on we wait for what the server says."""
        self._silent_since, self._was_called, self.is_waiting = self._time(), False, True
        if self._timer is None and not self._is_cut:
            self._feel_later(self._patience)

    def hear(self) -> None:
        """Take note that it said something, for which nobody stops waiting."""
        now = self._time()
        self._waited += now - self._silent_since
        self._silent_since, self._was_called = now, False

    def work(self) -> None:
        """Take note that we do not wait any more, but work on what it said."""
        self.hear()
        self.is_waiting = False

    def cut(self) -> None:
        """Do nothing about its silence any more."""
        self._is_cut = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _feel_later(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._feel)

    def _feel(self) -> None:
        limit = self._patience + self._was_called * self._limit
        left = self._silent_since + limit - self._time()
        if not self.is_waiting:
            left = self._patience  # We are the slow ones: what it said may lie here unread.
        elif left <= 0 and self._was_called:
            self._give_up(limit)
            return
        elif left <= 0:
            self._was_called, left = True, self._limit
            self._call()
        self._feel_later(left)
