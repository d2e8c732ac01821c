"""What stands around one portal: a room, its outbox, the database; and what happens meanwhile."""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from itertools import count
from math import inf
from time import monotonic
from typing import Any, cast

from bridge.core.host.instances import Instance
from bridge.core.lanes.crossings import Crossings
from bridge.core.lanes.lane import Item, Lane
from bridge.core.lanes.late import Lateness
from bridge.core.lanes.progress import Row
from bridge.core.outbox.roomlane import RoomLane
from bridge.core.permissions.blocks import Blocks
from bridge.core.permissions.permissions import Permissions
from bridge.core.rooms.house import House
from bridge.matrix.client import HomeserverAway, HomeserverClient, MatrixError
from bridge.matrix.evictions import Evictions
from bridge.matrix.namespaces import Namespaces
from bridge.matrix.powers import Powers, Speaking, change_speaking
from bridge.matrix.rooms import RoomQuestions
from bridge.model import (
    Follow,
    InstanceRules,
    Members,
    Outgoing,
    Permission,
    Portal,
    RowId,
    SendKind,
    SystemClock,
)
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from bridge.telemetry import Telemetry

NEAR, ROOM, CHAT = InstanceId("near"), RoomId("!room"), RemoteChatId("#room")
ALICE, FEED = UserId("@alice:test.example"), InstanceId("feed")
NUMBERS = count(1)


