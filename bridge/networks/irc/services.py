"""A network's services: programs that keep nicks and channels, and are told secrets."""

from bridge.networks.irc.wire import Source
from bridge.sdk.errors import PermanentFailure

_NAMES = frozenset({
    "nickserv", "chanserv", "memoserv", "botserv", "hostserv", "operserv", "saslserv", "infoserv",
    "groupserv", "helpserv", "statserv", "authserv", "userserv", "gameserv", "alis", "global", "q",
    "x",
})  # fmt: skip
_SECRET = frozenset({
    "identify", "id", "sidentify", "login", "auth", "authcookie", "register", "ghost", "recover",
    "release", "regain", "group", "pass", "password", "newpass", "setpass", "challenge", "drop",
    "confirm", "verify",
})  # fmt: skip
"""What comes before a password or a code."""
_SECRET_SETTINGS = frozenset({"password", "pass", "email"})


def is_service(source: Source, nickserv: str) -> bool:
    """Whether somebody is a service, by name or server; ``nickserv``: as the settings name it."""
    nick = source.nick.casefold()
    known = nickserv.partition("@")[0].casefold()
    return nick in _NAMES or (bool(known) and nick == known) or _is_of_services(source.host)


def _is_of_services(host: str) -> bool:
    return host.casefold().split(".")[0] == "services"


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
