"""What people can tell a network beside messages: commands, said to the main bot."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from bridge.sdk.events import RemoteChat, Sender

if TYPE_CHECKING:
    from bridge.sdk.module import Client


PREFIX = "!trestle"
"""How the main bot is spoken to where others are, too."""
HOSTS_OWN = frozenset({"help", "join", "query"})
"""Commands that the host has for every network: a network's own of that name is not heard."""
_OPTIONAL = re.compile(r"\[[^\[\]]*\]")


def as_typed(command: str, *, direct: bool = False) -> str:
    """How a command is typed, for a sentence that names one.

    ``direct``: in the main bot's own direct chat, where it needs no name before it. The form
    without ``direct`` is right in every room: use it wherever the room is not known.
    """
    return command if direct else f"{PREFIX} {command}"


class Where(StrEnum):
    """What a command is about."""

    PERSON = "person"
    """The sender's own connection; it may be said anywhere."""
    ROOM = "room"
    """The chat that the room is bridged to."""


class NetworkCall(Protocol):
    """A command that somebody gave, allowed already."""

    @property
    def sender(self) -> Sender: ...
    @property
    def text(self) -> str:
        """What follows the command's name, as it was typed; it may hold line breaks."""
        ...

    @property
    def chat(self) -> RemoteChat | None:
        """What the room is bridged to. A command about the sender's own connection has it where
        it was said in the room of one chat of the network, else None."""
        ...

    @property
    def own(self) -> "Client | None":
        """The sender's own client. There is always one for ``Where.PERSON``."""
        ...

    @property
    def own_trouble(self) -> str:
        """Why the sender's own login is not connected, since when, and when it is tried again, in
        words for people; empty while it is connected, or nobody wants it to be."""
        ...

    @property
    def relay(self) -> "Client":
        """The instance's own client."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCommand:
    """One thing that a network does on a word. The core parses it, checks who may, and answers."""

    name: str
    usage: str
    """The name and what may follow: ``kick <nick> [reason]``. Anyone who leaves out what is in
    ``<>``, or says more where nothing may follow, is told the usage, and ``run`` is not called."""
    help: str
    """What it does, in a few words."""
    where: Where
    run: Callable[[NetworkCall], Awaitable[str]] = field(repr=False)
    """Does it and gives the answer, a few lines at most. Raises a ``DeliveryError`` whose sentence
    the sender reads: ``DeliveryUncertain`` where it may have been done. Cancelled at the host's
    deadline, of which the sender is told the same."""
    words: frozenset[str] = frozenset()
    """Fixed words that may be said in place of what follows: ``off`` in ``[name|off]``. They come
    to ``run`` in small letters, however they were typed."""
    needs_power: bool = False
    """``Where.ROOM``: the sender must have the power to change the room's settings."""
    looks_alone: bool = False
    """With nothing after its name it only looks, and needs no power."""
    wakes: bool = True
    """The sender's own login, if it is away and waits for its next try, is tried now."""
    secret_after: int | None = None
    """All words after so many that follow the name are a secret: a message with such words is
    taken back, wherever and by whomever it is said, and is obeyed all the same."""
    is_private: bool = False
    """It takes or shows a secret: it is heard only in a direct chat with the bot."""

    def is_whole(self, text: str) -> bool:
        """Whether the text has a word for each thing that the usage asks for, and none where it
        has nothing but the name."""
        if self.usage == self.name and self.secret_after is None:
            return not text.strip()
        asked = self.usage
        while asked != (shorter := _OPTIONAL.sub("", asked)):
            asked = shorter
        # ``[-]<nick>``: the sign alone is nobody.
        words = [word for word in text.split() if word != "-" or "[-]<" not in self.usage]
        return len(words) >= asked.count("<")


@runtime_checkable
class TakesCommands(Protocol):
    """A connector whose network takes commands."""

    @property
    def commands(self) -> Sequence[NetworkCommand]:
        """All that there are, of different names."""
        ...
