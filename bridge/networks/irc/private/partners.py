"""Whom one login talks with alone, over its connections. In memory: a restart forgets."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from bridge.networks.irc.connections.flag import Flag
from bridge.sdk.ids import RemoteChatId

MOST_PARTNERS = 1000
WAITING_SECONDS = 3600.0
"""So long after the last word somebody may wait for an answer, and is told who has left."""


@dataclass(slots=True)
class Partner:
    """One of them, under the nick of now."""

    nick: str
    mask: str = ""
    """User and host, once they said something."""
    account: str = ""
    is_utf8: bool = True
    """As their nick is written: what is said to it in another charset reaches nobody, or whoever
    is called alike."""
    away: str = ""
    """Why they are away, as long as they have said nothing since that was told."""
    told_away_at: float | None = None
    """When that was told last, or that they are back."""
    has_chat: bool = False
    """There is a direct chat."""
    spoke_at: float | None = None
    """When either said something last."""
    is_there: bool | None = None
    """Whether somebody on the network has that nick; None: it is not known."""
    left_at: float | None = None
    """Since when they are not there, as long as that is not told."""
    told_at: float | None = None
    """When it was last told that they came or went."""
    is_told_gone: bool = False

    def is_talked_to(self, now: float) -> bool:
        """Whether either said something just now, or may wait for an answer."""
        return self.spoke_at is not None and now - self.spoke_at <= WAITING_SECONDS

    def is_waited_for(self, now: float) -> bool:
        """Whether it is news that they came or went: once a conversation."""
        if self.spoke_at is None or not self.is_talked_to(now):
            return False
        return self.told_at is None or self.told_at < self.spoke_at

    def is_away_news(self, now: float) -> bool:
        """Whether it is news that they are away: once after each thing that was said."""
        if self.spoke_at is None or not self.is_talked_to(now):
            return False
        return self.told_away_at is None or self.told_away_at < self.spoke_at

    def be_there(self) -> None:
        """Be seen on the network."""
        self.is_there, self.left_at, self.is_told_gone = True, None, False

    def be_told(self, now: float, *, is_gone: bool) -> None:
        """Have it told that they came or went."""
        self.told_at, self.is_told_gone, self.left_at = now, is_gone, None


class Partners:
    """All of them, by chat; the one who spoke last is forgotten last."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._by_chat: dict[RemoteChatId, Partner] = {}
        self.changed = Flag()
        """Set when other chats are there, or others are the newest."""

    def find(self, chat: RemoteChatId) -> Partner | None:
        """The person, if something was said or there is a chat."""
        return self._by_chat.get(chat)

    @property
    def chats(self) -> list[RemoteChatId]:
        """The direct chats, the newest last."""
        return [chat for chat, one in self._by_chat.items() if one.has_chat]

    def speak(self, chat: RemoteChatId, nick: str) -> Partner:
        """Take note that one of the two says something."""
        partner = self._have(chat, nick)
        self._by_chat[chat] = self._by_chat.pop(chat)
        partner.spoke_at = self.now()
        self.changed.set()
        return partner

    def rename(self, old: RemoteChatId, new: RemoteChatId, nick: str) -> None:
        """Take note that somebody goes by another nick.

        Whoever had that nick before stays known: what is said next under it is compared with that.
        """
        partner, other = self._by_chat.pop(old), self._by_chat.pop(new, None)
        partner.nick = nick
        if other is not None and other.mask:
            partner.mask, partner.account = other.mask, other.account
        partner.has_chat |= other is not None and other.has_chat
        self._by_chat[new] = partner
        partner.be_there()
        self.changed.set()

    def have_chats(self, chats: Mapping[RemoteChatId, str]) -> None:
        """Take note of all direct chats, with the nicks, the newest last."""
        for chat, partner in self._by_chat.items():
            partner.has_chat = chat in chats
        for chat, nick in list(chats.items())[-MOST_PARTNERS:]:
            self._have(chat, nick, kept=chats).has_chat = True
        self.changed.set()

    def _have(self, chat: RemoteChatId, nick: str, kept: Collection[RemoteChatId] = ()) -> Partner:
        partner = self._by_chat.get(chat)
        if partner is None:
            while len(self._by_chat) >= MOST_PARTNERS:
                others = (one for one in self._by_chat if one not in kept)
                del self._by_chat[next(others, next(iter(self._by_chat)))]
            partner = self._by_chat[chat] = Partner(nick)
        return partner
