"""How calls into a module end, sorted into what the contract allows and what it does not."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, NoReturn, TypeVar

from bridge.sdk.errors import (
    DeliveryError,
    DeliveryUncertain,
    LoginRequired,
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
)

T = TypeVar("T")

END_SECONDS = 5.0
"""How long what was cancelled may take to end. What is well ends at once, but a busy machine may
hold it up."""

WAITS = object()
"""The call waited until it was cancelled."""


def fail(sentence: str, cause: BaseException | None = None) -> NoReturn:
    """Raise ``AssertionError``: a rule of the contract is broken."""
    raise AssertionError(sentence) from cause


def require(holds: object, sentence: str) -> None:
    """Raise ``AssertionError`` with the sentence if it does not hold."""
    if not holds:
        fail(sentence)


def demand(value: object, kind: type[T], sentence: str) -> T:
    """Give the value. Raises ``AssertionError`` with the sentence if it is of another kind."""
    if not isinstance(value, kind):
        fail(sentence)
    return value


def start(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Run it beside us. Not in a TaskGroup: what eats its cancellation would keep us for ever."""
    return asyncio.get_running_loop().create_task(coroutine)


async def give_up(task: asyncio.Task[Any]) -> None:
    """End what is of no more interest, however it ends."""
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    if task.done() and not task.cancelled():
        task.exception()  # Looked at, so that nobody is told that it was not.


async def attempt(
    what: str,
    call: Awaitable[object],
    limit: float,
    *,
    may_wait: bool,
    end: float = END_SECONDS,
) -> tuple[object, DeliveryError | None]:
    """Await the call for ``limit`` seconds, then cancel it, as a host does at its deadline.

    It has ``end`` seconds to end then.
    Gives the result or the ``DeliveryError``; ``WAITS`` if it was cancelled. Raises
    ``AssertionError`` for errors of no known class, and for a call that does not end.
    """
    task = start(_awaited(call))
    await asyncio.wait({task}, timeout=limit)
    if task.done():
        return _outcome(what, task)
    task.cancel()
    await asyncio.wait({task}, timeout=end)
    require(task.done(), f"{what} goes on though it was cancelled at the host's deadline")
    if not task.cancelled():
        fail(
            f"{what} did not raise CancelledError when it was cancelled at the host's deadline; "
            "let it pass",
            task.exception(),
        )
    require(may_wait, f"{what} takes longer than {limit:g} seconds")
    return WAITS, None


async def _awaited(call: Awaitable[object]) -> object:
    return await call


def _outcome(what: str, task: asyncio.Task[object]) -> tuple[object, DeliveryError | None]:
    require(not task.cancelled(), f"{what} raised CancelledError though nobody cancelled it")
    error = task.exception()
    if error is None:
        return task.result(), None
    if not isinstance(error, TemporaryFailure | PermanentFailure | DeliveryUncertain):
        fail(
            f"{what} raised {type(error).__name__}: {error}; raise TemporaryFailure (it can work "
            "later), PermanentFailure (it cannot) or DeliveryUncertain (it may have arrived), "
            "with `from`",
            error,
        )
    require(
        str(error).strip(),
        f"{what} raised {type(error).__name__} without a sentence that says why",
    )
    return None, error


def why_it_ended(task: asyncio.Task[Any]) -> ModuleNotReady | LoginRequired:
    """Give how ``run()`` explained its early end. Raises ``AssertionError`` if it did not."""
    require(not task.cancelled(), "run() raised CancelledError though nobody cancelled it")
    error = task.exception()
    if error is None:
        fail(
            "run() returned; it must stay until cancelled, or raise ModuleNotReady with why it "
            "cannot"
        )
    if not isinstance(error, ModuleNotReady | LoginRequired):
        fail(
            f"run() raised {type(error).__name__}: {error}; raise ModuleNotReady (try again "
            "later) or LoginRequired (ask the owner) where it enters, with `from`",
            error,
        )
    require(
        str(error).strip(),
        f"run() raised {type(error).__name__} without a sentence that says why",
    )
    return error
