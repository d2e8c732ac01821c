"""What the main bot does, as one declaration each: for its help, its permissions, its docs."""

import difflib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.core.host.bots import BotCall
from bridge.matrix.html import without_quote
from bridge.model import Permission
from bridge.sdk.commands import PREFIX, as_typed
from bridge.sdk.ids import InstanceId, RoomId, UserId

_LONGEST = 40
"""Of a word that is compared with names."""

WORDS = frozenset({
    "help", "ping", "modules", "status", "bridge", "unbridge", "pause", "resume", "parked", "set",
    "policy", "optout", "optin", "double-puppet", "ack", "where", "login", "logout", "logins",
    "prefer", "manager", "sessions", "data", "forget",
})  # fmt: skip
"""The names of what the main bot does. No network may be called so: its commands begin with its
name, and would be taken for the bot's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that the main bot does."""

    name: str
    usage: str
    help: str
    level: Permission
    run: Callable[["Order"], Awaitable[str]] = field(repr=False)
    """Does it and gives the answer, empty if there is none to give here."""
    words: frozenset[str] = frozenset()
    """Fixed words that may follow, read in upper or lower case."""
    needs_power: bool = False
    """The sender must have the power to change the room's settings."""
    looks_alone: bool = False
    """With nothing after its name it only looks, and needs no power."""
    of_network: bool = False
    """The level that counts is that for the network that is meant."""
    of_room: bool = False
    """It is about the bridge of the room where it is said."""
    network: InstanceId | None = None
    """The network that is meant, where that is known by the name."""
    is_private: bool = False
    """It takes or shows a secret, and is heard in a direct chat alone."""

    def describe(self, *, direct: bool = False) -> str:
        """How it is typed (``direct``: to the bot alone), what it does, and what it needs."""
        power = "needs power in the room" + " where something follows" * self.looks_alone
        needs = [power] if self.needs_power else []
        needs += ["in a direct chat with me alone"] if self.is_private else []
        shown = f" ({', '.join(needs)})" if needs else ""
        return f"{as_typed(self.usage, direct=direct)} — {self.help}{shown}"


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asked, in words."""

    call: BotCall
    words: tuple[str, ...]
    text: str = ""
    """What follows the action's name, as it was typed."""

    @classmethod
    def read(cls, call: BotCall, text: str, fixed: Collection[str] = ()) -> "Order":
        """Read what follows an action's name; the ``fixed`` words in small letters."""

        def fold(word: str) -> str:
            return word.casefold() if word.casefold() in fixed else word

        return cls(call, tuple(map(fold, text.split())), fold(text.strip()))

    @property
    def network(self) -> tuple[str, ...]:
        """The first word, if there is one, as it would name a network."""
        return tuple(word.casefold() for word in self.words[:1])

    @property
    def room(self) -> RoomId:
        """Where it was asked."""
        return self.call.room

    @property
    def sender(self) -> UserId:
        """Who asked."""
        return self.call.sender.user_id

    def as_typed(self, command: str) -> str:
        """How a command is typed where it was asked."""
        return as_typed(command, direct=self.call.direct)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Ask after the known name that is most like the word, a space first; empty if none is."""
    near = difflib.get_close_matches(word[:_LONGEST], list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def is_order(body: str) -> bool:
    """Whether somebody who says it speaks to the main bot."""
    after = body.removeprefix(PREFIX)
    return body.startswith(PREFIX) and (not after or after[0].isspace())


def holds_order(content: Mapping[str, Any]) -> bool:
    """Whether a message speaks to the main bot, as an answer or in what it is changed to, too."""
    for said in (content, content.get("m.new_content")):
        if not isinstance(said, dict):
            continue
        body = said.get("body")
        if isinstance(body, str) and PREFIX in body and is_order(without_quote(said, body)):
            return True
    return False
