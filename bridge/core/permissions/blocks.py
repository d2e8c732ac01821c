"""Of whom the chats of networks take nothing, as those who run them wish."""

import asyncio
import re
from collections.abc import Sequence

from bridge.sdk.ids import InstanceId, RemoteChatId, UserId
from bridge.storage.consents import BlockStore

_PORT = re.compile(r":\d{1,5}\Z")


class Blocks:
    """Asked of every message, so it is held in memory. They outlast the portal: whoever was
    blocked is not back when the chat is bridged again."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._rows: set[tuple[InstanceId, RemoteChatId, str]] = set()
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read them. Call once, before events are dispatched."""
        self._rows = await self._store.all()

    def cover(self, instance: InstanceId, chat: RemoteChatId, person: UserId) -> bool:
        """Whether the chat takes nothing of the person, or of all of their homeserver."""
        rows = self._rows
        return bool(rows) and any(
            (instance, chat, whom) in rows for whom in (person, *servers_of(person))
        )

    def of(self, instance: InstanceId, chat: RemoteChatId) -> Sequence[str]:
        """Whom the chat blocks."""
        return sorted(
            whom for where, what, whom in self._rows if (where, what) == (instance, chat)
        )

    async def add(self, instance: InstanceId, chat: RemoteChatId, whom: str) -> None:
        """Block a Matrix user or a homeserver. Raises ``TemporaryFailure``; then it is not so."""
        async with self._changing:
            try:
                await self._store.add(instance, chat, whom)
            except asyncio.CancelledError:
                self._rows.add((instance, chat, whom))  # It may be stored.
                raise
            self._rows.add((instance, chat, whom))

    async def remove(self, instance: InstanceId, chat: RemoteChatId, whom: str) -> None:
        """Block them no longer. Raises ``TemporaryFailure``; then nothing changed."""
        async with self._changing:
            await self._store.remove(instance, chat, whom)
            self._rows.discard((instance, chat, whom))


def server_of(person: str) -> str:
    """The homeserver of a Matrix id, in small letters: hosts' names are the same in any case,
    people's ids are not. It may include a port."""
    return person.partition(":")[2].lower()


def host_of(server: str) -> str:
    """A homeserver's name without its port."""
    return _PORT.sub("", server)


def servers_of(person: str) -> frozenset[str]:
    """The homeserver of a Matrix id in small letters, with its port and without: who names a
    host means it whatever its port, as server ACLs and policy lists do (Matrix specification)."""
    server = server_of(person)
    return frozenset((server, host_of(server)))
