"""Places where a test can end the program as ``kill -9`` does, by name.

``TRESTLE_FAILPOINT=landed:3`` ends it the third time that it comes by ``landed``. Unset, a
place costs the call of an empty function.
"""

import os
import signal
from collections.abc import Callable

PLACES = (
    "received",  # a transaction is read, and not stored
    "landed",  # it is stored, and not acknowledged
    "dispatched",  # it is acknowledged, and its events are in their lanes
    "started",  # an item is noted as begun
    "handled",  # its effect is out, and not noted
    "finished",  # the effect is noted, and the journal does not know
    "marked",  # the journal knows
    "queued",  # something for Matrix is stored, and nobody has it in hand
    "sending",  # it is about to be put
    "sent",  # the homeserver has it, and the outbox does not know
    "settled",  # the outbox knows
)
"""Each lies between two durable steps."""

AT_FAILURES = (
    "tried",  # a failed try is counted, and nothing follows yet
    "parked",  # an item is put aside, and its row does not say so
    "set_aside",  # an entry of the outbox is put aside
)
"""So does each of these; only what fails comes by them."""

VARIABLE = "TRESTLE_FAILPOINT"


def _pass(place: str) -> None:
    """Nothing is asked for."""


def _arm(wanted: str) -> Callable[[str], None]:
    name, _, times = wanted.partition(":")
    places = PLACES + AT_FAILURES
    if name not in places or not (times or "1").isdigit():
        raise ValueError(f"{VARIABLE}={wanted} names no place; there are {', '.join(places)}")
    left = int(times or 1)

    def fire(place: str) -> None:
        nonlocal left
        if place == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return fire


failpoint: Callable[[str], None] = _arm(os.environ[VARIABLE]) if VARIABLE in os.environ else _pass
"""Come by a place."""
