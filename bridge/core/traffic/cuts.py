"""Both sides are told of what is left out after a network was away for long."""

import logging

from bridge.core.host.instances import Session
from bridge.core.lanes.lane import Item
from bridge.core.lanes.late import Cut
from bridge.core.outbox.outgoing import notice
from bridge.core.rooms.house import House
from bridge.model import Portal
from bridge.sdk.errors import DeliveryError
from bridge.sdk.events import Message, MessageKind, Sender
from bridge.sdk.ids import EventId
from bridge.sdk.rich import Rich

log = logging.getLogger(__name__)


async def tell_of_cut(house: House, portal: Portal, item: Item, cut: Cut, relay: Session) -> None:
    """Say in the chat, if that can be, and in the room what of it is not sent.

    Raises ``TemporaryFailure`` when the database is away.
    """
    span = cut.span(house.clock.now())
    there = Message(
        chat=portal.chat, event_id=EventId(item.event["event_id"]),
        sender=Sender(user_id=house.namespaces.bot, name=""), kind=MessageKind.NOTICE,
        body=Rich.plain(
            f"{cut.number} messages from Matrix, of {span}, are left out: this network "
            "could not be reached."
        ),
    )  # fmt: skip
    try:
        await relay.client.send(there)
    except DeliveryError as error:
        log.info("the network was not told: %s", error, extra={"event": "cut_not_told"})
    await house.sender.put([
        notice(
            house.key_of, room=portal.room, user=house.namespaces.bot,
            text=f"{portal.instance} is back. {cut.number} messages of {span} waited for too "
            f"long and are not sent to {portal.chat_name}; the newest {house.lateness.keep} "
            "are.",
            source=("left out", portal.id, cut.last),
        )
    ])  # fmt: skip
