"""Matrix user -> user name (ident): made of the Matrix id, or chosen, one owner each.

Networks ban by it, and whoever asks is told it (RFC 1413): two people of one user name would be
one person there. What a user was given is kept in the instance's store and stays; what a user
went by before stays theirs, too.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import chain

from bridge.networks.irc.names.nicks import Nicks, candidates, username_of
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.sdk.errors import ModuleNotReady, PermanentFailure
from bridge.sdk.ids import UserId
from bridge.sdk.module import Store

STORE_PREFIX = "username:"
CHANGED_PREFIX = "username-changed:"
CHANGE_EVERY = timedelta(days=1)
MOST_NAMES = 10
"""That one user may ever have had: each of them may be banned somewhere."""

_LENGTH = 10
"""Characters that a user name has at most, even where a server would take more."""
_SHORTEST_LIMIT = 4
_NOBODY = UserId("")

_USERNAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,9}\Z")


def is_username(text: str) -> bool:
    """Whether every server takes the text as a user name that somebody chose."""
    return _USERNAME.match(text) is not None


def as_seen(name: str, limits: Isupport) -> str:
    """What a server is sure to show of a user name: without an answer by RFC 1413 it puts ``~``
    before it, and cuts at its limit."""
    return name.lower()[: _limit(limits) - 1]


def _limit(limits: Isupport) -> int:
    return max(min(limits.user_length, _LENGTH), _SHORTEST_LIMIT)


class Usernames:
    """Who has which user name on this network. Two never have what is seen as the same."""

    def __init__(self, store: Store, nicks: Nicks, relay: str) -> None:
        """``relay``: the relay's own, which nobody gets."""
        self._store = store
        self._nicks = nicks
        self._relay = relay
        self._names: dict[UserId, tuple[str, ...]] | None = None
        """By user the name that is in use, and then those of before."""
        self._owners: tuple[Isupport | None, dict[str, UserId]] = (None, {})
        self._lock = asyncio.Lock()

    async def load(self) -> Mapping[UserId, str]:
        """Return who was given which, read once."""
        async with self._lock:
            return {user: names[0] for user, names in (await self._load()).items()}

    def of(self, user: UserId) -> str:
        """Return the user's name, as far as it is in memory: given, or made of the id."""
        names = (self._names or {}).get(user)
        return names[0] if names else username_of(user)

    def former(self, user: UserId) -> Sequence[str]:
        """Return by which names the user went before, as far as that is in memory."""
        return (self._names or {}).get(user, ())[1:]

    async def assign(self, user: UserId, limits: Isupport) -> str:
        """Return the user's name; the first time make it of the id, free of others', and keep it.

        Raises ``ModuleNotReady`` when none is left.
        """
        async with self._lock:
            names = (await self._load()).get(user, ())
            owners = self._owners_by(limits)
            if names and owners.get(as_seen(names[0], limits)) == user:
                return names[0]
            name = self._make(user, names[0] if names else username_of(user), limits)
            await self._give(user, name)
            return name

    async def choose(self, user: UserId, name: str, limits: Isupport) -> str:
        """Have the user go by the name from now on; by an empty one: what the id gives. Return it.

        Raises ``PermanentFailure`` if somebody else has it, or had it.
        """
        async with self._lock:
            await self._load()
            chosen = self._check(user, name, limits)
            await self._give(user, chosen)
            return chosen

    async def change(self, user: UserId, name: str, limits: Isupport) -> str:
        """The same for a user who wishes it: once in a while, and not without end.

        Raises ``PermanentFailure``, for what is too often, too.
        """
        async with self._lock:
            names = (await self._load()).get(user, ())
            chosen, key = self._check(user, name, limits), CHANGED_PREFIX + user
            if chosen in names[:1]:
                return chosen
            if chosen not in names and len(names) >= MOST_NAMES:
                raise PermanentFailure(
                    f"you have had {MOST_NAMES} user names; there are no more, but one of them: "
                    f"{', '.join(names)}"
                )
            if await self._store.get(key) is not None:
                raise PermanentFailure("a user name can be changed once a day, and yours was")
            await self._give(user, chosen)
            await self._store.put(key, b"", subject=user, keep_for=CHANGE_EVERY)
            return chosen

    def _check(self, user: UserId, name: str, limits: Isupport) -> str:
        if not name:
            return self._make(user, username_of(user), limits)
        if self._taken(user, limits).get(as_seen(name, limits), user) != user:
            raise PermanentFailure(f"{name} is somebody else's user name here")
        return name

    def _make(self, user: UserId, base: str, limits: Isupport) -> str:
        taken = self._taken(user, limits)
        for name in chain([base], candidates(base, _limit(limits) - 1)):
            if taken.get(as_seen(name, limits), user) == user:
                return name
        raise ModuleNotReady(
            f"All user names like {base} that fit in the network's {limits.user_length} "
            "characters are given to others."
        )

    def _taken(self, user: UserId, limits: Isupport) -> Mapping[str, UserId]:
        """Whose each name is, those included that people had before names were kept."""
        owners, names = dict(self._owners_by(limits)), self._names or {}
        for one, _ in self._nicks.owned():
            if one not in names:
                owners.setdefault(as_seen(username_of(one), limits), one)
        return owners

    def _owners_by(self, limits: Isupport) -> dict[str, UserId]:
        if self._owners[0] is not limits and self._owners[0] != limits:
            # Of two whose names have become one, the first keeps it; what is in use goes first.
            owners = {as_seen(self._relay, limits): _NOBODY}
            rows = (self._names or {}).items()
            for one, names in chain(((one, names[:1]) for one, names in rows), rows):
                _note(owners, one, names, limits)
            self._owners = (limits, owners)
        return self._owners[1]

    async def _give(self, user: UserId, name: str) -> None:
        known, (limits, owners) = await self._load(), self._owners
        own = [
            one for one in known.get(user, ())
            if limits is not None and owners.get(as_seen(one, limits)) == user
        ]  # fmt: skip
        names = (name, *(one for one in own if one != name))
        await self._store.put(STORE_PREFIX + user, "\n".join(names).encode(), subject=user)
        known[user] = names
        if limits is not None:
            _note(owners, user, names, limits)

    async def _load(self) -> dict[UserId, tuple[str, ...]]:
        if self._names is None:
            await self._nicks.load()
            rows = await self._store.find(STORE_PREFIX)
            self._names = {
                UserId(key.removeprefix(STORE_PREFIX)): tuple(value.decode().split("\n"))
                for key, value in rows.items()
            }
        return self._names


def _note(owners: dict[str, UserId], user: UserId, names: Iterable[str], limits: Isupport) -> None:
    for name in names:
        owners.setdefault(as_seen(name, limits), user)
