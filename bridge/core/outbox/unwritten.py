"""What the homeserver has and the outbox does not know yet: gathered, and noted in one commit."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from bridge.core.lanes.unforeseen import Unforeseen
from bridge.failpoint import failpoint
from bridge.model import MessageLink, SendKind, Sent
from bridge.sdk.errors import TemporaryFailure
from bridge.storage.outbox import Outbox

_GATHER_SECONDS = 0.1
"""A commit costs the same for what was sent in that time as for one entry of it."""


class _NotNoted(Exception):
    """Nobody foresaw what keeps an entry from being noted."""


class Unwritten:
    """Entries that are sent. Cut off before they are noted, they are sent again, as the same."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._sent: list[Sent] = []
        self._wanted = asyncio.Event()
        self._unforeseen = Unforeseen("noting what was sent", longest=60.0)

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
            link._replace(remote_id=remote_id)
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
                try:
                    with self._unforeseen.outlived():
                        await self._write()
                except TemporaryFailure:
                    await asyncio.sleep(0.5)
                await self._unforeseen.rest()
        finally:
            with contextlib.suppress(TimeoutError, TemporaryFailure):
                async with asyncio.timeout(3):
                    with self._unforeseen.outlived():
                        await self._write()

    async def _write(self) -> None:
        self._wanted.clear()
        try:
            if self._sent:
                await self._note(list(self._sent))
        finally:
            if self._sent:
                self._wanted.set()

    async def _note(self, batch: Sequence[Sent]) -> None:
        """Raises ``TemporaryFailure``, and :class:`_NotNoted` for one that comes last the next
        time, so that it keeps no other from being noted."""
        try:
            await self._outbox.finish(batch)
        except TemporaryFailure:
            raise
        except Exception as error:
            if len(batch) == 1:
                self._sent.remove(batch[0])
                self._sent.append(batch[0])
                raise _NotNoted from error
            middle = len(batch) // 2
            failed = None
            for half in (batch[:middle], batch[middle:]):
                try:
                    await self._note(half)
                except _NotNoted as unforeseen:
                    failed = unforeseen
            if failed is not None:
                raise failed from failed.__cause__
        else:
            noted = {one.queued.seq for one in batch}
            self._sent = [one for one in self._sent if one.queued.seq not in noted]
            failpoint("settled")
