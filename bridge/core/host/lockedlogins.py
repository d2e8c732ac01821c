"""A login that is there and cannot be used."""

from bridge.sdk.errors import LoginRequired, PermanentFailure
from bridge.sdk.events import Message, Receipt


class LockedLogin:
    """Stands for the client of a login whose credentials do not open."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def run(self) -> None:
        """Ask for what it is to sign in with."""
        raise LoginRequired(self._reason)

    async def send(self, message: Message) -> Receipt:
        """Say nothing, and why."""
        raise PermanentFailure(self._reason)
