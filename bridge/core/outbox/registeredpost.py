"""Entries of the outbox for which somebody waits until they are in their rooms."""

import asyncio
from dataclasses import dataclass, field, replace

from bridge.core.outbox.sender import Sender
from bridge.model import Outgoing
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.storage.outbox import Outbox
from bridge.waits import is_set_within

_LOOK_SECONDS = 1.0


@dataclass(slots=True)
class _Awaited:
    """An entry that somebody waits for."""

    over: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: str = ""
    callers: int = 0


class RegisteredPost:
    """For the few things that must have been said before something else is done."""

    def __init__(self, sender: Sender, outbox: Outbox) -> None:
        self._sender = sender
        self._outbox = outbox
        self._awaited: dict[str, _Awaited] = {}
        """By transaction id."""
        sender.on_end = self._note_end

    async def send(self, outgoing: Outgoing, limit: float) -> None:
        """Store the entry, and return when it is in its room.

        Sent again, the same entry is waited for, and tried once more if it was put aside. Raises
        ``TemporaryFailure`` when it is not there after ``limit`` seconds (it goes on waiting) or
        the database is away, ``PermanentFailure`` with the reason when it is put aside.
        """
        # One that was left out by hand does not count; it is said anew.
        while (stored := await self._outbox.find(outgoing.transaction_id)) is not None and (
            stored.state == "dropped"
        ):
            outgoing = replace(outgoing, transaction_id=f"{outgoing.transaction_id}-again")
        name = outgoing.transaction_id
        awaited = self._awaited.setdefault(name, _Awaited())
        awaited.callers += 1
        try:
            await self._sender.put([outgoing])
            async with asyncio.timeout(limit):
                await self._wait(name, awaited)
        except TimeoutError as error:
            raise TemporaryFailure(
                "the homeserver has not taken a notice yet", retry_after=1
            ) from error
        finally:
            awaited.callers -= 1
            if not awaited.callers:
                self._awaited.pop(name, None)
        if awaited.refusal:
            raise PermanentFailure(awaited.refusal)

    async def _wait(self, name: str, awaited: _Awaited) -> None:
        while not awaited.over.is_set():
            stored = await self._outbox.find(name)
            if awaited.over.is_set() or (stored is not None and stored.state == "sent"):
                return
            if stored is not None and stored.state == "dropped":
                raise PermanentFailure("it is left out")
            if stored is not None and stored.state == "parked":
                queued = await self._outbox.take_back(stored.day, stored.seq)
                if queued is not None:
                    self._sender.push(queued)
            await is_set_within(_LOOK_SECONDS, awaited.over)

    def _note_end(self, outgoing: Outgoing, refusal: str) -> None:
        awaited = self._awaited.get(outgoing.transaction_id)
        if awaited is not None:
            awaited.refusal = refusal
            awaited.over.set()
