"""What stands in the web's place where the settings have none."""

from collections.abc import Callable

from bridge.sdk.ids import UserId
from bridge.settings.records import Address
from bridge.storage.tokens import TokenRow


class NoWeb:
    """Listens nowhere, and makes no links."""

    address: Address | None = None
    public_address: Address | None = None

    def __init__(self) -> None:
        self.on_session: Callable[[TokenRow], None] = lambda session: None

    async def start(self) -> None:
        """Listen nowhere."""

    async def stop(self) -> None:
        """It never listened."""

    async def make_link(self, user: UserId, purpose: str) -> str | None:
        """None: there is nothing to lead to."""
