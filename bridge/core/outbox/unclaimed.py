"""What is stored in the outbox though its caller was cut off, or heard no answer."""

import asyncio
import contextlib
from collections.abc import Callable

from bridge.model import QueuedOutgoing
from bridge.sdk.errors import TemporaryFailure
from bridge.storage.outbox import Outbox

_SECONDS = 1.0
"""From one look to the next."""


class Unclaimed:
    """Sends it: whoever puts something next would have it to send, but that may take long."""

    def __init__(self, outbox: Outbox, push: Callable[[QueuedOutgoing], None]) -> None:
        self._outbox = outbox
        self._push = push
        self._is_seeking = False

    def seek(self, group: asyncio.TaskGroup | None) -> None:
        """Look for it until it is known that there is none; ``group`` owns that, while there is
        one."""
        if group is not None and not self._is_seeking:
            self._is_seeking = True
            group.create_task(self._seek(), name="unclaimed")

    async def _seek(self) -> None:
        try:
            while self._outbox.has_unclaimed:
                await asyncio.sleep(_SECONDS)
                with contextlib.suppress(TemporaryFailure):
                    for queued in await self._outbox.add([]):
                        self._push(queued)
        finally:
            self._is_seeking = False
