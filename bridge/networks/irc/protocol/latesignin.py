"""Signing in to an account after we were let in: services may come later (``cap-notify``)."""

from collections.abc import Callable

from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.protocol import replies, sasl
from bridge.networks.irc.protocol.exchange import Exchange, unproven
from bridge.networks.irc.protocol.offers import Offers
from bridge.networks.irc.wire import Incoming, Line, Source, line
from bridge.sdk.errors import ModuleNotReady, PermanentFailure

SPOKEN = frozenset({
    "CAP", "AUTHENTICATE", "ACCOUNT", replies.LOGGED_IN, replies.LOGGED_OUT,
    replies.SASL_MECHANISMS, replies.SASL_ABORTED, *replies.SASL_DONE, *replies.SASL_REFUSED,
})  # fmt: skip
"""The lines that it follows."""


class LateSignIn:
    """One connection's. A pure state: lines in, lines out, and nobody waits for it."""

    def __init__(
        self,
        server: str,
        offers: Offers,
        exchange: Callable[[], Exchange],
        complain: Callable[[PermanentFailure], object],
    ) -> None:
        """``offers``: follow each line before we do. ``complain``: is told of a refusal."""
        self._server = server
        self._offers = offers
        self._make = exchange
        self._complain = complain
        self._exchange: Exchange | None = None
        """Asked for, or under way."""
        self._is_refused = False
        """What was refused is not tried again on this connection."""
        self._is_signed_in = False

    def begin(self, *, is_signed_in: bool, is_refused: bool) -> list[Line]:
        """Return what to say as soon as we are let in: services may have come meanwhile.
        ``is_refused``: what we have to show them was refused on the way in."""
        self._is_signed_in, self._is_refused = is_signed_in, is_refused
        return self._ask()

    def follow(self, message: Incoming, *, is_own: Callable[[Source | None], bool]) -> list[Line]:
        """Follow one of the lines that are ``SPOKEN``; return what to say.

        Raises ``ModuleNotReady`` where the server claims a success that it has not proven.
        """
        command = message.command
        if command == "CAP":
            return self._on_cap(message)
        if command == replies.LOGGED_IN:
            self._is_signed_in = True
        elif command == replies.LOGGED_OUT:
            self._is_signed_in = False
        elif command == "ACCOUNT" and is_own(message.source):
            self._is_signed_in = message.param(0) not in {"", "*"}
        return [] if self._exchange is None else self._go_through(self._exchange, message)

    def _on_cap(self, message: Incoming) -> list[Line]:
        named = {word.partition("=")[0] for word in message.param(-1).lower().split()}
        if "sasl" not in named:
            return []
        match message.param(1).upper():
            case "NEW":
                return self._ask()
            case "ACK" if self._exchange and not self._exchange.is_under_way:
                if "sasl" in self._offers.held and not self._is_signed_in:
                    return self._try_next(self._exchange)
                self._exchange = None
            case "DEL" | "NAK":
                self._exchange = None
        return []

    def _ask(self) -> list[Line]:
        """Ask for SASL, if it is of use."""
        offered = self._offers.values.get("sasl")
        if offered is None or self._exchange or self._is_signed_in or self._is_refused:
            return []
        exchange = self._make()
        if not exchange.choose(offered.split(",")):
            return []
        self._exchange = exchange
        has_it = "sasl" in self._offers.held
        return self._try_next(exchange) if has_it else [line("CAP", "REQ", "sasl")]

    def _try_next(self, exchange: Exchange) -> list[Line]:
        begun = exchange.begin_next()
        return [] if begun is None else [begun]

    def _go_through(self, exchange: Exchange, message: Incoming) -> list[Line]:
        command = message.command
        if command == "AUTHENTICATE":
            try:
                return exchange.answer(message.param(0))
            except ModuleNotReady as error:
                self._exchange, self._is_refused = None, True
                self._complain(
                    PermanentFailure(f"{self._server} could not be signed in to: {error}")
                )
                return [line("AUTHENTICATE", "*")]
        if command == replies.SASL_MECHANISMS:
            exchange.choose(message.param(1).split(","))
        elif command in replies.SASL_DONE:
            if not exchange.trusts:
                raise unproven(self._server)
            self._exchange, self._is_signed_in = None, True
        elif command == replies.SASL_ABORTED or command in replies.SASL_REFUSED:
            if begun := self._try_next(exchange):
                return begun
            self._exchange = None
            self._is_refused = command != replies.SASL_ABORTED
            # A certificate may be known to nobody yet.
            if self._is_refused and exchange.tried != {sasl.External.name}:
                said = strip_codes(message.param(-1))
                self._complain(
                    PermanentFailure(f"{self._server} refused {exchange.whose}: {said}")
                )
        return []
