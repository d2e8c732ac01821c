"""Wishes that people of a network bring to the bridge there."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class TakesWishes(Protocol):
    """A connector on whose network people say themselves what they wish of the bridge."""

    def wishes(self) -> Sequence[tuple[str, str]]:
        """What they type there, as it is at this moment, and what comes of it.

        For the public page: nothing of anybody's, and nothing is asked of the network for it.
        """
        ...
