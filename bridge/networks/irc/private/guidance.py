"""What people on the network can ask of the relay, in words for them."""

from collections.abc import Sequence

from bridge.networks.irc.settings import IrcSettings

HELP = "help"
_ALL = (
    ("optout", "nothing of yours is carried to Matrix any more"),
    ("optin", "it is carried again"),
)
_OPERATORS = (
    ("status", "which room it is, how many are there, who asked for it, who is blocked"),
    ("leave", "the bridge ends: nothing crosses from that moment on"),
    ("block <nick or homeserver>", "nothing of them is carried into the channel any more"),
    ("unblock <the same>", "it is carried again"),
)
_ASKED = (
    ("yes #channel", "you agree to what I asked you: it is bridged"),
    ("no #channel", "you do not: it is not, and you are not asked again for a day"),
)

Words = Sequence[tuple[str, str]]
"""What is said, and what comes of it."""


def for_all() -> Words:
    """What everybody may say."""
    return _ALL


def for_operators(settings: IrcSettings) -> Words:
    """What those who run a channel may say; they are not asked on the admin's own network."""
    return _OPERATORS if settings.own_network else (*_OPERATORS, *_ASKED)


def typed(nick: str) -> Words:
    """What people type at any time to the relay that goes by ``nick``."""
    operators = [(word, f"operators of a channel: {meaning}") for word, meaning in _OPERATORS]
    words = ((HELP, "what may be said"), *_ALL, *operators)
    return [(f"/msg {nick} {word}", meaning) for word, meaning in words]


def help_lines(nick: str, settings: IrcSettings) -> list[str]:
    """The answer to ``help``: a line for each word. ``nick``: the relay's of now."""
    return [
        f"I carry channels of this network to Matrix rooms and back. Say /msg {nick} and one of "
        f"these. {settings.who_answers}".rstrip(),
        *(f"{word}: {meaning}." for word, meaning in for_all()),
        "Operators of a channel, with the channel's name if they run several:",
        *(f"{word}: {meaning}." for word, meaning in for_operators(settings)),
    ]
