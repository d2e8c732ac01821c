"""People on the network who want no part in it: under their nick, its next one, and their account.

A nick is nobody's. What the network vouches for is the account that somebody is signed in to, so
where that is known it is said of the account, too, and undone by the same account alone. A nick is
bound to an account only if it is that account's name: else anybody could bind those of others.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.messages.inbox import Deed
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.network.people import account_id, account_of
from bridge.networks.irc.wire import Incoming, Source, notice
from bridge.sdk.errors import DeliveryError
from bridge.sdk.events import RemoteEvent, RemoteRename, RemoteUser
from bridge.sdk.ids import RemoteUserId
from bridge.sdk.module import Host

OUT, IN = "optout", "optin"
WORDS = frozenset({OUT, IN})
STORE_PREFIX = "declined:"
OPTED = {
    OUT: "Nothing that you say is carried to Matrix any more. Say optin to undo that.",
    IN: "What you say in the channels is carried to Matrix again.",
}
FOLLOWED = (
    "Nothing was carried to Matrix of what you said as {}, and nothing is of what you say now. "
    "Say optin to undo that."
)
ANOTHERS = (
    "That was said by somebody who was signed in to the account of this nick. Sign in to it, and "
    "say it again."
)
LATER = "That could not be noted just now. Please say it again in a minute."
OFTEN = (
    "From where you are that was undone {} times within an hour. Please say it again in an hour."
)
SAY_AGAIN = (
    "I follow nobody through so many nicks: what you say as this one is carried to Matrix. Say "
    "optout again if you do not want that."
)
MOST_FOLLOWED = 10
"""Nicks of one person: each stays opted out for whoever has it next."""
MOST_WAITING = 20
"""People whose word waits to be noted; one of each host."""
MOST_UNDONE = 5
"""So often it is undone from one host within an hour, since each time is kept for good in the
audit log. Saying no has no limit: it is noted once."""
UNDONE_SECONDS = 3600.0
MOST_KNOWN = 1000
"""Nicks that were followed, and hosts, that are remembered."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What somebody said of themselves, and has not been noted yet."""

    nick: str
    user: RemoteUserId
    account: str
    """The folded name of the account that they are signed in to; empty: none is known."""
    word: str
    host: str
    is_replayed: bool
    """It was said long ago: nobody waits for an answer."""
    noted: asyncio.Event = field(default_factory=asyncio.Event)


