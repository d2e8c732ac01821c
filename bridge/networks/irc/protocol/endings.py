"""Why a server ended a connection or did not let us in, and what is right to do then.

Servers agree on no numbers for these: the words of their ``ERROR`` are all there is. The words
are those of InspIRCd, ngIRCd, UnrealIRCd, Solanum, ircu, Bahamut, Ergo and their services.
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
    ACCOUNT = auto()
    """Only who has an account is let in from here."""
    FULL = auto()
    """No more connections from here, or none at all: those that are there stay, others are not
    tried."""
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


_LISTED = r"dnsbl|dronebl|\brbl\b|\bblack-?list(?:ed)?\b|\bopen prox(?:y|ies)\b"
_LINED = r"\b(?:g?z|[gkqdxr])[-: ]?lined?\b|\ba(?:uto)?-?kill(?:ed)?\b"
_BAN = re.compile(rf"{_LISTED}|{_LINED}|\bbanned\b|\bnot welcome\b", re.IGNORECASE)
_ADDRESS = re.compile(
    rf"{_LISTED}|\b(?:g?z|d)[-: ]?lined?\b|\byour (?:ip|host|address)\b[^.]{{0,40}}\bbanned\b",
    re.IGNORECASE,
)
"""Bans of an address. The others are of a user, a nick or a real name, or do not say."""
_KILL = re.compile(r"(?<![-\w])kill(?:ed)?\b", re.IGNORECASE)
_AUTOMATIC_KILL = re.compile(rf"(?<![-\w])killed \(\S+ \(\W*(?:{_LINED})", re.IGNORECASE)
"""A ban that services carry out by a kill: its reason begins with the word."""

_WORDS: tuple[tuple[Cause, str], ...] = (
    (Cause.COLLISION, r"nick(?:name)? (?:collision|regained|taken|enforce)|\bghost(?:ed)?\b"
                      r"|regain(?:ed)? (?:command|by)|overrid(?:e|den)"),
    (Cause.PASSWORD, r"bad password|password (?:incorrect|mismatch|required)|access denied"
                     r"|invalid password"),
    (Cause.ACCOUNT, r"\bsasl access only\b|\bsasl (?:is )?required\b"
                    r"|\b(?:to|must) (?:identify|log ?in|be logged in|authenticate) "
                    r"(?:via|with|using) (?:sasl|an account)"),
    (Cause.THROTTLED, r"throttl|(?:re)?connecting too fast|trying to reconnect"
                      r"|connect too many times|too many (?:recent )?connection attempts"
                      r"|connects too (?:fast|often)"),
    (Cause.FULL, r"too many (?:\w+ )*(?:connections|clones|hosts?|clients)|no more connections"
                 r"|maximum (?:number of )?(?:global |local )*connections"
                 r"|(?:server|class) is full|unauthorized connection|not authori[sz]ed"
                 r"|\bno authori[sz]ation\b|connection limit|session limit"),
    (Cause.FLOODED, r"excess flood|flood|(?:recvq|sendq) exceeded|max sendq"),
    (Cause.TIMEOUT, r"ping time-?out|no ping response|timed out"),
)  # fmt: skip
_PATTERNS = tuple((cause, re.compile(words, re.IGNORECASE)) for cause, words in _WORDS)
_FRAME = re.compile(r"closing link:? +(?:\(\S+\)|\S+)(?: by \S+)? +(?=[(\[])", re.IGNORECASE)
"""What goes before the reason: a nick and a host, which may be called anything."""


def cause_of(said: str) -> Cause:
    """Read a server's last words."""
    words = _FRAME.sub("", said, count=1)
    ban, kill = _BAN.search(words), _KILL.search(words)
    # Both name a reason, which may hold any of the words: what comes first is what was done.
    if ban and (not kill or ban.start() < kill.start() or _AUTOMATIC_KILL.search(words)):
        return Cause.BANNED
    for cause, pattern in _PATTERNS:
        found = pattern.search(words)
        # Who takes a nick back does it by a kill.
        if found and (not kill or found.start() < kill.start() or cause is Cause.COLLISION):
            return cause
    return Cause.KILLED if kill else Cause.OTHER


def bans_address(said: str) -> bool:
    """Whether a ban says that it is one of the address, and so of all who come from there."""
    return bool(_ADDRESS.search(_FRAME.sub("", said, count=1)))


class ClosedError(ModuleNotReady):
    """The server ended the connection, and it may work later."""

    def __init__(self, cause: Cause, sentence: str) -> None:
        super().__init__(sentence)
        self.cause = cause
        self.kind = cause.name.lower() if cause is not Cause.OTHER else "closed by the server"


class BannedError(LoginRequired):
    """The network bans this login, or all who come from its address."""

    kind = "banned"

    def __init__(self, server: str, said: str) -> None:
        # Coming back would be knocking at a door that a person shut.
        super().__init__(
            f"{server} does not let us in: {said}. A ban is not got round: ask the network's "
            "operators to lift it."
        )
        self.of_address = bans_address(said)
        """Whether it says so."""

    def hear(self, last_words: str) -> None:
        """Learn more from what the server said after it."""
        self.of_address = self.of_address or bans_address(last_words)


def ended(server: str, error: str, *, personal: bool = False) -> ModuleError:
    """Explain why a connection ended, by the server's last ``ERROR``; ``personal`` says that it
    was one Matrix user's own."""
    said = strip_codes(error)
    if not said:
        return ClosedError(Cause.OTHER, f"{server} closed the connection.")
    match cause_of(said):
        case Cause.BANNED:
            return BannedError(server, said)
        case Cause.ACCOUNT:
            return account_missing(server, said, personal=personal)
        case Cause.PASSWORD:
            return LoginRequired(f"{server} does not take the password: {said}")
        case Cause.FULL if personal:
            return LoginRequired(
                f"{server} takes no more connections from this bridge: {said}. It helps to wait, "
                "or to ask the network for a higher limit."
            )
        case cause:
            return ClosedError(cause, _SENTENCES.get(cause, _CLOSED).format(server, said))


def account_missing(server: str, said: str, *, personal: bool = False) -> LoginRequired:
    """Explain that a server takes only people with an account."""
    return LoginRequired(
        f"{server} lets nobody in from here without an account: {strip_codes(said)}. "
        + ("Sign in with yours." if personal else "Set sasl_account, or a certificate.")
    )


def refused(server: str, said: str, *, personal: bool = False) -> ModuleError:
    """Explain a refusal that is called a ban (465), though it may ask for an account alone."""
    said = strip_codes(said)
    if cause_of(said) is Cause.ACCOUNT:
        return ended(server, said, personal=personal)
    return BannedError(server, said)


_CLOSED = "{} closed the connection: {}"
_SENTENCES = {
    Cause.FULL: "{} takes no more connections from this bridge: {}",
    Cause.THROTTLED: "{} finds that we connect too often, so all connections wait: {}",
    Cause.FLOODED: "{} finds that we write too fast, so we write slower from now on: {}",
    Cause.COLLISION: "{} closed the connection since somebody else has the nick: {}",
    Cause.KILLED: "An operator closed the connection to {}: {}",
    Cause.TIMEOUT: "{} closed the connection because it did not hear from us: {}",
}


class DismissedError(ModuleError):
    """The connection is not needed until the next message, or is to be made anew."""
