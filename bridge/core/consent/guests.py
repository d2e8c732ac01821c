"""What clients tell of people on their networks: whose account is whose, who wants no part, and
what those who run chats wish."""

from bridge.core.consent.moderators import Moderators
from bridge.core.logins.doublepuppets import DoublePuppets
from bridge.core.permissions.optouts import EVERYWHERE, OptOuts
from bridge.core.portals.portals import Portals
from bridge.matrix.namespaces import Namespaces
from bridge.model import LoginRow
from bridge.sdk.events import ModeratorWish
from bridge.sdk.ids import RemoteUserId


class Guests:
    """Hears it, and sees to it."""

    def __init__(
        self,
        double_puppets: DoublePuppets,
        optouts: OptOuts,
        portals: Portals,
        namespaces: Namespaces,
        moderators: Moderators,
    ) -> None:
        self._double_puppets = double_puppets
        self._optouts = optouts
        self._portals = portals
        self._namespaces = namespaces
        self._moderators = moderators

    async def identify(self, row: LoginRow, account: RemoteUserId) -> None:
        """Note which account a login is. Raises ``TemporaryFailure``."""
        await self._double_puppets.identify(row, account)

    async def opt_out(self, row: LoginRow, user: RemoteUserId, is_out: bool) -> None:
        """Bridge the person no more, or again. Raises ``TemporaryFailure``."""
        ghost = self._namespaces.ghost(row.instance, user)
        if is_out:
            await self._optouts.add(ghost, EVERYWHERE)
            self._portals.let_go(row.instance, user)
        else:
            await self._optouts.remove(ghost, EVERYWHERE)

    def has_opted_out(self, row: LoginRow, user: RemoteUserId) -> bool:
        """Whether the person wants to be bridged nowhere."""
        return self._optouts.cover(self._namespaces.ghost(row.instance, user), EVERYWHERE)

    async def obey(self, row: LoginRow, wish: ModeratorWish) -> str:
        """Do what somebody who runs a chat wishes. Raises a ``DeliveryError``."""
        return await self._moderators.obey(row, wish)
