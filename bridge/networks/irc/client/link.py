"""Where senders wait for their connection."""

import asyncio

from bridge.networks.irc.channels.channels import Channels
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.flag import Flag
from bridge.networks.irc.connections.inquiry import Inquiries
from bridge.sdk.errors import (
    DeliveryError,
    LoginRequired,
    ModuleError,
    PermanentFailure,
    TemporaryFailure,
)

RETRY_SECONDS = 5.0


class Link:
    """A client's connection with its channels and questions, while there is one."""

    def __init__(self) -> None:
        self._changed = Flag()
        self._failure: ModuleError | None = None
        self.connection: Connection | None = None
        self.channels: Channels | None = None
        self.inquiries: Inquiries | None = None

    def starting(self) -> None:
        """Say that a connection is being made: senders wait for it."""
        self.down(None)

    def up(self, connection: Connection, channels: Channels, inquiries: Inquiries) -> None:
        """Say that there is one."""
        self.connection, self.channels, self.inquiries = connection, channels, inquiries
        self._wake(None)

    def down(self, failure: ModuleError | None) -> None:
        """Say that there is none, and why; None: it is being made anew."""
        if self.channels is not None:
            self.channels.end()
        if self.inquiries is not None:
            self.inquiries.end()
        self.connection, self.channels, self.inquiries = None, None, None
        self._wake(failure)

    def _wake(self, failure: ModuleError | None) -> None:
        self._failure = failure
        self._changed.set()
        self._changed = Flag()

    @property
    def refusal(self) -> LoginRequired | None:
        """Why there is none, where a person has to act before there is one."""
        return self._failure if isinstance(self._failure, LoginRequired) else None

    async def get(self, seconds: float) -> tuple[Connection, Channels]:
        """Wait for the connection. Raises a ``DeliveryError`` with why there is none."""
        if self.connection is not None and self.channels is not None:
            return self.connection, self.channels
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