class Ground:
    """A homeserver with one room whose outbox stands still until it is told to run.

    ``meanwhile`` has what happens within the next call of that name, ``failing`` the names of
    those that fail once, ``out`` who opted out.
    """

    def __init__(self) -> None:
        self.namespaces = Namespaces(server_name="test.example", networks=[NEAR], bots=[FEED])
        self.powers = Powers(
            cast(HomeserverClient, self), cast(RoomQuestions, self), self.namespaces
        )
        self.evictions = Evictions(cast(RoomQuestions, self), self.namespaces.is_bot)
        self.join_rule = "public"
        self.levels: dict[str, Any] = {"users": {}}
        self.topics: list[str] = []
        """What the room's topic was, in order."""
        self.is_demoted = False
        """Our bot has no power in the room just now."""
        self.listed: list[bool] = []
        """What the network's list was told of the room."""
        self.members: set[UserId] = set()
        self.wanted: list[object] = []
        """Those that are to be let in, or to catch up."""
        self.waiting: deque[Outgoing] = deque()
        self.lane: RoomLane | None = None
        self.stored: dict[str, Any] = {}
        """What the database knows of the portal."""
        self.out: set[object] = set()
        self.meanwhile: dict[str, Callable[[], Awaitable[None]]] = {}
        self.failing: set[str] = set()
        self.is_bot_out = False
        """Those in the room have put our bot out, which is told to us later."""
        self.is_away = False
        """The homeserver does not answer."""
        self.refusing: set[str] = set()
        """What the homeserver refuses once, as one does that does not know us any more."""
        self.refusal = MatrixError(401, "M_UNKNOWN_TOKEN", "who are you?")
        self.instances: dict[InstanceId, Instance] = {}
        """The networks that are switched on."""
        self.house = self._make_house()
        self.portal = Portal(
            id=1, instance=NEAR, chat=CHAT, chat_name=CHAT, room=ROOM, follow=Follow.ALL,
            created_by=self.namespaces.bot,
        )  # fmt: skip

    def _make_house(self) -> House:
        here, nothing = cast(Any, self), cast(Any, None)
        is_ours = self.namespaces.is_ours
        return House(
            store=here, sender=here, intents=here, audit=here, namespaces=self.namespaces,
            double_puppets=here, optouts=here, gathering=here, catching_up=here, typing=here,
            instances=self.instances, telemetry=Telemetry(), clock=SystemClock(),
            permissions=Permissions({"*": Permission.ADMIN}, "test.example", is_ours),
            blocks=Blocks(here), crossings=Crossings(here), lateness=Lateness(), deadline=1.0,
            rules=lambda instance: InstanceRules(members=Members.FULL), key_of=str.encode,
            # No test that stands here comes by these.
            router=nothing, marker=nothing, announcer=nothing, told=nothing, media=nothing,
            media_links=nothing, deletions=nothing,
        )  # fmt: skip

    async def _call(self, name: str) -> None:
        if (happens := self.meanwhile.pop(name, None)) is not None:
            await happens()
        if name in self.failing:
            self.failing.remove(name)
            raise TemporaryFailure(f"no {name} just now")

    def _refuse(self, name: str) -> None:
        if self.is_away:
            raise HomeserverAway("no answer")
        if name in self.refusing:
            self.refusing.remove(name)
            raise self.refusal

    def arrive(self) -> None:
        """Have all that waits in the room, in its order."""
        while self.waiting:
            one = self.waiting.popleft()
            if one.type == "m.room.join_rules":
                self.join_rule = str(one.content["join_rule"])
            elif one.type == "m.room.topic":
                self.topics.append(str(one.content["topic"]))
            elif one.kind is SendKind.POWERS:
                if not self.is_demoted:
                    self.levels = self.powers._change(
                        self.levels, one.content["users"], one.content["all_of"], 100
                    )
                if one.content["speaking"] and not self.is_demoted:
                    speaking = Speaking(**one.content["speaking"])
                    self.levels = change_speaking(self.levels, speaking, 100, ())
            elif one.kind is SendKind.LIST:
                self.listed.append(one.content["listed"])
            elif one.kind is SendKind.JOIN:
                self.members.add(one.user)
            elif one.kind is SendKind.LEAVE:
                self.members.discard(one.user)

    # --- the outbox ---

    async def put(self, entries: Sequence[Outgoing]) -> None:
        """Keep entries, in the order in which it was asked for."""
        if not entries:
            return
        self.waiting.extend(entries)
        try:
            await self._call(f"put {entries[0].kind.value}")
        except TemporaryFailure:
            for one in entries:
                self.waiting.remove(one)
            raise

    def may_wait(self, entry: Outgoing) -> bool:
        """Whether an entry is on its way."""
        return entry in self.waiting

    def lane_of(self, room: RoomId) -> RoomLane | None:
        """What is on its way, where it matters that an earlier process put it."""
        return self.lane

    # --- the homeserver ---

    async def state(self, room: RoomId, kind: str) -> Mapping[str, Any] | None:
        """What stands in the room."""
        self._refuse("state")
        there = {"m.room.join_rules": {"join_rule": self.join_rule},
                 "m.room.power_levels": self.levels}  # fmt: skip
        return there.get(kind)

    async def can(self, room: RoomId, user: UserId, kind: str, at: str | None = None) -> bool:
        """Give our bot all power, unless it was taken."""
        self._refuse("can")
        await self._call("can")
        return not self.is_demoted

    async def may_remove(self, room: RoomId, *who: object, most: float = inf) -> bool:
        """Give everybody the power to."""
        self._refuse("may_remove")
        await self._call("may_remove")
        return True

    async def display_name(self, user: UserId, room: RoomId) -> str:
        """Call everybody by their id."""
        return user

    async def is_listed(self, room: RoomId) -> bool:
        """Have the room in the homeserver's own directory."""
        self._refuse("is_listed")
        await self._call("is_listed")
        return True

    async def set_listed(self, room: RoomId, listed: bool) -> None:
        """Put the room into the homeserver's own directory."""
        self._refuse("set_listed")
        await self._call("set_listed")

    async def joined_members(self, room: RoomId) -> Mapping[UserId, str]:
        """Who is in the room."""
        self._refuse("joined_members")
        there = {} if self.is_bot_out else dict.fromkeys([self.namespaces.bot, *self.members], "")
        await self._call("joined_members")
        return there

    async def ensure_joined(self, room: RoomId, user: UserId, name: str = "") -> None:
        """Let everybody of ours in."""
        await self._call("ensure_joined")

    # --- the database ---

    async def record(self, **act: Any) -> int:
        """Note what is done."""
        await self._call("record")
        return 1

    async def set_access(
        self, portal: int, *, listed: bool, is_open: bool | None, closed: bool
    ) -> None:
        """Keep what the chat is."""
        await self._call("set_access")
        self.stored |= {"listed": listed, "open": is_open, "closed": closed}

    async def set_quieted(self, portal: int, quieted: bool) -> None:
        """Keep whether only some may speak."""
        await self._call("set_quieted")
        self.stored["quieted"] = quieted

    async def set_shut_out(self, portal: int, shut_out: bool) -> None:
        """Keep whether the room was told that the relay is out."""
        await self._call("set_shut_out")
        self.stored["shut_out"] = shut_out

    async def set_blocked(self, portal: int, blocked: bool) -> None:
        """Keep whether the room is held back."""
        await self._call("set_blocked")
        self.stored["blocked"] = blocked

    async def set_paused(self, portal: int, paused: bool) -> None:
        """Keep whether nothing crosses."""
        self.stored["paused"] = paused

    async def set_choices(self, portal: Portal) -> None:
        """Keep what was chosen."""
        await self._call("set_choices")
        self.stored |= {"telling": portal.telling, "uncertain": portal.uncertain}

    # --- nobody of note ---

    def find_speaker(self, *who: object) -> None:
        """Know nobody who speaks for themselves."""

    def find_owner(self, *who: object) -> None:
        """Know nobody's account."""

    def find_instance(self, event: object) -> None:
        """Know nobody's double puppet."""

    def cover(self, *who: object) -> bool:
        """Whether the first of them is among those who want no part in it."""
        return who[0] in self.out

    def show(self, *who: object) -> None:
        """Know nobody who is typing."""

    def want(self, room: object) -> None:
        """Let the test say when somebody is let in, or catches up."""
        self.wanted.append(room)


def changed(age: float, kind: str, content: dict[str, Any], **more: Any) -> Item:
    """A change of the room's state that came so many seconds ago."""
    event = {
        "type": kind, "room_id": ROOM, "sender": ALICE, "event_id": "$1", "content": content,
        "state_key": "", **more,
    }  # fmt: skip
    landed_at = monotonic() - age
    row = Row(RowId(date(2026, 11, 27), next(NUMBERS)), 1, landed_at=landed_at)
    return Item(row, 0, event, cast(Lane, None))
