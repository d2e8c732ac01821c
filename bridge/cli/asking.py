"""Asking the running program."""

from pathlib import Path
from typing import Any

from bridge.cli.group import finished, place_of, run_until_told
from bridge.doors.control import ask
from bridge.sdk.errors import TrestleError

NOT_RUNNING = "Trestle is not running with this config; start it, then try again"


def ask_program(config: Path, method: str, path: str, *, limit: float = 30) -> Any:
    """Give the program's answer; it has ``limit`` seconds. Raises ``TrestleError``."""
    state_dir = place_of(config)

    async def work() -> Any:
        answer = await ask(state_dir, method, path, limit=limit)
        if answer is None:
            raise TrestleError(NOT_RUNNING)
        return answer

    return finished(run_until_told(work))
