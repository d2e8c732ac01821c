"""Who of a network is in a portal's room, who speaks for them, and how they come and go."""

from bridge.core.outbox.outgoing import once
from bridge.core.rooms.house import House
from bridge.model import Outgoing, Permission, Portal, SendKind
from bridge.sdk.events import RemoteUser
from bridge.sdk.ids import InstanceId, UserId


def is_left_out(house: House, instance: InstanceId, user: RemoteUser, portal: int) -> bool:
    """Whether somebody of the network does not want to be bridged in a portal: by the id or by the
    account that they are signed in to, or as the person in Matrix whose account it is."""
    owner = house.double_puppets.find_owner(instance, user)
    people = [house.namespaces.ghost(instance, one) for one in (user.id, user.account) if one]
    if owner:
        people.append(owner)
    for one in people:  # noqa: SIM110 - asked of every message, and any() costs as much again
        if house.optouts.cover(one, portal):
            return True
    return False


def speaker_of(house: House, portal: Portal, user: RemoteUser) -> str:
    """Whose own Matrix account speaks for somebody of the network; empty if none does."""
    found = house.double_puppets.find_speaker(portal.instance, user)
    if found is None or not house.permissions.allows(found, Permission.USER, portal.instance):
        return ""
    return found


def may_come(house: House, portal: Portal, user: RemoteUser) -> bool:
    """Whether somebody's ghost is to be in the room: not of those who said no, nor of those who
    are there themselves."""
    return not speaker_of(house, portal, user) and not is_left_out(
        house, portal.instance, user, portal.id
    )


def membership(
    portal: Portal, ghost: UserId, name: str, kind: SendKind, reason: str = ""
) -> Outgoing:
    """What has a ghost come or go."""
    return Outgoing(
        room=portal.room, user=ghost, kind=kind, content={"reason": reason} if reason else {},
        transaction_id=once(), portal=portal.id, name=name,
    )  # fmt: skip
