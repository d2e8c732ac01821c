"""What is said to one of us alone. Not bridged yet: the person is told so."""

import asyncio

from bridge.networks.irc.connection import Connection
from bridge.networks.irc.desk import Desk
from bridge.networks.irc.network import Network
from bridge.networks.irc.speech import ACTION, CTCP, read_ctcp
from bridge.networks.irc.wire import Incoming, cut, line
from bridge.sdk.ids import RemoteUserId, UserId
from bridge.sdk.module import Host

SENTENCE = (
    "I am a connection to Matrix. Private messages are not carried there yet: "
    "please write in the channel. If nothing of yours is to be carried, say optout."
)
OPTED = {
    "optout": "Nothing that you say is carried to Matrix any more. Say optin to undo that.",
    "optin": "What you say in the channels is carried to Matrix again.",
}
LATER = "That could not be noted just now. Please say it again in a minute."
NOTE_SECONDS = 5.0
MOST_PEERS = 1000


class Doorman:
    """Answers private messages once per person and connection, and two CTCP questions.

    Whoever says ``optout`` is not bridged any more, until ``optin``. What those who run channels
    wish goes to the desk.
    """

    def __init__(
        self,
        connection: Connection,
        network: Network,
        host: Host,
        *,
        owner: UserId | None = None,
        desk: Desk | None = None,
    ) -> None:
        """``owner``: whose connection it is; ``desk``: where the relay serves operators."""
        self._host = host
        self._owner = owner
        self._desk = desk
        self._connection = connection
        self._network = network
        self._told: set[str] = set()

    async def handle(self, message: Incoming) -> None:
        """Answer a private PRIVMSG. Never a NOTICE: two programs would answer for ever."""
        source = message.source
        if message.command != "PRIVMSG" or source is None or not source.is_person:
            return
        fold = self._connection.isupport.fold
        if fold(message.param(0)) != fold(self._connection.own.nick):
            return
        if self._network.is_ours(source):
            return
        ctcp = read_ctcp(message)
        if ctcp is not None and ctcp[0] != ACTION:
            self._answer_ctcp(source.nick, *ctcp)
        elif (word := message.param(1).strip().casefold()) in OPTED:
            await self._opt(source.nick, word)
        elif self._desk is not None and self._desk.take(source.nick, message.param(1)):
            return
        elif fold(source.nick) not in self._told and len(self._told) < MOST_PEERS:
            self._told.add(fold(source.nick))
            self._connection.answer(line("NOTICE", source.nick, SENTENCE))

    async def _opt(self, nick: str, word: str) -> None:
        user = RemoteUserId(self._connection.isupport.fold(nick))
        try:
            # The server must not wait for its PONG for as long as our database is away.
            async with asyncio.timeout(NOTE_SECONDS):
                await self._host.opt_out(user, is_out=word == "optout")
        except TimeoutError:
            answer = LATER
        else:
            answer = OPTED[word]
        self._connection.answer(line("NOTICE", nick, answer))

    def _answer_ctcp(self, nick: str, command: str, rest: str) -> None:
        answers = {
            "VERSION": cut(self._network.settings.describe(self._owner), 300),
            "PING": cut(rest.replace(CTCP, ""), 100),
        }
        if command in answers:
            answer = f"{CTCP}{command} {answers[command]}{CTCP}"
            self._connection.answer(line("NOTICE", nick, answer))
