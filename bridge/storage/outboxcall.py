"""One caller who adds to the outbox, and what became of the entries."""

import asyncio
from dataclasses import dataclass, field

from bridge.model import QueuedOutgoing


@dataclass(slots=True, eq=False)
class Call:
    """One caller's entries, and what became of them."""

    entries: list[QueuedOutgoing]
    payloads: list[bytes]
    turn: asyncio.Future[None]
    """Done when they are written, or when it is on this caller to write what is gathered."""
    result: list[QueuedOutgoing] = field(default_factory=list)
    error: Exception | None = None
    begun: bool = False
    """Somebody writes it or tried to: it may be stored."""
    written: bool = False
    given_up: bool = False
    """The caller was cancelled; what is stored of it goes to the next one."""

    def wake(self) -> None:
        """Have the caller go on."""
        if not self.turn.done():
            self.turn.set_result(None)
