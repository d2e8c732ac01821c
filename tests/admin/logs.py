"""What Trestle logs, as a text."""

import io
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from bridge.logs import Log


@contextmanager
def logged(
    format: Literal["console", "json"],
    level: str = "info",
    levels: Mapping[str, str] | None = None,
) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """Log into a text; the rest of the logging is as before when the block ends."""
    root, output = logging.getLogger(), io.StringIO()
    handlers, before = list(root.handlers), root.level
    libraries = {name: logging.getLogger(name).level for name in ("aiohttp", "asyncio", "asyncpg")}
    root.handlers.clear()  # Those of pytest would fail at a line that cannot be made.
    Log(format, level, levels=levels, stream=output).use()
    try:
        yield logging.getLogger("bridge.somewhere"), output
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(before)
        for name, old in libraries.items():
            logging.getLogger(name).setLevel(old)
