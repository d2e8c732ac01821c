"""Bans of people by patterns of their nicks, several in one line where the server takes it."""

import re
from collections.abc import Iterable, Iterator, Sequence

from bridge.networks.irc.channels.rollcall import find_person
from bridge.networks.irc.connections.inquiry import Inquiries
from bridge.networks.irc.names import masks
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import Line, Source, line
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.globs import Glob

_PATTERN = re.compile(r"[^\x00-\x20!@:,+$\x7f-][^\x00-\x20!@:,\x7f]{0,99}\Z")
"""A nick, with ``*`` and ``?``. Nothing in it may be read as something else than one value."""


async def find(inquiries: Inquiries, chat: RemoteChat, patterns: Sequence[str]) -> list[str]:
    """Those of the patterns that the channel bans now. Raises a ``DeliveryError``."""
    if not patterns:
        return []
    there = {mask.casefold() for mask in await inquiries.bans(chat.name)}
    return [one for one in patterns if _mask(one).casefold() in there]


async def find_about(
    inquiries: Inquiries, chat: RemoteChat, nick: str, network: Network
) -> list[str]:
    """Those of the channel's bans that mean somebody alone; none where it bans nobody.

    They are those by which the bridge banned them, and those that name them or where they are now.
    Raises ``PermanentFailure`` if there are others only, else a ``DeliveryError``.
    """
    there, fold = await inquiries.bans(chat.name), network.fold
    if not there:
        return []
    seen = await find_person(inquiries, nick, fold)
    person = seen or Source(nick)
    found = [
        mask for mask in there
        if network.banned.is_about(chat.id, fold(mask), fold(nick))
        or masks.is_about(mask, person, fold)
    ]  # fmt: skip
    if not found:
        if seen is not None and not any(_may_hit(mask, seen, fold) for mask in there):
            return []
        raise PermanentFailure(
            f"none of the bans of {chat.name} is known to mean {nick} alone; {as_typed('modes')} "
            f"names them, and {as_typed('ban -<mask>')} lifts one"
        )
    return found


def _may_hit(mask: str, person: Source, fold: masks.Fold) -> bool:
    # What has another form is of an account, a real name or the like.
    is_plain = "!" in mask and "@" in mask and mask[:1] not in {"$", "~"}
    return not is_plain or masks.hits(mask, person, fold)


def lines(
    chat: RemoteChat, add: Sequence[str], lift: Sequence[str], limits: Isupport
) -> list[Line]:
    """Make the lines that ban and lift."""
    return [
        line("MODE", chat.name, f"{sign}{'b' * len(group)}", *group)
        for sign, patterns in (("-", lift), ("+", add))
        for group in _fitting(map(_mask, patterns), chat, limits)
    ]


def choose(patterns: Iterable[str], own: Iterable[str], limits: Isupport) -> list[str]:
    """Give those that are patterns of nicks, and ban none of us."""
    nicks = [limits.fold(nick) for nick in own]
    return [
        pattern
        for pattern in patterns
        if _PATTERN.match(pattern)
        and not any(Glob(limits.fold(pattern)).matches(nick) for nick in nicks)
    ]


def _mask(pattern: str) -> str:
    return f"{pattern}!*@*"


def _fitting(
    given: Iterable[str], chat: RemoteChat, limits: Isupport
) -> Iterator[tuple[str, ...]]:
    """As many in a line as the server lets change at once, and as fit into a line."""
    room = limits.line_length - len(f"MODE {chat.name} +\r\n".encode())
    held: list[str] = []
    for mask in given:
        size = sum(len(one.encode()) + 2 for one in (*held, mask))
        if held and (size > room or len(held) == limits.most_modes):
            yield tuple(held)
            held = []
        held.append(mask)
    if held:
        yield tuple(held)
