"""What the data map says of a table and of a column."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Holds(StrEnum):
    """What a column holds, from harmless to dangerous."""

    NONE = "none"
    """Nothing about anybody."""
    ID = "id"
    """A name of a person, a room, a message."""
    CONTENT = "content"
    """What somebody said or gave us."""
    SECRET = "secret"  # noqa: S105 - a label
    """What opens something."""
    IP = "ip"
    """Where somebody connects from."""


@dataclass(frozen=True, slots=True)
class ByDay:
    """A partition a UTC day, dropped as a whole: today's and ``days - 1`` before it are kept."""

    days: int


@dataclass(frozen=True, slots=True)
class After:
    """Rows go when the moment in ``column`` is past, or the last of so many days from it."""

    column: str
    days: int = 0


@dataclass(frozen=True, slots=True)
class While:
    """Rows stay while something lasts, told in words."""

    lasts: str


Keep = ByDay | After | While


@dataclass(frozen=True, slots=True)
class Goes:
    """Rows go when what is kept about their person is erased."""

    but: str = ""
    """Which of them stay for a time, in words."""


@dataclass(frozen=True, slots=True)
class Stays:
    """Rows stay then, for a reason told in words."""

    why: str
    named: bool = True
    """Whether they go on naming the person."""


Erasure = Goes | Stays


@dataclass(frozen=True, slots=True)
class Label:
    """One column."""

    holds: Holds
    why: str
    days: int | None = None
    """Days after which it cannot be read any more, where that is earlier than its row goes."""
    sealed: bool = False
    """Encrypted before it reaches the database."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table."""

    name: str
    why: str
    keep: Keep
    columns: Mapping[str, Label]
    subject: str | None = None
    """The column that names the person whose data a row is. None: nobody's."""
    erased: Erasure = Goes()
    """What becomes of a person's rows when what is kept about that person is erased."""


def kept(keep: Keep) -> str:
    """How long rows are kept, in words."""
    match keep:
        case ByDay(days):
            return f"{days} days"
        case After(column, 0):
            return f"until the time in `{column}`"
        case After(column, days):
            return f"{days} days from `{column}`"
        case While(lasts):
            return f"as long as {lasts}"
