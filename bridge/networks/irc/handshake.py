"""Signing in to a server, as a pure state machine: lines in, lines out."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field

from bridge.networks.irc import replies
from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.isupport import Isupport
from bridge.networks.irc.wire import Incoming, Line, cut, line
from bridge.sdk.errors import LoginRequired, ModuleNotReady
from bridge.sdk.secret import Secret

WANTED = frozenset(
    {"batch", "echo-message", "labeled-response", "message-tags", "multi-prefix", "server-time"}
)
SASL_CHUNK = 400
"""Base64 characters in one AUTHENTICATE; a shorter one ends it (IRCv3 SASL 3.1)."""
MOST_NICKS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who signs in."""

    nicks: Iterator[str] = field(repr=False)
    """Candidates, best first."""
    username: str
    realname: str
    password: Secret | None = None
    account: str | None = None
    account_password: Secret | None = None
    personal: bool = False
    """A person's own: that person is told when the server refuses the nicks."""


class Handshake:
    """One registration. Feed it every line until :attr:`done`."""

    def __init__(self, identity: Identity, server: str) -> None:
        self._identity = identity
        self._server = server
        self._offered: dict[str, str] = {}
        self._tried: list[str] = []
        self._any_taken = False
        self._sasl = identity.account is not None
        self.nick = ""
        self.capabilities: frozenset[str] = frozenset()
        self.isupport = Isupport()
        self.welcomed = False
        self.done = False

    def start(self) -> list[Line]:
        """Return what to say first."""
        who = self._identity
        first = [line("CAP", "LS", "302")]
        if who.password is not None:
            first.append(line("PASS", who.password.reveal()))
        return [*first, self._next_nick(), line("USER", who.username, "0", "*", who.realname)]

    def feed(self, message: Incoming) -> list[Line]:
        """Take a line, return the answers.

        Raises ``LoginRequired`` when the password or account is refused or we are banned,
        ``ModuleNotReady`` when it may work later.
        """
        match message.command:
            case "CAP":
                return self._on_cap(message)
            case "AUTHENTICATE":
                return self._authenticate() if message.param(0) == "+" else []
            case replies.WELCOME:
                return self._on_welcome(message)
            case replies.ISUPPORT:
                self.isupport = self.isupport.with_tokens(message.params[1:-1])
            case replies.END_OF_MOTD | replies.NO_MOTD:
                self.done = self.welcomed
            case "NICK" if message.source and message.source.nick == self.nick:
                self.nick = message.param(0)
            case command:
                return self._on_reply(command, message)
        return []

    def _on_cap(self, message: Incoming) -> list[Line]:
        match message.param(1).upper():
            case "LS":
                for word in message.param(-1).split():
                    name, _, value = word.partition("=")
                    self._offered[name.lower()] = value
                # A star between says that the list goes on.
                return [] if message.param(2) == "*" else self._request()
            case "ACK":
                self.capabilities |= set(message.param(-1).lower().split())
                if self._sasl and "sasl" in self.capabilities:
                    return [line("AUTHENTICATE", "PLAIN")]
                return [line("CAP", "END")]
            case "NAK" if self._sasl:
                raise ModuleNotReady(f"{self._server} offers SASL and then refuses it.")
            case "NAK":
                return [line("CAP", "END")]
        return []

    def _request(self) -> list[Line]:
        wanted = set(WANTED & self._offered.keys())
        if self._sasl:
            mechanisms = self._offered.get("sasl")
            if mechanisms is None or (mechanisms and "PLAIN" not in mechanisms.upper().split(",")):
                raise ModuleNotReady(
                    f"{self._server} does not offer to sign in by SASL PLAIN now."
                )
            wanted.add("sasl")
        if not wanted:
            return [line("CAP", "END")]
        return [line("CAP", "REQ", " ".join(sorted(wanted)))]

    def _authenticate(self) -> list[Line]:
        account, secret = self._identity.account, self._identity.account_password
        if account is None or secret is None:
            return [line("AUTHENTICATE", "*")]
        token = base64.b64encode(f"{account}\0{account}\0{secret.reveal()}".encode()).decode()
        chunks = [token[at : at + SASL_CHUNK] for at in range(0, len(token), SASL_CHUNK)]
        if len(chunks[-1]) == SASL_CHUNK:
            chunks.append("+")
        return [line("AUTHENTICATE", chunk) for chunk in chunks]

    def _on_welcome(self, message: Incoming) -> list[Line]:
        if self._sasl:
            raise ModuleNotReady(f"{self._server} let us in without looking at the account.")
        self.nick = message.param(0)
        self.welcomed = True
        return []

    def _on_reply(self, command: str, message: Incoming) -> list[Line]:
        said = strip_codes(message.param(-1))
        if command in replies.SASL_DONE:
            self._sasl = False
            return [line("CAP", "END")]
        if command in replies.SASL_REFUSED:
            raise LoginRequired(
                f"{self._server} refused the account {self._identity.account}: {said}"
            )
        if command == "464":
            raise LoginRequired(f"{self._server} refused the server password: {said}")
        if command == "465":
            raise LoginRequired(f"{self._server} does not let us in: {said}")
        if not self.welcomed and command in replies.NICK_TAKEN | replies.NICK_REFUSED:
            self._any_taken |= command in replies.NICK_TAKEN
            return [self._next_nick(said)]
        if command == "421" and message.param(1).upper() == "CAP" and self._sasl:
            raise ModuleNotReady(f"{self._server} does not know SASL.")
        return []

    def _next_nick(self, said: str = "") -> Line:
        nick = next(self._identity.nicks, None)
        if nick is None or len(self._tried) >= MOST_NICKS:
            # One that is taken can be free in a minute; one that is not allowed stays so.
            final = self._identity.personal and not self._any_taken
            raise (LoginRequired if final else ModuleNotReady)(
                f"{self._server} refused the nick {self._tried[0]} and "
                f"{len(self._tried) - 1} others like it: {said}"
            )
        self._tried.append(nick)
        self.nick = nick
        return line("NICK", cut(nick, 200))
