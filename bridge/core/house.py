"""What all portals share: the parts of the program that they work with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bridge.core.announcing import Announcer, Told
from bridge.core.audit import Audit
from bridge.core.bareorders import BareOrders
from bridge.core.blocks import Blocks
from bridge.core.catchingup import CatchingUp
from bridge.core.crossings import Crossings
from bridge.core.deletions import Deletions
from bridge.core.doublepuppets import DoublePuppets
from bridge.core.gathering import Gathering
from bridge.core.instances import Instance
from bridge.core.late import Lateness
from bridge.core.optouts import OptOuts
from bridge.core.outgoing import KeyOf
from bridge.core.permissions import Permissions
from bridge.core.policyrules import InForce
from bridge.core.progress import Marker
from bridge.core.router import Router
from bridge.core.sender import Sender
from bridge.core.typingnotices import TypingNotices
from bridge.matrix.cache import Recent
from bridge.matrix.intents import Intents
from bridge.matrix.medialinks import MediaLinks
from bridge.matrix.mediastore import MediaStore
from bridge.matrix.namespaces import Namespaces
from bridge.model import (
    Clock,
    Follow,
    InstanceRules,
    ItemId,
    MessageLink,
    Portal,
)
from bridge.sdk.ids import EventId, InstanceId, LoginId, RemoteChatId, RoomId, UserId
from bridge.telemetry import Telemetry


class Store(Protocol):
    """The part of the storage that keeps portals and what crossed them."""

    async def all(self) -> Sequence[Portal]: ...
    async def add(
        self,
        *,
        instance: InstanceId,
        chat: RemoteChatId,
        chat_name: str,
        room: RoomId,
        receiver: LoginId | None = None,
        created_by: UserId | None = None,
        follow: Follow = Follow.TOPIC,
    ) -> Portal: ...
    async def remove(self, portal_id: int) -> None: ...
    async def set_room(self, portal_id: int, room: RoomId) -> None: ...
    async def set_chat(self, portal_id: int, chat: RemoteChatId, name: str) -> None: ...
    async def set_paused(self, portal_id: int, paused: bool) -> None: ...
    async def set_blocked(self, portal_id: int, blocked: bool) -> None: ...
    async def set_choices(self, portal: Portal) -> None: ...
    async def set_access(
        self, portal_id: int, *, listed: bool, is_open: bool | None, closed: bool
    ) -> None: ...
    async def set_quieted(self, portal_id: int, quieted: bool) -> None: ...
    async def set_shut_out(self, portal_id: int, shut_out: bool) -> None: ...
    async def set_left_out(self, portal_id: int, item: ItemId) -> None: ...
    async def find_message(self, portal_id: int, event_id: EventId) -> Sequence[MessageLink]: ...


@dataclass(slots=True, kw_only=True)
class House:
    """What portals share: the parts of the program that they work with."""

    store: Store
    audit: Audit
    sender: Sender
    intents: Intents
    namespaces: Namespaces
    permissions: Permissions
    instances: Mapping[InstanceId, Instance]
    router: Router
    marker: Marker
    telemetry: Telemetry
    key_of: KeyOf
    clock: Clock
    crossings: Crossings
    lateness: Lateness
    optouts: OptOuts
    blocks: Blocks
    announcer: Announcer
    told: Told
    double_puppets: DoublePuppets
    typing: TypingNotices
    media: MediaStore
    media_links: MediaLinks
    deletions: Deletions
    rules: Callable[[InstanceId], InstanceRules]
    tell_after: float = 60.0
    """Seconds that a message waits before its room is told."""
    deadline: float = 120.0
    """Seconds that a module has for one message."""
    policies: InForce = field(default_factory=InForce)
    gathering: Gathering = field(default_factory=Gathering)
    bare_orders: BareOrders = field(default_factory=BareOrders)
    catching_up: CatchingUp = field(default_factory=CatchingUp)
    excerpts: Recent[tuple[int, str], str] = field(default_factory=lambda: Recent(2000))
    """What was said last, by portal and event id: for what is told of edits. Empty of what was
    taken back."""
