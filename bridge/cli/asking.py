"""Asking the running program."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bridge.cli.group import finished, place_of, run_until_told
from bridge.doors.control import STILL, ask
from bridge.sdk.errors import TrestleError

NOT_RUNNING = "Trestle is not running with this config; start it, then try again"


async def _refuse() -> Any:
    raise TrestleError(NOT_RUNNING)


def ask_program(
    config: Path,
    method: str,
    path: str,
    *,
    limit: float = 30,
    alone: Callable[[], Coroutine[Any, Any, Any]] = _refuse,
) -> Any:
    """Give the program's answer; it has ``limit`` seconds. If none runs, do ``alone``.

    Told to stop while it changes something, it says that this may go on. Raises ``TrestleError``.
    """
    state_dir = place_of(config)
    is_asked = True

    async def work() -> tuple[Any]:
        nonlocal is_asked
        answer = await ask(state_dir, method, path, limit=limit)
        if answer is None:
            is_asked = False
            answer = await alone()
        return (answer,)

    done = run_until_told(work)
    return finished(done, cut=STILL if is_asked and method != "GET" else "")[0]
