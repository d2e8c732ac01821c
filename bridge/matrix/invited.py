"""Into which rooms a user of ours was invited (simplified sliding sync, MSC4186).

``/sync`` would tell it, too, but goes through all rooms of the user for it, and Synapse repeats
its answer to the same question for two minutes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from bridge.matrix.client import HomeserverClient, MatrixError, path
from bridge.sdk.ids import UserId

_MOST = 10_000
_OPEN = orjson.dumps({
    "conn_id": "invitations",
    "lists": {
        "invited": {
            "ranges": [[0, _MOST - 1]], "filters": {"is_invite": True}, "timeline_limit": 0,
            "required_state": [],
        },
    },
})  # fmt: skip
_LIMIT = 90.0
"""Seconds: the homeserver goes through the list of the user's rooms."""


async def invitations_of(
    client: HomeserverClient, user: UserId, device: str
) -> list[dict[str, Any]] | None:
    """The user's invitations that are open, up to 10,000, as an appservice is sent them.

    The homeserver keeps their ids; ``event_id`` is one of ours, the same each time. None where the
    homeserver cannot be asked: it lacks MSC4186, or does not let us act as a device (MSC4326),
    without which Synapse refuses this. Raises ``MatrixError`` when it says no, and
    ``TemporaryFailure``.
    """
    if not client.supports_device_id:
        return None
    where = path("unstable", "org.matrix.simplified_msc3575", "sync")
    try:
        reply = await client.request(
            "POST", where, user=user, device=device, query={"timeout": "0"}, content=_OPEN,
            timeout=_LIMIT,
        )  # fmt: skip
    except MatrixError as error:
        if error.errcode == "M_UNRECOGNIZED":
            return None
        raise
    return list(_read(reply, user))


def _read(reply: Mapping[str, Any], user: UserId) -> Iterator[dict[str, Any]]:
    for room, told in _object(reply.get("rooms")).items():
        listed = _object(told).get("invite_state")
        if not isinstance(listed, list):
            continue
        state = [one for one in listed if isinstance(one, dict)]
        theirs = [event for event in state if _invites(event, user)]
        # The rest of the state is the inviting server's word. Of two inviters one is forged.
        if len(theirs) == 1:
            yield {
                # Of an invitation the stamp is its own place in the homeserver's stream.
                **theirs[0], "event_id": f"$invitation_{_object(told).get('bump_stamp')}_{room}",
                "room_id": room, "unsigned": {"invite_room_state": state},
            }  # fmt: skip


def _invites(event: Mapping[str, Any], user: UserId) -> bool:
    is_theirs = event.get("type") == "m.room.member" and event.get("state_key") == user
    return is_theirs and _object(event.get("content")).get("membership") == "invite"


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
