"""Questions to the server besides messages: what is written, and which replies answer it."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.gate import Gate
from bridge.networks.irc.connections.overhearing import Overhearing
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.wire import Incoming, Line, line
from bridge.sdk.errors import (
    DeliveryError,
    DeliveryUncertain,
    PermanentFailure,
    TemporaryFailure,
)

MOST_LINES = 500
"""Lines that one answer is kept of; the rest is counted only."""
MOST_LISTED = 50_000
"""People or bans of one channel: several times as many as the largest channels have."""

TURNS = 2.0
"""A turn is waited for this many times as long as an answer: so one question before it may stay
unanswered, but not any number."""
MOST_TURN_SECONDS = 15.0
"""A person waits for it this long at most: a command has less time than the longest questions, and
should end with the news that the server was not asked, not that it may have been done."""
BETWEEN_SECONDS = 5.0
"""A background question waits this long at most between its lines, for room that nobody wants."""

MOST_JOINED = 10_000
"""Channels that we come into before a PONG; a server that names more sends us nowhere."""

Hear = Callable[[Incoming], None]


class Priority(IntEnum):
    """Whose question goes first."""

    PERSON = 0
    """Somebody waits for the answer."""
    BACKGROUND = 1
    """It goes in between, and leaves flood control's room to others."""


