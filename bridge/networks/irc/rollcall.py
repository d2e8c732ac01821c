"""Asking a server who is in a channel, from outside too, and who somebody is, and waiting for the
answer, without a wait for what else is asked."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.networks.irc import replies
from bridge.networks.irc.connection import Connection
from bridge.networks.irc.inquiry import Inquiries
from bridge.networks.irc.whereabouts import find_person
from bridge.networks.irc.wire import Incoming, Source, line
from bridge.sdk.errors import TemporaryFailure

ANSWER_SECONDS = 10.0
MOST_NAMES = 20_000


@dataclass(slots=True)
class _Question:
    answer: asyncio.Future[Mapping[str, str]]
    names: dict[str, str] = field(default_factory=dict)


class RollCall:
    """One connection's questions: ``NAMES``, one a channel at a time, and who somebody is."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._open: dict[str, _Question] = {}
        self._inquiries = Inquiries(connection, ANSWER_SECONDS)

    async def find_person(self, nick: str) -> Source | None:
        """Who goes by a nick now, with user and host; None if nobody does.

        Raises a ``DeliveryError``.
        """
        return await find_person(self._inquiries, nick, self._connection.isupport.fold)

    async def names(self, channel: str) -> Mapping[str, str]:
        """Who is in the channel, as far as we may know: nick to the signs before it.

        Raises ``TemporaryFailure`` if the server does not answer.
        """
        key = self._connection.isupport.fold(channel)
        question = self._open.get(key)
        if question is None:
            await self._connection.say(line("NAMES", channel))
            loop = asyncio.get_running_loop()
            question = self._open.setdefault(key, _Question(loop.create_future()))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.shield(question.answer)
        except TimeoutError as error:
            self._open.pop(key, None)
            raise TemporaryFailure(
                f"{self._connection.server} did not say who is in {channel}.", retry_after=5
            ) from error

    def end(self) -> None:
        """Tell those who wait that the connection is gone."""
        self._inquiries.end()
        for question in self._open.values():
            if not question.answer.done():
                question.answer.set_exception(
                    TemporaryFailure(f"The connection to {self._connection.server} broke.")
                )
                question.answer.exception()  # Nobody need be waiting.
        self._open.clear()

    async def moderators(self, channel: str) -> Mapping[str, str]:
        """Those of the channel who run it: operators and whoever stands above them."""
        signs = set(operator_signs(self._connection.isupport.prefixes))
        names = await self.names(channel)
        return {nick: held for nick, held in names.items() if signs.intersection(held)}

    def handle(self, message: Incoming) -> None:
        """Follow one line."""
        self._inquiries.handle(message)
        fold = self._connection.isupport.fold
        if message.command == replies.NAMES:
            question = self._open.get(fold(message.param(-2)))
            if question is not None and len(question.names) < MOST_NAMES:
                self._note(question, message.param(-1))
        elif message.command == replies.END_OF_NAMES:
            question = self._open.pop(fold(message.param(1)), None)
            if question is not None and not question.answer.done():
                question.answer.set_result(question.names)

    def _note(self, question: _Question, names: str) -> None:
        signs = "".join(self._connection.isupport.prefixes)
        for word in names.split():
            bare = word.lstrip(signs)
            nick = Source.parse(bare).nick
            if nick:
                question.names[nick] = word[: len(word) - len(bare)]


def operator_signs(prefixes: Mapping[str, str]) -> str:
    """The signs of operators and of those above them; a server tells them by rank."""
    found = ""
    for sign, mode in prefixes.items():
        found += sign
        if mode == "o":
            return found
    return ""
