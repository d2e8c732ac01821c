"""What is said to one of us alone: for a direct chat, for those who run channels, or for us."""

import asyncio
from collections.abc import Sequence
from datetime import UTC

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.messages.inbox import Deed
from bridge.networks.irc.messages.speech import ACTION, CTCP, read_ctcp
from bridge.networks.irc.network.history import Heard
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.private.desk import Desk
from bridge.networks.irc.private.missed import ALONE, Missed
from bridge.networks.irc.private.once import Once
from bridge.networks.irc.private.optouts import WORDS, OptOuts
from bridge.networks.irc.private.whispers import Whispered, Whispers
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.multiline import Assembler
from bridge.networks.irc.wire import Incoming, Source, cut, line, notice
from bridge.sdk.commands import as_typed
from bridge.sdk.events import MessageKind, RemoteMessage, RemoteRemark
from bridge.sdk.ids import UserId
from bridge.sdk.module import Host

SENTENCE = (
    "I am a connection to Matrix. Private messages are not carried there: "
    "please write in the channel. If nothing of yours is to be carried, say optout. Those who "
    "run a channel here may say status, leave, block, unblock. More: /msg {} help"
)
REFUSED = "Your message was not carried to Matrix: {}."
INVITED = (
    "I come into a channel when a Matrix room is bridged to it: somebody has to say in that room "
    f"{as_typed('bridge {} {}')}."
)
ASKED = " The channel's operators are asked then."
OF_SERVICES = "yours is a name of services, which open no direct chat"
_NOTED = "noted"
ANSWERED = (ACTION, "CLIENTINFO", "PING", "TIME", "VERSION")
"""The CTCP that is understood, as modern.ircdocs.horse names it."""


