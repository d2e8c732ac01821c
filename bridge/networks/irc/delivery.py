"""What was written and is not answered yet: a ``PING`` after it tells when it was read.

A server works through what one connection writes in order. So its ``PONG`` says that all that was
written before the ``PING`` is read and done, and a refusal that comes before the ``PONG`` is about
something written before the ``PING``.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from bridge.networks.irc import replies
from bridge.networks.irc.wire import Incoming
from bridge.sdk.errors import (
    DeliveryError,
    DeliveryUncertain,
    PermanentFailure,
    TemporaryFailure,
)

RETRY_SECONDS = 5.0


@dataclass(eq=False, slots=True)
class Sending:
    """One message on its way."""

    target: str
    """Whom it is for, folded by the server's rule."""
    total: int
    answer: asyncio.Future[DeliveryError | None]
    """What became of it: None when the server has read it and refused nothing."""
    written: int = 0
    refused: int = 0
    refusal: DeliveryError | None = None

    def refuse(self, refusal: DeliveryError) -> None:
        """Take note that the server refused one of its lines. The first reason is kept."""
        self.refused += 1
        self.refusal = self.refusal or refusal

    @property
    def may_be_refused(self) -> bool:
        """Whether a line of it is out that was not refused yet."""
        return self.refused < self.written

    def settle(self, lost: DeliveryError | None = None) -> None:
        """Say what became of it, by the refusals so far; ``lost`` is for what has none."""
        if self.answer.done():
            return  # Whoever waited was cancelled.
        taken = self.written - self.refused
        if self.refusal is None or (lost is not None and taken):
            self.answer.set_result(lost)
        elif not taken:
            self.answer.set_result(self.refusal)
        else:
            said = f"{self.refusal} ({taken} of its {self.total} lines were taken)"
            # To say the others later is to say these again.
            is_final = isinstance(self.refusal, PermanentFailure)
            self.answer.set_result(PermanentFailure(said) if is_final else DeliveryUncertain(said))


@dataclass(slots=True)
class _Question:
    """A PING without its PONG."""

    marker: str
    asked_at: float
    sendings: list[Sending]


class Deliveries:
    """The messages of one connection that the server has not answered for."""

    def __init__(self, server: str) -> None:
        self.server = server
        self._open: list[Sending] = []
        self._written: list[Sending] = []
        # Nobody else can make the server say what would look like an answer.
        self._prefix = f"t{secrets.token_hex(4)}n"
        self._numbers = count(1)
        self._questions: deque[_Question] = deque()

    def begin(self, target: str, total: int) -> Sending:
        """Take note of a message that is about to be written."""
        sending = Sending(target, total, asyncio.get_running_loop().create_future())
        self._open.append(sending)
        return sending

    def finish(self, sending: Sending) -> None:
        """Take note that no more of it will be written: the next question is about it too."""
        self._written.append(sending)

    @property
    def must_ask(self) -> bool:
        """Whether something was written that no question is about."""
        return bool(self._written)

    @property
    def is_asking(self) -> bool:
        """Whether the server owes us an answer."""
        return bool(self._questions)

    @property
    def waiting_since(self) -> float | None:
        """When the oldest question was asked on whose answer a message waits (loop time)."""
        return next((one.asked_at for one in self._questions if one.sendings), None)

    def ask(self) -> str:
        """Give the marker of a new question, which is about all that was written."""
        marker = f"{self._prefix}{next(self._numbers)}"
        now = asyncio.get_running_loop().time()
        self._questions.append(_Question(marker, now, self._written))
        self._written = []
        return marker

    def hear_pong(self, pong: Incoming) -> None:
        """Settle what the PONG answers for, and what was asked before it.

        Servers put the marker first or last, alone or beside their name, in any case. One that
        leaves it out answers the oldest question.
        """
        if pong.source is not None and pong.source.is_person:
            return
        said = {param.lower() for param in pong.params}
        answered = [at for at, one in enumerate(self._questions) if one.marker in said]
        if not answered and any(param.startswith(self._prefix) for param in said):
            return  # An answer that came twice.
        for _ in range(min(len(self._questions), answered[0] + 1 if answered else 1)):
            for sending in self._questions.popleft().sendings:
                self._open.remove(sending)
                sending.settle()

    def hear_refusal(self, reply: Incoming, fold: Callable[[str], str]) -> None:
        """Take note of a reply that refuses a line of a message."""
        refusal = replies.send_refusal(reply)
        if refusal is None:
            return
        suspects = [one for one in self._open if one.may_be_refused]
        if replies.names_target(reply):
            target = fold(reply.param(1))
            suspects = [one for one in suspects if one.target == target][:1]
        if len(suspects) == 1:
            suspects[0].refuse(refusal)
            return
        for one in suspects:
            one.refuse(DeliveryUncertain(f"{self.server} refused this message or another."))

    def end(self) -> None:
        """Settle all, since the connection is gone."""
        for sending in self._open:
            sending.settle(self._lost(sending))
        self._questions.clear()
        self._written.clear()
        self._open.clear()

    def _lost(self, sending: Sending) -> DeliveryError:
        if not sending.written:
            return TemporaryFailure(f"{self.server} is not connected.", retry_after=RETRY_SECONDS)
        if sending.written < sending.total:
            return DeliveryUncertain(
                f"The connection to {self.server} broke after {sending.written} of "
                f"{sending.total} lines."
            )
        return DeliveryUncertain(
            f"The connection to {self.server} broke before it said that it has the message."
        )
