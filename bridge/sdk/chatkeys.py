"""Chats that let in only those who say their key, a password that all people in them share."""

from typing import Protocol, runtime_checkable

from bridge.sdk.events import RemoteChat
from bridge.sdk.secret import Secret


@runtime_checkable
class JoinsLockedChats(Protocol):
    """A client that can say a chat's key. The core keeps none: the module does.

    Used for the relay, beside ``JoinsChats``.
    """

    async def join_with_key(self, chat: RemoteChat, key: Secret) -> None:
        """Join the chat as ``JoinsChats.join`` does, with this key rather than one that is kept.

        A key that let us in is kept for all logins, by ``Host.keep_secret``, until the relay
        leaves the chat. Raises what ``join`` raises, and ``PermanentFailure`` if this is no key.
        """
        ...


@runtime_checkable
class AdoptsKeys(Protocol):
    """A connector that takes over the keys of another bridge's chats, beside ``TakesOver``."""

    def adopt_key(self, chat: RemoteChat, key: Secret) -> tuple[str, Secret]:
        """Give the name and the secret that the relay's login is to keep (``Host.keep_secret``).

        Raises ``PermanentFailure`` if it is no key.
        """
        ...
