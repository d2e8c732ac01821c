"""Columns of several rows, as parameters of one statement.

The driver asks of each element of a list whether it is a list itself, of a number or a time twice:
of a line in a burst that was a fiftieth of all its work.
"""

from collections.abc import Iterable, Sequence
from typing import Any


def packed(numbers: Iterable[int | None]) -> str:
    """A column of whole numbers, for a parameter that is text and is read as an array."""
    return "{" + ",".join(["NULL" if one is None else str(one) for one in numbers]) + "}"


def but_for(usual: Any, values: Sequence[Any]) -> Sequence[Any]:
    """A column of several entries; empty where each has what an entry has as a rule."""
    return () if values.count(usual) == len(values) else values
