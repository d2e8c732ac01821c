"""Signing in to a server, as a pure state machine: lines in, lines out."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.protocol import endings, replies, sasl
from bridge.networks.irc.protocol.batches import is_playback
from bridge.networks.irc.protocol.exchange import Exchange, unproven
from bridge.networks.irc.protocol.offers import Offers
from bridge.networks.irc.wire import Incoming, Line, cut, is_word, line
from bridge.sdk.errors import LoginRequired, ModuleNotReady
from bridge.sdk.secret import Secret

_REGISTERED = re.compile(r"\+[^-]*r")
"""The mode that services set on a user whose nick is theirs, in whatever language they speak."""
MOST_SAID = 200
"""Of what NickServ says and we do not understand, for people to read."""
MOST_NICKS = 20
MOST_REFUSED = 2
"""So many nicks are not to a server's liking before they may be too long for it."""
_OF_ITS_FORM = re.compile(r"erron|too long|\blength\b|characters", re.IGNORECASE)
"""How servers refuse a nick that they take for none; RFC 1459 says ``Erroneus``."""
MOST_UNHEARD, MOST_UNHEARD_CHARS = 20_000, 4 * 1024 * 1024
MOST_REALNAME_BYTES = 400
"""Of what the line has room for; servers cut it far shorter."""

# Not all services have a numeric for these; the words are those of Atheme and Anope in English.
_IDENTIFIED = re.compile(r"now (?:identified|logged in|recognized)|password accepted", re.I)
_NOT_IDENTIFIED = re.compile(
    r"(?:invalid|incorrect|wrong) password|password (?:is )?incorrect|not (?:a )?registered"
    r"|isn't registered|authentication failed|is not a valid",
    re.I,
)
_GREETING = re.compile(r"is registered|\bidentify (?:via|with|to|yourself)\b", re.I)
"""What is said to whoever comes by a registered nick, before the password is looked at."""
_STATED = re.compile(r"(?:(\S+)(?: -> \S+)? ACC|STATUS (\S+)) (\d+)(?!\S)")
"""How Atheme answers ``ACC`` and Anope ``STATUS``, in whatever language they speak."""
_IDENTIFIED_LEVEL = "3"
MOST_UNCLEAR = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What a server that trusts us (``WEBIRC``) is told of the user behind a connection."""

    password: Secret
    name: str
    address: IPv6Address

    def line(self) -> Line:
        """Return the line that goes first."""
        shown = str(self.address)
        if shown.startswith(":"):
            shown = f"0{shown}"  # Else it would be taken for the rest of the line.
        return line("WEBIRC", self.password.reveal(), self.name, shown, shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who signs in."""

    nicks: Iterator[str] = field(repr=False)
    """Candidates, best first."""
    short_nicks: Iterator[str] = field(default_factory=lambda: iter(()), repr=False)
    """The same for a server that refuses them: no longer than any server takes them."""
    username: str
    realname: str
    password: Secret | None = None
    account: str | None = None
    account_password: Secret | None = None
    certificate: bool = False
    """The connection shows one, by which services may know an account. If they do not, a person
    comes in without an account; the relay, whose settings ask for it, does not."""
    nickserv: str | None = None
    """Who is told account and password where the server has no SASL."""
    gateway: Gateway | None = None
    personal: bool = False
    """A person's own: that person is told when the server refuses the nicks."""


