"""Who is invited into a portal's room as a ghost is invited into its chat as a person."""

import asyncio

from bridge.core.host.instances import Instance, Session
from bridge.core.lanes.cancellation import outliving_module
from bridge.core.logins.ownlogins import whose
from bridge.core.rooms.house import House
from bridge.core.rooms.standing import is_left_out
from bridge.core.traffic.doorway import Doorway
from bridge.model import Follow, Permission, Puppets
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import (
    DeliveryError,
    DeliveryUncertain,
    PermanentFailure,
    TemporaryFailure,
)
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
    if portal.paused or door.is_shut:
        raise PermanentFailure("this bridge is paused")
    user = RemoteUser(id=person, name=person)
    if is_left_out(house, portal.instance, user, portal.id):
        raise PermanentFailure("they want no part in the bridge")
    door.acts.check(inviter)
    # Nothing is done there then, and nothing of the inviter crosses: so an opt-out of theirs does
    # not count. Clients invite everybody into the room that replaces one.
    if door.arrivals.attendance.has(person):
        return False
    if portal.follow is Follow.NOTHING:
        raise PermanentFailure(f"this room does nothing to {portal.chat_name} (follow is nothing)")
    if house.optouts.cover(inviter, portal.id):
        raise PermanentFailure("nothing of you crosses here, as you wished (optout)")
    instance = house.instances.get(portal.instance)
    sessions = [] if instance is None else _who_may(instance, inviter, by_relay=by_relay)
    failure = _why_nobody(house, instance, door, inviter, by_relay=by_relay)
    for session in sessions:
        try:
            return await _invite(session, door.chat, person)
        except DeliveryUncertain:
            raise
        except DeliveryError as error:
            failure = error
    raise failure


def _who_may(instance: Instance, inviter: UserId, *, by_relay: bool) -> list[Session]:
    # A login that is lent to the room lends its voice: by what its owner may do in the chat no
    # other gets somebody in, as none kicks or sets the topic by it.
    asked = [instance.find_session(inviter), instance.relay if by_relay else None]
    return [one for one in asked if one is not None and one.supervisor.connected.is_set()]


def _why_nobody(
    house: House, instance: Instance | None, door: Doorway, inviter: UserId, *, by_relay: bool
) -> DeliveryError:
    """Why nobody is connected who could invite for them, with what they can do."""
    name, puppets = door.portal.instance, door.voices.puppets
    if instance is None:
        return PermanentFailure("this network is not switched on")
    if by_relay:
        return TemporaryFailure(f"the bridge is not connected to {name} just now")
    if not instance.logins_of(inviter):
        puppets = whose(instance, puppets, door.portal.chat)
    if puppets is Puppets.RELAY or not house.permissions.allows(inviter, Permission.USER, name):
        return PermanentFailure(
            "you have no connection of your own here; the one that speaks for all invites for "
            "those alone who run this room"
        )
    if puppets is Puppets.AUTOMATIC or instance.logins_of(inviter):
        return PermanentFailure(
            "you have no connection there just now: say something here, and invite them again"
        )
    return PermanentFailure(
        f"that needs an account of your own: say {as_typed(f'login {name}')}, and invite them "
        "again"
    )


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
