"""Who goes by a nick now, with user and host, as the server says when it is asked."""

from collections.abc import Callable

from bridge.networks.irc.connections.inquiry import Inquiries, Priority
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.wire import Source, line


async def find_person(
    inquiries: Inquiries,
    nick: str,
    fold: Callable[[str], str],
    priority: Priority = Priority.PERSON,
) -> Source | None:
    """Who goes by a nick now; None if nobody does. Raises a ``DeliveryError``."""
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
