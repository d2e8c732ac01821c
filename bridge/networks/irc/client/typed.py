"""Lines of the protocol that a person typed: at once (``raw``), or for each connect."""

from collections.abc import Callable, Sequence

from bridge.networks.irc.client.ownmodes import refuse_uncloaking
from bridge.networks.irc.names.targets import read_person
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import Line, clean, line, parse
from bridge.sdk.errors import PermanentFailure

MOST_AUTOCOMMANDS = 10
MOST_TYPED_BYTES = 400

_INSTEAD = {
    "NICK": "nick", "JOIN": "join", "PART": "part", "QUIT": "disconnect", "PRIVMSG": "msg",
    "NOTICE": "msg", "NICKSERV": "msg NickServ", "AWAY": "away", "AUTHENTICATE": "login",
    "USER": "username",
}  # fmt: skip
"""The command that does it instead of a raw line."""

_CHANNELS = tuple("#&+!")
RAW = (
    "ACCEPT", "ADMIN", "HELP", "HELPOP", "INFO", "INVITE", "ISON", "KICK", "KNOCK", "LINKS",
    "LIST", "LUSERS", "MAP", "MODE", "MOTD", "NAMES", "RULES", "SILENCE", "STATS", "TIME", "TOPIC",
    "TRACE", "USERHOST", "USERIP", "USERS", "VERSION", "WHO", "WHOIS", "WHOWAS",
)  # fmt: skip
"""All that may be sent raw: questions, and what people do to channels and for themselves. What
says something, what the bridge does itself and what nobody here knows are not among them."""


def read_raw(text: str, settings: IrcSettings) -> Line:
    """Read one line of the protocol. Raises ``PermanentFailure`` for what is not taken."""
    if not settings.allow_raw:
        raise PermanentFailure("the settings of this network do not let raw lines through")
    _check(text)
    read = parse(text.encode())
    if read is None or read.source is not None or read.tags:
        raise PermanentFailure("that is no line of a client: say a command and its parameters")
    if read.command not in RAW:
        way = _INSTEAD.get(read.command)
        hint = f"; say {way} instead" if way else ""
        raise PermanentFailure(
            f"{read.command[:20]} is not sent raw{hint}. What is: {', '.join(RAW)}"
        )
    if (
        read.command == "MODE"
        and not settings.allow_uncloak
        and read.param(0)[:1] not in _CHANNELS
    ):
        refuse_uncloaking("".join(read.params[1:]))
    return Line(read.command, read.params)


def read_autocommands(
    text: str, settings: IrcSettings, refuse: Callable[[PermanentFailure], None]
) -> Sequence[Line]:
    """Read what is done on each connect, one command a line: msg, away or raw.

    ``refuse`` is told of each that is not one. Raises ``PermanentFailure`` for too many.
    """
    typed = [one.strip() for one in text.split("\n") if one.strip()]
    if len(typed) > MOST_AUTOCOMMANDS:
        raise PermanentFailure(f"at most {MOST_AUTOCOMMANDS} commands are kept")
    lines = []
    for one in typed:
        try:
            lines.append(_read_autocommand(one, settings))
        except PermanentFailure as error:
            refuse(error)
    return lines


def _read_autocommand(text: str, settings: IrcSettings) -> Line:
    _check(text)
    word, _, rest = text.partition(" ")
    match word.casefold():
        case "msg":
            person, _, said = rest.strip().partition(" ")
            if not said.strip():
                raise PermanentFailure("say msg, a nick and a text")
            return line("PRIVMSG", read_person(person), said.strip())
        case "away":
            if not rest.strip():
                raise PermanentFailure("say away and a reason")
            return line("AWAY", rest.strip())
        case "raw":
            return read_raw(rest.strip(), settings)
    raise PermanentFailure("each line begins with msg, away or raw")


def _check(text: str) -> None:
    if clean(text) != text:
        raise PermanentFailure("it holds a line break or a NUL, which no IRC line can carry")
    if len(text.encode()) > MOST_TYPED_BYTES:
        raise PermanentFailure(f"it has over {MOST_TYPED_BYTES} bytes")
