"""Who is ignored in Matrix by the person whom they write to in a private chat."""

from bridge.core.rooms.house import House
from bridge.matrix.client import HomeserverAway
from bridge.model import LoginRow
from bridge.sdk.events import RemoteEvent, RemoteTyping


async def is_ignored(house: House, row: LoginRow, event: RemoteEvent) -> bool:
    """Whether an event of a login's private chat is of one whom the login's owner ignores.

    As the ghost, or as the person in Matrix whose own account on the network it is. In rooms with
    others everybody's homeserver sees to that for everybody. Raises ``HomeserverAway`` while it is
    not known: then it waits, except typing, which nobody misses.
    """
    sender = event.user if isinstance(event, RemoteTyping) else getattr(event, "sender", None)
    if row.owner is None or sender is None:
        return False
    doubles = house.double_puppets
    person = doubles.find_owner(row.instance, sender)
    try:
        return await doubles.ignores(
            row.owner, house.namespaces.ghost(row.instance, sender.id)
        ) or (person is not None and await doubles.ignores(row.owner, person))
    except HomeserverAway:
        if isinstance(event, RemoteTyping):
            return True
        raise
