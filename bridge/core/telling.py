"""What a portal says to the sender of a message about it: as a notice, or as a reaction."""

from bridge.core.house import House
from bridge.core.lane import Item
from bridge.core.outgoing import notice, transaction_id
from bridge.model import Outgoing, Portal, SendKind, Telling

_SIGNS = {"again": "\N{CLOCKWISE RIGHTWARDS AND LEFTWARDS OPEN CIRCLE ARROWS}",
          "parked": "\N{CROSS MARK}", "uncertain": "\N{BLACK QUESTION MARK ORNAMENT}"}  # fmt: skip
"""What may be said by a sign alone."""


async def tell(house: House, portal: Portal, item: Item, why: str, text: str) -> None:
    """Say it in the room, once, however often the item is handled.

    Raises ``TemporaryFailure`` when the database is away.
    """
    source = (item.id, f"portal:{portal.id}", why)
    event_id = item.event["event_id"]
    bot = house.namespaces.bot
    if portal.telling is Telling.REACTION and why in _SIGNS:
        said = Outgoing(
            room=portal.room, user=bot, kind=SendKind.EVENT, type="m.reaction",
            content={"m.relates_to": {
                "rel_type": "m.annotation", "event_id": event_id, "key": _SIGNS[why],
            }},
            transaction_id=transaction_id(house.key_of, *source, bot, portal.room),
        )  # fmt: skip
    else:
        said = notice(
            house.key_of, room=portal.room, user=bot, text=text, source=source, reply_to=event_id
        )
    await house.sender.put([said])
