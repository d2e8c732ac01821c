"""What is said without the bot's name before it, where the bot just told how a secret is said."""

from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import Any

from bridge.matrix.cache import Recent
from bridge.matrix.html import without_quote
from bridge.sdk.commands import as_typed
from bridge.sdk.ids import RoomId

_SECONDS = 24 * 3600.0
_MOST_ROOMS = 1000
_QUOTES = "`'\"<>"


class BareOrders:
    """Knows in which rooms somebody may forget the bot's name, and give a secret to everybody.

    ``key sesame`` is no command, so it would stay in the room and cross to the network.
    """

    def __init__(self, *, seconds: float = _SECONDS) -> None:
        """``seconds``: for how long it counts that the bot told of it."""
        self._seconds = seconds
        self.secrets: Callable[[], Collection[str]] = tuple
        """Gives the commands of networks that take a secret alone, with a network's name before
        them and without."""
        self._told: Recent[RoomId, float] = Recent(_MOST_ROOMS)

    def note(self, room: RoomId, text: str) -> None:
        """Take note of what the bot says in a room where others are."""
        if any(as_typed(f"{name} <") in text for name in self.secrets()):
            self._told.put(room, monotonic() + self._seconds)

    def holds(self, room: RoomId, content: Mapping[str, Any]) -> bool:
        """Whether a message there is such a command, or is changed to one."""
        until = self._told.get(room)
        if until is None:
            return False
        if monotonic() >= until:
            self._told.drop(room)
            return False
        return any(
            self._is_one(without_quote(said, body))
            for said in (content, content.get("m.new_content"))
            if isinstance(said, dict) and isinstance(body := said.get("body"), str)
        )

    def _is_one(self, text: str) -> bool:
        *command, last = text.strip().strip(_QUOTES).split() or [""]
        return bool(last) and " ".join(command).casefold() in self.secrets()
