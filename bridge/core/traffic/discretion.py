"""What is said to one person alone does not come where others read it."""

from bridge.core.lanes.patience import promptly
from bridge.core.outbox.outgoing import notice
from bridge.core.rooms.audience import Audience
from bridge.core.rooms.house import House
from bridge.matrix.client import HomeserverAway
from bridge.model import Portal
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import (
    RemoteEdit,
    RemoteEvent,
    RemoteMessage,
    RemoteReaction,
    RemoteRemark,
    RemoteTyping,
)

_WORDS = (RemoteMessage, RemoteEdit, RemoteReaction)


async def may_show(event: RemoteEvent, portal: Portal, audience: Audience, house: House) -> bool:
    """Whether what came for one person alone may come into that person's room.

    Raises ``PermanentFailure`` for words that may not; the room is told who else reads there.
    Raises ``HomeserverAway`` for words while it is not known who reads there, or while the chat
    has yet to end since it was made encrypted: the next one has them.
    """
    owner = portal.created_by
    if portal.receiver is None:
        return True
    is_ending = house.is_encrypted(portal.room)
    if not isinstance(event, (*_WORDS, RemoteTyping)):
        return not (is_ending and isinstance(event, RemoteRemark))
    takes_none = owner is None or house.optouts.cover(owner, portal.id)
    if is_ending and not takes_none:
        if isinstance(event, _WORDS):
            raise HomeserverAway("the chat was made encrypted, and has yet to end")
        return False
    try:
        others = set() if takes_none else await promptly(audience.people()) - {owner}
    except TemporaryFailure as error:
        if isinstance(event, _WORDS):
            raise HomeserverAway(str(error), retry_after=error.retry_after) from error
        return False
    if not isinstance(event, _WORDS):
        return not takes_none and not others
    if takes_none:
        raise PermanentFailure("they take no messages of this kind")
    if others:
        await house.sender.put([notice(
            house.key_of, room=portal.room, user=house.namespaces.bot,
            text=f"What {portal.chat_name} says to {owner} alone does not come here "
            f"while {', '.join(sorted(others)[:3])} can read it.",
            source=("others read", portal.id, *sorted(others)),
        )])  # fmt: skip
        raise PermanentFailure("others would read it")
    return True
