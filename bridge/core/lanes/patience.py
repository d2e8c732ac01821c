"""How long and how often what fails is tried again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from bridge.matrix.client import HomeserverAway, MatrixError, failure_of
from bridge.sdk.errors import TemporaryFailure

_T = TypeVar("_T")

_AGAIN_SECONDS = 1.0
LEAST_PAUSE = 0.05
"""Seconds between two tries of what asks for no pause: it is not to keep us busy all the time."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries of what nobody waits for."""
_PROMPT_SECONDS = 5.0
"""What is said in a chat may wait so long for the homeserver's word on something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long and how often: seconds, and tries before something is parked."""

    tries: int = 3
    first_delay: float = 0.2
    longest_delay: float = 60.0

    def wait(self, failure: BaseException, age: float, shortest: float = 0.5) -> float:
        """Give the seconds until the next try of what could not be done, ``age`` seconds old."""
        # Without advice from the network: the older it is, the longer the next wait.
        wait = min(max(shortest, age / 2), self.longest_delay)
        jitter = random.uniform(0.8, 1.2)  # noqa: S311 - not a secret
        return asked_for(failure, wait * jitter)


async def persistently(
    action: Callable[[], Awaitable[_T]], longest: float = _AGAIN_SECONDS, limit: float = inf
) -> _T:
    """Do it, however long the database or the homeserver is away: the caller can only wait.

    The pauses grow to ``longest`` seconds, and are at least what is asked for, up to a minute.
    What means no ``TemporaryFailure`` goes through (:func:`meant_by`), and what would be tried
    again after ``limit`` seconds.
    """
    pause, now = _AGAIN_SECONDS, asyncio.get_running_loop().time
    until = now() + limit
    while True:
        try:
            return await action()
        except (TemporaryFailure, MatrixError) as error:
            wait = max(pause, min(asked_for(error), LONGEST_PAUSE))
            meant = meant_by(error)
            if not isinstance(meant, TemporaryFailure) or now() + wait > until:
                raise meant from meant.__cause__
            await asyncio.sleep(wait)
            pause = min(2 * pause, longest)


def meant_by(error: Exception) -> Exception:
    """What an error means for what was tried: a homeserver that does not know our token just now
    has said nothing of it, and is as good as away."""
    if isinstance(error, MatrixError) and error.is_of_token:
        failure = failure_of(error)
        failure.__cause__ = error
        return failure
    return error


def asked_for(failure: BaseException, otherwise: float = 0.0) -> float:
    """The seconds for which whoever failed asks to be left alone; ``otherwise`` if it does not
    ask. To ask for none is to ask, too."""
    asked = getattr(failure, "retry_after", None)
    return otherwise if asked is None else float(asked)


async def promptly(question: Awaitable[_T]) -> _T:
    """Ask the homeserver something that others wait behind: no answer soon is no answer.

    Raises ``HomeserverAway``. Only for what may be cut off: nothing is to be stored in it.
    """
    try:
        async with asyncio.timeout(_PROMPT_SECONDS):
            return await question
    except TimeoutError as error:
        raise HomeserverAway("the homeserver did not answer in time") from error
