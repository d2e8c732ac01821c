"""Whom the bans of channels are about, over restarts: a mask of a host does not say it."""

import asyncio

from bridge.sdk.errors import DeliveryError
from bridge.sdk.ids import RemoteChatId, RemoteUserId, UserId
from bridge.sdk.module import Store

STORE_PREFIX = "banned:"
MOST = 5000
"""Masks of one network that are noted. Those who set more of them mean nobody well."""
AGAIN_SECONDS = 5.0


class Banned:
    """Masks that the bridge bans somebody by, and those that others ban one of ours by.

    Noted in memory at once and in the instance's store by :meth:`keep_writing`.
    """

    def __init__(self) -> None:
        self._store: Store | None = None
        self._who: dict[tuple[RemoteChatId, str], RemoteUserId | UserId] = {}
        self._changed: set[tuple[RemoteChatId, str]] = set()
        self._has_changed = asyncio.Event()

    async def load(self, store: Store) -> None:
        """Read what is kept, once. Raises ``TemporaryFailure`` when the database is away."""
        if self._store is not None:
            return
        for key, value in (await store.find(STORE_PREFIX)).items():
            chat, _, mask = key.removeprefix(STORE_PREFIX).partition(" ")
            self._who.setdefault((RemoteChatId(chat), mask), _read(value))
        self._store = store

    def note(self, chat: RemoteChatId, mask: str, person: RemoteUserId | UserId) -> None:
        """Take note whom a mask is about. Masks are folded."""
        if len(self._who) < MOST:
            self._who[chat, mask] = person
            self._change(chat, mask)

    def forget(self, chat: RemoteChatId, mask: str) -> None:
        """Take note that the channel does not ban the mask any more."""
        if self._who.pop((chat, mask), None) is not None:
            self._change(chat, mask)

    def forget_chat(self, chat: RemoteChatId) -> None:
        """Forget a channel that is bridged no more."""
        for where, mask in list(self._who):
            if where == chat:
                self.forget(where, mask)

    def who(self, chat: RemoteChatId, mask: str) -> RemoteUserId | UserId | None:
        """Whom a mask is about; None if it is not noted."""
        return self._who.get((chat, mask))

    def masks_of(self, chat: RemoteChatId, person: RemoteUserId | UserId) -> set[str]:
        """The masks that are noted for somebody."""
        return {mask for (where, mask), who in self._who.items() if (where, who) == (chat, person)}

    async def keep_writing(self) -> None:
        """Write what changes. Runs until cancelled."""
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            try:
                await self._write()
            except DeliveryError:
                await asyncio.sleep(AGAIN_SECONDS)
                self._has_changed.set()

    async def _write(self) -> None:
        while self._store is not None and self._changed:
            one = next(iter(self._changed))
            key, person = f"{STORE_PREFIX}{one[0]} {one[1]}", self._who.get(one)
            if person is None:
                await self._store.delete(key)
            else:
                subject = person if person.startswith("@") else None
                await self._store.put(key, person.encode(), subject=subject)
            # What changed once more meanwhile is written once more.
            if self._who.get(one) == person:
                self._changed.discard(one)

    def _change(self, chat: RemoteChatId, mask: str) -> None:
        self._changed.add((chat, mask))
        self._has_changed.set()


def _read(value: bytes) -> RemoteUserId | UserId:
    text = value.decode("utf-8", "replace")
    return UserId(text) if text.startswith("@") else RemoteUserId(text)
