"""A thread that notices when the event loop stands still, says who, and ends the program.

A module is code in our process: one that computes without ever awaiting stops everybody. No
task can help then; the service manager starts us again, and the item that was running is a
suspect.
"""

import asyncio
import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

EXIT_CODE = 70
"""``EX_SOFTWARE`` of sysexits.h: an error inside."""


class Watchdog:
    """Watches one event loop from a thread of its own."""

    def __init__(self, limit: float, running: Callable[[], str]) -> None:
        self.limit = limit
        """Seconds that the loop may stand still; may be changed at any time."""
        self._running = running
        self._beat = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    async def run(self) -> None:
        """Beat until cancelled."""
        self._beat = time.monotonic()
        self._thread.start()
        try:
            while True:
                self._beat = time.monotonic()
                await asyncio.sleep(min(1.0, self.limit / 4))
        finally:
            self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self.limit / 4)):
            if time.monotonic() - self._beat > self.limit:
                self._bite()

    def _bite(self) -> None:
        log.critical(
            "nothing has moved for %.0f s while %s was at work; ending, to be started again",
            self.limit,
            self._running() or "nobody",
            extra={"event": "loop_blocked"},
        )
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        os._exit(EXIT_CODE)
