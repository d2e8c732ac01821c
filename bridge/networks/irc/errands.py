"""Changes that we ask of a server: done, or refused with a reason."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.networks.irc import replies
from bridge.networks.irc.connection import Connection
from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.wire import Incoming, Line, line
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure

_ANSWER_SECONDS = 20.0


@dataclass(slots=True)
class _Errand:
    marker: str
    about: frozenset[str]
    done: asyncio.Future[DeliveryError | None]
    refusal: DeliveryError | None = None


class Errands:
    """One connection's, one after the other: a refusal does not say which line it is about."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()
        self._errand: _Errand | None = None
        self._numbers = itertools.count(1)
        self._ended = False

    async def do(self, lines: Sequence[Line]) -> None:
        """Write the lines; return when the server has worked through them.

        Raises ``PermanentFailure`` with its reason if it refuses one, ``TemporaryFailure`` if
        the connection breaks or it is silent.
        """
        fold = self._connection.isupport.fold
        about = frozenset(fold(word) for one in lines for word in (one.command, *one.params))
        async with self._turn:
            if self._ended:
                raise self._broken()
            loop = asyncio.get_running_loop()
            errand = _Errand(f"errand-{next(self._numbers)}", about, loop.create_future())
            self._errand = errand
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    for one in lines:
                        await self._connection.say(one)
                    await self._connection.say(line("PING", errand.marker))
                    failure = await errand.done
            except TimeoutError as error:
                raise TemporaryFailure(
                    f"{self._connection.server} did not answer in time.", retry_after=5
                ) from error
            finally:
                self._errand = None
        if failure is not None:
            raise failure

    def handle(self, message: Incoming) -> None:
        """Follow one line."""
        errand = self._errand
        if errand is None or errand.done.done():
            return
        if message.command == "PONG":
            if errand.marker in message.params:
                errand.done.set_result(errand.refusal)
        elif replies.is_error(message) and self._names(message, errand):
            said = strip_codes(message.param(-1)).rstrip(".")
            errand.refusal = errand.refusal or PermanentFailure(f"the server says: {said}")

    def _names(self, message: Incoming, errand: _Errand) -> bool:
        fold = self._connection.isupport.fold
        words = message.params[:-1] if message.command == "FAIL" else message.params[1:-1]
        return any(fold(word) in errand.about for word in words)

    def end(self) -> None:
        """Tell who waits that the connection is gone."""
        self._ended = True
        if self._errand is not None and not self._errand.done.done():
            self._errand.done.set_result(self._broken())

    def _broken(self) -> TemporaryFailure:
        return TemporaryFailure(
            f"The connection to {self._connection.server} broke.", retry_after=5
        )
