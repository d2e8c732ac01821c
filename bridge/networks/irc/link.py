"""Where senders wait for their connection."""

import asyncio

from bridge.networks.irc.channels import Channels
from bridge.networks.irc.connection import Connection
from bridge.sdk.errors import (
    DeliveryError,
    LoginRequired,
    ModuleError,
    PermanentFailure,
    TemporaryFailure,
)

RETRY_SECONDS = 5.0


class Link:
    """A client's connection with its channels, while there is one."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._failure: ModuleError | None = None
        self.connection: Connection | None = None
        self.channels: Channels | None = None

    def starting(self) -> None:
        """Say that a connection is being made: senders wait for it."""
        self._set(None, None, None)

    def up(self, connection: Connection, channels: Channels) -> None:
        """Say that there is one."""
        self._set(connection, channels, None)

    def down(self, failure: ModuleError) -> None:
        """Say that there is none, and why."""
        self._set(None, None, failure)

    def _set(
        self,
        connection: Connection | None,
        channels: Channels | None,
        failure: ModuleError | None,
    ) -> None:
        if self.channels is not None:
            self.channels.end()
        self.connection, self.channels, self._failure = connection, channels, failure
        self._changed.set()
        self._changed = asyncio.Event()

    async def get(self, seconds: float) -> tuple[Connection, Channels]:
        """Wait for the connection. Raises a ``DeliveryError`` with why there is none."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if self.connection is not None and self.channels is not None:
                        return self.connection, self.channels
                    if self._failure is not None:
                        raise _delivery_error(self._failure)
                    await self._changed.wait()
        except TimeoutError as error:
            raise TemporaryFailure(
                f"The IRC network was not reached within {seconds:g} seconds.",
                retry_after=RETRY_SECONDS,
            ) from error


def _delivery_error(failure: ModuleError) -> DeliveryError:
    if isinstance(failure, LoginRequired):
        # Nothing changes until a person acts; a lane must not stand still for that.
        return PermanentFailure(str(failure))
    return TemporaryFailure(str(failure), retry_after=RETRY_SECONDS)
