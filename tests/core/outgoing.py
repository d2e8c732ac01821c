"""What the sender is given, and a homeserver that does not take it."""

from bridge.model import Outgoing, SendKind
from bridge.sdk.ids import RoomId, UserId
from tests.conformance.stage import DICE, ROOM
from tests.rigs.scripted_homeserver import Answer, Asked, ScriptedHomeserver, refuse


def say(text: str, room: str = ROOM) -> Outgoing:
    """Something to say in a room."""
    return Outgoing(
        room=RoomId(room), user=UserId(DICE), kind=SendKind.EVENT, type="m.room.message",
        content={"msgtype": "m.text", "body": text}, transaction_id=f"t {room} {text}",
    )  # fmt: skip


def away(asked: Asked) -> Answer | None:
    """Take nothing that is sent: a rule for the homeserver."""
    return refuse(502, "M_UNKNOWN") if "send" in asked.parts else None


class LostAnswer:
    """Take what is sent first, but lose the answer and all memory of it, as by a restart: a rule
    for the homeserver."""

    is_lost = False

    def __init__(self, homeserver: ScriptedHomeserver) -> None:
        self._homeserver = homeserver

    def __call__(self, asked: Asked) -> Answer | None:
        if self.is_lost or "send" not in asked.parts:
            return None
        self.is_lost = True
        self._homeserver.take(asked)
        self._homeserver.forget_transactions()
        return refuse(502, "M_UNKNOWN")
