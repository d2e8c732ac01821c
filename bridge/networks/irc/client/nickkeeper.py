"""Gets back the nick that is a login's own, as soon as it is free."""

import asyncio
from collections.abc import Callable

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.wire import Incoming, Source, line
from bridge.sdk.errors import DeliveryError, PermanentFailure

REGAIN_SECONDS = 60.0
"""How often a client that goes by another nick asks for its own."""


class NickKeeper:
    """Follows one connection. Where the server has MONITOR, it tells when the nick is free."""

    def __init__(
        self, connection: Connection, own: str, complain: Callable[[DeliveryError], None]
    ) -> None:
        self._connection = connection
        self._own = own
        self._wanted = Source(own)
        self._complain = complain
        self._next = asyncio.get_running_loop().time() + REGAIN_SECONDS
        self._watches = False
        if not self._has_it:
            connection.write(line("NICK", own))
            if "MONITOR" in connection.isupport.tokens:
                connection.write(line("MONITOR", "+", own))
                self._watches = True

    @property
    def own(self) -> str:
        """The nick that is got back; empty for none."""
        return self._own

    def want(self, own: str) -> None:
        """Take another nick for the login's own, or none."""
        if self._watches:
            self._connection.write(line("MONITOR", "-", self._own))
            self._watches = False
        self._own, self._wanted = own, Source(own)

    @property
    def _has_it(self) -> bool:
        return not self._own or self._is_it(self._connection.own)

    def _is_it(self, who: Source | None) -> bool:
        """Whether somebody has the nick that is ours."""
        return who is not None and self._connection.isupport.are_one(who, self._wanted)

    def handle(self, message: Incoming) -> None:
        """Follow one line; ask for the nick if it may be free now."""
        if self._has_it:
            if self._watches:
                self._connection.write(line("MONITOR", "-", self._own))
                self._watches = False
            return
        fold = self._connection.isupport.fold
        if message.command in replies.NICK_REFUSED and fold(message.param(1)) == fold(self._own):
            self._complain(
                PermanentFailure(
                    f"{self._connection.server} refuses the nick {self._own}; "
                    f"{self._connection.own.nick} is used instead."
                )
            )
            self.want("")
            return
        if self._is_forced(message):
            self._give_way(message)
            return
        now = asyncio.get_running_loop().time()
        if self._is_free(message) or now >= self._next:
            self._next = now + REGAIN_SECONDS
            self._connection.answer(line("NICK", self._own))

    def _is_forced(self, message: Incoming) -> bool:
        """Whether others have taken the nick from us: we have not asked for another."""
        is_ours = self._connection.is_own(message.named(0))
        return message.command == "NICK" and self._is_it(message.source) and is_ours

    def _give_way(self, message: Incoming) -> None:
        """Go by what we were given: to take ours back would be to quarrel with an operator."""
        self._next = asyncio.get_running_loop().time() + REGAIN_SECONDS
        if message.param(0)[:1].isdigit():
            return  # A server's own name for us, after a collision: that is soon over.
        self._complain(
            PermanentFailure(
                f"{self._connection.server} has taken the nick {self._own} from this connection; "
                f"{self._connection.own.nick} is used instead, until it connects anew."
            )
        )
        self.want("")

    def _is_free(self, message: Incoming) -> bool:
        if message.command == replies.MONITOR_OFFLINE:
            fold = self._connection.isupport.fold
            return fold(self._own) in map(fold, message.param(1).split(","))
        return message.command in {"QUIT", "NICK"} and self._is_it(message.source)
