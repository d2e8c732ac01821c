"""Whether a cancellation is meant for us, and what becomes of one that is not."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from bridge.sdk.errors import DeliveryError, TemporaryFailure

log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]
"""What a task of its own is to do. It is not begun: a task that is cancelled before its first step
would leave a coroutine that nobody ever awaits."""


def is_meant_for_us() -> bool:
    """Whether somebody cancelled the running task; ask where a module's call was cancelled.

    A module may await something that it cancelled itself: that ends its call, and is its crash.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


@contextmanager
def outliving_module(what: str) -> Iterator[None]:
    """Turn a crash of module code, or a cancellation of its own, into a ``TemporaryFailure``.

    ``what`` tells the log what it was to do. ``DeliveryError`` and ``TimeoutError`` go through.
    """
    try:
        yield
    except (DeliveryError, TimeoutError):
        raise
    except (Exception, asyncio.CancelledError) as error:  # A module is a stranger.
        if isinstance(error, asyncio.CancelledError) and is_meant_for_us():
            raise
        log.exception("a module failed to %s", what, extra={"event": "module_failed"})
        raise TemporaryFailure(f"the module failed with {type(error).__name__}") from error
