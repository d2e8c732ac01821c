"""People of a network who are invited into its chats."""

from typing import Protocol, runtime_checkable

from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import RemoteUserId


@runtime_checkable
class InvitesPeople(Protocol):
    """A client that can invite people of the network into a chat, with its login's rights there.

    Raises as ``ManagesChats`` does, and ``DeliveryUncertain`` where it stays unknown whether the
    network has passed it on.
    """

    async def invite(self, chat: RemoteChat, person: RemoteUserId) -> bool:
        """Return when the network has passed it on; False if they are in the chat already."""
        ...
