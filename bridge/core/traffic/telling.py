"""What a portal says to the sender of a message about it: as a notice, or as a reaction."""

from time import monotonic

from bridge.core.host.actions import holds_order
from bridge.core.lanes.lane import Item
from bridge.core.outbox.outgoing import notice, transaction_id
from bridge.core.rooms.house import House
from bridge.matrix.cache import Recent
from bridge.model import Outgoing, ParkReason, Portal, SendKind, Telling
from bridge.sdk.ids import UserId

_SIGNS = {"again": "\N{CLOCKWISE RIGHTWARDS AND LEFTWARDS OPEN CIRCLE ARROWS}",
          "parked": "\N{CROSS MARK}", "uncertain": "\N{BLACK QUESTION MARK ORNAMENT}"}  # fmt: skip
"""What may be said by a sign alone."""
UNSPOKEN = {"m.reaction": "reaction", "m.room.redaction": "deletion"}
"""What is done to messages without a word, and what it is called."""
_AGAIN = 60.0
"""Seconds in which a sender is told of a few refusals only."""


class Refusals:
    """How much of whom one portal put aside just now: a few notices say what a thousand would."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, ParkReason], tuple[float, int]] = {}
        """By sender and reason: since when, and how many were put aside."""

    def count(self, item: Item, reason: ParkReason) -> int:
        """Count one; how many of the sender's were put aside for that reason in this minute
        before."""
        key = (item.event["sender"], reason)
        now = monotonic()
        began, number = self._told.get(key, (now, 0))
        if now - began > _AGAIN:
            began, number = now, 0
        if len(self._told) > 1000:
            self._told.clear()
        self._told[key] = (began, number + 1)
        return number


class TurnedAway:
    """Those in one portal's room of whom nothing is carried, by the settings or since the chat's
    operators blocked them: each is told once, over restarts too."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._told: Recent[UserId, bool] = Recent(1000)
        """Of whom it is known, so that the database is not asked at each message."""

    async def tell(self, portal: Portal, item: Item, why: str) -> None:
        """Tell the sender, unless that was done, or they said nothing to the others in the room.

        Raises ``TemporaryFailure`` when the database is away.
        """
        house, event, person = self._house, item.event, UserId(item.event["sender"])
        is_unsaid = event["type"] == "m.reaction" or holds_order(event["content"])
        if is_unsaid or self._told.get(person) or house.namespaces.is_ours(person):
            return
        what = f"unheard in portal {portal.id}"
        if await house.told.told_at(person, what) is None:
            await tell(
                house, portal, item, "unheard",
                f"What you say here stays in Matrix: {why}. You are told this once. "
                f"{house.announcer.read_more}".rstrip(),
            )  # fmt: skip
            await house.told.note_told(person, what)
        self._told.put(person, True)

    def forget(self, person: UserId) -> None:
        """Forget that somebody was told: what says so is erased."""
        self._told.drop(person)


async def tell(house: House, portal: Portal, item: Item, why: str, text: str) -> None:
    """Say it in the room, once, however often the item is handled.

    Raises ``TemporaryFailure`` when the database is away.
    """
    await item.stored()
    source = (item.id, f"portal:{portal.id}", why)
    event_id = item.event["event_id"]
    bot = house.namespaces.bot
    # What was deleted in a room that the bridge has left is told of in its present one.
    is_here = item.event["room_id"] == portal.room
    if portal.telling is Telling.REACTION and why in _SIGNS and is_here:
        said = Outgoing(
            room=portal.room, user=bot, kind=SendKind.EVENT, type="m.reaction",
            content={"m.relates_to": {
                "rel_type": "m.annotation", "event_id": event_id, "key": _SIGNS[why],
            }},
            transaction_id=transaction_id(house.key_of, *source, bot, portal.room),
        )  # fmt: skip
    else:
        house.bare_orders.note(portal.room, text)
        said = notice(
            house.key_of, room=portal.room, user=bot, text=text, source=source,
            reply_to=event_id if is_here else None,
        )  # fmt: skip
    await house.sender.put([said])
