"""What an examination finds: sentences, each with the way out if something is not well."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was looked at."""

    level: Literal["ok", "note", "bad"]
    """``note``: it works, but the admin should know."""
    sentence: str
    """What is the case, on one line and without secrets; unless it is well, also the way out."""


def well(sentence: str) -> Remark:
    """Say that something is as it should be."""
    return Remark("ok", sentence)


def note(sentence: str) -> Remark:
    """Say what works, but should be known."""
    return Remark("note", sentence)


def bad(sentence: str) -> Remark:
    """Say what does not work, and the way out."""
    return Remark("bad", sentence)


@runtime_checkable
class ExaminesItself(Protocol):
    """A connector that can see whether its settings would work, before anybody connects."""

    async def examine(self) -> Sequence[Remark]:
        """Look, without signing in or writing anywhere: `trestle doctor` asks.

        Also called while the instance runs, in another process. Takes at most 30 seconds.
        A ``TrestleError`` that it raises counts as one bad remark.
        """
        ...