class Doorman:
    """Hands on what is for a direct chat, said or done; else answers private messages, each
    person with the same once an hour. Answers CTCP questions.

    Whoever says ``optout`` is not bridged any more, until ``optin``. What those who run channels
    wish goes to the desk.
    """

    def __init__(
        self,
        connection: Connection,
        network: Network,
        host: Host,
        *,
        owner: UserId | None,
        desk: Desk | None,
        whispers: Whispers | None,
        missed: Missed | None,
    ) -> None:
        """``owner``: whose connection it is; ``desk``: where the relay serves operators;
        ``whispers``: what makes direct chats of it; ``missed``: what was said before."""
        self._host = host
        self._owner = owner
        self._desk = desk
        self._connection = connection
        self._network = network
        self._whispers = whispers
        self.missed = missed
        self.optouts = OptOuts(connection, network, host)
        """Who wants no part in it."""
        self._once = Once(asyncio.get_running_loop().time)
        self._assembler = Assembler()

    def handle(self, incoming: Incoming) -> Sequence[Heard | Deed]:
        """Answer a private PRIVMSG, or give what a line is to a direct chat, or what is to be done
        about it apart from the reading.

        A NOTICE is never answered: two programs would answer for ever.
        """
        message, missed = self._assembler.feed(incoming), self.missed
        told: Sequence[Whispered | Deed] = ()
        if message is not None and (not message.is_replayed or (missed and missed.wants(message))):
            told = self._read(message)
        if missed is None and not told:
            return ()  # As of nearly all that is said.
        deeds = [one for one in told if callable(one)]
        events = [one for one in told if not callable(one)]
        if missed is None:
            return [*deeds, *(Heard(one, ALONE) for one in events)]
        heard = missed.take(message, events) if message is not None else []
        return [*deeds, *heard, *missed.follow(incoming)]

    def _read(self, message: Incoming) -> Sequence[Whispered | Deed]:
        if message.source is None:
            return ()
        if message.command not in replies.TO_PEOPLE and message.command != "INVITE":
            return self._follow(message)
        source = message.source
        # What was missed may have been said to the nick of then.
        is_private = message.is_replayed or self._is_to_us(message)
        if (
            not is_private or not source.is_person
            or self._connection.is_own(source) or self._network.is_ours(source)
        ):  # fmt: skip
            return ()
        if message.command == "PRIVMSG":
            ctcp = read_ctcp(message)
            if ctcp is not None and ctcp[0] != ACTION:
                self._answer_ctcp(message, source.nick, *ctcp)
                return ()
            if (word := message.param(1).strip().casefold()) in WORDS:
                return self.optouts.hear(message, source, word)
        if self._whispers is not None:
            if self._whispers.leaves_out(source):
                self._leave_out(message, source.nick)
            return self._whispers.hear(message)
        if message.command == "INVITE":
            self._take_invitation(source, message.param(1))
        elif message.command != "PRIVMSG":
            pass
        elif self._desk is None or not self._desk.take(source, message.param(1)):
            self._tell_once(source.nick, SENTENCE.format(self._network.relay_nick))
        return ()

    def _is_to_us(self, message: Incoming) -> bool:
        connection = self._connection
        is_channel = connection.isupport.is_channel(message.param(0))
        return not is_channel and connection.is_own(message.named(0))

    def _follow(self, message: Incoming) -> Sequence[Whispered]:
        if self._desk is not None:
            self._desk.follow(message)
        return self._whispers.follow(message) if self._whispers is not None else ()

    def _take_invitation(self, source: Source, channel: str) -> None:
        """Come into a channel that is bridged; of another say how it would be."""
        desk = self._desk
        chat = desk.find_chat(channel) if desk is not None else None
        if desk is not None and chat is not None:
            desk.take_invitation(source, chat)
        elif self._connection.isupport.names_channel(channel):
            asked = "" if self._network.settings.own_network else ASKED
            said = INVITED.format(self._host.instance, channel)
            self._tell_once(source.nick, said + asked)

    def _leave_out(self, message: Incoming, nick: str) -> None:
        """Note what a service says unasked; whoever may be a person with such a name is told."""
        key = self._connection.isupport.fold(nick)
        if message.is_replayed or message.command not in replies.SPEAKING | {"INVITE"}:
            return
        if self._once.may_say(key, _NOTED):
            self._once.note(key, _NOTED)
            self._host.log.info(
                "What the service %s said unasked was left out", nick,
                extra={"event": "irc_service_left_out"},
            )  # fmt: skip
        if message.command == "PRIVMSG":
            self._tell_once(nick, REFUSED.format(OF_SERVICES))

    def signed_in(self) -> None:
        """Take note that services know the connection by an account."""
        if self.missed is not None:
            self.missed.begin()

    def remark(self, remark: RemoteRemark) -> Sequence[Heard]:
        """Take what is to be told of somebody; return what may be: that comes after what they
        said before."""
        heard = [Heard(remark, ALONE)]
        return heard if self.missed is None else self.missed.hold(heard)

    def end(self) -> Sequence[Heard]:
        """Return what still waits to be told when the connection ends."""
        return () if self.missed is None else self.missed.release()

    def said_to(self, nick: str) -> None:
        """Take note that we say something to a person."""
        if self._whispers is not None:
            self._whispers.said_to(nick)

    def refuse(self, said: RemoteMessage, why: str) -> None:
        """Tell somebody that what they said to us alone is not carried."""
        if said.kind is not MessageKind.NOTICE:
            self._tell_once(said.sender.name, REFUSED.format(why.rstrip(".")))

    def _tell_once(self, nick: str, text: str) -> None:
        key = self._connection.isupport.fold(nick)
        if self._once.may_say(key, text) and self._connection.answer(notice(nick, text, 400)):
            self._once.note(key, text)

    def _answer_ctcp(self, message: Incoming, nick: str, command: str, rest: str) -> None:
        if message.is_replayed:
            return  # Nobody waits for it any more.
        answers = {
            "CLIENTINFO": " ".join(ANSWERED),
            "PING": cut(rest.replace(CTCP, ""), 100),
            "TIME": self._host.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "VERSION": cut(self._network.settings.describe(self._owner), 300),
        }
        if command in answers:
            answer = " ".join(filter(None, (command, answers[command])))
            self._connection.answer(line("NOTICE", nick, f"{CTCP}{answer}{CTCP}"))
