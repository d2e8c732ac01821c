"""A network's services: programs that keep nicks and channels, and are told secrets."""

from collections.abc import Iterable

from bridge.networks.irc.wire import Source
from bridge.sdk.errors import PermanentFailure

_NAMES = frozenset({
    "nickserv", "chanserv", "memoserv", "botserv", "hostserv", "operserv", "saslserv", "infoserv",
    "groupserv", "helpserv", "statserv", "authserv", "userserv", "gameserv",
})  # fmt: skip
_SHARED_NAMES = frozenset({"alis", "global", "q", "x"})
"""Services of some networks are called so, and people of the others."""
_SERVICES_HOSTS = frozenset({"services", "cserve"})
"""How their hosts begin: ``services.libera.chat``, ``CServe.quakenet.org``."""
_SECRET = frozenset({
    "identify", "id", "sidentify", "login", "auth", "authcookie", "register", "ghost", "recover",
    "release", "regain", "group", "pass", "password", "newpass", "setpass", "challenge", "drop",
    "confirm", "verify",
})  # fmt: skip
"""What comes before a password or a code."""
_SECRET_SETTINGS = frozenset({"password", "pass", "email"})


def is_service(source: Source, nickserv: str, servers: Iterable[str] = ()) -> bool:
    """Whether somebody is a service, by name or host.

    ``nickserv``: as the settings name it; ``servers``: the network's, whose own domain some
    services have for a host (``X`` at ``undernet.org``).
    """
    nick, host = source.nick.casefold(), source.host.casefold()
    if nick in _NAMES or _is_named(nick, nickserv) or host.split(".")[0] in _SERVICES_HOSTS:
        return True
    is_of_network = "." in host and any(one.casefold().endswith(f".{host}") for one in servers)
    return nick in _SHARED_NAMES and is_of_network


def may_be_service(source: Source, nickserv: str) -> bool:
    """Whether one that is spoken to may be a service: of a nick alone the host is not known."""
    return source.nick.casefold() in _SHARED_NAMES or is_service(source, nickserv)


def _is_named(nick: str, nickserv: str) -> bool:
    known = nickserv.partition("@")[0].casefold()
    return bool(known) and nick == known


def refuse_secret(text: str, instance: str) -> None:
    """Keep what looks like a secret out of a room's memory and a server's log.

    Raises ``PermanentFailure`` with the way to say it.
    """
    words = text.casefold().split()
    if words[:1] and (
        (words[0] in _SECRET and len(words) > 1)
        or (words[0] == "set" and len(words) > 2 and words[1] in _SECRET_SETTINGS)
    ):
        raise PermanentFailure(
            "passwords are not sent from a room, where they stay: remove your message, and say "
            f"login {instance} in a direct chat with the bot"
        )
