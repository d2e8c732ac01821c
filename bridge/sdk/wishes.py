"""Wishes that people of a network bring to the bridge there."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class TakesWishes(Protocol):
    """A connector whose network lets people tell the bridge what they wish."""

    def wishes(self) -> Sequence[tuple[str, str]]:
        """What they type there at present, and what comes of it; first how they ask for the rest.

        For the public page and for those in a chat: say nothing of any person, and ask the
        network nothing for it.
        """
        ...
