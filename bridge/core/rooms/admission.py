"""Who may come into a room that is there already: what its join rule says, for us and in words."""

from enum import StrEnum

from bridge.matrix.client import MatrixError
from bridge.matrix.intents import Intents
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId


class Admission(StrEnum):
    """A room's ``m.room.join_rules`` (client-server API)."""

    PUBLIC = "public"
    KNOCK = "knock"
    RESTRICTED = "restricted"
    KNOCK_RESTRICTED = "knock_restricted"
    INVITE = "invite"
    """Also every rule that we do not know, and a room without one."""


WAYS = {
    Admission.KNOCK: "knock at {room}, and those in it let you in",
    Admission.RESTRICTED: "anyone in certain other rooms can join {room}",
    Admission.KNOCK_RESTRICTED: "anyone in certain other rooms can join {room}, and others knock "
    "there to be let in",
    Admission.INVITE: "it is for those who are invited by somebody in it",
}
"""How one comes in where not everybody may."""


async def read_admission(intents: Intents, room: RoomId) -> Admission:
    """Ask the homeserver: people change the rule, too. Raises ``TemporaryFailure``."""
    try:
        content = await intents.state(room, "m.room.join_rules") or {}
    except MatrixError as error:
        raise TemporaryFailure(str(error)) from error
    try:
        return Admission(str(content.get("join_rule")))
    except ValueError:
        return Admission.INVITE
