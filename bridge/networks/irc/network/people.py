"""What servers tell of the people in our channels: name, account, whether they are away.

Each of these comes by an IRCv3 capability of its own (``extended-join``, ``account-notify``,
``account-tag``, ``away-notify``, ``chghost``, ``setname``, ``userhost-in-names``); where a server
lacks it, the field stays unknown.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from bridge.networks.irc.wire import Incoming, Source
from bridge.sdk.ids import RemoteUserId

ACCOUNT_TAG = "account-tag"
LONGEST = 500
"""So much is kept of what each field says."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in one of our channels."""

    source: Source
    account: str | None = None
    """The account that services know: empty is none, None is not known."""
    realname: str | None = None
    away: str | None = None
    """Why they are away; empty is here, None is not known."""


class People:
    """Everybody whom the listening connection can see."""

    def __init__(self, key: Callable[[Source], str]) -> None:
        """``key``: by what somebody is known."""
        self._key = key
        self._known: dict[str, Person] = {}

    def of(self, who: Source) -> Person | None:
        """Return what is known of somebody."""
        return self._known.get(self._key(who))

    def find(self, nick: str) -> Person | None:
        """Return what is known of whoever has a nick: of two in two charsets, in UTF-8."""
        return self.of(Source(nick)) or self.of(Source(nick, is_utf8=False))

    def see(self, source: Source) -> None:
        """Take note that somebody is there, by what a line says of them."""
        if self.of(source) is None:
            self._known[self._key(source)] = Person(source)
        elif source.is_person:
            self._change(source, source=source)

    def forget(self, key: str) -> None:
        """Take note that somebody is in none of our channels any more."""
        self._known.pop(key, None)

    def handle(self, message: Incoming) -> None:
        """Follow one line of somebody whom we know."""
        source = message.source
        if source is None or not source.is_person or self.of(source) is None:
            return
        if "account" in message.tags:
            self._change(source, account=message.tags["account"])
        match message.command:
            case "ACCOUNT":
                self._change(source, account=_account(message.param(0)))
            case "AWAY":
                self._change(source, away=message.param(0))
            case "CHGHOST":
                moved = replace(source, user=message.param(0), host=message.param(1))
                self._change(source, source=moved)
            case "SETNAME":
                self._change(source, realname=message.param(0))
            case "JOIN" if len(message.params) >= 3:
                self._change(source, account=_account(message.param(1)), realname=message.param(2))
            case "NICK":
                self._rename(source, message.named(0))

    def _rename(self, source: Source, new: Source) -> None:
        person = self._known.pop(self._key(source))
        moved = replace(new, user=source.user, host=source.host)
        self._known[self._key(new)] = replace(person, source=moved)

    def _change(self, who: Source, **changes: Source | str) -> None:
        key = self._key(who)
        short = {
            name: one[:LONGEST] if isinstance(one, str) else one for name, one in changes.items()
        }
        self._known[key] = replace(self._known[key], **short)  # type: ignore[arg-type]


def account_id(folded: str) -> RemoteUserId:
    """The id of an account with the network's services. No nick can have a ``!``."""
    return RemoteUserId(f"account!{folded}")


def account_of(message: Incoming, capabilities: Collection[str]) -> str | None:
    """The account of who a line comes from: empty is none, None is not known."""
    is_told = ACCOUNT_TAG in capabilities
    return message.tags.get("account", "" if is_told else None)


def _account(word: str) -> str:
    return "" if word == "*" else word
