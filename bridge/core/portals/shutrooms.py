"""Bridged rooms that have put our main bot out, found where nothing told us of it."""

import logging
from contextlib import suppress

from bridge.core.portals.portals import Portals
from bridge.matrix.intents import Intents
from bridge.sdk.errors import TrestleError
from bridge.sdk.ids import UserId

log = logging.getLogger(__name__)


async def see_who_put_it_out(portals: Portals, intents: Intents, bot: UserId) -> None:
    """Find the bridged rooms out of which the main bot was put, lately or long ago; those of
    which the homeserver does not say it now are found when they are looked at next."""
    evictions = intents.evictions
    rooms = {door.portal.room for door in portals.all}
    before = {room for room in rooms if evictions.is_out(room, bot)}
    try:
        there = await intents.rooms_of(bot)
    except TrestleError as error:
        log.info(
            "who put %s out is looked at later: %s", bot, error, extra={"event": "look_later"}
        )
        return
    for room in before & there:
        # Not forgiven: it may have been put out again while the homeserver was asked.
        evictions.ask_anew(room, bot)
    for door in [one for one in portals.all if one.portal.room not in there]:
        room = door.portal.room
        with suppress(TrestleError):
            if await evictions.find(room, bot, was_there=True) and room not in before:
                log.warning(
                    "%s is not in a bridged room that has put it out", bot,
                    extra={"event": "put_out", "instance": door.portal.instance},
                )  # fmt: skip
