"""Who may do what: levels from the settings, and who is never obeyed."""

from collections.abc import Callable, Mapping

from bridge.core.permissions.blocks import host_of, server_of
from bridge.model import Permission
from bridge.sdk.ids import InstanceId, UserId


def with_defaults(levels: Mapping[str, Permission], server_name: str) -> dict[str, Permission]:
    """The levels, servers in small letters, and those of whom they leave out: where nothing is
    written for everybody, the own server is ``user``, the rest ``none``."""
    # Who writes `*` means the own server too; who names one person more does not shut others out.
    known = {} if "*" in levels else {"*": Permission.NONE, server_name.lower(): Permission.USER}
    return {**known, **_folded(levels)}


class Permissions:
    """Levels by Matrix id, else by server, else by ``*``; an instance's own come first.

    What a server written without a port may *not* do, it may not at any port; what it may do, it
    may only as it is written: at another port may be somebody else.

    Ghosts and bots (``is_ours``) have none: they are never obeyed.
    """

    def __init__(
        self,
        levels: Mapping[str, Permission],
        server_name: str,
        is_ours: Callable[[str], bool],
        of_instances: Mapping[InstanceId, Mapping[str, Permission]] | None = None,
    ) -> None:
        self._server_name = server_name
        self._is_ours = is_ours
        self._known: dict[tuple[UserId, InstanceId | None], Permission] = {}
        self.set(levels, of_instances or {})

    def set(
        self,
        levels: Mapping[str, Permission],
        of_instances: Mapping[InstanceId, Mapping[str, Permission]],
    ) -> None:
        """Have these levels from now on; what is left out of them has its default."""
        self._of_instances = {name: _folded(own) for name, own in of_instances.items()}
        self._levels = with_defaults(levels, self._server_name)
        self._known.clear()

    def of(self, user: UserId, instance: InstanceId | None = None) -> Permission:
        """Give the level of a Matrix user, for an instance if one is named."""
        known = self._known.get((user, instance))
        if known is None:
            if len(self._known) > 10_000:
                self._known.clear()
            known = self._known[user, instance] = self._find(user, instance)
        return known

    def highest(self, user: UserId) -> Permission:
        """The level that the user has generally or for some instance, whichever is higher."""
        return max(self.of(user, instance) for instance in (None, *self._of_instances))

    def _find(self, user: UserId, instance: InstanceId | None) -> Permission:
        if self._is_ours(user):
            return Permission.NONE
        own = self._of_instances.get(instance, {}) if instance is not None else {}
        server, most = server_of(user), Permission.ADMIN
        for levels in (own, self._levels):
            if user in levels:
                return min(most, levels[user])
            if server in levels:
                return min(most, levels[server])
            most = min(most, levels.get(host_of(server), most))
            if "*" in levels:
                return min(most, levels["*"])
        return Permission.NONE

    def allows(self, user: UserId, level: Permission, instance: InstanceId | None = None) -> bool:
        """Whether the user has at least the level."""
        return self.of(user, instance) >= level


def _folded(levels: Mapping[str, Permission]) -> Mapping[str, Permission]:
    """With servers in small letters, as :func:`server_of` gives them; ids of people stay."""
    return {key if key.startswith("@") else key.lower(): one for key, one in levels.items()}
