"""Who may do what: levels from the settings, and who is never obeyed."""

from collections.abc import Callable, Mapping

from bridge.model import Permission
from bridge.sdk.ids import UserId


class Permissions:
    """Levels by Matrix id, else by server, else by ``*``.

    Ghosts and bots (``is_ours``) have none: they are never obeyed.
    """

    def __init__(
        self,
        levels: Mapping[str, Permission],
        server_name: str,
        is_ours: Callable[[str], bool],
    ) -> None:
        self._server_name = server_name
        self._is_ours = is_ours
        self._known: dict[UserId, Permission] = {}
        self.set(levels)

    def set(self, levels: Mapping[str, Permission]) -> None:
        """Have these levels from now on; what is left out of them has its default."""
        self._levels = dict(levels)
        self._levels.setdefault("*", Permission.NONE)
        self._levels.setdefault(self._server_name, Permission.USER)
        self._known.clear()

    def of(self, user: UserId) -> Permission:
        """Give the level of a Matrix user."""
        known = self._known.get(user)
        if known is None:
            if len(self._known) > 10_000:
                self._known.clear()
            known = self._known[user] = self._find(user)
        return known

    def _find(self, user: UserId) -> Permission:
        if self._is_ours(user):
            return Permission.NONE
        level = self._levels.get(user)
        if level is None:
            # A user id has its server behind the first colon; the server may hold a port.
            level = self._levels.get(user.partition(":")[2])
        return self._levels["*"] if level is None else level

    def allows(self, user: UserId, level: Permission) -> bool:
        """Whether the user has at least the level."""
        return self.of(user) >= level
