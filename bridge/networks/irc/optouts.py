"""People on the network who want no part in it: under their nick, its next one, and their account.

A nick is nobody's. What the network vouches for is the account that somebody is signed in to, so
where that is known it is said of the account, too, and undone by the same account alone.
"""

import asyncio
from hashlib import blake2b

from bridge.networks.irc.connection import Connection
from bridge.networks.irc.network import Network
from bridge.networks.irc.people import account_id, account_of
from bridge.networks.irc.wire import Incoming, Source, notice
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import RemoteEvent, RemoteRename
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
    "That was said by somebody who was signed in to an account. Sign in to the same account, or "
    "to the one of your nick, and say it again."
)
LATER = "That could not be noted just now. Please say it again in a minute."
SAY_AGAIN = (
    "I follow nobody through so many nicks: what you say as this one is carried to Matrix. Say "
    "optout again if you do not want that."
)
MOST_FOLLOWED = 10
"""Nicks of one person: each stays opted out for whoever has it next."""
NOTE_SECONDS = 5.0
AGAIN_SECONDS = 1.0


class OptOuts:
    """Hears and follows them on one connection."""

    def __init__(self, connection: Connection, network: Network, host: Host) -> None:
        self._connection = connection
        self._network = network
        self._host = host
        self._following = asyncio.Lock()
        self._steps: dict[RemoteUserId, int] = {}
        """How many nicks each that was followed to is away from the one that was opted out."""

    async def hear(self, message: Incoming, source: Source, word: str) -> None:
        """Do what somebody says of themselves, one of :data:`WORDS`, and answer."""
        try:
            # The server must not wait for its PONG for as long as our database is away.
            async with asyncio.timeout(NOTE_SECONDS):
                answer = await self._opt(source.nick, self._account(message, source.nick), word)
        except (TimeoutError, TemporaryFailure):
            answer = LATER
        self._connection.answer(notice(source.nick, answer))

    async def follow(self, event: RemoteEvent) -> None:
        """See to it that who is called otherwise now is out as before, and tell them.

        Returns when that is noted: what they say next comes after it.
        """
        if not isinstance(event, RemoteRename) or not self._host.has_opted_out(event.old.id):
            return
        # Each channel tells of it; it is done once.
        async with self._following:
            if self._host.has_opted_out(event.new.id):
                return
            steps = self._steps.get(event.old.id, 0) + 1
            if steps > MOST_FOLLOWED:
                self._connection.answer(notice(event.new.name, SAY_AGAIN))
                return
            self._steps[event.new.id] = steps
            await self._bind_alike(event.old.id, event.new.id)
            await self._host.opt_out(event.new.id)
        said = FOLLOWED.format(event.old.name)
        self._connection.answer(notice(event.new.name, said))

    def _account(self, message: Incoming, nick: str) -> str:
        """The folded name of the account that somebody is signed in to; empty: none is known."""
        name = account_of(message, self._connection.capabilities)
        if name is None:
            person = self._network.find_person(nick)
            name = person.account if person is not None else None
        return self._fold(name or "")

    async def _opt(self, nick: str, account: str, word: str) -> str:
        user, store = RemoteUserId(self._fold(nick)), self._host.store
        if word == OUT:
            if account:
                await store.put(_key(user), _digest(account).encode())
                await self._host.opt_out(account_id(account))
            await self._host.opt_out(user)
            return OPTED[word]
        bound = await store.get(_key(user))
        # Who had the nick for a while must not keep out for good whose account it is.
        if bound is not None and account != user and bound.decode() != _digest(account):
            return ANOTHERS
        if account:
            await self._host.opt_out(account_id(account), is_out=False)
        await self._host.opt_out(user, is_out=False)
        await store.delete(_key(user))
        return OPTED[word]

    async def _bind_alike(self, old: RemoteUserId, new: RemoteUserId) -> None:
        while True:
            try:
                bound = await self._host.store.get(_key(old))
                if bound is not None:
                    await self._host.store.put(_key(new), bound)
            except TemporaryFailure as error:
                await asyncio.sleep(error.retry_after or AGAIN_SECONDS)
            else:
                return

    def _fold(self, name: str) -> str:
        return self._connection.isupport.fold(name)


def _key(user: RemoteUserId) -> str:
    return f"{STORE_PREFIX}{_digest(user)}"


def _digest(name: str) -> str:
    return blake2b(name.encode(), digest_size=16).hexdigest()
