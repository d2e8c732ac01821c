"""Who is in which bridged channel, our own people left out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.network.people import People, account_id, account_of
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.wire import Incoming, Source
from bridge.sdk.errors import ModuleNotReady
from bridge.sdk.events import (
    RemoteChat,
    RemoteEvent,
    RemoteJoin,
    RemoteLeave,
    RemoteMembers,
    RemoteRename,
    RemoteUser,
)
from bridge.sdk.ids import RemoteChatId, RemoteUserId

MOST_MEMBERS = 500_000
"""In all channels of one connection; people who are in several count for each."""
MOST_INSIDE = 10_000
"""Channels that we are known to be in, bridged or not."""


@dataclass(slots=True)
class _Member:
    nick: str
    ours: bool
    """Decided when we see the person come, by the order of one connection: a nick that is
    given back may be a stranger's next."""


@dataclass(slots=True)
class _Channel:
    chat: RemoteChat
    members: dict[str, _Member] = field(default_factory=dict)
    listed: bool = False
    former: set[str] = field(default_factory=set)
    """Those who were there before it is listed anew and were not seen to go, by folded nick."""


class Roster:
    """Follows joins, parts, quits, kicks and nick changes on the listening connection."""

    def __init__(self, connection: Connection, network: Network) -> None:
        self._connection = connection
        self._network = network
        self._is_ours = network.is_ours
        self._channels: dict[str, _Channel] = {}
        self._inside: set[str] = set()
        """Channels that we are in, folded, by what the server has said. It lists names to those
        outside, too, but not of everybody who is there."""
        self.people = People(self._fold)
        self._gone: Source | None = None
        """Who was last seen to go."""

    def _fold(self, name: str) -> str:
        return self._connection.isupport.fold(name)

    def follow(self, chat: RemoteChat) -> None:
        """Begin to follow a chat that we join."""
        self._channels.setdefault(self._fold(chat.name), _Channel(chat))

    def find_chat(self, name: str) -> RemoteChat | None:
        """Return the chat behind a channel's name, if we follow it."""
        channel = self._channels.get(self._fold(name))
        return channel.chat if channel else None

    def is_in(self, chat: RemoteChat) -> bool:
        """Whether we are in the chat's channel."""
        return self._fold(chat.name) in self._inside

    def list_again(self, chat: RemoteChat) -> None:
        """Take the next list of names for the whole truth, as after a join."""
        channel = self._channels.get(self._fold(chat.name))
        if channel is not None:
            # We have seen them all the while: they are known still, if they are listed.
            self._clear(channel)

    def ours_in(self, chat: RemoteChatId) -> list[str] | None:
        """Our own people who are seen in a channel, by their nicks, the listener left out.

        None if it is not known just now who is there.
        """
        channel = next((one for one in self._channels.values() if one.chat.id == chat), None)
        if channel is None or not channel.listed:
            return None
        return [one.nick for one in channel.members.values() if one.ours]

    def chats_of(self, nick: str) -> list[RemoteChat]:
        """The chats that we follow and somebody is in."""
        key = self._fold(nick)
        return [one.chat for one in self._channels.values() if key in one.members]

    def forget(self, chat: RemoteChat) -> None:
        """Follow the chat no longer."""
        channel = self._channels.pop(self._fold(chat.name), None)
        if channel is not None:
            self._begin_anew(channel)

    def _forget_if_gone(self, nick: str) -> None:
        key, channels = self._fold(nick), self._channels.values()
        if not any(key in one.members or key in one.former for one in channels):
            self.people.forget(nick)

    def is_one_of_us(self, name: str, source: Source) -> bool:
        """Whether who speaks in a channel is our own."""
        if self._connection.is_own(source):
            return True
        if not source.is_utf8:
            return False
        channel = self._channels.get(self._fold(name))
        member = channel.members.get(self._fold(source.nick)) if channel else None
        if member is None:  # Some channels hide joins, others take messages from outside.
            return self._is_ours(source)
        if member.ours and self._network.is_known_stranger(source):
            member.ours = False  # A list of names did not show it.
            self.people.see(source)
        return member.ours

    def seen(self, nick: str) -> Source:
        """Somebody in the channels, or who has just gone, with user and host as far as they are
        known."""
        person = self.people.find(nick)
        if person is not None:
            return person.source
        is_gone = self._gone is not None and self._fold(self._gone.nick) == self._fold(nick)
        return self._gone if self._gone is not None and is_gone else Source(nick)

    def user(self, nick: str) -> RemoteUser:
        """Make the record of a person."""
        known = None
        if "account-notify" in self._connection.capabilities:  # Else it may be so no more.
            person = self.people.find(nick)
            known = person.account if person is not None else None
        return self._record(nick, known)

    def sender(self, message: Incoming, source: Source) -> RemoteUser:
        """Make the record of who a line comes from, with the account that it tells of."""
        told = account_of(message, self._connection.capabilities)
        if told is None and not message.is_replayed:
            return self.user(source.nick)
        return self._record(source.nick, told)

    def _record(self, nick: str, account: str | None) -> RemoteUser:
        return RemoteUser(
            id=RemoteUserId(self._fold(nick)),
            name=strip_codes(nick),
            account=account_id(self._fold(account)) if account else None,
        )

    def find_nick(self, chat: RemoteChat, nick: str) -> str | None:
        """Return the nick of somebody in the channel as it is spelled there."""
        channel = self._channels.get(self._fold(chat.name))
        member = channel.members.get(self._fold(nick)) if channel else None
        return member.nick if member else None

    def has_any(self, chat: RemoteChat, words: Sequence[str]) -> bool:
        """Whether any of the words, none with a space, is the nick of somebody in the channel."""
        channel = self._channels.get(self._fold(chat.name))
        folded = self._fold(" ".join(words)).split(" ")
        return channel is not None and not channel.members.keys().isdisjoint(folded)

    def handle(self, message: Incoming) -> list[RemoteEvent]:
        """Follow one line; return what it means to the room."""
        source = message.source or Source("")
        if message.command == "JOIN" and self.find_chat(message.param(0)):
            self.people.see(source)
        self.people.handle(message)
        match message.command:
            case "JOIN":
                return self._on_join(message.param(0), source)
            case "PART":
                return self._on_leave(message.param(0), source.nick, message.params[1:])
            case "KICK":
                return self._on_leave(message.param(0), message.param(1), message.params[2:])
            case "QUIT":
                return self._on_quit(source.nick, message.params)
            case "NICK":
                return self._on_nick(source.nick, message.param(0))
            case replies.NAMES:
                self._on_names(message.param(-2), message.param(-1))
            case replies.END_OF_NAMES:
                return self._on_end_of_names(message.param(1))
        return []

    def _on_join(self, name: str, source: Source) -> list[RemoteEvent]:
        channel = self._channels.get(self._fold(name))
        is_kept = channel is not None or len(self._inside) < MOST_INSIDE
        if self._connection.is_own(source) and is_kept:
            self._inside.add(self._fold(name))
        if channel is None:
            return []
        if self._connection.is_own(source):
            self._begin_anew(channel)
            return []
        ours = self._is_ours(source)
        known = channel.members.get(self._fold(source.nick))
        if known is not None and known.ours and not source.is_utf8:
            return []  # Read alike, they are two: ours stays who is known by that name.
        channel.members[self._fold(source.nick)] = _Member(source.nick, ours)
        self._check_number()
        if ours or known or not channel.listed:
            return []
        return [RemoteJoin(chat=channel.chat.id, user=self.user(source.nick))]

    def _on_leave(self, name: str, nick: str, reason: tuple[str, ...]) -> list[RemoteEvent]:
        if self._connection.is_own_nick(nick):
            self._inside.discard(self._fold(name))
        channel = self._channels.get(self._fold(name))
        if channel is None:
            return []
        if self._connection.is_own_nick(nick):
            self._begin_anew(channel)
            return []
        return self._take_out(channel, nick, reason)

    def _begin_anew(self, channel: _Channel) -> None:
        """Know nobody of a channel until its names are listed; we came in, or are out.

        Whoever is called like one of them then may be another.
        """
        self._clear(channel)
        self._forget_former(channel)

    @staticmethod
    def _clear(channel: _Channel) -> None:
        channel.former.update(channel.members)
        channel.members.clear()
        channel.listed = False

    def _forget_former(self, channel: _Channel) -> None:
        """Forget those who are in none of the channels any more."""
        former, channel.former = channel.former, set()
        for nick in former:
            self._forget_if_gone(nick)

    def _on_quit(self, nick: str, reason: tuple[str, ...]) -> list[RemoteEvent]:
        return [
            event
            for channel in self._channels.values()
            for event in self._take_out(channel, nick, reason)
        ]

    def _take_out(
        self, channel: _Channel, nick: str, reason: tuple[str, ...]
    ) -> list[RemoteEvent]:
        self._gone = self.seen(nick)
        member = channel.members.pop(self._fold(nick), None)
        channel.former.discard(self._fold(nick))
        self._forget_if_gone(nick)
        if member is None or member.ours or not channel.listed:
            return []
        said = strip_codes("".join(reason))
        return [RemoteLeave(chat=channel.chat.id, user=self.user(member.nick), reason=said)]

    def _on_nick(self, old: str, new: str) -> list[RemoteEvent]:
        events: list[RemoteEvent] = []
        for channel in self._channels.values():
            if self._fold(old) in channel.former:
                channel.former.remove(self._fold(old))
                channel.former.add(self._fold(new))
            member = channel.members.pop(self._fold(old), None)
            if member is None:
                continue
            channel.members[self._fold(new)] = _Member(new, member.ours)
            if channel.listed and not member.ours:
                events.append(
                    RemoteRename(
                        chat=channel.chat.id, old=self.user(member.nick), new=self.user(new)
                    )
                )
        return events

    def _find_unlisted(self, name: str) -> _Channel | None:
        """The channel of which a list of names tells us who is there."""
        channel = self._channels.get(self._fold(name))
        is_wanted = channel is not None and not channel.listed and self.is_in(channel.chat)
        return channel if is_wanted else None

    def _on_names(self, name: str, names: str) -> None:
        channel = self._find_unlisted(name)
        if channel is None:
            return
        signs = "".join(self._connection.isupport.prefixes)
        for word in names.split():
            source = Source.parse(word.lstrip(signs))
            if source.nick and not self._connection.is_own(source):
                ours = self._is_ours(source)
                channel.members[self._fold(source.nick)] = _Member(source.nick, ours)
                self.people.see(source)
        self._check_number()

    def _check_number(self) -> None:
        """Raise ``ModuleNotReady`` when there are more than can be: they would fill the memory."""
        if sum(len(one.members) for one in self._channels.values()) > MOST_MEMBERS:
            raise ModuleNotReady(
                f"{self._connection.server} tells of over {MOST_MEMBERS} people in the channels."
            )

    def _on_end_of_names(self, name: str) -> list[RemoteEvent]:
        channel = self._find_unlisted(name)
        if channel is None:
            return []
        channel.listed = True
        self._forget_former(channel)
        users = (self.user(one.nick) for one in channel.members.values() if not one.ours)
        return [RemoteMembers(chat=channel.chat.id, users=tuple(users))]
