"""What is said to one of us alone: for a direct chat, for those who run channels, or for us."""

from collections.abc import Sequence

from bridge.networks.irc import replies
from bridge.networks.irc.connection import Connection
from bridge.networks.irc.desk import Desk
from bridge.networks.irc.multiline import Assembler
from bridge.networks.irc.network import Network
from bridge.networks.irc.optouts import WORDS, OptOuts
from bridge.networks.irc.speech import ACTION, CTCP, read_ctcp
from bridge.networks.irc.whispers import Whispered, Whispers
from bridge.networks.irc.wire import Incoming, Source, cut, line
from bridge.sdk.events import MessageKind, RemoteMessage
from bridge.sdk.ids import UserId
from bridge.sdk.module import Host

SENTENCE = (
    "I am a connection to Matrix. Private messages are not carried there: "
    "please write in the channel. If nothing of yours is to be carried, say optout."
)
REFUSED = "Your message was not carried to Matrix: {}."
INVITED = (
    "I come into a channel with a room: somebody in Matrix has to say there: bridge {} {}. "
    "The channel's operators are asked then."
)
MOST_PEERS = 1000


class Doorman:
    """Hands on what is for a direct chat, said or done; else answers private messages once per
    person and connection. Answers two CTCP questions.

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
        whispers: Whispers | None = None,
    ) -> None:
        """``owner``: whose connection it is; ``desk``: where the relay serves operators;
        ``whispers``: what makes direct chats of it."""
        self._host = host
        self._owner = owner
        self._desk = desk
        self._connection = connection
        self._network = network
        self._whispers = whispers
        self.optouts = OptOuts(connection, network, host)
        """Who wants no part in it."""
        self._told: set[str] = set()
        self._assembler = Assembler()

    async def handle(self, incoming: Incoming) -> Sequence[Whispered]:
        """Answer a private PRIVMSG, or give what a line is to a direct chat.

        A NOTICE is never answered: two programs would answer for ever.
        """
        message = self._assembler.feed(incoming)
        if message is None or message.source is None:
            return ()
        if message.command not in replies.SPEAKING | replies.DOING | {"INVITE"}:
            return self._whispers.follow(message) if self._whispers is not None else ()
        source, fold = message.source, self._connection.isupport.fold
        is_private = fold(message.param(0)) == fold(self._connection.own.nick)
        if not is_private or not source.is_person or self._network.is_ours(source):
            return ()
        if message.command == "PRIVMSG":
            ctcp = read_ctcp(message)
            if ctcp is not None and ctcp[0] != ACTION:
                self._answer_ctcp(source.nick, *ctcp)
                return ()
            if (word := message.param(1).strip().casefold()) in WORDS:
                await self.optouts.hear(message, source, word)
                return ()
        if self._whispers is not None:
            return self._whispers.hear(message)
        if message.command == "INVITE":
            self._take_invitation(source, message.param(1))
            return ()
        if message.command != "PRIVMSG":
            return ()
        if self._desk is None or not self._desk.take(source, message.param(1)):
            self._tell_once(source.nick, SENTENCE)
        return ()

    def _take_invitation(self, source: Source, channel: str) -> None:
        """Come into a channel that is bridged; of another say how it would be."""
        desk = self._desk
        chat = desk.find_chat(channel) if desk is not None else None
        if desk is not None and chat is not None:
            desk.take_invitation(source, chat)
        elif self._connection.isupport.names_channel(channel):
            self._tell_once(source.nick, INVITED.format(self._host.instance, channel))

    def said_to(self, nick: str) -> None:
        """Take note that we say something to a person."""
        if self._whispers is not None:
            self._whispers.said_to(nick)

    def refuse(self, said: RemoteMessage, why: str) -> None:
        """Tell somebody, once, that what they said to us alone is not carried."""
        if said.kind is not MessageKind.NOTICE:
            self._tell_once(said.sender.name, REFUSED.format(why.rstrip(".")))

    def _tell_once(self, nick: str, text: str) -> None:
        key = self._connection.isupport.fold(nick)
        if key not in self._told and len(self._told) < MOST_PEERS:
            self._told.add(key)
            self._connection.answer(line("NOTICE", nick, cut(text, 400)))

    def _answer_ctcp(self, nick: str, command: str, rest: str) -> None:
        answers = {
            "VERSION": cut(self._network.settings.describe(self._owner), 300),
            "PING": cut(rest.replace(CTCP, ""), 100),
        }
        if command in answers:
            answer = f"{CTCP}{command} {answers[command]}{CTCP}"
            self._connection.answer(line("NOTICE", nick, answer))
