"""Why a server ended a connection or did not let us in, and what is right to do then.

Servers agree on no numbers for these: the words of their ``ERROR`` are all there is. The words
are those of InspIRCd, ngIRCd, UnrealIRCd, Solanum, ircu, Bahamut and Ergo.
"""

import re
from enum import Enum, auto

from bridge.networks.irc.format import strip_codes
from bridge.sdk.errors import LoginRequired, ModuleError, ModuleNotReady


class Cause(Enum):
    """What was behind the end of a connection."""

    BANNED = auto()
    """The network shut the door on us. Nothing is done that would get round it."""
    PASSWORD = auto()
    FULL = auto()
    """No more connections from here: those that are there stay, others are not tried."""
    THROTTLED = auto()
    """We came too fast: everybody waits."""
    FLOODED = auto()
    """We wrote too fast: we write slower."""
    COLLISION = auto()
    """Somebody else has the nick: we come back with another."""
    KILLED = auto()
    """An operator's hand. A person comes back with the next message, not before."""
    TIMEOUT = auto()
    OTHER = auto()


# A ban names its reason, which may hold any of the words: so it is looked for first.
_WORDS: tuple[tuple[Cause, str], ...] = (
    (Cause.BANNED, r"\b(?:[gkzqdx][-: ]?lined?|banned|blacklisted|dnsbl|a(?:uto)?kill(?:ed)?)\b"),
    (Cause.COLLISION, r"nick(?:name)? (?:collision|regained|taken|enforce)|\bghost(?:ed)?\b"
                      r"|regain(?:ed)? (?:command|by)|overrid(?:e|den)"),
    (Cause.PASSWORD, r"bad password|password (?:incorrect|mismatch|required)|access denied"
                     r"|invalid password"),
    (Cause.THROTTLED, r"throttl|(?:re)?connecting too fast|trying to reconnect"
                      r"|connect too many times|too many (?:recent )?connection attempts"
                      r"|connects too (?:fast|often)"),
    (Cause.FULL, r"too many (?:\w+ )*(?:connections|clones|hosts?|clients)|no more connections"
                 r"|maximum (?:number of )?(?:global |local )*connections"
                 r"|(?:server|class) is full|unauthorized connection|not authori[sz]ed"
                 r"|connection limit|session limit"),
    (Cause.FLOODED, r"excess flood|flood|(?:recvq|sendq) exceeded|max sendq"),
    (Cause.TIMEOUT, r"ping time-?out|no ping response|timed out"),
    (Cause.KILLED, r"\bkill(?:ed)?\b"),
)  # fmt: skip
_PATTERNS = tuple((cause, re.compile(words, re.IGNORECASE)) for cause, words in _WORDS)


def cause_of(said: str) -> Cause:
    """Read a server's last words."""
    return next((cause for cause, words in _PATTERNS if words.search(said)), Cause.OTHER)


class ClosedError(ModuleNotReady):
    """The server ended the connection, and it may work later."""

    def __init__(self, cause: Cause, sentence: str) -> None:
        super().__init__(sentence)
        self.cause = cause


def ended(server: str, error: str, *, personal: bool = False) -> ModuleError:
    """Explain why a connection ended, by the server's last ``ERROR``; ``personal`` says that it
    was one Matrix user's own."""
    said = strip_codes(error)
    if not said:
        return ClosedError(Cause.OTHER, f"{server} closed the connection.")
    match cause_of(said):
        case Cause.BANNED:
            return banned(server, said)
        case Cause.PASSWORD:
            return LoginRequired(f"{server} does not take the password: {said}")
        case Cause.FULL if personal:
            return LoginRequired(
                f"{server} takes no more connections from this bridge: {said}. It helps to wait, "
                "or to ask the network for a higher limit."
            )
        case cause:
            return ClosedError(cause, _SENTENCES.get(cause, _CLOSED).format(server, said))


def banned(server: str, said: str) -> LoginRequired:
    """Say that the network bans us."""
    # Coming back would be knocking at a door that a person shut.
    return LoginRequired(
        f"{server} does not let us in: {said}. A ban is not got round: ask the network's "
        "operators to lift it."
    )


_CLOSED = "{} closed the connection: {}"
_SENTENCES = {
    Cause.FULL: "{} takes no more connections from this bridge: {}",
    Cause.THROTTLED: "{} finds that we connect too often, so all connections wait: {}",
    Cause.FLOODED: "{} finds that we write too fast, so we write slower from now on: {}",
    Cause.COLLISION: "{} closed the connection since somebody else has the nick: {}",
    Cause.KILLED: "An operator closed the connection to {}: {}",
    Cause.TIMEOUT: "{} closed the connection because it did not hear from us: {}",
}
