"""From which of our addresses a network lets nobody in, so that not all of us try from there."""

from collections.abc import Callable
from ipaddress import IPv6Address

from bridge.networks.irc.protocol.endings import BannedError
from bridge.sdk.errors import LoginRequired
from bridge.sdk.ids import UserId

HELD_SECONDS = 3600.0
"""How long others are held back by a ban, unless somebody is let in meanwhile."""

Address = IPv6Address | None
"""A person's own, or the one that all without their own have in common."""
Knocker = int | UserId
"""A login, or a person who signs in and has none yet."""


class Doors:
    """One network's, by address. Kept in memory: a restart tries anew."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now``: seconds that only go up."""
        self._now = now
        self._inside: dict[Knocker, Address] = {}
        self._refused: dict[Address, dict[Knocker, float]] = {}
        self._shut: dict[Address, tuple[float, str]] = {}

    def check(self, address: Address) -> None:
        """Raise ``LoginRequired`` if a login from there is not to be tried now."""
        until, reason = self._shut.get(address, (0.0, ""))
        if reason and self._now() < until:
            raise LoginRequired(reason)

    def enter(self, login: Knocker, address: Address) -> None:
        """Take note that a login was let in: so others may be, too."""
        self._inside[login] = address
        self._refused.pop(address, None)
        self._shut.pop(address, None)

    def leave(self, login: Knocker) -> None:
        """Take note that a login has no connection any more."""
        self._inside.pop(login, None)

    def refuse(self, login: Knocker, address: Address, error: BannedError) -> str:
        """Take note of a ban. If others from there are held back by it, say why; else nothing.

        Most bans do not say whom they mean. Where a second login is banned while none is in,
        they are taken for bans of the address.
        """
        self.leave(login)
        now = self._now()
        banned = self._refused.setdefault(address, {})
        banned[login] = now
        for one in [one for one, at in banned.items() if now - at > HELD_SECONDS]:
            del banned[one]
        seems = len(banned) > 1 and address not in self._inside.values()
        if not error.of_address and not seems:
            return ""
        bans = "bans" if error.of_address else "seems to ban"
        reason = (
            f"The network {bans} the address from which this bridge connects, so nobody else "
            "tries from there. A ban is not got round: its operators can lift it."
        )
        self._shut[address] = (now + HELD_SECONDS, reason)
        return reason
