"""What is stored in the outbox though its caller was cut off, or heard no answer."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from bridge.core.lanes.patience import LONGEST_PAUSE
from bridge.model import QueuedOutgoing
from bridge.sdk.errors import TemporaryFailure
from bridge.storage.outbox import Outbox

log = logging.getLogger(__name__)

_SECONDS = 1.0
"""From one look to the next."""


class Unclaimed:
    """Sends it: whoever puts something next would have it to send, but that may take long."""

    def __init__(self, outbox: Outbox, push: Callable[[QueuedOutgoing], None]) -> None:
        self._outbox = outbox
        self._push = push
        self._seeking: asyncio.Task[None] | None = None

    def seek(self, group: asyncio.TaskGroup | None) -> None:
        """Look for it until it is known that there is none; ``group`` owns that, while there is
        one."""
        if group is None or (self._seeking is not None and not self._seeking.done()):
            return
        seeking = self._seek()
        try:
            self._seeking = group.create_task(seeking, name="unclaimed")
        except RuntimeError:  # The group ends just now; the next start finds what is stored.
            seeking.close()

    async def _seek(self) -> None:
        pause = _SECONDS
        while self._outbox.has_unclaimed:
            await asyncio.sleep(pause)
            try:
                with contextlib.suppress(TemporaryFailure):
                    for queued in await self._outbox.add([]):
                        self._push(queued)
            except Exception:
                # What nobody foresaw keeps back what is left there, and stops nothing else.
                log.exception(
                    "what is stored and nobody sends is not found",
                    extra={"event": "unclaimed_failed"},
                )
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                pause = _SECONDS
