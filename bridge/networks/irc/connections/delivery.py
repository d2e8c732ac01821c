"""What was written and is not answered yet.

A server works through what one connection writes in order. So its ``PONG`` says that all that was
written before the ``PING`` is read and done, and a refusal that comes before the ``PONG`` is about
something written before the ``PING``. Where it has better means (:class:`Means`), the ``PING`` is
only for what they leave open.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from bridge.networks.irc.connections.sending import Means, Sending, Spoken, not_passed_on
from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.protocol import multiline, relaymsg, replies
from bridge.networks.irc.protocol.acts import TYPING
from bridge.networks.irc.wire import Incoming, Line
from bridge.sdk.errors import DeliveryError, DeliveryUncertain, PermanentFailure, TemporaryFailure

RETRY_SECONDS = 5.0


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
        self.means = Means.PING
        self._open: list[Sending] = []
        self._written: list[Sending] = []
        self._labelled: dict[str, tuple[Sending, Spoken]] = {}
        # Nobody else can make the server say what would look like an answer.
        self._prefix = f"t{secrets.token_hex(4)}n"
        self._numbers = count(1)
        self._questions: list[_Question] = []

    def use(self, means: Means) -> None:
        """Confirm by these means from now on.

        What is on its way and counted on means that are gone is confirmed by a PONG.
        """
        self.means = means
        for sending in self._open:
            gone = (sending.means.labels and not means.labels) or (
                sending.means.echoes and not means.echoes
            )
            if gone:
                sending.means = Means.PING

    def begin(self, target: str, total: int) -> Sending:
        """Take note of a message that is about to be written."""
        answer = asyncio.get_running_loop().create_future()
        sending = Sending(target, total, self.means, answer)
        self._open.append(sending)
        return sending

    def speak(self, sending: Sending, one: Line) -> Line:
        """Take note of a line that is written now; return it as it is to be written.

        Of a group of lines only the first is given: it stands for all.
        """
        spoken = Spoken(one.command, None if one.command == "BATCH" else one.params[-1])
        sending.lines.append(spoken)
        sending.relays = one.command == relaymsg.COMMAND
        if not sending.means.labels:
            return one
        spoken.label = f"{self._prefix}{next(self._numbers)}"
        self._labelled[spoken.label] = (sending, spoken)
        return one.tagged(label=spoken.label)

    def finish(self, sending: Sending) -> None:
        """Take note that no more of it will be written: the next question is about it too."""
        sending.is_whole = True
        self._written.append(sending)
        self._close_if_settled(sending)

    @property
    def must_ask(self) -> bool:
        """Whether something was written that no question is about."""
        return bool(self._written)

    @property
    def is_single(self) -> bool:
        """Whether no more than one message is on its way."""
        return len(self._open) <= 1

    @property
    def is_waiting(self) -> bool:
        """Whether a message is on its way, of which a line from the server may say something."""
        return bool(self._open)

    @property
    def is_asking(self) -> bool:
        """Whether the server owes us an answer."""
        return bool(self._questions)

    def awaits(self, marker: str) -> bool:
        """Whether a question is not answered yet."""
        return any(one.marker == marker for one in self._questions)

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

    def hear(self, message: Incoming, *, own: bool, fold: Callable[[str], str]) -> None:
        """Learn what a line from the server says of ours; ``own``: it comes from ourselves."""
        if not self._open:
            return
        if (label := message.label) and label in self._labelled:
            self._hear_labelled(label, message, own=own)
        elif own and (target := _echoed_to(message)) is not None:
            self._hear_echo(message, fold(target))
        elif not label:
            self._hear_refusal(message, fold)

    def _hear_labelled(self, label: str, message: Incoming, *, own: bool) -> None:
        sending, spoken = self._labelled[label]
        refusal = self._refusal(message, sending.relays)
        batch = message.batch
        is_last = batch is None or (batch.is_over and not batch.is_inner)
        said = message.params[-1:] if message.command not in {"ACK", "BATCH"} else ()
        if own and _echoed_to(message) is not None:
            spoken.hear(message.param(-1), message.tags.get("msgid", ""))
        elif refusal is not None:
            spoken.refusal = refusal
        elif not is_last:
            return
        elif sending.means.echoes:
            spoken.refusal = not_passed_on(self.server, said)
        elif replies.is_error(message):
            why = " ".join(said) or message.command
            spoken.refusal = PermanentFailure(f"{self.server} did not take it ({why})")
        else:
            spoken.taken = True
        del self._labelled[label]
        self._close_if_settled(sending)

    def _hear_echo(self, echo: Incoming, target: str) -> None:
        # What we say besides messages comes back, too: answers to CTCP are a NOTICE, say.
        waiting = [
            (sending, one) for sending in self._open
            if sending.means is Means.ECHO and sending.target == target
            for one in sending.lines if not one.is_settled and one.is_meant_by({echo.command})
        ]  # fmt: skip
        if not waiting:
            return
        text = echo.param(-1)
        # In order; but an equal text, or what a channel without colours makes of one, tells that
        # those before it were swallowed.
        equal = (one for one in waiting if text in {one[1].text, strip_codes(one[1].text or "")})
        sending, spoken = next(equal, waiting[0])
        spoken.hear(text, echo.tags.get("msgid", ""))
        self._close_if_settled(sending)

    def _close_if_settled(self, sending: Sending) -> None:
        # A PONG closes what is confirmed by nothing else.
        if sending.means is Means.PING or not (sending.is_settled and sending.lines):
            return
        for waiting in (self._open, self._written, *(one.sendings for one in self._questions)):
            if sending in waiting:
                waiting.remove(sending)
        sending.settle()

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
        until = answered[0] + 1 if answered else 1
        done, self._questions[:until] = self._questions[:until], []
        for one in done:
            for sending in one.sendings:
                self._open.remove(sending)
                sending.read_by(self.server)
                self._forget_labels(sending)
                sending.settle()

    def _forget_labels(self, sending: Sending) -> None:
        for spoken in sending.lines:
            self._labelled.pop(spoken.label, None)

    @staticmethod
    def _refusal(reply: Incoming, relays: bool) -> DeliveryError | None:
        refused = relaymsg.relay_refusal(reply) if relays else None
        return refused or replies.send_refusal(reply)

    def _hear_refusal(self, reply: Incoming, fold: Callable[[str], str]) -> None:
        relays = any(one.relays for one in self._open)
        refusal = self._refusal(reply, relays)
        if refusal is None:
            return
        suspects = [one for one in self._open if not one.means.labels and one.may_be_refused]
        if commands := replies.refused_commands(reply):
            suspects = [one for one in suspects if one.may_be_refused_as(commands)]
        if isinstance(refusal, relaymsg.RelayRefused):
            suspects = [one for one in suspects if one.relays][:1]
        if replies.names_target(reply):
            target = fold(reply.param(1))
            suspects = [one for one in suspects if one.target == target][:1]
        if len(suspects) != 1:
            refusal = DeliveryUncertain(f"{self.server} refused this message or another.")
        for one in suspects:
            one.refuse(refusal)
            self._close_if_settled(one)

    def end(self) -> None:
        """Settle all, since the connection is gone."""
        for sending in self._open:
            sending.settle(self._lost(sending))
        self._questions.clear()
        self._written.clear()
        self._labelled.clear()
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


def _echoed_to(message: Incoming) -> str | None:
    """Return whom a line of our own was said to, or the first of a group; None for others."""
    batch = message.batch
    if batch is not None and batch.kind == multiline.CAPABILITY:
        is_first = message.command == "BATCH" and not batch.is_over
        return batch.params[0] if is_first and batch.params else None
    if message.command in replies.DOING and TYPING not in message.tags:
        return message.param(0)
    return message.param(0) if message.command in replies.SPEAKING else None
