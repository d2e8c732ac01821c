"""Matrix user -> user name (ident): made of the Matrix id, or chosen, one owner each."""

import asyncio
import re
from collections.abc import Mapping

from bridge.networks.irc.nicks import username_of
from bridge.sdk.ids import UserId
from bridge.sdk.module import Store

STORE_PREFIX = "username:"

_USERNAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,9}\Z")


def is_username(text: str) -> bool:
    """Whether every server takes the text as a user name that somebody chose."""
    return _USERNAME.match(text) is not None


class Usernames:
    """Who chose which user name on this network."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._chosen: dict[UserId, str] | None = None
        self._lock = asyncio.Lock()

    async def load(self) -> Mapping[UserId, str]:
        """Return who chose which, read once."""
        async with self._lock:
            return await self._load()

    def of(self, user: UserId) -> str:
        """Return the user's name, as far as it is in memory: chosen, or made of the id."""
        return (self._chosen or {}).get(user) or username_of(user)

    async def is_free(self, name: str, user: UserId) -> bool:
        """Whether nobody else has chosen the name."""
        others = {owner: one for owner, one in (await self.load()).items() if owner != user}
        return name.lower() not in {one.lower() for one in others.values()}

    async def choose(self, user: UserId, name: str) -> None:
        """Keep the user's choice; an empty one is forgotten."""
        async with self._lock:
            chosen = await self._load()
            if name:
                await self._store.put(STORE_PREFIX + user, name.encode(), subject=user)
                chosen[user] = name
            else:
                await self._store.delete(STORE_PREFIX + user)
                chosen.pop(user, None)

    async def _load(self) -> dict[UserId, str]:
        if self._chosen is None:
            rows = await self._store.find(STORE_PREFIX)
            self._chosen = {
                UserId(key.removeprefix(STORE_PREFIX)): value.decode()
                for key, value in rows.items()
            }
        return self._chosen
