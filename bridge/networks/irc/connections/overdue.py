"""Whether the server owes us the answer to a ``PING`` for too long."""

import asyncio
from collections.abc import Callable

from bridge.networks.irc.connections.delivery import Deliveries
from bridge.networks.irc.connections.lifeline import Lifeline


class Overdue:
    """One connection's: it is given up when an answer on which a message waits is overdue."""

    def __init__(
        self, deliveries: Deliveries, lifeline: Lifeline, limit: float, give_up: Callable[[], None]
    ) -> None:
        """``limit``: seconds after which an answer is; then ``give_up`` is called."""
        self._deliveries = deliveries
        self._lifeline = lifeline
        self._limit = limit
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Take note that something was asked."""
        if self._timer is None:
            self._look_later(self._limit)

    def cut(self) -> None:
        """Do nothing about it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer, since = None, self._deliveries.waiting_since
        if since is None:
            return
        left = since + self._limit - asyncio.get_running_loop().time()
        if not self._lifeline.is_waiting:
            # We are the slow ones, the storage is away say: the answer may lie here unread.
            self._look_later(self._limit)
        elif left > 0:
            self._look_later(left)
        else:
            self._give_up()