class Handshake:
    """One registration. Feed it every line until :attr:`done`."""

    def __init__(self, identity: Identity, server: str) -> None:
        self._identity = identity
        self._server = server
        self.offers = Offers()
        self._requests = 0
        self._has_news = False
        """Something is offered that could not be asked for before we are in."""
        self._nicks = identity.nicks
        self._tried: list[str] = []
        self._refused = 0
        self._any_taken = False
        self._sasl = identity.account is not None or identity.certificate
        self._exchange = Exchange(
            identity.account, identity.account_password, certificate=identity.certificate
        )
        self._identifies = False
        self._is_asking = False
        """NickServ is told the password, and has not answered."""
        self._unclear: list[str] = []
        """What it has said that we do not understand."""
        self._has_asked = False
        """It was asked how it knows us."""
        self._is_stated = False
        """It has said how it knows us, and be it that it does not."""
        self.nick = ""
        self.awaited = "let us in"
        """What the server has still to do, in words."""
        self.welcomed = False
        self.done = False
        self.is_signed_in = False
        """Whether services know us."""
        self.is_refused = False
        """They do not know the certificate, without which a person is let in."""
        self.unheard: list[Incoming] = []
        """What the server has said since we are in, while NickServ's answer was waited for."""
        self._unheard_chars = 0

    def start(self) -> list[Line]:
        """Return what to say first."""
        who = self._identity
        first = [] if who.gateway is None else [who.gateway.line()]
        first.append(line("CAP", "LS", "302"))
        if who.password is not None:
            first.append(line("PASS", who.password.reveal()))
        realname = cut(who.realname, MOST_REALNAME_BYTES)
        return [*first, self._next_nick(), line("USER", who.username, "0", "*", realname)]

    def feed(self, message: Incoming) -> list[Line]:
        """Take a line, return the answers.

        Raises ``LoginRequired`` when the password or account is refused or we are banned,
        ``ModuleNotReady`` when it may work later.
        """
        if self._is_asking:
            self._keep(message)
        match message.command:
            case "CAP":
                return self._on_cap(message)
            case "AUTHENTICATE":
                return self._authenticate(message.param(0))
            case replies.WELCOME:
                return self._on_welcome(message)
            case replies.END_OF_MOTD | replies.NO_MOTD:
                return self._on_end_of_welcome()
            case "NICK" if message.source and message.source.nick == self.nick:
                self.nick = message.param(0)
            case command:
                return self._on_reply(command, message)
        return []

    def _keep(self, message: Incoming) -> None:
        most, most_chars = MOST_UNHEARD, MOST_UNHEARD_CHARS
        is_half = len(self.unheard) >= most // 2 or self._unheard_chars >= most_chars // 2
        if is_half and is_playback(message, None):
            return  # However much a bouncer says again, there is room for what is said now.
        self.unheard.append(message)
        self._unheard_chars += sum(map(len, (*message.params, *message.tags.values())))
        if len(self.unheard) > most or self._unheard_chars > most_chars:
            raise ModuleNotReady(f"{self._server} said too much and did not {self.awaited}.")

    def _on_cap(self, message: Incoming) -> list[Line]:
        verb = message.param(1).upper()
        if self.welcomed or verb in {"NEW", "DEL"}:
            requests = self.offers.follow(message)
            if self._exchange.is_under_way and "sasl" not in self.offers.held:
                return self._on_sasl_gone()
            # Before we are in, what is asked for has been counted already.
            self._has_news |= bool(requests)
            return requests if self.welcomed else []
        match verb:
            case "LS":
                self.offers.learn(message.param(-1))
                # A star between says that the list goes on.
                return [] if message.param(2) == "*" else self._request()
            case "ACK":
                self.offers.take(message.param(-1))
            case "NAK" if apart := self.offers.ask_apart(message.param(-1)):
                self._requests += len(apart) - 1
                return apart
            case "NAK":
                pass
            case _:
                return []
        self._requests -= 1
        return [] if self._requests > 0 else self._after_capabilities()

    def _after_capabilities(self) -> list[Line]:
        if self._sasl and "sasl" in self.offers.held:
            self._exchange.choose(self.offers.values.get("sasl", "").split(","))
            return self._try_next()
        if self._sasl and not self._goes_without():
            raise ModuleNotReady(f"{self._server} offers SASL and then refuses it.")
        return [line("CAP", "END")]

    def _request(self) -> list[Line]:
        extra = set()
        if self._sasl:
            mechanisms = self.offers.values.get("sasl")
            if mechanisms is not None and self._exchange.choose(mechanisms.split(",")):
                extra.add("sasl")
            elif not self._goes_without():
                raise ModuleNotReady(
                    f"{self._server} does not offer to sign in by SASL in a way open to us now."
                )
        requests = self.offers.wish(extra)
        self._requests = len(requests)
        return requests or [line("CAP", "END")]

    def _goes_without(self) -> bool:
        """Whether we may come in without SASL: NickServ is told, or knows the certificate."""
        if self._identity.account is None or self._identity.nickserv is not None:
            self._sasl = False
            self._identifies = self._identity.account is not None
            return True
        return False

    def _try_next(self, said: str | None = None, *, is_verdict: bool = True) -> list[Line]:
        """Go on to the next way; ``said``: of the one before, if there was one, which was refused
        or, without a verdict, broken off."""
        begun = self._exchange.begin_next()
        if begun is not None:
            return [begun]
        # A person must be able to come in before the network can be told of the certificate.
        unknown = self._identity.personal and self._exchange.tried == {sasl.External.name}
        if unknown and self._goes_without():
            self.is_refused = is_verdict
            return [line("CAP", "END")]
        if not is_verdict:
            # Services went, or took too long: nobody has looked at the account.
            raise ModuleNotReady(f"{self._server} broke off signing in to {self._whose}: {said}")
        raise LoginRequired(f"{self._server} refused {self._whose}: {said}")

    @property
    def _whose(self) -> str:
        return self._exchange.whose

    def _authenticate(self, chunk: str) -> list[Line]:
        try:
            return self._exchange.answer(chunk)
        except ModuleNotReady as error:
            raise ModuleNotReady(f"{self._server} could not be signed in to: {error}") from error

    def _on_sasl_done(self) -> list[Line]:
        if not self._exchange.trusts:
            raise unproven(self._server)
        self._sasl, self.is_signed_in = False, True
        self._exchange.end()
        return [line("CAP", "END")]

    def _on_sasl_gone(self) -> list[Line]:
        """Services have left: nobody answers any more."""
        self._exchange.end()
        if self._goes_without():
            return [line("CAP", "END")]
        raise ModuleNotReady(
            f"{self._server} broke off signing in to {self._whose}: its services left."
        )

    def _on_welcome(self, message: Incoming) -> list[Line]:
        if self._sasl and not self._goes_without():
            raise ModuleNotReady(f"{self._server} let us in without looking at the account.")
        if is_word(message.param(0)):
            self.nick = message.param(0)
        self.welcomed = True
        return self.offers.wish() if self._has_news else []

    def _on_end_of_welcome(self) -> list[Line]:
        who = self._identity
        secret = who.account_password
        if not (self._identifies and who.nickserv and who.account and secret):
            self.done = self.welcomed
            return []
        self._is_asking = True
        self.awaited = f"pass on an answer from {who.nickserv}"
        return [line("PRIVMSG", who.nickserv, f"IDENTIFY {who.account} {secret.reveal()}")]

    def _on_services(self, message: Incoming) -> list[Line]:
        """Hear what NickServ says to our password."""
        name = (self._identity.nickserv or "").partition("@")[0].lower()
        heard = strip_codes(message.param(-1))
        said = self._without_password(heard)
        source = message.source.nick.lower() if message.source else ""
        if message.command in {replies.NO_SUCH_NICK, replies.SERVICES_DOWN}:
            raise ModuleNotReady(f"{self._server} has no {self._identity.nickserv} now: {said}")
        if self._is_known(message) or (source == name and _IDENTIFIED.search(heard)):
            self.done = self.is_signed_in = True
        elif source == name and (stated := _STATED.match(heard)):
            self._on_stated(stated)
        elif source == name and _NOT_IDENTIFIED.search(heard):
            raise LoginRequired(
                f"{self._identity.nickserv} on {self._server} refused {self._whose}: {said}"
            )
        elif source == name and self._is_asking and message.command in {"NOTICE", "PRIVMSG"}:
            return self._on_unclear(said)
        return []

    def _on_stated(self, stated: re.Match[str]) -> None:
        self._is_stated = True
        nick, level = stated[1] or stated[2], stated[3]
        if nick.lower() == self.nick.lower() and level == _IDENTIFIED_LEVEL:
            self.done = self.is_signed_in = True

    def _on_unclear(self, said: str) -> list[Line]:
        """Ask NickServ, once, how it knows us: it has worked through our password by then."""
        if self._is_stated:
            return []  # About what we asked, not about the password.
        nickserv = self._identity.nickserv or ""
        self._unclear = [*self._unclear, said][-MOST_UNCLEAR:]
        self.awaited = (
            f"pass on an answer from {nickserv} that we understand (it said: "
            f"{cut(' / '.join(self._unclear), MOST_SAID)})"
        )
        if self._has_asked or _GREETING.search(said):
            return []
        self._has_asked = True
        asked = (f"ACC {self.nick} *", f"STATUS {self.nick}")
        return [line("PRIVMSG", nickserv, one) for one in asked]

    def _without_password(self, said: str) -> str:
        """What NickServ says is read by others, and it may repeat what it did not understand, in
        capitals perhaps."""
        secret = self._identity.account_password
        password = strip_codes(secret.reveal()) if secret is not None else ""
        return re.sub(re.escape(password), "…", said, flags=re.IGNORECASE) if password else said

    def _is_known(self, message: Incoming) -> bool:
        """Whether the server says, without words, that services know us."""
        if message.command == replies.LOGGED_IN:
            return True
        nick = self.nick.lower()
        if message.command == "ACCOUNT":
            is_ours = message.source is not None and message.source.nick.lower() == nick
            return is_ours and message.param(0) not in {"", "*"}
        is_ours = message.command == "MODE" and message.param(0).lower() == nick
        return self._is_asking and is_ours and bool(_REGISTERED.search(message.param(1)))

    def _on_reply(self, command: str, message: Incoming) -> list[Line]:
        said = strip_codes(message.param(-1))
        if self.welcomed and self._identifies and (asked := self._on_services(message)):
            return asked
        if command == replies.SASL_MECHANISMS:
            self._exchange.choose(message.param(1).split(","))
        if command in replies.SASL_DONE:
            return self._on_sasl_done()
        if command == replies.SASL_ABORTED and self._sasl and self._exchange.is_under_way:
            return self._try_next(said, is_verdict=False)
        if command in replies.SASL_REFUSED and self._sasl:
            return self._try_next(said)
        if command == "464":
            raise LoginRequired(f"{self._server} refused the server password: {said}")
        if command == "465":
            raise endings.refused(self._server, said, personal=self._identity.personal)
        if command == "FAIL" and message.param(1).upper() == "ACCOUNT_REQUIRED":
            raise endings.account_missing(self._server, said, personal=self._identity.personal)
        if not self.welcomed and command in replies.NICK_TAKEN | replies.NICK_REFUSED:
            self._on_nick_refused(said, is_taken=command in replies.NICK_TAKEN)
            return [self._next_nick(said)]
        knows_no_cap = command == "421" and message.param(1).upper() == "CAP"
        if knows_no_cap and self._sasl and not self._goes_without():
            raise ModuleNotReady(f"{self._server} does not know SASL.")
        return []

    def _on_nick_refused(self, said: str, *, is_taken: bool) -> None:
        self._any_taken |= is_taken
        # One that is reserved is not to be had in another form.
        self._refused += not is_taken and _OF_ITS_FORM.search(said) is not None
        if self._refused == MOST_REFUSED:
            # It tells its limit only to those whom it has let in.
            self._nicks = (one for one in self._identity.short_nicks if one not in self._tried)

    def _next_nick(self, said: str = "") -> Line:
        nick = next(self._nicks, None)
        if nick is None or len(self._tried) >= MOST_NICKS:
            # One that is taken can be free in a minute; one that is not allowed stays so.
            final = self._identity.personal and not self._any_taken
            others = f" and {len(self._tried) - 1} more like it" if len(self._tried) > 1 else ""
            raise (LoginRequired if final else ModuleNotReady)(
                f"{self._server} refused the nick {self._tried[0]}{others}: {said}"
            )
        self._tried.append(nick)
        self.nick = nick
        return line("NICK", cut(nick, 200))
