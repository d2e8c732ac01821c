"""Questions to the server beside messages: what is written, and which replies answer it."""

import asyncio
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bridge.networks.irc import replies
from bridge.networks.irc.connection import Connection
from bridge.networks.irc.wire import Incoming, Line, Source, line
from bridge.sdk.errors import DeliveryError, DeliveryUncertain, TemporaryFailure

MOST_PAUSES = 4
"""How many times as long as the first pause one who goes on talking is heard."""
MOST_LINES = 500
"""Lines that one answer is kept of; the rest is counted only."""

Hear = Callable[[Incoming], None]


class UnansweredError(TemporaryFailure):
    """Lines were written, and the server has not said what came of them."""


@dataclass(slots=True)
class _Question:
    """What was asked and is not answered yet."""

    wanted: Collection[str]
    last: Collection[str]
    about: frozenset[str]
    """Folded names and commands that a refusal of it may name."""
    channel: str
    """Folded: of replies those that name it answer this. Empty: all do."""
    hear: Hear
    done: asyncio.Future[DeliveryError | None]
    marker: str = ""
    everything: bool = False
    refusal: DeliveryError | None = None
    is_over: bool = False
    """Nothing more comes of it."""


@dataclass(slots=True)
class Answer:
    """The lines of an answer, as far as they are kept."""

    lines: list[Incoming] = field(default_factory=list)
    left_out: int = 0

    def take(self, message: Incoming) -> None:
        """Keep a line, or count it."""
        if len(self.lines) < MOST_LINES:
            self.lines.append(message)
        else:
            self.left_out += 1


class Overheard:
    """What one person says to us alone for a while."""

    def __init__(self, nick: str, is_heard: Callable[[Source], bool]) -> None:
        self.nick = nick
        self.is_heard = is_heard
        self.lines: list[Incoming] = []
        self._came = asyncio.Event()

    def take(self, message: Incoming) -> None:
        """Take a line that the person said."""
        self.lines.append(message)
        self._came.set()

    async def wait(self, seconds: float, most: int) -> None:
        """Return when nothing was said for some seconds, or enough was."""
        loop = asyncio.get_running_loop()
        end = loop.time() + MOST_PAUSES * seconds
        while len(self.lines) < most and loop.time() < end:
            self._came.clear()
            try:
                async with asyncio.timeout(seconds if not self.lines else seconds / 4):
                    await self._came.wait()
            except TimeoutError:
                return


