"""Asking a server who goes by a nick, and who runs a channel, from outside too."""

from collections.abc import Callable, Collection, Mapping

from bridge.networks.irc.connections.inquiry import Inquiries, Priority
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import Incoming, Source, line

MOST_MODERATORS = 20_000


async def find_moderators(
    inquiries: Inquiries, channel: str, limits: Isupport, priority: Priority
) -> Collection[str]:
    """The nicks of those in a channel, as far as we may know, who run it: operators and whoever
    stands above them. Raises a ``DeliveryError``."""
    signs, of_operators = "".join(limits.prefixes), set(operator_signs(limits.prefixes))
    found: dict[str, None] = {}

    def note(message: Incoming) -> None:
        for held, one in message.listed(signs) if len(found) < MOST_MODERATORS else ():
            # By a nick in another charset nothing can be said to them, and another reads alike.
            if one.is_utf8 and not of_operators.isdisjoint(held):
                found[one.nick] = None

    await inquiries.follow(
        line("NAMES", channel), wanted={replies.NAMES}, last={replies.END_OF_NAMES},
        channel=channel, hear=note, priority=priority,
    )  # fmt: skip
    return found


def operator_signs(prefixes: Mapping[str, str]) -> str:
    """The signs of operators and of those above them; a server tells them by rank."""
    signs, modes = "".join(prefixes), "".join(prefixes.values())
    return signs[: modes.find("o") + 1]


async def find_person(
    inquiries: Inquiries,
    nick: str,
    fold: Callable[[str], str],
    priority: Priority = Priority.PERSON,
) -> Source | None:
    """Who goes by a nick now, with user and host; None if nobody does.

    Raises a ``DeliveryError``.
    """
    try:
        found = await _userhost(inquiries, nick, priority)
    except replies.CommandRefusedError as error:
        if error.code != replies.UNKNOWN_COMMAND:
            raise
        found = await _whois(inquiries, nick, priority)
    return next((one for one in found if fold(one.nick) == fold(nick)), None)


async def _userhost(inquiries: Inquiries, nick: str, priority: Priority) -> list[Source]:
    answer = await inquiries.ask(
        line("USERHOST", nick), wanted={replies.USERHOST}, priority=priority
    )
    found = []
    for word in " ".join(one.param(-1) for one in answer.lines).split():
        name, equals, where = word.partition("=")
        user, at, host = where[1:].partition("@")
        if equals and at and host:
            found.append(Source(name.rstrip("*"), user, host))
    return found


async def _whois(inquiries: Inquiries, nick: str, priority: Priority) -> list[Source]:
    """The same by what every server knows; it says much more."""
    try:
        answer = await inquiries.ask(
            line("WHOIS", nick), wanted={replies.WHOIS_USER}, last={replies.WHOIS_END},
            priority=priority,
        )  # fmt: skip
    except replies.CommandRefusedError as error:
        if error.code not in replies.NOT_THERE:
            raise
        return []
    return [Source(*one.params[1:4]) for one in answer.lines if len(one.params) > 4]
