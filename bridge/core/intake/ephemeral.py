"""What the homeserver tells and nobody keeps: who has read what, and who is writing."""

from collections.abc import Callable, Sequence

from bridge.sdk.ids import RoomId, UserId


class Ephemeral:
    """Hands on what is heard, best effort (client-server API, ``m.receipt``, ``m.typing``)."""

    def __init__(self) -> None:
        self.on_read: Callable[[UserId, RoomId], None] = lambda user, room: None
        """Called when somebody has read what was said in a room."""
        self.on_typing: Callable[[RoomId, Sequence[UserId]], None] = lambda room, users: None
        """Called with all who are writing in a room, when that has changed."""

    def hear(self, edu: object) -> None:
        """Take one ephemeral event; what is none is left alone."""
        if not isinstance(edu, dict):
            return
        room, content = edu.get("room_id"), edu.get("content")
        if not isinstance(room, str) or not isinstance(content, dict):
            return
        if edu.get("type") == "m.receipt":
            self._hear_receipts(RoomId(room), content)
        elif edu.get("type") == "m.typing":
            users = content.get("user_ids")
            if isinstance(users, list):
                found = [UserId(user) for user in users if isinstance(user, str)]
                self.on_typing(RoomId(room), found)

    def _hear_receipts(self, room: RoomId, content: dict[str, object]) -> None:
        for receipts in content.values():
            readers = receipts.get("m.read") if isinstance(receipts, dict) else None
            for reader in readers if isinstance(readers, dict) else ():
                self.on_read(UserId(str(reader)), room)
