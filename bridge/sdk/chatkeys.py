"""Chats that let in only who says their key, a password that all of their people share."""

from typing import Protocol, runtime_checkable

from bridge.sdk.events import RemoteChat
from bridge.sdk.secret import Secret


@runtime_checkable
class JoinsLockedChats(Protocol):
    """A client that can say a chat's key. The core keeps none: the module does.

    Used for the relay, beside ``JoinsChats``.
    """

    async def join_with_key(self, chat: RemoteChat, key: Secret) -> None:
        """Be in the chat as by ``JoinsChats.join``, with that key before any that is kept.

        One that let us in is kept for all logins, by ``Host.keep_secret``, until the relay leaves
        the chat. Raises as ``join``; ``PermanentFailure`` for what is no key, too.
        """
        ...


@runtime_checkable
class AdoptsKeys(Protocol):
    """A connector that takes over the keys of another bridge's chats, beside ``TakesOver``."""

    def adopt_key(self, chat: RemoteChat, key: Secret) -> tuple[str, Secret]:
        """Under which name the relay's login keeps the key, as by ``Host.keep_secret``, and what.

        Raises ``PermanentFailure`` if it is none.
        """
        ...