class Inquiries:
    """One connection's questions, one after the other: replies name no question.

    Whatever else on the connection would be answered by the same replies is asked here, too.
    """

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._turn = asyncio.Lock()
        self._question: _Question | None = None
        self._overhearing: list[Overheard] = []
        self._ended = False
        self._late = ""
        """What is in the PONG after which nothing comes any more of a question that was given up,
        as long as it is awaited: what comes before answers no other."""
        self._listed_until = -math.inf
        """So long what comes of a list is of one that was given up, unless that ends before: some
        servers send it in pieces, past the PONG."""

    async def ask(
        self,
        *lines: Line,
        wanted: Collection[str],
        last: Collection[str] = (),
        channel: str = "",
        everything: bool = False,
    ) -> Answer:
        """Write lines and give what of the replies is wanted: numerics or commands.

        The answer is over with a reply of ``last``; without any, when the server has worked
        through all lines. ``channel``: what is said of other channels is no answer.
        ``everything``: whatever the server itself says, refusals too.
        Raises a ``DeliveryError`` with the server's reason when it refuses, ``TemporaryFailure``
        when the connection breaks or it does not answer in time.
        """
        answer = Answer()
        await self.follow(
            *lines, wanted=wanted, last=last, channel=channel, hear=answer.take,
            everything=everything,
        )  # fmt: skip
        return answer

    async def change(
        self, *lines: Line, wanted: Collection[str] = (), channel: str = "",
        everything: bool = False,
    ) -> Answer:  # fmt: skip
        """The same for what changes something: raises ``DeliveryUncertain`` where the lines were
        written and it stays unknown what came of them."""
        try:
            return await self.ask(*lines, wanted=wanted, channel=channel, everything=everything)
        except UnansweredError as error:
            raise DeliveryUncertain(str(error)) from error

    async def follow(
        self,
        *lines: Line,
        wanted: Collection[str],
        hear: Hear,
        last: Collection[str] = (),
        channel: str = "",
        everything: bool = False,
    ) -> None:
        """The same, with each line handed over as it comes."""
        fold = self._connection.isupport.fold
        about = {fold(param) for one in lines for param in one.params}
        about |= {one.command for one in lines}
        async with self._turn:
            if self._ended:
                raise self._broken()
            done = asyncio.get_running_loop().create_future()
            self._question = question = _Question(
                wanted, last, frozenset(about), fold(channel), hear, done, everything=everything
            )
            try:
                for one in lines:
                    await self._connection.say(one)
                if not last:
                    question.marker = await self._connection.ask_paced()
                async with asyncio.timeout(self._seconds):
                    failure = await done
            except TimeoutError as error:
                raise UnansweredError(
                    f"{self._connection.server} did not answer within {self._seconds:g} seconds."
                ) from error
            finally:
                self._question = None
                if replies.LIST_END in last and not (question.is_over or question.refusal):
                    self._listed_until = asyncio.get_running_loop().time() + self._seconds
                if not question.is_over and self._connection.is_up:
                    self._late = question.marker or self._connection.ask()
        if failure is not None:
            raise failure

    async def bans(self, channel: str) -> list[str]:
        """The masks that a channel bans. Raises as :meth:`ask` does."""
        answer = await self.ask(
            line("MODE", channel, "b"), wanted={replies.BAN_ENTRY}, last={replies.END_OF_BANS},
            channel=channel,
        )  # fmt: skip
        return [one.param(2) for one in answer.lines]

    async def names(self, channel: str) -> Sequence[Incoming]:
        """The lines that list who is in a channel. Raises as :meth:`ask` does."""
        answer = await self.ask(
            line("NAMES", channel), wanted={replies.NAMES}, last={replies.END_OF_NAMES},
            channel=channel,
        )  # fmt: skip
        return answer.lines

    @contextmanager
    def overhearing(self, nick: str, is_heard: Callable[[Source], bool]) -> Iterator[Overheard]:
        """Hear what somebody says to us alone, for as long as the block lasts.

        ``is_heard``: whether it is one whose words come here, and nowhere else.
        """
        overheard = Overheard(nick, is_heard)
        self._overhearing.append(overheard)
        try:
            yield overheard
        finally:
            self._overhearing.remove(overheard)

    def handle(self, message: Incoming) -> bool:
        """Follow one line; whether it was said to us alone and somebody waits for it."""
        is_overheard = message.command in replies.SPEAKING and self._overhear(message)
        question = self._question
        if message.command == "PONG":
            self._hear_pong({one.lower() for one in message.params})
        elif self._is_of_late_list(message):
            pass
        elif question is not None and not question.done.done() and not self._late:
            self._answer(message, question)
        return is_overheard

    def _is_of_late_list(self, message: Incoming) -> bool:
        """Whether a line is of a list that was given up."""
        if asyncio.get_running_loop().time() >= self._listed_until:
            return False
        if message.command == replies.LIST_END:
            self._listed_until = -math.inf
            return True
        return message.command == replies.LIST_ENTRY

    def _hear_pong(self, params: Collection[str]) -> None:
        question = self._question
        marker = question.marker if question is not None else ""
        if question is not None and marker and marker in params and not question.done.done():
            question.is_over = True
            question.done.set_result(question.refusal)
            self._late = ""  # It was asked before.
        elif self._late in params:
            self._late = ""

    def _answer(self, message: Incoming, question: _Question) -> None:
        is_answer = self._is_about(message, question.channel)
        if question.everything:
            if message.source is None or not message.source.is_person:
                question.hear(message)
        elif message.command in question.wanted:
            if is_answer:
                question.hear(message)
        elif self._refuses(message, question):
            question.refusal = question.refusal or replies.command_refusal(message)
        question.is_over = is_answer and message.command in question.last
        if question.is_over or (question.refusal and question.last):
            question.done.set_result(question.refusal)

    def _is_about(self, message: Incoming, channel: str) -> bool:
        """Whether a reply is about a channel; joins and other questions bring their own."""
        return not channel or channel == self._connection.isupport.fold(
            replies.channel_of(message)
        )

    def _overhear(self, message: Incoming) -> bool:
        fold, source = self._connection.isupport.fold, message.source
        if source is None or fold(message.param(0)) != fold(self._connection.own.nick):
            return False
        if message.param(1).startswith("\x01"):
            return False
        waiting = [
            one for one in self._overhearing
            if fold(one.nick) == fold(source.nick) and one.is_heard(source)
        ]  # fmt: skip
        for one in waiting:
            one.take(message)
        return bool(waiting)

    def _refuses(self, message: Incoming, question: _Question) -> bool:
        if not replies.is_error(message):
            return False
        if message.command in replies.SPEECH_REFUSED and not replies.SPEAKING & question.about:
            return False  # A message that is on its way to the same channel.
        if message.command == "FAIL":
            return message.param(0).upper() in question.about
        if len(message.params) < 3:
            return True  # It says of nothing that it is about it.
        named = message.params[1:-1]
        fold = self._connection.isupport.fold
        return any(fold(one) in question.about or one.upper() in question.about for one in named)

    def end(self) -> None:
        """Tell who waits that the connection is gone."""
        self._ended = True
        if self._question is not None and not self._question.done.done():
            self._question.done.set_result(UnansweredError(str(self._broken())))

    def _broken(self) -> TemporaryFailure:
        return TemporaryFailure(f"The connection to {self._connection.server} broke.")
