"""Handshakes without a server: what is fed to them, and what they answer."""

from bridge.networks.irc.names.nicks import candidates
from bridge.networks.irc.protocol.handshake import Handshake, Identity
from bridge.sdk.secret import Secret
from tests.irc.lines import incoming


def identity(**changes: object) -> Identity:
    """Who signs on."""
    known: dict[str, object] = {
        "nicks": candidates("bob", 9),
        "username": "bob",
        "realname": "@bob:example.org",
    }
    return Identity(**(known | changes))  # type: ignore[arg-type]


def sasl(length: int = 6) -> Identity:
    """Who has an account, with a password of that length."""
    return identity(account="acc", account_password=Secret("x" * length))


def feed(handshake: Handshake, *texts: str) -> list[str]:
    """What is said on these lines of the server."""
    answers: list[str] = []
    for text in texts:
        said = handshake.feed(incoming(text))
        answers += [one.encode().decode().strip() for one in said]
    return answers


def begin(who: Identity) -> tuple[Handshake, list[str]]:
    """A handshake and the first lines of it."""
    handshake = Handshake(who, "irc.example:6697")
    return handshake, [one.encode().decode().strip() for one in handshake.start()]
