"""How long something takes, on a machine that has other things to do."""

from collections.abc import Callable
from time import process_time

_TRIES = 3


def is_quick(act: Callable[[], object], seconds: float) -> bool:
    """Whether it takes less of the processor than that, at one of three tries.

    What else the machine does, and the memory of the tests before, only add to it.
    """
    for _ in range(_TRIES):
        start = process_time()
        act()
        if process_time() - start < seconds:
            return True
    return False
