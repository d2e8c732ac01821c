"""What a client of a network gets of us."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.core.host.hosting import InstanceHost, InstanceMetrics
from bridge.core.lanes.patience import asked_for
from bridge.matrix.client import HomeserverAway, MatrixError
from bridge.model import Clock, LoginRow
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import ModeratorWish, RemoteEvent
from bridge.sdk.ids import InstanceId, RemoteUserId
from bridge.sdk.login import LoginState
from bridge.sdk.module import Store
from bridge.sdk.secret import Secret

_STORE_AGAIN_SECONDS = 1.0
_LONGEST_PAUSE = 5.0
"""Seconds that are waited for what is our own: it is tried again soon, whatever it asks for."""
UNANSWERED_SECONDS = 60.0
"""So long what is said to one person alone waits for the homeserver, which must make its room or
say who reads there. All else goes without."""
LULL_SECONDS = 10.0
"""After so long without a failure the next one belongs to another outage."""

Keep = Callable[[LoginRow, str, Secret | None], Awaitable[None]]
"""Keeps something beside what a login signs in with. Raises ``TemporaryFailure``."""


async def keep_nothing(row: LoginRow, name: str, secret: Secret | None) -> None:
    """Refuse: where nothing else is said, a login keeps nothing."""
    raise PermanentFailure("nothing can be kept for a login here")


@dataclass(slots=True)
class _Outage:
    """When the homeserver began to fail at what is needed of it, and when it did so last."""

    since: float
    last: float


# It is core.consent.guests, which needs the portals, and they need the instances.
class Guests(Protocol):
    """Who hears what a client tells of people on its network."""

    async def identify(self, row: LoginRow, account: RemoteUserId) -> None: ...
    async def opt_out(self, row: LoginRow, user: RemoteUserId, is_out: bool) -> None: ...
    def has_opted_out(self, row: LoginRow, user: RemoteUserId) -> bool: ...
    async def obey(self, row: LoginRow, wish: ModeratorWish) -> str: ...


class ModuleHost(InstanceHost):
    """What a client gets of us (``sdk.Host``): one per login."""

    def __init__(
        self,
        instance: InstanceId,
        store: Store,
        clock: Clock,
        metrics: InstanceMetrics,
        receive: Callable[[RemoteEvent], Awaitable[None]],
        report: Callable[[LoginState, str], None],
        guests: Guests,
        row: LoginRow,
        keep: Keep = keep_nothing,
        *,
        personal: bool = False,
    ) -> None:
        super().__init__(instance, store, clock, metrics, personal=personal)
        self._receive = receive
        self._report = report
        self._guests = guests
        self._row = row
        self._keep = keep
        self.patience = UNANSWERED_SECONDS
        """Seconds that what needs the homeserver's word waits for it."""
        self.lull = LULL_SECONDS
        self._outage: _Outage | None = None
        """The one that the login's chats share: they wait behind each other."""

    async def receive(self, event: RemoteEvent) -> None:
        """Take an event from the network; returns when it is stored. Waits for the database.

        Raises ``PermanentFailure`` for what one person alone should hear and cannot, be it that
        the homeserver does not answer: nothing that is said after it waits for that.
        """

        outage: _Outage | None = None

        async def receive() -> None:
            nonlocal outage
            began = asyncio.get_running_loop().time()
            try:
                await self._receive(event)
            except (HomeserverAway, MatrixError) as error:
                now = asyncio.get_running_loop().time()
                outage = outage or self._outage_of(began, now)
                outage.last = now
                if now - outage.since > self.patience:
                    raise PermanentFailure(
                        "the homeserver does not answer just now; say it again later"
                    ) from error
                # While it asks for patience it is not asked, and that is no end of the outage.
                outage.last += self._pause_after(error)
                raise
            except PermanentFailure:
                self._end(outage)
                raise
            self._end(outage)

        await self._persistently(receive)

    def _outage_of(self, began: float, now: float) -> _Outage:
        """The one in which a try failed now that began then."""
        # A try may hang for long: what counts is for how long nothing failed before it.
        if self._outage is None or began - self._outage.last > self.lull:
            self._outage = _Outage(since=now, last=now)
        return self._outage

    def _end(self, outage: _Outage | None) -> None:
        """What had failed came to an end. All else may well need no homeserver."""
        if outage is not None and outage is self._outage:
            self._outage = None

    async def identify(self, account: RemoteUserId) -> None:
        """Say which account the login is. Waits for the database."""
        await self._persistently(lambda: self._guests.identify(self._row, account))

    async def keep_secret(self, name: str, secret: Secret | None) -> None:
        """Keep something beside what the login signs in with; None: forget it."""
        await self._keep(self._row, name, secret)

    async def opt_out(self, user: RemoteUserId, *, is_out: bool = True) -> None:
        """Say that somebody does not want to be bridged, or does again. Waits likewise."""
        await self._persistently(lambda: self._guests.opt_out(self._row, user, is_out))

    def has_opted_out(self, user: RemoteUserId) -> bool:
        """Whether somebody does not want to be bridged."""
        return self._guests.has_opted_out(self._row, user)

    async def obey(self, wish: ModeratorWish) -> str:
        """Do what somebody who runs a chat wishes; give the answer. Raises a ``DeliveryError``."""
        return await self._guests.obey(self._row, wish)

    async def _persistently(self, store: Callable[[], Awaitable[None]]) -> None:
        is_told = False
        while True:
            try:
                await store()
            except (TemporaryFailure, MatrixError) as error:
                # What the homeserver answers is between it and us: no module can do with it.
                if not is_told:  # It may be tried for hours, each second, on a full disk.
                    self.log.warning(
                        "An event waits to be stored: %s", error, extra={"event": "receive_waits"}
                    )
                is_told = True
                await asyncio.sleep(self._pause_after(error))
            else:
                return

    def _pause_after(self, error: TemporaryFailure | MatrixError) -> float:
        """Seconds until the next try: what the homeserver asks for, as far as patience goes."""
        is_its_wish = isinstance(error, HomeserverAway | MatrixError)
        longest = max(self.patience, _LONGEST_PAUSE) if is_its_wish else _LONGEST_PAUSE
        return min(asked_for(error) or _STORE_AGAIN_SECONDS, longest)

    def report(self, state: LoginState, reason: str = "") -> None:
        """Say how the login is."""
        self._report(state, reason)
