"""Which keys have another name or place than before, and since when."""

from typing import NamedTuple

from bridge.upgrade.example import KeyPath


class Move(NamedTuple):
    """A key that is found elsewhere now. Both paths have one or two steps, as many as before."""

    old: KeyPath
    new: KeyPath


MOVES: tuple[Move, ...] = ()
"""Every move there was, oldest first. A line stays as long as its old example is shipped."""