class OptOuts:
    """Hears and follows them on one connection.

    Nobody who reads waits for it: the server must have its PONG, however long our database is
    away. What the same person says or does next comes after it all the same.
    """

    def __init__(self, connection: Connection, network: Network, host: Host) -> None:
        self._connection = connection
        self._network = network
        self._host = host
        self._following = asyncio.Lock()
        self._first: dict[RemoteUserId, RemoteUserId] = {}
        """By nick that was followed to, the one that was opted out."""
        self._followed: Counter[RemoteUserId] = Counter()
        """To how many nicks somebody was followed, by the one that was opted out."""
        self._waiting: dict[RemoteUserId, _Said] = {}
        self._undone: dict[str, list[float]] = {}
        """By host, when it was undone from there."""

    def hear(self, message: Incoming, source: Source, word: str) -> Sequence[Deed]:
        """What is to be done about what somebody says of themselves, one of :data:`WORDS`, apart
        from the reading: it is answered when that is done."""
        if message.is_replayed and word != OUT:
            return ()  # They may have said otherwise since, elsewhere.
        user, host = RemoteUserId(self._fold(source.nick)), source.host or source.nick
        is_waiting = any(one.host == host or one.user == user for one in self._waiting.values())
        if is_waiting or len(self._waiting) >= MOST_WAITING:
            if not message.is_replayed:
                self._answer(source.nick, LATER)
            return ()
        account = self._account(message, source)
        said = self._waiting[user] = _Said(
            source.nick, user, account, word, host, message.is_replayed
        )
        return (partial(self._obey, said),)

    async def follow(self, event: RemoteEvent) -> None:
        """See to it that somebody who has another nick now is out as before, and tell them.

        Returns when what the same person said of themselves before is noted, and their new nick:
        what they say next comes after it.
        """
        said = self._waiting.get(_whose(event)) if self._waiting else None
        if said is not None:
            await said.noted.wait()
        if not isinstance(event, RemoteRename) or not self._host.has_opted_out(event.old.id):
            return
        # Each channel tells of it; it is done once.
        async with self._following:
            if self._host.has_opted_out(event.new.id):
                return
            # One who goes back to the first nick in between is still the same person.
            first = self._first.get(event.old.id, event.old.id)
            if self._followed[first] >= MOST_FOLLOWED:
                self._answer(event.new.name, SAY_AGAIN)
                return
            if len(self._first) >= MOST_KNOWN:
                self._first.clear()
                self._followed.clear()
            self._followed[first] += 1
            self._first[event.new.id] = first
            await self._host.opt_out(event.new.id)
        self._answer(event.new.name, FOLLOWED.format(event.old.name))

    # --- inside ---

    def _account(self, message: Incoming, source: Source) -> str:
        name = account_of(message, self._connection.capabilities)
        # Whoever has the nick now need not be the one who said it.
        if name is None and not message.is_replayed:
            person, key = self._network.find_person(source.nick), self._network.key
            is_that = person is not None and key(person.source) == key(source)
            name = person.account if person is not None and is_that else None
        return self._fold(name or "")

    async def _obey(self, said: _Said) -> None:
        try:
            answer = await (self._opt_out(said) if said.word == OUT else self._opt_in(said))
        except DeliveryError:
            answer = LATER
        if not said.is_replayed:
            self._answer(said.nick, answer)
        self._waiting.pop(said.user, None)
        said.noted.set()

    async def _opt_out(self, said: _Said) -> str:
        if said.account:
            if said.account == said.user:
                await self._host.store.put(_key(said.user), _digest(said.account).encode())
            await self._host.opt_out(account_id(said.account))
        await self._host.opt_out(said.user)
        return OPTED[OUT]

    async def _opt_in(self, said: _Said) -> str:
        bound = await self._host.store.get(_key(said.user))
        # Older rows may bind nicks to accounts of others.
        is_bound = bound is not None and bound.decode() == _digest(said.user)
        if is_bound and said.account != said.user:
            return ANOTHERS
        them = [said.user, *([account_id(said.account)] if said.account else [])]
        out = [one for one in them if self._host.has_opted_out(one)]
        if out and not self._may_undo(said.host):
            return OFTEN.format(MOST_UNDONE)
        if bound is not None:
            await self._host.store.delete(_key(said.user))
        for one in out:
            await self._host.opt_out(one, is_out=False)
        return OPTED[IN]

    def _may_undo(self, host: str) -> bool:
        now = asyncio.get_running_loop().time()
        undone = [at for at in self._undone.get(host, ()) if now - at < UNDONE_SECONDS]
        if len(undone) >= MOST_UNDONE:
            return False
        if len(self._undone) >= MOST_KNOWN:
            self._undone.clear()
        self._undone[host] = [*undone, now]
        return True

    def _answer(self, nick: str, text: str) -> None:
        self._connection.answer(notice(nick, text))

    def _fold(self, name: str) -> str:
        return self._connection.isupport.fold(name)


def _whose(event: RemoteEvent) -> RemoteUserId:
    """Who does or says it; empty if it is not one person."""
    for name in ("old", "user", "sender"):
        one = getattr(event, name, None)
        if isinstance(one, RemoteUser):
            return one.id
    return RemoteUserId("")


def _key(user: RemoteUserId) -> str:
    return f"{STORE_PREFIX}{_digest(user)}"


def _digest(name: str) -> str:
    return blake2b(name.encode(), digest_size=16).hexdigest()
