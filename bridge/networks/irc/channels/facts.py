"""What channels are: topic, who may see them and come in, and by which key, who runs them, who is
put out."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import ClassVar

from bridge.networks.irc.channels.members import Roster
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.inquiry import Inquiries
from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.names import masks
from bridge.networks.irc.network.banlists import MOST
from bridge.networks.irc.network.banned import Digest
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.modes import Change, rank_of, read_changes
from bridge.networks.irc.wire import Incoming, Line, Source, line
from bridge.sdk.errors import DeliveryError
from bridge.sdk.events import (
    Rank,
    RemoteAccess,
    RemoteChat,
    RemoteEvent,
    RemoteRanks,
    RemoteRemoval,
    RemoteTopic,
    Removal,
)
from bridge.sdk.ids import RemoteChatId, RemoteUserId, UserId
from bridge.sdk.secret import Secret

_ANYBODY = Source("anybody", "any", "where.invalid")
_HIDING, _CLOSING, _MODERATED = frozenset("sp"), frozenset("ik"), "m"
_KEY = "k"
_ACCESS = _HIDING | _CLOSING | {_MODERATED}
MOST_COMPARED = 500_000
"""How often a person of ours is compared with a mask, of one list of bans: so much takes a part
of a second, in which nobody else is served."""

MOST_RANKED = 20_000
"""People with a rank in one channel."""

_Us = list[tuple[UserId, str]]
"""Our people and their masks, folded."""

_Reads = Callable[["Facts", Incoming, RemoteChat], list[RemoteEvent]]


@dataclass(slots=True)
class _Channel:
    flags: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    """A list of names that is just coming in: by what somebody is known, their letters."""
    noted: frozenset[Digest] = frozenset()
    """Bans that were noted when we came in, until it is known which of them are there yet."""
    masks: dict[str, Source] | None = None
    """The list of bans that we asked for when we came in, as far as it is there: folded masks, and
    who set each."""
    key: Secret | None = None
    """What was kept when we came in, until the first that we are told of its modes since then."""
    is_new: bool | None = None
    """Whether nobody was there when we came in: we made it. None until that is told."""
    own: dict[str, UserId] = field(default_factory=dict)
    """Our people who were told to have a rank, by what they are known by."""


class Facts:
    """Follows them on the listening connection."""

    def __init__(self, connection: Connection, network: Network, roster: Roster) -> None:
        self._connection = connection
        self._network = network
        self._roster = roster
        self._channels: dict[str, _Channel] = {}
        self._to_ask: deque[str] = deque()
        self._came_in = asyncio.Event()
        """There is something to ask."""
        network.ranks.clear()  # What was heard by another connection may be so no more.

    async def keep_asking(
        self, inquiries: Inquiries, wait_for_turn: Callable[[], Awaitable[None]]
    ) -> None:
        """Ask for the modes and the bans of channels that we come into, while nobody has anything
        else to ask or to say. They wait for their turn before; the answers are followed as they
        come. Runs until cancelled, or the connection ends."""
        while not inquiries.has_ended:
            await self._came_in.wait()
            await wait_for_turn()
            with suppress(DeliveryError):  # It is not told to us there, or only another time.
                await inquiries.ask_in_between(self._questions())
            if not self._to_ask:
                self._came_in.clear()

    def _questions(self) -> Iterator[Sequence[Line]]:
        while self._to_ask:
            channel = self._to_ask[0]
            chat = self._roster.find_chat(channel)
            # We may be out of it again: what is told to those outside is not all.
            if chat is not None and self._roster.is_in(chat):
                yield line("MODE", channel), line("MODE", channel, "b")
            self._to_ask.popleft()

    def handle(self, message: Incoming) -> list[RemoteEvent]:
        """Follow one line; return what it means to the room."""
        does = self._commands.get(message.command)
        place = 1 if message.command.isdecimal() else 0
        name = message.param(-2 if message.command == replies.NAMES else place)
        chat = self._roster.find_chat(name) if does is not None else None
        if chat is None or does is None:
            return self._on_nick(message) if message.command == "NICK" else []
        return does(self, message, chat)

    def forget(self, chat: RemoteChatId) -> None:
        """Forget a channel that we are in no more."""
        self._channels.pop(chat, None)

    # --- one kind of line each ---

    def _on_join(self, message: Incoming, chat: RemoteChat) -> list[RemoteEvent]:
        source = message.source or Source("")
        if self._connection.is_own(source):
            # Also where nobody of ours is known yet: what is in the list now is no news later.
            noted = self._network.banned.noted(chat.id)
            self._channels[chat.id] = _Channel(
                noted=noted, masks={}, key=self._network.keys.kept(chat.id)
            )
            self._network.topics.forget(chat.id)
            self._to_ask.append(chat.name)
            self._came_in.set()
            return []
        # A nick that comes back is anybody's: it holds nothing until it is given something.
        key = self._key(source)
        theirs = self._take_theirs(chat.id, key, is_ours=self._network.is_ours(source))
        lost = self._take_own(chat.id, {key, *self._left_behind(chat, source)})
        return [RemoteRanks(chat=chat.id, ranks=theirs, own=lost)] if theirs or lost else []

    def _on_topic(self, message: Incoming, chat: RemoteChat) -> list[RemoteEvent]:
        source, topic = message.source, message.param(1)
        is_ours = source is not None and self._roster.is_one_of_us(chat.name, source)
        # By a command one of us sets what the room does not know.
        if self._network.topics.hear(chat.id, topic, is_ours=is_ours):
            return []
        return [RemoteTopic(chat=chat.id, topic=strip_codes(topic))]

    def _on_told_topic(self, message: Incoming, chat: RemoteChat) -> list[RemoteEvent]:
        topic = strip_codes(message.param(2)) if message.command == replies.TOPIC else ""
        return [RemoteTopic(chat=chat.id, topic=topic, is_news=False)]

    def _on_told_modes(self, message: Incoming, chat: RemoteChat) -> list[RemoteEvent]:
        channel = self._channel(chat)
        changes = read_changes(message.params[2:], self._connection.isupport)
        channel.flags = {one.mode for one in changes if one.adding} & _ACCESS
        key, channel.key = channel.key, None  # Later, others may have come in as it is.
        keys = [one.value for one in changes if one.adding and one.mode == _KEY]
        if keys:
            self._network.keys.hear(chat.id, keys[-1])
        elif self._roster.is_in(chat) and not (channel.is_new and self._lock(chat, key)):
            # From outside not all of them are shown.
            self._network.keys.hear_of_none(chat.id)
        return [self._access(chat, channel)]

    def _lock(self, chat: RemoteChat, key: Secret | None) -> bool:
        """Set the key on a channel that ended with its last member and that we have made anew;
        False if there is none to be set or it is not kept any more, or we may not."""
        ours = self._network.ranks.get(chat.id, {}).get(self._key(self._connection.own), "")
        is_kept = key == self._network.keys.kept(chat.id)
        if key is None or not is_kept or rank_of(ours) < Rank.MODERATOR:
            return False
        self._connection.write(line("MODE", chat.name, "+k", key.reveal()))
        return True

    def _on_mode(self, message: Incoming, chat: RemoteChat) -> list[RemoteEvent]:
        limits = self._connection.isupport
        channel = self._channel(chat)
        events: list[RemoteEvent] = []
        ranks: dict[str, Rank] = {}
        is_access, us = False, cache(self._us)
        for one in read_changes(message.params[1:], limits):
            who = message.named(1 + one.place) if one.value else Source("")
            if one.mode in limits.prefixes.values():
                ranks |= self._change_rank(chat, one, who)
                # Whether the relay is heard may be another now.
                is_access = is_access or (
                    _MODERATED in channel.flags and self._connection.is_own(who)
                )
            elif one.mode == "b":
                mask = self._mask(one.value, who)
                self._network.ban_lists.hear(chat.id, mask, is_set=one.adding)
                events += self._on_ban(message, chat, mask, us, is_set=one.adding)
            elif one.mode in _ACCESS and one.mode not in limits.channel_modes[0]:
                (channel.flags.add if one.adding else channel.flags.discard)(one.mode)
                is_access = True
                if one.mode == _KEY and one.adding:
                    self._network.keys.hear(chat.id, one.value)
                elif one.mode == _KEY:
                    self._network.keys.hear_of_none(chat.id)
        events += self._told_ranks(chat, ranks)
        if is_access:
            events.append(self._access(chat, channel))
        return events

    def _on_names(self, message: Incoming, chat: RemoteChat) -> list[RemoteEvent]:
        if not self._roster.is_in(chat):  # See there.
            return []
        channel = self._channel(chat)
        names, prefixes = channel.names, self._connection.isupport.prefixes
        for signs, who in message.listed("".join(prefixes)):
            channel.is_new = channel.is_new is not False and self._connection.is_own(who)
            if signs and len(names) < MOST_RANKED:
                names[self._key(who)] = "".join(prefixes[sign] for sign in signs)
        return []

    def _on_end_of_names(self, message: Incoming, chat: RemoteChat) -> list[RemoteEvent]:
        if not self._roster.is_in(chat):
            return []
        channel = self._channel(chat)
        names, channel.names = channel.names, {}
        self._network.ranks[chat.id] = names
        ranks = {key: rank_of(letters) for key, letters in names.items()}
        there = {key: rank for key, rank in ranks.items() if rank}
        return self._told_ranks(chat, there, is_all=True)

    def _on_banned(self, message: Incoming, chat: RemoteChat) -> list[RemoteEvent]:
        channel = self._channel(chat)
        # One more than is known of any channel tells that it is not the whole list.
        if channel.masks is not None and len(channel.masks) <= MOST:
            mask = self._mask(message.param(2), message.named(2))
            channel.masks[mask] = message.named(3)
        return []

    def _on_end_of_bans(self, message: Incoming, chat: RemoteChat) -> list[RemoteEvent]:
        """Tell of whom of ours the channel bans, and bans no more, since we were there last."""
        channel = self._channel(chat)
        there, noted = channel.masks, channel.noted
        channel.masks, channel.noted = None, frozenset()
        if there is None:
            return []
        if len(there) > MOST:
            self._network.ban_lists.forget(chat.id)
            return []
        banned = self._network.banned
        lifted = banned.forget_lifted(chat.id, noted, there)
        lifted -= {banned.owner(chat.id, mask) for mask in there}
        news = [(Removal.UNBAN, person) for person in sorted(lifted)]
        new = sorted(self._network.ban_lists.learn(chat.id, there))
        new = [mask for mask in new if not banned.knows(chat.id, mask)]
        us = self._us() if new else []
        names = {name for _, one in us for name in (one.partition("!")[0], one.rpartition("@")[0])}
        setters = {there[mask] for mask in new}
        passed_over = {setter for setter in setters if self._is_one_of_us(setter, names)}
        new = [mask for mask in new if there[mask] not in passed_over]
        for mask in islice(new, MOST_COMPARED // max(1, len(us))):
            person = self._find_hit(mask, us)
            if person is not None:
                banned.note(chat.id, mask, person)
                news.append((Removal.BAN, person))
        return [RemoteRemoval(chat=chat.id, user=person, by=None, how=how) for how, person in news]

    def _on_part(self, message: Incoming, chat: RemoteChat) -> list[RemoteEvent]:
        if self._connection.is_own(message.source):
            self._network.ranks.pop(chat.id, None)
        return []

    def _on_kick(self, message: Incoming, chat: RemoteChat) -> list[RemoteEvent]:
        who = message.named(1)
        if self._connection.is_own(who):
            # We do not hear who runs it from now on.
            self._network.ranks.pop(chat.id, None)
        owner = self._network.holder_of(who)
        if owner is None or not self._network.is_ours(self._roster.seen(who)):
            return []
        return self._removal(message, chat, owner, Removal.KICK, strip_codes(message.param(2)))

    def _on_nick(self, message: Incoming) -> list[RemoteEvent]:
        if message.source is None:
            return []
        named = message.named(0)
        old, new = self._key(message.source), self._key(named)
        if old == new:
            return []
        # One of ours may have told the network of it already, or not yet.
        is_ours = any(map(self._network.is_ours, (message.source, self._roster.seen(named))))
        events: list[RemoteEvent] = []
        for chat, ranks in self._network.ranks.items():
            # One who had the nick before may have gone with a rank: it is not inherited.
            theirs = self._take_theirs(chat, new, is_ours=is_ours)
            lost, own = self._take_own(chat, {new}), self._own(chat)
            if old in own:
                own[new] = own.pop(old)
            if letters := ranks.pop(old, ""):
                ranks[new] = letters
                moved = {self._id(old): Rank.NONE, self._id(new): rank_of(letters)}
                theirs = theirs if is_ours else moved
            if theirs or lost:
                events.append(RemoteRanks(chat=chat, ranks=theirs, own=lost))
        return events

    _commands: ClassVar[Mapping[str, "_Reads"]] = {
        "JOIN": _on_join,
        "TOPIC": _on_topic,
        "MODE": _on_mode,
        "PART": _on_part,
        "KICK": _on_kick,
        replies.NO_TOPIC: _on_told_topic,
        replies.TOPIC: _on_told_topic,
        replies.CHANNEL_MODES: _on_told_modes,
        replies.NAMES: _on_names,
        replies.END_OF_NAMES: _on_end_of_names,
        replies.BAN_ENTRY: _on_banned,
        replies.END_OF_BANS: _on_end_of_bans,
    }

    # --- inside ---

    def _fold(self, name: str) -> str:
        return self._connection.isupport.fold(name)

    def _key(self, who: Source) -> str:
        return self._connection.isupport.key(who)

    def _person(self, key: str) -> Source:
        return self._connection.isupport.person(key)

    def _id(self, key: str) -> RemoteUserId:
        return RemoteUserId(self._person(key).nick)

    def _mask(self, text: str, who: Source) -> str:
        """A mask, folded, of whom it names; in another charset it hits nobody whom it seems to."""
        return self._key(Source(text, is_utf8=who.is_utf8))

    def _channel(self, chat: RemoteChat) -> _Channel:
        return self._channels.setdefault(chat.id, _Channel())

    def _own(self, chat: RemoteChatId) -> dict[str, UserId]:
        """Our people who were told to have a rank there, by what they are known by."""
        return self._channels[chat].own if chat in self._channels else {}

    def _ranks(self, chat: RemoteChat) -> dict[str, str]:
        return self._network.ranks.setdefault(chat.id, {})

    def _access(self, chat: RemoteChat, channel: _Channel) -> RemoteAccess:
        return RemoteAccess(
            chat=chat.id,
            listed=not _HIDING & channel.flags,
            open=not _CLOSING & channel.flags,
            moderated=_MODERATED in channel.flags,
            relay_heard=_MODERATED not in channel.flags or any(
                self._connection.is_own(self._person(key)) and rank_of(letters)
                for key, letters in self._ranks(chat).items()
            ),
        )  # fmt: skip

    def _told_ranks(
        self, chat: RemoteChat, ranks: Mapping[str, Rank], *, is_all: bool = False
    ) -> list[RemoteEvent]:
        """Tell of ranks by who is known by what: of others, and of our own people."""
        theirs: dict[RemoteUserId, Rank] = {}
        own: dict[UserId, Rank] = {}
        known = self._channel(chat).own
        if is_all:
            known.clear()
        for key, rank in ranks.items():
            known.pop(key, None)
            who = self._person(key)
            if not self._network.is_ours(self._roster.seen(who)):
                theirs[self._id(key)] = rank
            elif owner := self._network.holder_of(who):
                own[owner] = rank
                if rank:
                    known[key] = owner
        if not (theirs or own or is_all):
            return []
        return [RemoteRanks(chat=chat.id, ranks=theirs, own=own, is_all=is_all)]

    def _left_behind(self, chat: RemoteChat, who: Source) -> list[str]:
        """By which nicks somebody of ours had a rank who comes back by another."""
        own, network = self._own(chat.id), self._network
        owner = network.holder_of(who) if own else None

        def is_there(old: Source) -> bool:
            # By another connection; what the channel's list has may be on its way.
            return self._roster.has(chat, old) or network.holder_of(old) == owner

        return [
            old for old, one in own.items() if one == owner and not is_there(self._person(old))
        ]

    def _take_theirs(
        self, chat: RemoteChatId, key: str, *, is_ours: bool
    ) -> dict[RemoteUserId, Rank]:
        """Take from a nick the rank that who had it before went with; say so if that was one of
        the network: whoever has the nick next would have it in the room.

        ``is_ours``: who has it from now on.
        """
        held = self._network.ranks.get(chat, {}).pop(key, "")
        was_theirs = key not in self._own(chat)
        return {self._id(key): Rank.NONE} if held and (was_theirs or not is_ours) else {}

    def _take_own(self, chat: RemoteChatId, keys: Collection[str]) -> dict[UserId, Rank]:
        """Take from our people the ranks that they had by some nicks; say who has none now."""
        own = self._own(chat)
        lost = {own.pop(key) for key in keys if key in own}
        return dict.fromkeys(lost.difference(own.values()), Rank.NONE)

    def _change_rank(self, chat: RemoteChat, one: Change, who: Source) -> dict[str, Rank]:
        ranks, key = self._ranks(chat), self._key(who)
        letters = ranks.get(key, "").replace(one.mode, "") + (one.mode if one.adding else "")
        if letters and (key in ranks or len(ranks) < MOST_RANKED):
            ranks[key] = letters
        else:
            ranks.pop(key, None)
        return {key: rank_of(letters)} if who.nick else {}

    def _on_ban(
        self, message: Incoming, chat: RemoteChat, mask: str, us: Callable[[], _Us],
        *, is_set: bool,
    ) -> list[RemoteEvent]:  # fmt: skip
        """A ban that hits one of our people is that person's; one of many is the bridge's.

        Whom it hit is noted: when it is lifted they may be gone, and come by another host.
        """
        banned = self._network.banned
        if not is_set and banned.knows(chat.id, mask):
            person = banned.owner(chat.id, mask)
            banned.forget(chat.id, mask)
            return self._removal(message, chat, person, Removal.UNBAN, "") if person else []

        owner, how = self._find_hit(mask, us()), Removal.BAN if is_set else Removal.UNBAN
        found = self._removal(message, chat, owner, how, "") if owner is not None else []
        if owner is not None and found and is_set:
            banned.note(chat.id, mask, owner)
        return found

    def _us(self) -> _Us:
        return [(owner, self._fold(one.mask)) for owner, one in self._network.known_people()]

    def _is_one_of_us(self, setter: Source, names: Collection[str]) -> bool:
        """Whether a ban in a list was set by one of us, or a server: what they do is no news.

        ``names``: our nicks, and each with its user name; all folded. Who set it may be gone.
        """
        is_server = not setter.is_person and "." in setter.nick
        name = f"{setter.nick}!{setter.user}" if setter.user else setter.nick
        is_named = setter.is_utf8 and self._fold(name) in names
        return is_server or is_named or self._network.is_ours(setter)

    @staticmethod
    def _find_hit(mask: str, us: _Us) -> UserId | None:
        """Whom of our people a mask hits, if it is one alone and not everybody."""
        hits = masks.pattern(mask).match
        if hits(_ANYBODY.mask):
            return None
        hit = {owner for owner, one in us if hits(one)}
        return hit.pop() if len(hit) == 1 else None

    def _removal(
        self, message: Incoming, chat: RemoteChat, owner: UserId, how: Removal, reason: str
    ) -> list[RemoteEvent]:
        source = message.source
        if source is None or not source.is_person or self._network.is_ours(source):
            return []
        by = self._roster.user(source)
        return [RemoteRemoval(chat=chat.id, user=owner, by=by, how=how, reason=reason)]
