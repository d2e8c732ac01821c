"""What is said about a bridge on both of its sides: in the chat and in the room."""

import asyncio
import logging

from bridge.core.lanes.cancellation import outliving_module
from bridge.core.outbox.outgoing import notice, once
from bridge.core.rooms.house import House
from bridge.core.traffic.doorway import Doorway
from bridge.model import Outgoing
from bridge.sdk.errors import DeliveryError
from bridge.sdk.events import Message, MessageKind, Sender
from bridge.sdk.ids import EventId, RoomId
from bridge.sdk.rich import Rich

log = logging.getLogger(__name__)

_SECONDS = 10.0
"""How long the network may take to say it; what follows waits no longer."""


async def say_on_both_sides(house: House, door: Doorway, *, there: str, here: str) -> None:
    """Say ``there`` in the chat, by the relay, and ``here`` in the room, by the bot.

    A network that does not take it is no reason to keep the room from knowing. Raises
    ``TemporaryFailure`` when the database is away.
    """
    await say_there(house, door, there)
    await house.sender.put([say_here(house, door.portal.room, here)])


def say_here(house: House, room: RoomId, text: str) -> Outgoing:
    """Make what the bot says in a room."""
    house.bare_orders.note(room, text)
    return notice(
        house.key_of, room=room, user=house.namespaces.bot, text=text, source=("said", once())
    )


async def say_there(house: House, door: Doorway, text: str) -> None:
    """Say it in the chat alone, by the relay, if the network takes it now."""
    instance = house.instances.get(door.portal.instance)
    relay = instance.relay if instance is not None else None
    if relay is None:
        return
    message = Message(
        chat=door.portal.chat, event_id=EventId("$announcement"),
        sender=Sender(user_id=house.namespaces.bot, name=""), kind=MessageKind.NOTICE,
        body=Rich.plain(text),
    )  # fmt: skip
    try:
        async with asyncio.timeout(_SECONDS):
            with outliving_module("say something"):
                await relay.client.send(message)
    except (DeliveryError, TimeoutError) as error:
        log.info("the network was not told: %s", error, extra={"event": "not_announced"})
