"""What the homeserver has and the outbox does not know yet: gathered, and noted in one commit."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace

from bridge.failpoint import failpoint
from bridge.model import MessageLink, SendKind, Sent
from bridge.sdk.errors import TemporaryFailure
from bridge.storage.outbox import Outbox

_GATHER_SECONDS = 0.1
"""A commit costs the same for what was sent in that time as for one entry of it."""


class Unwritten:
    """Entries that are sent. Cut off before they are noted, they are sent again, as the same."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._sent: list[Sent] = []
        self._wanted = asyncio.Event()

    def __iter__(self) -> Iterator[Sent]:
        return iter(self._sent)

    def add(self, sent: Sent) -> None:
        """Have it noted soon."""
        self._sent.append(sent)
        self._wanted.set()

    def of_event(self, portal: int, event_id: str) -> list[MessageLink]:
        """What an event of ours is on the network."""
        return [link for link, _ in self._links(portal) if link.event_id == event_id]

    def of_remote(self, portal: int, remote_id: str) -> list[MessageLink]:
        """Which events a remote message is, by either of its names."""
        return [
            replace(link, remote_id=remote_id)
            for link, alias in self._links(portal)
            if remote_id in {link.remote_id, alias}
        ]

    def _links(self, portal: int) -> Iterator[tuple[MessageLink, str]]:
        for one in self._sent:
            said = one.queued.outgoing
            if one.event_id is None or said.portal != portal or said.kind is not SendKind.EVENT:
                continue
            yield MessageLink(
                portal=portal, event_id=one.event_id, remote_id=said.remote_id, part=said.part,
                sender=said.user, room=said.room, kind=said.link,
                received_at=one.queued.received_at, confirmed_at=one.at,
            ), said.alias  # fmt: skip

    async def keep_writing(self) -> None:
        """Note what is sent, until cancelled; what is left is noted on the way out."""
        try:
            while True:
                await self._wanted.wait()
                await asyncio.sleep(_GATHER_SECONDS)
                await self._write()
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(3):
                    await self._write()

    async def _write(self) -> None:
        self._wanted.clear()
        batch = list(self._sent)
        if not batch:
            return
        try:
            await self._outbox.finish(batch)
        except TemporaryFailure:
            self._wanted.set()
            await asyncio.sleep(0.5)
        else:
            del self._sent[: len(batch)]
            failpoint("settled")
