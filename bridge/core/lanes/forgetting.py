"""What outlives its day in memory is let go with it: nothing of it is to cross any more."""

from collections.abc import Collection
from datetime import date

from bridge.core.lanes.putaside import tell_forgotten
from bridge.core.lanes.router import Router
from bridge.model import Forgotten


def forget(router: Router, days: Collection[date]) -> None:
    """Let go of what still waits of days that were just dropped, and have the log say so.

    What a consumer has in hand is let go once that fails; it may be out in the world by now.
    """
    for name, lane in list(router.lanes.items()):
        for day in days:
            if number := router.leave_out(lane, day):
                tell_forgotten(name, Forgotten(f"{number} received on {day} are forgotten"))
