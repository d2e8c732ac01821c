"""What people say to one connection alone, and who they are, for direct chats."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bridge.networks.irc import replies
from bridge.networks.irc.acts import is_typing, read_act, read_answered, read_typing
from bridge.networks.irc.connection import Connection
from bridge.networks.irc.format import clean_text, strip_codes
from bridge.networks.irc.network import Network
from bridge.networks.irc.services import is_service
from bridge.networks.irc.speech import read_text, read_time
from bridge.networks.irc.splits import is_split
from bridge.networks.irc.wire import Incoming, Source
from bridge.sdk.events import (
    RemoteMessage,
    RemoteReaction,
    RemoteRedaction,
    RemoteRemark,
    RemoteRename,
    RemoteTyping,
    RemoteUser,
)
from bridge.sdk.ids import RemoteChatId, RemoteMessageId, RemoteUserId

MOST_PARTNERS = 1000
WAITING_SECONDS = 3600.0
"""So long after the last word somebody may wait for an answer, and is told who has left."""

Whispered = (
    RemoteMessage | RemoteReaction | RemoteRedaction | RemoteTyping | RemoteRename | RemoteRemark
)


@dataclass(slots=True)
class _Partner:
    nick: str
    mask: str = ""
    """User and host, once they said something."""
    account: str = ""
    spoke_at: float = 0.0


class Whispers:
    """Whom one connection talks with. Pure but for the clock; kept while it lasts."""

    def __init__(
        self, connection: Connection, network: Network, now: Callable[[], datetime],
        loop_time: Callable[[], float],
    ) -> None:  # fmt: skip
        self._connection = connection
        self._network = network
        self._now = now
        self._loop_time = loop_time
        self._partners: dict[str, _Partner] = {}

    def _fold(self, nick: str) -> str:
        return self._connection.isupport.fold(nick)

    def said_to(self, nick: str) -> None:
        """Take note that we say something to a person, who is followed from now on."""
        self._partner(nick)

    def _partner(self, nick: str) -> _Partner:
        key = self._fold(nick)
        partner = self._partners.pop(key, None) or _Partner(nick)
        while len(self._partners) >= MOST_PARTNERS:
            del self._partners[next(iter(self._partners))]
        self._partners[key] = partner  # Who spoke last is forgotten last.
        partner.spoke_at = self._loop_time()
        return partner

    def hear(self, message: Incoming) -> list[Whispered]:
        """Read what somebody who is none of us said to us alone, or did: text, and no CTCP.

        What services say goes where it was asked for, and opens no room: they say it to
        whoever connects.
        """
        source = message.source
        if source is None or message.is_replayed:
            return []
        chat, user = RemoteChatId(self._fold(source.nick)), self._user(source.nick)
        by_service = is_service(source, self._network.settings.nickserv or "")
        if by_service and chat not in self._partners:
            return []
        if is_typing(message):
            is_shown = self._network.settings.typing
            return [read_typing(message, chat, user)] if is_shown else []
        act = read_act(message, chat, user, self._network.id_of(message))
        said = act or self._message(message, chat, user)
        return [] if said is None else [*self._compare(source, message), said]

    def _message(
        self, message: Incoming, chat: RemoteChatId, user: RemoteUser
    ) -> RemoteMessage | None:
        content = read_text(message) if message.command in replies.SPEAKING else None
        if content is None or not content[1].nodes:
            return None
        kind, body = content
        answered = read_answered(message)
        return RemoteMessage(
            chat=chat, id=self._network.id_of(message), sender=user, kind=kind, body=body,
            at=read_time(message) or self._now(), direct=True,
            reply_to=RemoteMessageId(answered) if answered else None,
        )  # fmt: skip

    def _compare(self, source: Source, message: Incoming) -> list[Whispered]:
        """Say so if it is not the same connection or account as before under that nick."""
        partner = self._partner(source.nick)
        before, account = partner.mask, message.tags.get("account", "")
        mask = f"{source.user}@{source.host}"
        is_same = mask == before or not before or (account and account == partner.account)
        partner.mask, partner.account = mask, account
        if is_same:
            return []
        return [self._remark(
            source.nick,
            f"{strip_codes(source.nick)} is {clean_text(mask)} now, and was {clean_text(before)} "
            "before: it may be somebody else.",
        )]  # fmt: skip

    def follow(self, message: Incoming) -> list[Whispered]:
        """Learn from a line that somebody goes by another nick, or has left the network.

        A server tells of those alone who are in a channel with us.
        """
        source = message.source
        partner = self._partners.get(self._fold(source.nick)) if source is not None else None
        if source is None or partner is None:
            return []
        old = source.nick
        if message.command == "NICK" and (new := message.param(0)):
            del self._partners[self._fold(old)]
            partner.nick = new
            self._partners[self._fold(new)] = partner
            return [RemoteRename(
                chat=RemoteChatId(self._fold(old)), old=self._user(old), new=self._user(new)
            )]  # fmt: skip
        if message.command == "QUIT" and not is_split(message.param(0)):
            partner.mask = partner.mask or (
                f"{source.user}@{source.host}" if source.is_person else ""
            )
            if self._loop_time() - partner.spoke_at > WAITING_SECONDS:
                return []
            reason = strip_codes(message.param(0))
            why = f" ({reason})" if reason else ""
            return [self._remark(
                old, f"{strip_codes(old)} has left the network{why}. Whoever comes back under "
                "this name may be somebody else.",
            )]  # fmt: skip
        return []

    def _remark(self, nick: str, text: str) -> RemoteRemark:
        number = RemoteMessageId(self._network.new_message_id())
        return RemoteRemark(chat=RemoteChatId(self._fold(nick)), id=number, text=text)

    def _user(self, nick: str) -> RemoteUser:
        return RemoteUser(id=RemoteUserId(self._fold(nick)), name=strip_codes(nick))