class NotAskedError(TemporaryFailure):
    """The turn did not come in time: nothing was written."""


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
    priority: Priority
    everything: bool = False
    done: asyncio.Future[DeliveryError | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    marker: str = ""
    """In the PONG that says that all is worked through; empty while no PING is written."""
    is_begun: bool = False
    """Something of it is written: what it changes may be changed."""
    is_written: bool = False
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


class Inquiries:
    """One connection's questions, one after the other: replies name no question.

    Whatever else on the connection would be answered by the same replies is asked here, too.
    """

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        connection.on_pong = self._hear_pong
        self._time = asyncio.get_running_loop().time
        self._turns = Gate(1, math.inf)
        self._waiting: Counter[Priority] = Counter()
        """Questions whose turn has not come."""
        self._question: _Question | None = None
        self._pause: asyncio.Timeout | None = None
        """It leaves room to others between its lines; rescheduled, it does so no more."""
        self.overhearing = Overhearing(connection)
        """Hears what people say to us alone, where that is awaited."""
        self._ended = False
        self._late = ""
        """The marker of the PONG after which nothing more comes of a question that was given up;
        empty once it has come. What comes before it answers no other."""
        self._joined: set[str] = set()
        """Channels, folded, that we have just come into, and whose list of names is not over."""
        self._listed_until = -math.inf
        """Until then a list's lines are of one that was given up, unless its end comes first: some
        servers send a list in pieces, past the PONG."""

    async def ask(
        self,
        *lines: Line,
        wanted: Collection[str],
        last: Collection[str] = (),
        channel: str = "",
        everything: bool = False,
        priority: Priority = Priority.PERSON,
    ) -> Answer:
        """Write lines and give what of the replies is wanted: numerics or commands.

        The answer is over with a reply of ``last``; without any, when the server has worked
        through all lines. ``channel``: what is said of other channels is no answer.
        ``everything``: whatever the server itself says, refusals too.
        Raises a ``DeliveryError`` with the server's reason when it refuses, ``TemporaryFailure``
        when the connection breaks, it does not answer in time or one's turn does not come in time.
        """
        answer = Answer()
        await self.follow(
            *lines, wanted=wanted, last=last, channel=channel, hear=answer.take,
            everything=everything, priority=priority,
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
        priority: Priority = Priority.PERSON,
    ) -> None:
        """The same, with each line handed over as it comes."""
        fold, said = (isupport := self._connection.isupport).fold, isupport.fold_said
        about = {said(param) for one in lines for param in one.params}
        about |= {one.command for one in lines}
        question = _Question(
            wanted, last, frozenset(about), fold(channel), hear, priority, everything=everything
        )
        async with self._turn(question):
            await self._write(question, lines)

    async def ask_in_between(self, questions: Iterable[Sequence[Line]]) -> None:
        """Ask one after another under one barrier; whoever follows the lines hears the answers.

        It ends early where others want the turn: a question has been asked when the iterator is
        asked for the next one, or has ended. Raises as :meth:`ask` does; of a refusal it is not
        said of which question.
        """
        question = _Question((), (), frozenset(), "", lambda _: None, Priority.BACKGROUND)
        async with self._turn(question):
            for lines in questions:
                if question.is_begun and not await self._make_room(question):
                    return
                await self._write(question, lines)

    async def _write(self, question: _Question, lines: Sequence[Line]) -> None:
        for one in lines:
            if question.is_begun:
                await self._make_room(question)
            await self._connection.say(one)
            question.is_begun = True

    async def _make_room(self, question: _Question) -> bool:
        """Have a background question leave flood control's room to others; not for long, since it
        has the turn. Gives whether nobody else wants it or the room."""
        if question.priority is Priority.PERSON:
            return True
        if self._waiting.total():
            return False
        try:
            async with asyncio.timeout(None) as self._pause:
                return await self._connection.leisure(BETWEEN_SECONDS)
        except TimeoutError:
            return False  # Somebody came who wants the turn.
        finally:
            self._pause = None

    @asynccontextmanager
    async def _turn(self, question: _Question) -> AsyncIterator[None]:
        """Wait for the turn, have the block write what is asked, and wait for the answer."""
        async with AsyncExitStack() as stack:
            if question.priority is Priority.BACKGROUND:
                await self._enter_at_leisure(stack)
            else:
                await self._enter(stack, question.priority)
            if self._ended:
                raise self._broken()
            self._question = question
            try:
                if self._joined and replies.END_OF_NAMES in question.last:
                    # Not every server gives us names with a channel: after its PONG none come.
                    await self._connection.ask_paced()
                yield
                if not question.last:
                    await self._make_room(question)
                    question.marker = await self._connection.ask_paced()
                question.is_written = True
                self._hurry()
                async with asyncio.timeout(self._seconds):
                    failure = await question.done
            except TimeoutError as error:
                raise UnansweredError(
                    f"{self._connection.server} did not answer within {self._seconds:g} seconds."
                ) from error
            except TemporaryFailure as error:
                if question.is_begun:
                    raise UnansweredError(str(error)) from error
                raise
            finally:
                self._leave(question)
        if failure is not None:
            raise failure

    async def _enter(self, stack: AsyncExitStack, priority: Priority) -> None:
        """Wait for the turn, which ends with the stack."""
        seconds = TURNS * self._seconds
        if priority is Priority.PERSON:
            seconds = min(seconds, MOST_TURN_SECONDS)
        self._waiting[priority] += 1
        self._hurry()
        try:
            async with asyncio.timeout(seconds):
                await stack.enter_async_context(self._turns.passage(priority))
        except TimeoutError as error:
            raise NotAskedError(
                f"{self._connection.server} is asked one question at a time, and those before "
                f"this one took more than {seconds:g} seconds: it was not asked. Try it again in "
                "a minute."
            ) from error
        finally:
            self._waiting[priority] -= 1

    async def _enter_at_leisure(self, stack: AsyncExitStack) -> None:
        """The same for a background question: it waits for flood control's room outside, where it
        keeps nobody from asking, and gives the turn back if a person waits or the room is gone.

        After some seconds it keeps the turn all the same.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        while True:
            await self._connection.leisure(end - loop.time())
            await self._enter(stack, Priority.BACKGROUND)
            has_room = not self._waiting[Priority.PERSON] and await self._connection.leisure(0)
            if has_room or loop.time() >= end:
                return
            await stack.aclose()

    def _hurry(self) -> None:
        """Have a background question pause no more where somebody waits behind it, and end with a
        PONG where a person does: what a server does not answer holds nobody up."""
        question = self._question
        if self._pause is not None and self._waiting.total():
            self._pause.reschedule(asyncio.get_running_loop().time())
            self._pause = None
        if question is None or not self._waiting[Priority.PERSON] or not self._connection.is_up:
            return
        is_background = question.priority is Priority.BACKGROUND
        if is_background and question.is_written and not question.marker:
            question.marker = self._connection.ask()

    def _leave(self, question: _Question) -> None:
        self._question = None
        if not question.is_begun:
            return  # Nothing can come of it.
        if replies.LIST_END in question.last and not (question.is_over or question.refusal):
            self._listed_until = self._time() + self._seconds
        if not question.is_over and self._connection.is_up:
            self._late = question.marker or self._connection.ask()

    async def bans(self, channel: str) -> list[str]:
        """The masks that a channel bans, all of them. Raises as :meth:`names` does."""
        question = line("MODE", channel, "b")
        return await self._list(
            channel, question, replies.BAN_ENTRY, replies.END_OF_BANS, lambda one: [one.param(2)]
        )

    async def names(self, channel: str) -> list[str]:
        """Everybody who is in a channel, as the server lists them: with the signs of their ranks.

        Raises as :meth:`ask` does, and ``PermanentFailure`` for more than ``MOST_LISTED``.
        """
        question = line("NAMES", channel)
        return await self._list(
            channel, question, replies.NAMES, replies.END_OF_NAMES,
            lambda one: one.param(-1).split(),
        )  # fmt: skip

    async def _list(
        self, channel: str, question: Line, entry: str, end: str,
        read: Callable[[Incoming], list[str]],
    ) -> list[str]:  # fmt: skip
        listed: list[str] = []

        def hear(message: Incoming) -> None:
            if len(listed) <= MOST_LISTED:
                listed.extend(read(message))

        await self.follow(question, wanted={entry}, last={end}, channel=channel, hear=hear)
        if len(listed) > MOST_LISTED:
            # A part would be taken for the whole: what it leaves out for what is not there.
            raise PermanentFailure(
                f"{channel} lists more than {MOST_LISTED} there: that is too much to be read"
            )
        return listed

    def handle(self, message: Incoming) -> bool:
        """Follow one line; whether it was said to us alone and somebody waits for it."""
        is_speech, question = message.command in replies.SPEAKING, self._question
        is_overheard = is_speech and self.overhearing.handle(message)
        if message.command == "PONG":
            pass  # The connection tells us of it as soon as it comes.
        elif not is_speech and (self._is_of_late_list(message) or self._is_of_own_join(message)):
            pass
        elif question is not None and not question.done.done() and not self._late:
            self._answer(message, question)
        return is_overheard

    def _is_of_late_list(self, message: Incoming) -> bool:
        """Whether a line is of a list that was given up."""
        if self._time() >= self._listed_until:
            return False
        if message.command == replies.LIST_END:
            self._listed_until = -math.inf
            return True
        return message.command == replies.LIST_ENTRY

    def _is_of_own_join(self, message: Incoming) -> bool:
        """Whether a line is of the list of names that a server gives us with a channel."""
        fold = self._connection.isupport.fold
        is_kept = len(self._joined) < MOST_JOINED
        if message.command == "JOIN" and is_kept and self._connection.is_own(message.source):
            self._joined.add(fold(message.param(0)))
        if not self._joined or message.command not in {replies.NAMES, replies.END_OF_NAMES}:
            return False
        channel = fold(replies.channel_of(message))
        is_of_it = channel in self._joined
        if message.command == replies.END_OF_NAMES:
            self._joined.discard(channel)
        return is_of_it

    def _hear_pong(self) -> None:
        self._joined.clear()  # Their lists came before.
        question, awaits = self._question, self._connection.awaits
        if question is not None and question.marker and not awaits(question.marker):
            question.is_over = True
            self._late = ""  # It was asked before.
            if not question.done.done():
                unsaid = self._silent() if question.last else None
                question.done.set_result(question.refusal or unsaid)
        elif self._late and not awaits(self._late):
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

    def _refuses(self, message: Incoming, question: _Question) -> bool:
        if not replies.is_error(message):
            return False
        if message.command in replies.SPEECH_REFUSED and not replies.SPEAKING & question.about:
            return False  # A message that is on its way to the same channel.
        if message.command in replies.OWN_MODES_MISTAKEN and "MODE" not in question.about:
            return False  # The modes that are set on each connect.
        if message.command == "FAIL":
            return message.param(0).upper() in question.about
        if len(message.params) < 3:
            return True  # It says of nothing that it is about it.
        named = message.params[1:-1]
        fold = self._connection.isupport.fold
        return any(fold(one) in question.about or one.upper() in question.about for one in named)

    @property
    def has_ended(self) -> bool:
        """Whether the connection is gone."""
        return self._ended or not self._connection.is_up

    def end(self) -> None:
        """Tell who waits that the connection is gone."""
        self._ended = True
        if self._question is not None and not self._question.done.done():
            broken = self._broken()
            is_begun = self._question.is_begun
            self._question.done.set_result(UnansweredError(str(broken)) if is_begun else broken)

    def _silent(self) -> TemporaryFailure:
        return TemporaryFailure(f"{self._connection.server} did not answer that.")

    def _broken(self) -> TemporaryFailure:
        return TemporaryFailure(f"The connection to {self._connection.server} broke.")
