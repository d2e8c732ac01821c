"""Transaction ids, and the small things that we say in rooms as a bot."""

import base64
import secrets
from collections.abc import Callable
from typing import Any

from bridge.model import Outgoing, SendKind
from bridge.sdk.ids import RoomId, UserId

KeyOf = Callable[[str], bytes]
"""A keyed hash of a text: 16 bytes that nobody outside can guess."""


def transaction_id(key_of: KeyOf, *parts: object) -> str:
    """Derive a Matrix transaction id from what it stands for.

    The same parts give the same id at every attempt and after every restart; different ones
    differ over all our users, as Synapse asks of an appservice.
    """
    digest = key_of("\x1f".join(map(str, parts)))
    return "t" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def once() -> str:
    """Make a transaction id for something that is true rather than said (a membership).

    Doing it twice changes nothing, so the id need not be derived.
    """
    return "m" + secrets.token_urlsafe(16)


def notice(
    key_of: KeyOf,
    *,
    room: RoomId,
    user: UserId,
    text: str,
    source: tuple[object, ...],
    reply_to: str | None = None,
) -> Outgoing:
    """Make a plain notice of a bot. ``source`` is what it answers, for its transaction id."""
    content: dict[str, Any] = {"msgtype": "m.notice", "body": text, "m.mentions": {}}
    if reply_to:
        content["m.relates_to"] = {"m.in_reply_to": {"event_id": reply_to}}
    return Outgoing(
        room=room,
        user=user,
        kind=SendKind.EVENT,
        type="m.room.message",
        content=content,
        transaction_id=transaction_id(key_of, *source, user, room),
    )
