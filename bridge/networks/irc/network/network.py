"""What the clients of one instance share: the network's limits, and which nicks are ours."""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import count, islice
from time import monotonic

from bridge.networks.irc.connections.dial import Rotation
from bridge.networks.irc.connections.doors import Doors
from bridge.networks.irc.connections.gate import Gate
from bridge.networks.irc.connections.inquiry import Inquiries
from bridge.networks.irc.connections.sending import Means
from bridge.networks.irc.names import masks
from bridge.networks.irc.names.nicks import (
    SHORTEST_LIMIT,
    Nicks,
    candidates,
    is_nick,
    named_after,
    nicks_of_relay,
    username_of,
)
from bridge.networks.irc.names.usernames import Usernames, as_seen
from bridge.networks.irc.network.banlists import BanLists
from bridge.networks.irc.network.banned import Banned
from bridge.networks.irc.network.behind import try_all
from bridge.networks.irc.network.bynick import ByNick
from bridge.networks.irc.network.crowd import Crowd
from bridge.networks.irc.network.givenback import FORMER_SECONDS, GivenBack
from bridge.networks.irc.network.keys import Keyring, read_key
from bridge.networks.irc.network.people import Person
from bridge.networks.irc.network.relayednames import RelayedNames
from bridge.networks.irc.network.renamed import Renamed
from bridge.networks.irc.network.services import is_service
from bridge.networks.irc.network.topics import Topics
from bridge.networks.irc.protocol.batches import made_up_id
from bridge.networks.irc.protocol.endings import Cause
from bridge.networks.irc.protocol.handshake import MOST_NICKS
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import Incoming, Source
from bridge.sdk.errors import ModuleError, PermanentFailure
from bridge.sdk.events import RemoteChat, RemoteRemark, RemoteUser
from bridge.sdk.ids import RemoteChatId, RemoteMessageId, UserId
from bridge.sdk.module import Store
from bridge.sdk.secret import Secret

THROTTLE_SECONDS = 60.0
"""How long nobody connects after a server found that we come too often."""
FULL_SECONDS = 300.0
"""The same, after it had no place even for the relay."""
REMEMBERED = 2000
"""Ids of our own messages, by which they are known when the server says them again."""
SLOWEST = 0.125
"""How far we go down with the pace of writing, in parts of the settings."""
MOST_FORMER = 20
"""Nicks that are remembered as given back, beside three of each connection."""


