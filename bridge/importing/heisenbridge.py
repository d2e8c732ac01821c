"""heisenbridge: it has no database, all it knows is account data of its bot."""

from collections.abc import Callable, Container
from typing import Any

from bridge.importing.found import Found, FoundPerson, FoundRoom, text_of
from bridge.importing.visiting import FormerBot
from bridge.matrix.client import HomeserverClient, MatrixError, path
from bridge.sdk.errors import TrestleError
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.secret import Secret

Report = Callable[[str, int, int], None]
_TYPE = "irc"
_KEPT = {
    "nick": "nick", "username": "username", "password": "server_password",
    "sasl_username": "account", "sasl_password": "password", "tls_cert": "certificate",
}  # fmt: skip
"""What stands in a network's room, and what our module calls it."""
_SECRET = ("password", "sasl_password", "tls_cert", "key")


class Heisenbridge:
    """Reads it, as its bot."""

    def __init__(self, client: HomeserverClient, bot: FormerBot) -> None:
        self._client = client
        self._bot = bot
        self._found = Found()

    async def read(self, report: Report) -> Found:
        """Read every room. Raises ``TrestleError`` if we may not act as its bot."""
        try:
            reply = await self._ask("GET", path("v3", "joined_rooms"))
        except MatrixError as error:
            raise TrestleError(
                f"the homeserver does not let us act as {self._bot.user} ({error}); its "
                "registration must still be among those of the homeserver, with this as_token"
            ) from error
        rooms = [RoomId(str(room)) for room in reply.get("joined_rooms", [])]
        documents: list[tuple[RoomId, dict[str, Any]]] = []
        for at, room in enumerate(sorted(rooms)):
            report("reading rooms", at, len(rooms))
            content = await self._document(room)
            if content is None:
                self._found.left.append(f"{room}: heisenbridge keeps nothing of it")
            else:
                documents.append((room, content))
        # A plumbed room is for everybody: where somebody also has the channel alone, it is first.
        documents.sort(key=lambda one: one[1].get("type") != "PlumbedRoom")
        networks = {
            room: text_of(content, "name") for room, content in documents
            if content.get("type") == "NetworkRoom"
        }  # fmt: skip
        for room, content in documents:
            self._sort(room, content, networks)
        return self._found

    async def blank(self, source: str, kept: Container[Secret]) -> None:
        """Take those of ``kept`` out of a room of its. Raises ``TrestleError``."""
        room = RoomId(source)
        content = await self._document(room) or {}
        blanked = {key: None for key in _SECRET if Secret(text_of(content, key)) in kept}
        if blanked:
            await self._ask("PUT", self._place(room), {**content, **blanked})

    # --- inside ---

    def _sort(self, room: RoomId, content: dict[str, Any], networks: dict[RoomId, str]) -> None:
        kind, owner = text_of(content, "type"), UserId(text_of(content, "user_id"))
        name = text_of(content, "name")
        network = text_of(content, "network")
        network = network or networks.get(RoomId(text_of(content, "network_id")), "")
        match kind:
            case "PlumbedRoom" | "ChannelRoom":
                own, key = kind == "ChannelRoom", text_of(content, "key")
                self._found.rooms.append(FoundRoom(
                    network=network, chat=name, room=room, owner=owner if own else None,
                    is_bridges=own, key=Secret(key) if key else None, source=str(room),
                ))  # fmt: skip
                self._leave_commands(content, f"{name} on {network}")
            case "NetworkRoom":
                self._network(room, content, owner, name)
            case "PrivateRoom":
                self._found.left.append(
                    f"the private chat of {owner} with {name} on {network}: it begins anew with "
                    "the first message"
                )
            case "ControlRoom" | "SpaceRoom" | "HiddenRoom":
                pass  # They are about heisenbridge itself.
            case _:
                self._found.left.append(f"{room}: a {kind[:40] or 'room of no kind'}")

    def _network(self, room: RoomId, content: dict[str, Any], owner: UserId, name: str) -> None:
        kept = {
            ours: Secret(value) for theirs, ours in _KEPT.items()
            if (value := text_of(content, theirs))
        }  # fmt: skip
        if content.get("sasl_mechanism") == "none":
            kept = {key: one for key, one in kept.items() if key not in {"account", "password"}}
        self._found.people.append(
            FoundPerson(network=name, owner=owner, kept=kept, source=str(room))
        )
        self._leave_commands(content, f"{owner} on {name}")

    def _leave_commands(self, content: dict[str, Any], whose: str) -> None:
        if content.get("autocmd"):
            self._found.left.append(
                f"{whose}: the commands on connect, which are heisenbridge's own words; say "
                "`autocommand` for others"
            )

    async def _document(self, room: RoomId) -> dict[str, Any] | None:
        try:
            return await self._ask("GET", self._place(room))
        except MatrixError as error:
            if error.status == 404:
                return None
            raise

    def _place(self, room: RoomId) -> str:
        return path("v3", "user", self._bot.user, "rooms", room, "account_data", _TYPE)

    async def _ask(
        self, method: str, place: str, content: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return await self._client.request(
            method, place, user=self._bot.user, token=self._bot.token, content=content
        )
