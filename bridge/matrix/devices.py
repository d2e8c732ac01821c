"""The device of each of our users, by which the homeserver remembers transaction ids for a day."""

from collections.abc import Awaitable, Callable

from bridge.matrix.cache import Recent
from bridge.matrix.client import HomeserverClient, MatrixError, path
from bridge.sdk.ids import UserId

DeviceOf = Callable[[UserId], Awaitable[str]]


class Devices:
    """Fixed ones: a retry after a restart comes from the same."""

    def __init__(self, client: HomeserverClient, device_of: DeviceOf) -> None:
        """``device_of`` gives the name of a user's device."""
        self._client = client
        self._device_of = device_of
        self._known: Recent[UserId, str] = Recent(20_000)

    async def find(self, user: UserId) -> str | None:
        """The user's device; None where the homeserver does not let us act as one."""
        if not self._client.supports_device_id:
            return None
        return self._known.get(user) or await self.name(user)

    async def name(self, user: UserId) -> str:
        """What the user's device is called, be it there or not."""
        device = self._known.get(user)
        if device is None:
            device = await self._device_of(user)
            self._known.put(user, device)
        return device

    async def make(self, user: UserId) -> None:
        """Have the user's device. Raises :class:`MatrixError`."""
        await self._client.request(
            "PUT", path("v3", "devices", await self.name(user)), user=user,
            content={"display_name": "Trestle"},
        )  # fmt: skip

    async def learn_support(self, bot: UserId) -> bool:
        """Find out whether the homeserver lets us act as a device (MSC4326), and remember it."""
        self._client.supports_device_id = True
        await self.make(bot)
        device = await self.name(bot)
        try:
            reply = await self._client.whoami(bot, device)
        except MatrixError:
            reply = {}
        self._client.supports_device_id = reply.get("device_id") == device
        return self._client.supports_device_id