class Network:
    """One instance's view of its network."""

    def __init__(self, settings: IrcSettings) -> None:
        self.settings = settings
        self._isupport: Isupport | None = None
        self._nicks: Nicks | None = None
        self._usernames: Usernames | None = None
        self._held: dict[int, Source] = {}
        self._by_nick: ByNick | None = None
        """The same, and those that were held, by the folded nick; None until it is asked for."""
        self._owners: dict[int, UserId] = {}
        """Whose a login is."""
        self._chats: dict[RemoteChatId, RemoteChat] = {}
        """The bridged channels, by the names that they were bridged by."""
        self._is_in: dict[int, Callable[[str], bool]] = {}
        self._last: dict[UserId, Source] = {}
        """How those whose connections ended were seen last."""
        self.banned = Banned()
        self.ban_lists = BanLists()
        self.topics = Topics()
        self.renamed = Renamed()
        self.relayed = RelayedNames(self.fold_said)
        self.keys = Keyring()
        self.behind = (self.keys.behind, self.renamed.behind, self.banned.behind)
        """What is written of them when there is time, and a relay."""
        self.ranks: dict[RemoteChatId, dict[str, str]] = {}
        """By channel and person (``key``) the letters that they hold, as the relay hears it."""
        self.find_person: Callable[[str], Person | None] = lambda nick: None
        """What the relay knows of somebody."""
        self.relay: Inquiries | None = None
        """Asks the relay's connection; None before there was one."""
        self._given_back = GivenBack()
        self._means: dict[int, Means] = {}
        self._capabilities: dict[int, frozenset[str]] = {}
        self._offered: frozenset[str] | None = None
        self._acknowledges: bool | None = None
        """Of all of them together, until one changes: asked for with every message."""
        self._pace = 1.0
        self._sent: deque[str] = deque(maxlen=REMEMBERED)
        self.rotation = Rotation(settings.servers)
        self.gate = Gate(settings.connects_at_once, settings.connect_rate)
        self.crowd = Crowd(settings.most_puppets)
        self.doors = Doors(monotonic)
        # Message ids must differ between runs of the program, too.
        self._nonce = secrets.token_hex(8)
        self._numbers = count(1)

    @property
    def isupport(self) -> Isupport | None:
        """The network's limits; None until a server has told them."""
        return self._isupport

    def learn(self, isupport: Isupport) -> Isupport:
        """Take note of what a server told; give the same, held once for all connections."""
        if isupport != self._isupport:
            self._isupport = isupport
            self._by_nick = None
        return self._isupport or isupport

    def nicks(self, store: Store) -> Nicks:
        """Return who owns which nick; the instance's store is the same for all its clients."""
        if self._nicks is None:
            self._nicks = Nicks(store, self.settings.nick, self.settings.puppet_nick)
        return self._nicks

    def usernames(self, store: Store) -> Usernames:
        """Return who has which user name; shared in the same way."""
        if self._usernames is None:
            self._usernames = Usernames(store, self.nicks(store), self.settings.username)
        return self._usernames

    async def load(self, store: Store, now: Callable[[], datetime]) -> None:
        """Read what is kept of our people, connected or not."""
        await self.nicks(store).load()
        await self.usernames(store).load()
        await self.banned.load(store, now)

    async def assign_username(self, owner: UserId) -> str:
        """Return the user name that all connections of somebody have."""
        if self._usernames is None:
            return username_of(owner)  # No login was ever opened: there is nobody else.
        return await self._usernames.assign(owner, self.isupport or Isupport())

    async def foretell(self, owner: UserId, name: str) -> str:
        """Return the nick that a puppet would have; empty before a server was reached."""
        if self._nicks is None or self.isupport is None:
            return ""
        return await self._nicks.foretell(owner, name, self.isupport)

    def nicks_for(self, owner: UserId, wanted: str) -> Iterator[str]:
        """Yield the nicks by which somebody may come in before a server has told its limits.

        ``wanted``: what they are like; if it is no nick, they are like the one that the user has
        or would be given.
        """
        form, kept = self.settings.puppet_nick, self._nicks.nick_of(owner) if self._nicks else None
        base = wanted if is_nick(wanted) else kept or named_after(owner, "", form)
        for nick in candidates(base, SHORTEST_LIMIT, form):
            if not self.is_anothers(nick, owner):
                yield nick

    def is_relays(self, nick: str) -> bool:
        """Whether the nick is our own relay's."""
        return self.fold(nick) in nicks_of_relay(self.settings.nick, self.isupport or Isupport())

    async def load_nicks(self) -> None:
        """Have in memory who owns which nick."""
        if self._nicks is not None:
            await self._nicks.load()

    def is_anothers(self, nick: str, owner: UserId) -> bool:
        """Whether the nick is another user's or the relay's, as far as it is in memory."""
        if self._nicks is None:
            return self.is_relays(nick)  # No login was ever opened: there is nobody else.
        limits = self.isupport
        kept = nick if limits is None else nick[: limits.nick_length]
        return self._nicks.is_anothers(kept, owner, limits or Isupport())

    @property
    def relays(self) -> frozenset[str]:
        """The nicks of other relays in the channels, folded."""
        return frozenset(map(self.fold, self.settings.relays))

    def note_chat(self, chat: RemoteChat) -> None:
        """Take note of a bridged channel."""
        self._chats[chat.id] = chat

    def chat(self, chat: RemoteChatId, name: str = "") -> RemoteChat:
        """The channel or person of an id, which is the name as it was folded once: the network may
        do that otherwise by now. ``name``: that of whom is no bridged channel, if it is known."""
        return self._chats.get(chat) or RemoteChat(id=chat, name=name or chat)

    def forget_chat(self, chat: RemoteChatId) -> None:
        """Forget a channel that is bridged no more."""
        self._chats.pop(chat, None)
        self.ranks.pop(chat, None)
        self.topics.forget(chat)
        self.relayed.forget_chat(chat)
        self.renamed.forget(chat)
        self.banned.forget_chat(chat)
        self.ban_lists.forget(chat)
        self.keys.hear_of_none(chat)

    async def write(self, chat: RemoteChatId | None = None) -> None:
        """Write what is not written yet of channels, or of one. Raises as ``try_all``; what is
        left will be written all the same."""
        await try_all(partial(one.write, chat) for one in self.behind)

    async def forget(self, person: UserId) -> None:
        """Know nothing of a Matrix user any more, of whom the store has nothing."""
        self._last.pop(person, None)
        self._by_nick = None
        self.banned.forget_person(person)
        self.relayed.forget(person)
        if self._nicks is not None:
            await self._nicks.forget(person)

    def check_key(self, key: Secret) -> None:
        """Raise ``PermanentFailure`` for what can be no channel's key there."""
        read_key(key.reveal(), self.isupport or Isupport())

    def fold(self, name: str) -> str:
        """Map a name by the network's rule, as far as it is known."""
        return (self._isupport or Isupport()).fold(name)

    def fold_said(self, said: str) -> str:
        """The same for what people say, of which nothing stays in memory."""
        return (self._isupport or Isupport()).fold_said(said)

    def key(self, person: Source) -> str:
        """What somebody is known by, by the network's rule, as far as it is known."""
        return (self._isupport or Isupport()).key(person)

    def new_message_id(self) -> str:
        """Make an id for a message, since plain IRC has none."""
        return f"{self._nonce}-{next(self._numbers)}"

    def remark(self, chat: RemoteChatId, text: str, *people: RemoteUser) -> RemoteRemark:
        """Make what the bot is to say in a chat's room, of these people."""
        new = RemoteMessageId(self.new_message_id())
        return RemoteRemark(chat=chat, id=new, text=text, people=people)

    def id_of(self, message: Incoming) -> RemoteMessageId:
        """The network's id of what a line says or does, else one of ours."""
        made_up = made_up_id(message) if message.is_replayed else self.new_message_id()
        return RemoteMessageId(message.tags.get("msgid") or made_up)

    def note_server(self, login: int, means: Means, capabilities: frozenset[str]) -> None:
        """Take note how the server of a client's connection confirms what is said, and what else
        it can."""
        if self._means.get(login) is means and self._capabilities.get(login) == capabilities:
            return
        self._means[login] = means
        self._capabilities[login] = capabilities
        self._offered = self._acknowledges = None

    def offers(self, capability: str) -> bool:
        """Whether a connection of ours has a capability."""
        return capability in self.offered

    @property
    def offered(self) -> frozenset[str]:
        """The capabilities of our connections."""
        if self._offered is None:
            self._offered = frozenset().union(*self._capabilities.values())
        return self._offered

    @property
    def acknowledges(self) -> bool:
        """Whether every connection confirms each message by more than having read it."""
        if self._acknowledges is None:
            self._acknowledges = bool(self._means) and Means.PING not in self._means.values()
        return self._acknowledges

    @property
    def flood(self) -> tuple[int, float]:
        """How fast a new connection may write."""
        burst, rate = self.settings.flood_burst, self.settings.flood_rate
        return max(1, int(burst * self._pace)), rate * self._pace

    def heed(self, error: ModuleError) -> None:
        """Do what the end of one connection asks of all."""
        match getattr(error, "cause", None):
            case Cause.THROTTLED:
                self.gate.hold(THROTTLE_SECONDS)
            case Cause.FULL:
                self.gate.hold(FULL_SECONDS)
            case Cause.FLOODED:
                self._pace = max(SLOWEST, self._pace / 2)

    def know(self, login: int, owner: UserId | None) -> None:
        """Take note whose a login is; the relay is nobody's."""
        if owner is not None:
            self._owners[login] = owner

    def owner_of(self, nick: str) -> UserId | None:
        """Whose connection goes by a nick now, else whose own it is; None: none of ours."""
        who = Source(nick)
        if self.key(who) in self._known.held:
            return self.holder_of(who)
        owned = self._nicks.owned() if self._nicks else ()
        return next((owner for owner, own in owned if self.fold(own) == self.fold(nick)), None)

    def holder_of(self, who: Source) -> UserId | None:
        """Whose connection goes by a nick now; None: none of ours, or the relay."""
        key = self.key(who)
        held = (login for login, own in self._held.items() if self.key(own) == key)
        return next((self._owners.get(login) for login in held), None)

    def note_channels(self, login: int, is_in: Callable[[str], bool]) -> None:
        """Take note how to learn in which channels a connection itself believes to be."""
        self._is_in[login] = is_in

    def seen_in(self, channel: str, people: Iterable[Source]) -> set[UserId]:
        """Whose connections go by the nicks of these now, and are in the channel as they know.

        What the relay has heard alone is not enough: who broke off and is back has the nick that
        the channel's list still shows.
        """
        there = {
            self.key(source): self._owners[login]
            for login, source in self._held.items()
            if login in self._owners and login in self._is_in and self._is_in[login](channel)
        }
        return {there[one] for one in map(self.key, people) if one in there}

    def nick_held_by(self, owner: UserId) -> str | None:
        """By which nick somebody's connection goes now; None if there is none."""
        return next((one.nick for who, one in self.people() if who == owner), None)

    def people(self) -> list[tuple[UserId, Source]]:
        """Our people who are connected, as others see them."""
        return [
            (self._owners[login], source)
            for login, source in self._held.items()
            if login in self._owners
        ]

    def known_people(self) -> list[tuple[UserId, Source]]:
        """Our people, connected or not: as others see them, saw them last or would see them.

        A host that is not known is empty. Where it is not known whether a ``~`` stands before the
        user name, somebody is listed with it and without.
        """
        connected = self.people()
        found = dict(connected)
        last = [(owner, one) for owner, one in self._last.items() if owner not in found]
        seen = found.keys() | dict(last).keys()
        name = self._usernames.of if self._usernames else username_of
        owned = self._nicks.owned() if self._nicks else ()
        unseen = [
            (owner, Source(nick, sign + name(owner)))
            for owner, nick in owned if owner not in seen
            for sign in ("", "~")
        ]  # fmt: skip
        return [*connected, *last, *unseen]

    @property
    def relay_nick(self) -> str:
        """By which nick the relay goes now, else the one that it asks for."""
        held = (own.nick for login, own in self._held.items() if login not in self._owners)
        return next(held, self.settings.nick)

    @property
    def own_nicks(self) -> Sequence[str]:
        """By which nicks our connections go now."""
        return [source.nick for source in self._held.values()]

    def mask_of(self, person: Source) -> str:
        """The mask by which to ban somebody, and of us nobody else."""
        ours = (*self._held.values(), *self._last.values())
        return masks.choose(person, ours, self.fold)

    def hold(self, login: int, own: Source) -> None:
        """Take note that a client of ours is known by this nick."""
        if self._held.get(login) != own:
            self._let_go(login)
            self._held[login] = own
            self._by_nick = None

    def release(self, login: int) -> None:
        """Take note that the client is gone, and its nick free again."""
        self._means.pop(login, None)
        self._capabilities.pop(login, None)
        self._offered = self._acknowledges = None
        self._is_in.pop(login, None)
        self.doors.leave(login)
        self._let_go(login)

    def _let_go(self, login: int) -> None:
        own, owner = self._held.pop(login, None), self._owners.get(login)
        self._by_nick = None
        if own is not None and own.host and owner is not None:
            self._last[owner] = own
        if own is not None:
            most = MOST_FORMER + 3 * len(self._owners)
            self._given_back.note(self.key(own), own.user.lstrip("~"), most)

    def sent(self, ids: Iterable[str]) -> None:
        """Take note of the network's ids of what one of us said."""
        self._sent.extend(filter(None, ids))

    def was_ours(self, source: Source, msgid: str) -> bool:
        """Whether something out of the server's memory was said by one of us."""
        if msgid and msgid in self._sent:
            return True
        limits = self.isupport or Isupport()
        user = as_seen(source.user.lstrip("~"), limits)
        owned = self._nicks.owned() if self._nicks else ()
        alike = [
            candidates(nick, limits.nick_length, self.settings.puppet_nick)
            for owner, nick in owned
            if user in {as_seen(name, limits) for name in self._usernames_of(owner)}
        ]
        if user == as_seen(self.settings.username, limits):
            alike.append(candidates(self.settings.nick, limits.nick_length))
        nick = limits.key(source)
        return any(
            limits.fold(one) == nick for nicks in alike for one in islice(nicks, MOST_NICKS)
        )

    def _usernames_of(self, owner: UserId) -> Sequence[str]:
        """The user name that somebody has, and those of before."""
        names = self._usernames
        return (names.of(owner), *names.former(owner)) if names else (username_of(owner),)

    def is_service(self, source: Source) -> bool:
        """Whether somebody seen on the network is one of its services."""
        servers = (one.host for one in self.settings.servers)
        return is_service(source, self.settings.nickserv or "", servers)

    def is_stranger(self, name: str) -> bool:
        """Whether a name is that of a person who is none of us and no service."""
        limits = self.isupport or Isupport()
        one = Source(name)
        return not (limits.is_channel(name) or self.is_service(one) or self.is_ours(one))

    def is_ours(self, source: Source) -> bool:
        """Whether somebody seen on the network is a client of this instance.

        By the nick, unless what else is known of the two shows that a stranger has it: beyond a
        netsplit, or where our connection is dead and does not know it yet.
        """
        nick, known = self.key(source), self._known
        own = known.held.get(nick)
        if own is not None:
            return not _are_two(source, own)
        former = known.former.get(nick)
        if former is None:
            return False
        now = asyncio.get_running_loop().time()
        return any(
            now - since < FORMER_SECONDS and (not source.user or source.user.lstrip("~") == user)
            for since, user in former
        )

    def is_known_stranger(self, source: Source) -> bool:
        """Whether somebody by a nick that one of us has, or had last, is shown to be another."""
        nick, known = self.key(source), self._known
        own = known.held.get(nick) or known.last.get(nick)
        return own is not None and _are_two(source, own)

    @property
    def _known(self) -> ByNick:
        # Asked with every line of a channel: nobody is gone through for it one by one.
        if self._by_nick is None:
            self._by_nick = ByNick.of(
                self._held.values(),
                self._last.values(),
                self._given_back.nicks,
                self.isupport or Isupport(),
            )
        return self._by_nick

    def refuse_ours(self, nick: str, instead: str = "write to them in Matrix") -> None:
        """Raise ``PermanentFailure`` if a nick is one of us, with what to do ``instead`` about a
        person of ours: what is said to us is not carried, and nothing is done to us by a ghost's
        name."""
        if self.is_ours(Source(nick)):
            owner = self.holder_of(Source(nick))
            who = f"{nick} is {owner}'s own connection: {instead}"
            raise PermanentFailure(who if owner else f"{nick} is this bridge itself")


def _are_two(source: Source, own: Source) -> bool:
    """Whether two who are called alike are shown to be two: by the user name and the host, as far
    as both are known.

    One of the two is not enough: some servers show us to ourselves by another host than to others,
    and if one of ours were taken for a stranger, all that they say would be said twice.
    """
    is_known = all((source.user, source.host, own.user, own.host))
    return is_known and source.user != own.user and source.host.lower() != own.host.lower()
