"""Work on a message that can be done before it may be sent."""

from typing import Protocol, runtime_checkable

from bridge.sdk.events import Message


@runtime_checkable
class PreparesMessages(Protocol):
    """A client for which it takes time to find out how a message is to be sent."""

    def prepare(self, message: Message) -> None:
        """Find out how the message is to be sent, while it is still being stored.

        Nothing may show of it, on the network or in the store, and ``send`` gets on without it:
        not each message is prepared, some are never sent, and much may change before ``send``.
        Of a ``DeliveryError`` nobody hears: ``send`` says what is wrong with a message.
        """
        ...
