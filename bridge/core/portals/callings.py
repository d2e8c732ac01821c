"""Who is invited into a portal's room as a ghost is invited into its chat as a person."""

import asyncio

from bridge.core.host.instances import Instance, Session
from bridge.core.lanes.cancellation import outliving_module
from bridge.core.rooms.attendance import is_left_out
from bridge.core.rooms.house import House
from bridge.core.traffic.doorway import Doorway
from bridge.model import Follow
from bridge.sdk.errors import DeliveryError, DeliveryUncertain, PermanentFailure
from bridge.sdk.events import RemoteChat, RemoteUser
from bridge.sdk.ids import RemoteUserId, UserId
from bridge.sdk.inviting import InvitesPeople

_SECONDS = 10.0
"""How long the network may take for it."""


async def call_in(
    house: House, door: Doorway, person: RemoteUserId, inviter: UserId, *, by_relay: bool
) -> bool:
    """Invite a person of the network into the chat; False if they are there already.

    By the inviter's own connection, and where that may not, by the relay's if it is to serve them
    (``by_relay``). Raises a ``DeliveryError`` with what keeps it from being done;
    ``DeliveryUncertain`` if it may be done: then nobody else does it, too.
    """
    portal = door.portal
    if portal.follow is Follow.NOTHING:
        raise PermanentFailure(f"this room does nothing to {portal.chat_name} (follow is nothing)")
    if portal.paused or door.is_shut:
        raise PermanentFailure("this bridge is paused")
    if house.optouts.cover(inviter, portal.id):
        raise PermanentFailure("nothing of you crosses here, as you wished (optout)")
    user = RemoteUser(id=person, name=person)
    if is_left_out(house, portal.instance, user, portal.id):
        raise PermanentFailure("they want no part in the bridge")
    door.acts.check(inviter)
    instance = house.instances.get(portal.instance)
    sessions = [] if instance is None else _who_may(instance, inviter, by_relay=by_relay)
    failure: DeliveryError = PermanentFailure(
        "you have no connection there just now: say something here, and invite them again"
    )
    for session in sessions:
        try:
            return await _invite(session, door.chat, person)
        except DeliveryUncertain:
            raise
        except DeliveryError as error:
            failure = error
    raise failure


def _who_may(instance: Instance, inviter: UserId, *, by_relay: bool) -> list[Session]:
    asked = [instance.find_session(inviter), instance.relay if by_relay else None]
    return [one for one in asked if one is not None and one.supervisor.connected.is_set()]


async def _invite(session: Session, chat: RemoteChat, person: RemoteUserId) -> bool:
    client = session.client
    if not isinstance(client, InvitesPeople):
        raise PermanentFailure("nobody can be invited into chats there")
    try:
        async with asyncio.timeout(_SECONDS):
            with outliving_module("invite somebody"):
                return await client.invite(chat, person)
    except TimeoutError as error:
        raise DeliveryUncertain("the network did not answer in time") from error
