"""The relay is in every bridged chat, after each connect: what a network refuses for now is tried
again later."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from bridge.sdk.errors import DeliveryError, PermanentFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, RemoteChatId
from bridge.sdk.secret import Secret
from bridge.waits import is_set_within

log = logging.getLogger(__name__)

_AT_ONCE = 50
"""Chats that are joined together: a network may take several at a time."""
_JOIN_SECONDS = 120.0
FIRST_PAUSE = 5.0
"""Seconds until what was refused for now is tried again."""
_LONGEST_PAUSE = 300.0
"""The same at most: it doubles each time."""


Tell = Callable[[RemoteChat, str], Awaitable[None]]


async def _tell_nobody(chat: RemoteChat, reason: str) -> None:
    pass


# It is an instance, which needs this module.
class Relay(Protocol):
    """Who is to be in the chats."""

    name: InstanceId
    trouble: dict[str, str]
    """Chats that it could not join: id to reason."""

    @property
    def is_connected(self) -> bool: ...
    async def join(self, chat: RemoteChat, limit: float, key: Secret | None) -> None: ...


class Rejoining:
    """One instance's."""

    def __init__(
        self,
        relay: Relay,
        chats: Callable[[], Sequence[RemoteChat]],
        first_pause: float = FIRST_PAUSE,
        tell: Tell = _tell_nobody,
    ) -> None:
        """``chats`` gives what is bridged by now; ``first_pause`` is in seconds; ``tell`` says
        why the relay is not in a chat and stops trying, or raises ``TemporaryFailure``."""
        self._relay = relay
        self._chats = chats
        self._first_pause = first_pause
        self._tell = tell
        self._connected = asyncio.Event()
        self._awake = asyncio.Event()
        self._left: dict[RemoteChatId, RemoteChat] = {}
        """Chats that are to be tried again later."""
        self._keys: dict[RemoteChatId, Secret] = {}
        """With which of them somebody wishes that, in memory until they are answered."""

    def note_connected(self) -> None:
        """The relay has connected: it is in no chat."""
        self._connected.set()
        self._awake.set()

    def want(self, chat: RemoteChat, key: Secret | None = None) -> None:
        """Have the relay in a bridged chat that was just refused for now: it is tried again, with
        the key if one was said."""
        self._left[chat.id] = chat
        if key is not None:
            self._keys[chat.id] = key
        self._awake.set()

    async def run(self) -> None:
        """Have the relay in every bridged chat after each connect, until cancelled."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            if self._connected.is_set():
                self._connected.clear()
                self._left.clear()
                await self._try(self._chats())
            pause = self._first_pause
            while self._left and not await is_set_within(pause, self._connected):
                chats, pause = list(self._left.values()), min(pause * 2, _LONGEST_PAUSE)
                self._left.clear()  # Meanwhile others may be wanted.
                await self._try(chats)

    async def _try(self, chats: Sequence[RemoteChat]) -> None:
        self._left |= {chat.id: chat for chat in await self._join(chats)}

    async def _join(self, chats: Sequence[RemoteChat]) -> Sequence[RemoteChat]:
        """Have the relay in the chats; give those that are to be tried again later.

        None are if the relay is no longer connected: the next connect begins anew.
        """
        left: list[RemoteChat] = []
        for start in range(0, len(chats), _AT_ONCE):
            group = self._bridged(chats[start : start + _AT_ONCE])
            async with asyncio.TaskGroup() as joining:
                tasks = [joining.create_task(self._keep_in(chat)) for chat in group]
            left += [chat for chat, task in zip(group, tasks, strict=True) if not task.result()]
            if self._connected.is_set() or not self._relay.is_connected:
                return ()
        return left

    def _bridged(self, chats: Sequence[RemoteChat]) -> Sequence[RemoteChat]:
        """Those that are still bridged: somebody may have ended that meanwhile."""
        bridged = {chat.id for chat in self._chats()}
        for chat in chats:
            if chat.id not in bridged:
                self._relay.trouble.pop(chat.id, None)
                self._keys.pop(chat.id, None)
        return [chat for chat in chats if chat.id in bridged]

    async def _keep_in(self, chat: RemoteChat) -> bool:
        """Have the relay in a bridged chat; False if that is to be tried again later."""
        relay, key = self._relay, self._keys.get(chat.id)
        try:
            await relay.join(chat, _JOIN_SECONDS, key)
        except PermanentFailure as error:
            self._forget_key(chat, key)
            relay.trouble[chat.id] = str(error)
            log.warning(
                "%s cannot join a bridged chat: %s", relay.name, error,
                extra={"event": "join_refused"},
            )  # fmt: skip
            return await self._is_told(chat, str(error))
        except DeliveryError as error:
            relay.trouble[chat.id] = str(error)
            return False
        except Exception as error:
            # The module's own failures are dealt with above; this is ours, and is outlived, too.
            relay.trouble[chat.id] = f"it failed with {type(error).__name__}"
            log.exception(
                "%s failed to join a bridged chat", relay.name, extra={"event": "join_failed"}
            )
            return False
        self._forget_key(chat, key)
        return True

    def _forget_key(self, chat: RemoteChat, key: Secret | None) -> None:
        """The network has answered a key; another may have been said meanwhile."""
        if self._keys.get(chat.id) is key:
            self._keys.pop(chat.id, None)

    async def _is_told(self, chat: RemoteChat, reason: str) -> bool:
        try:
            await self._tell(chat, reason)
        except DeliveryError:
            return False
        return True
