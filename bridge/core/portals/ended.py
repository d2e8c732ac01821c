"""Whether those who run a chat have ended its bridge."""

from bridge.core.traffic.doorway import Doorway
from bridge.sdk.errors import PermanentFailure


def refuse_ended(door: Doorway | None) -> None:
    """Raise ``PermanentFailure`` if there is a bridge that those who run the chat have ended."""
    if door is not None and door.facts.is_ended:
        raise PermanentFailure(
            f"those who run {door.portal.chat_name} have ended its bridge; the room is untied "
            "when the homeserver is back"
        )
