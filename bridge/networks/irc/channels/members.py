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
    who: Source
    """By the nick; user and host are the people's."""
    ours: bool
    """Decided when we see the person come, by the order of one connection: a nick that is
    given back may be a stranger's next."""


@dataclass(slots=True)
class _Channel:
    chat: RemoteChat
    members: dict[str, _Member] = field(default_factory=dict)
    listed: bool = False
    former: set[str] = field(default_factory=set)
    """Those who were there before it is listed anew and were not seen to go."""


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
        self.people = People(self._key)
        self._gone: Source | None = None
        """Who was last seen to go."""
        self._number = 0
        """Members of all channels."""

    def _fold(self, name: str) -> str:
        return self._connection.isupport.fold(name)

    def _key(self, who: Source) -> str:
        return self._connection.isupport.key(who)

    def follow(self, chat: RemoteChat) -> None:
        """Begin to follow a chat that we join."""
        self._channels.setdefault(self._fold(chat.name), _Channel(chat))

    def find_chat(self, name: str) -> RemoteChat | None:
        """Return the chat behind a channel's name, if we follow it."""
        channel = self._channels.get(self._connection.isupport.fold(name))
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

    def ours_in(self, chat: RemoteChatId) -> list[Source] | None:
        """Our own people who are seen in a channel, the listener left out.

        None if it is not known just now who is there.
        """
        channel = next((one for one in self._channels.values() if one.chat.id == chat), None)
        if channel is None or not channel.listed:
            return None
        return [one.who for one in channel.members.values() if one.ours]

    def chats_of(self, who: Source) -> list[RemoteChat]:
        """The chats that we follow and somebody is in."""
        key = self._key(who)
        return [one.chat for one in self._channels.values() if key in one.members]

    def forget(self, chat: RemoteChat) -> None:
        """Follow the chat no longer."""
        channel = self._channels.pop(self._fold(chat.name), None)
        if channel is not None:
            self._begin_anew(channel)

    def _forget_if_gone(self, key: str) -> None:
        if not any(key in one.members or key in one.former for one in self._channels.values()):
            self.people.forget(key)

    def is_one_of_us(self, name: str, source: Source) -> bool:
        """Whether who speaks in a channel is our own."""
        if self._connection.is_own(source):
            return True
        limits = self._connection.isupport
        channel = self._channels.get(limits.fold(name))
        member = channel.members.get(limits.key(source)) if channel else None
        if member is None:  # Some channels hide joins, others take messages from outside.
            return self._is_ours(source)
        if member.ours and self._network.is_known_stranger(source):
            member.ours = False  # A list of names did not show it.
            self.people.see(source)
        return member.ours

    def seen(self, who: Source) -> Source:
        """Somebody in the channels, or who has just gone, with user and host as far as they are
        known."""
        person = self.people.of(who)
        if person is not None:
            return person.source
        is_gone = self._gone is not None and self._key(self._gone) == self._key(who)
        return self._gone if self._gone is not None and is_gone else who

    def user(self, who: Source) -> RemoteUser:
        """Make the record of a person."""
        known = None
        if "account-notify" in self._connection.capabilities:  # Else it may be so no more.
            person = self.people.of(who)
            known = person.account if person is not None else None
        return self._record(who.nick, known)

    def sender(self, message: Incoming, source: Source) -> RemoteUser:
        """Make the record of who a line comes from, with the account that it tells of."""
        told = account_of(message, self._connection.capabilities)
        if told is None and not message.is_replayed:
            return self.user(source)
        return self._record(source.nick, told)

    def _record(self, nick: str, account: str | None) -> RemoteUser:
        return RemoteUser(
            id=RemoteUserId(self._connection.isupport.fold(nick)),
            name=strip_codes(nick),
            account=account_id(self._fold(account)) if account else None,
        )

    def has(self, chat: RemoteChat, who: Source) -> bool:
        """Whether somebody is seen in the channel."""
        channel = self._channels.get(self._fold(chat.name))
        return channel is not None and self._key(who) in channel.members

    def find(self, chat: RemoteChat, nick: str) -> Source | None:
        """Return whoever has a nick in the channel, as it is spelled there: of two in two
        charsets, in UTF-8."""
        channel = self._channels.get(self._fold(chat.name))
        members = channel.members if channel else {}
        keys = self._connection.isupport.keys_in([nick])
        return next((members[key].who for key in keys if key in members), None)

    def has_any(self, chat: RemoteChat, words: Sequence[str]) -> bool:
        """Whether any of the words, none with a space, is the nick of somebody in the channel."""
        limits = self._connection.isupport
        channel, keys = self._channels.get(limits.fold(chat.name)), limits.keys_in(words)
        return channel is not None and not channel.members.keys().isdisjoint(keys)

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
                return self._on_leave(message.param(0), source, message.params[1:])
            case "KICK":
                return self._on_leave(message.param(0), message.named(1), message.params[2:])
            case "QUIT":
                return self._on_quit(source, message.params)
            case "NICK":
                return self._on_nick(source, message.named(0))
            case replies.NAMES:
                self._on_names(message)
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
        known = self._key(source) in channel.members
        self._put_in(channel, source, ours)
        self._check_number()
        if ours or known or not channel.listed:
            return []
        return [RemoteJoin(chat=channel.chat.id, user=self.user(source))]

    def _on_leave(self, name: str, who: Source, reason: tuple[str, ...]) -> list[RemoteEvent]:
        if self._connection.is_own(who):
            self._inside.discard(self._fold(name))
        channel = self._channels.get(self._fold(name))
        if channel is None:
            return []
        if self._connection.is_own(who):
            self._begin_anew(channel)
            return []
        self._gone = self.seen(who)
        events = self._take_out(channel, who, reason)
        self._forget_if_gone(self._key(who))
        return events

    def _begin_anew(self, channel: _Channel) -> None:
        """Know nobody of a channel until its names are listed; we came in, or are out.

        Whoever is called like one of them then may be another.
        """
        self._clear(channel)
        self._forget_former(channel)

    def _put_in(self, channel: _Channel, who: Source, ours: bool) -> None:
        before = len(channel.members)
        channel.members[self._key(who)] = _Member(who, ours)
        self._number += len(channel.members) - before

    def _clear(self, channel: _Channel) -> None:
        channel.former.update(channel.members)
        self._number -= len(channel.members)
        channel.members.clear()
        channel.listed = False

    def _forget_former(self, channel: _Channel) -> None:
        """Forget those who are in none of the channels any more."""
        former, channel.former = channel.former, set()
        if not former:
            return  # As a rule; else all are looked through.
        for one in self._channels.values():
            former.difference_update(one.members.keys() & former, one.former)
        for key in former:
            self.people.forget(key)

    def _on_quit(self, who: Source, reason: tuple[str, ...]) -> list[RemoteEvent]:
        self._gone = self.seen(who)
        events = [
            event
            for channel in self._channels.values()
            for event in self._take_out(channel, who, reason)
        ]
        self._forget_if_gone(self._key(who))
        return events

    def _take_out(
        self, channel: _Channel, who: Source, reason: tuple[str, ...]
    ) -> list[RemoteEvent]:
        key = self._key(who)
        member = channel.members.pop(key, None)
        channel.former.discard(key)
        if member is None:
            return []
        self._number -= 1
        if member.ours or not channel.listed:
            return []
        said = strip_codes("".join(reason))
        return [RemoteLeave(chat=channel.chat.id, user=self.user(member.who), reason=said)]

    def _on_nick(self, old: Source, new: Source) -> list[RemoteEvent]:
        events: list[RemoteEvent] = []
        before, after = self._key(old), self._key(new)
        for channel in self._channels.values():
            if before in channel.former:
                channel.former.remove(before)
                channel.former.add(after)
            member = channel.members.pop(before, None)
            if member is None:
                continue
            self._number -= 1
            self._put_in(channel, new, member.ours)
            if channel.listed and not member.ours:
                events.append(
                    RemoteRename(
                        chat=channel.chat.id, old=self.user(member.who), new=self.user(new)
                    )
                )
        return events

    def _find_unlisted(self, name: str) -> _Channel | None:
        """The channel of which a list of names tells us who is there."""
        channel = self._channels.get(self._fold(name))
        is_wanted = channel is not None and not channel.listed and self.is_in(channel.chat)
        return channel if is_wanted else None

    def _on_names(self, message: Incoming) -> None:
        channel = self._find_unlisted(message.param(-2))
        if channel is None:
            return
        for _, source in message.listed("".join(self._connection.isupport.prefixes)):
            if not self._connection.is_own(source):
                self._put_in(channel, source, self._is_ours(source))
                self.people.see(source)
        self._check_number()

    def _check_number(self) -> None:
        """Raise ``ModuleNotReady`` when there are more than can be: they would fill the memory."""
        if self._number > MOST_MEMBERS:
            raise ModuleNotReady(
                f"{self._connection.server} tells of over {MOST_MEMBERS} people in the channels."
            )

    def _on_end_of_names(self, name: str) -> list[RemoteEvent]:
        channel = self._find_unlisted(name)
        if channel is None:
            return []
        channel.listed = True
        self._forget_former(channel)
        users = (self.user(one.who) for one in channel.members.values() if not one.ours)
        return [RemoteMembers(chat=channel.chat.id, users=tuple(users))]
