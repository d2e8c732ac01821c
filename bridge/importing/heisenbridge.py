"""heisenbridge: it has no database, all it knows is account data of its bot."""

from collections.abc import Callable, Container, Mapping
from typing import Any

from bridge.importing.found import Found, FoundPerson, FoundRoom, mapping_of, text_of
from bridge.importing.visiting import FormerBot
from bridge.matrix.client import HomeserverClient, MatrixError, path
from bridge.model import Follow, Members
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
_IDENT = 8
"""Networks are told no more than that of what was set by ``IDENT``."""
_MEMBERS = {"off": Members.NONE, "lazy": Members.SPEAKERS, "full": Members.FULL}
"""Who is shown in a room; ``half`` is what a room has by itself, and as here by itself."""
_IN_A_ROOM = {
    "relaytag": "m", "allow_notice": False, "use_displaynames": True, "use_disambiguation": True,
    "prefix_all": False,
}  # fmt: skip
_OF_A_CONNECTION = {
    "ircname": None, "allow_ctcp": False, "rejoin_invite": True, "rejoin_kick": False,
    "autoquery": True, "forward": False,
}  # fmt: skip
_IN_ALL = {"member_sync": "half", "max_lines": 0, "use_pastebin": False}
"""Options that Trestle has not, and how they are if nobody sets them."""
_SECRET = ("password", "sasl_password", "tls_cert", "key")


class Heisenbridge:
    """Reads it, as its bot."""

    def __init__(self, client: HomeserverClient, bot: FormerBot) -> None:
        self._client = client
        self._bot = bot
        self._found = Found()
        self._idents: dict[UserId, str] = {}
        self._for_all: dict[str, Any] = {}
        """What it has for all rooms."""

    async def read(self, report: Report) -> Found:
        """Read every room. Raises ``TrestleError`` if we may not act as its bot."""
        try:
            reply = await self._ask("GET", path("v3", "joined_rooms"))
        except MatrixError as error:
            raise TrestleError(
                f"the homeserver does not let us act as {self._bot.user} ({error}); its "
                "registration must still be among those of the homeserver, with this as_token"
            ) from error
        self._for_all = await self._document(None) or {}
        self._read_for_all()
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
        self._read_idents()
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
                whose = f"{name} on {network} ({room})"
                self._found.rooms.append(FoundRoom(
                    network=network, chat=name, room=room, owner=owner if own else None,
                    follow=Follow.ALL if own else self._follow(content, whose),
                    members=_MEMBERS.get(text_of(content, "member_sync")),
                    key=Secret(key) if key else None, source=str(room),
                ))  # fmt: skip
                self._leave_commands(content, f"{name} on {network}")
                self._leave_options(
                    content, self._usual(), whose, "what a room chooses here, `set` in it tells"
                )
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

    def _follow(self, content: dict[str, Any], whose: str) -> Follow:
        """How topics go in a room of people: heisenbridge leaves them alone by itself."""
        way = text_of(content, "topic_sync")
        if way in {"irc", "matrix"}:
            self._found.left.append(
                f"{whose}: the topic went to {'IRC' if way == 'irc' else 'Matrix'} alone, and "
                "goes both ways here; `set follow nothing` in the room has it go neither way"
            )
        return Follow.TOPIC if way in {"irc", "matrix", "any"} else Follow.NOTHING

    def _usual(self) -> dict[str, object]:
        """How a room's options are if nobody sets them: some it copies from those for all."""
        shared = {key: self._for_all.get(key, value) for key, value in _IN_ALL.items()}
        del shared["member_sync"]  # It comes over.
        return {**_IN_A_ROOM, **shared}

    def _network(self, room: RoomId, content: dict[str, Any], owner: UserId, name: str) -> None:
        kept = {
            ours: Secret(value) for theirs, ours in _KEPT.items()
            if (value := text_of(content, theirs))
        }  # fmt: skip
        if content.get("sasl_mechanism") == "none":
            kept = {key: one for key, one in kept.items() if key not in {"account", "password"}}
        if "username" not in kept and owner in self._idents:
            kept["username"] = Secret(self._idents[owner])
        self._found.people.append(
            FoundPerson(network=name, owner=owner, kept=kept, source=str(room))
        )
        self._leave_commands(content, f"{owner} on {name}")
        self._leave_options(
            content, _OF_A_CONNECTION, f"{owner} on {name}",
            "here they are alike for all, and the real name says whose the connection is",
        )  # fmt: skip

    def _leave_commands(self, content: dict[str, Any], whose: str) -> None:
        if content.get("autocmd"):
            self._found.left.append(
                f"{whose}: the commands on connect, which are heisenbridge's own words; say "
                "`autocommand` for others"
            )

    def _leave_options(
        self, content: dict[str, Any], usual: Mapping[str, object], whose: str, way: str
    ) -> None:
        """Name those that somebody has set."""
        chosen = [
            f"{key} {_in_words(content[key])}" for key, value in usual.items()
            if content.get(key) is not None and content[key] != value
        ]  # fmt: skip
        if chosen:
            self._found.left.append(f"{whose}: {', '.join(chosen)}, as set in heisenbridge; {way}")

    # --- what it has for all rooms ---

    def _read_for_all(self) -> None:
        found, levels = self._found, mapping_of(self._for_all, "allow")
        idents = mapping_of(self._for_all, "idents")
        self._idents = {
            UserId(user): ident[:_IDENT] for user in idents if (ident := text_of(idents, user))
        }
        found.networks += sorted(mapping_of(self._for_all, "networks"))
        if owner := text_of(self._for_all, "owner"):
            levels = {**levels, owner: "owner"}
        found.left += [
            f"{who}, {_in_words(level)} of heisenbridge: who may do what here stands under "
            "`permissions` in config.yaml"
            for who, level in levels.items()
        ]
        self._leave_options(
            self._for_all, _IN_ALL, "all new rooms", "here `members` in the settings of a network "
            "says who is shown, and a long text goes as its beginning and a link",
        )  # fmt: skip

    def _read_idents(self) -> None:
        """Give their user names to those, too, who have no connection to a network yet."""
        there = {(one.owner, one.network.lower()) for one in self._found.people}
        self._found.people += [
            FoundPerson(network=network, owner=user, kept={"username": Secret(ident)})
            for network in self._found.networks for user, ident in self._idents.items()
            if (user, network.lower()) not in there
        ]  # fmt: skip

    async def _document(self, room: RoomId | None) -> dict[str, Any] | None:
        """What it keeps of a room, or for all of them."""
        try:
            return await self._ask("GET", self._place(room))
        except MatrixError as error:
            if error.status == 404:
                return None
            raise

    def _place(self, room: RoomId | None) -> str:
        where = () if room is None else ("rooms", room)
        return path("v3", "user", self._bot.user, *where, "account_data", _TYPE)

    async def _ask(
        self, method: str, place: str, content: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return await self._client.request(
            method, place, user=self._bot.user, token=self._bot.token, content=content
        )


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(str(value).split())[:40]
