"""What our people reacted with, by its id: IRCv3's ``unreact`` names target and key instead."""

import asyncio
from contextlib import suppress
from datetime import timedelta

from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import Reaction
from bridge.sdk.ids import RemoteMessageId
from bridge.sdk.module import Host

STORE_PREFIX = "reacted:"
KEEP = timedelta(days=14)
"""As long as it is known which event is which message."""
NOTE_SECONDS = 5.0


class Reactions:
    """Kept in the instance's store, so that they can be taken back after a restart."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def note(self, one: RemoteMessageId, reaction: Reaction) -> None:
        """Take note of a reaction of one of us: its id, the message it is to, and what it is."""
        value = f"{reaction.target}\0{reaction.key}".encode("utf-8", "replace")
        try:
            async with asyncio.timeout(NOTE_SECONDS):
                await self._host.store.put(
                    STORE_PREFIX + one, value, subject=reaction.sender.user_id, keep_for=KEEP
                )
        except (TimeoutError, TemporaryFailure) as error:
            # It is said; for want of a note it must not be said again.
            self._host.log.warning(
                "A reaction was not noted: %s", error, extra={"event": "irc_reaction_not_noted"}
            )

    async def find(self, one: RemoteMessageId) -> tuple[str, str] | None:
        """To which message one of us reacted by this id, and with what; None if that is not known.

        Raises ``TemporaryFailure`` when the database is away.
        """
        value = await self._host.store.get(STORE_PREFIX + one)
        if value is None:
            return None
        target, _, key = value.decode().partition("\0")
        return target, key

    async def forget(self, one: RemoteMessageId) -> None:
        """Take note that it is taken back; what cannot be noted is forgotten in its time."""
        with suppress(TimeoutError, TemporaryFailure):
            async with asyncio.timeout(NOTE_SECONDS):
                await self._host.store.delete(STORE_PREFIX + one)
