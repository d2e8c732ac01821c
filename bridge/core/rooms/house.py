"""What all portals share: the parts of the program that they work with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bridge.core.host.announcing import Announcer
from bridge.core.host.bareorders import BareOrders
from bridge.core.host.instances import Instance
from bridge.core.lanes.crossings import Crossings
from bridge.core.lanes.deletions import Deletions
from bridge.core.lanes.late import Lateness
from bridge.core.lanes.progress import Marker
from bridge.core.lanes.router import Router
from bridge.core.logins.doublepuppets import DoublePuppets
from bridge.core.outbox.outgoing import KeyOf
from bridge.core.outbox.sender import Sender
from bridge.core.permissions.blocks import Blocks
from bridge.core.permissions.optouts import OptOuts
from bridge.core.permissions.permissions import Permissions
from bridge.core.permissions.policyrules import InForce
from bridge.core.rooms.catchingup import CatchingUp
from bridge.core.rooms.gathering import Gathering
from bridge.core.rooms.typingnotices import TypingNotices
from bridge.matrix.cache import Recent
from bridge.matrix.intents import Intents
from bridge.matrix.medialinks import MediaLinks
from bridge.matrix.mediastore import MediaStore
from bridge.matrix.namespaces import Namespaces
from bridge.model import (
    Clock,
    InstanceRules,
)
from bridge.sdk.ids import InstanceId, RoomId
from bridge.storage.audit import Audit
from bridge.storage.portals import BotRooms, PortalStore
from bridge.telemetry import Telemetry


@dataclass(slots=True, kw_only=True)
class House:
    """What portals share: the parts of the program that they work with."""

    store: PortalStore
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
    told: BotRooms
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
    is_encrypted: Callable[[RoomId], bool] = lambda room: False
    """Whether a room is known to be encrypted: nothing is said in there, and its chat ends."""
    policies: InForce = field(default_factory=InForce)
    gathering: Gathering = field(default_factory=Gathering)
    bare_orders: BareOrders = field(default_factory=BareOrders)
    catching_up: CatchingUp = field(default_factory=CatchingUp)
    excerpts: Recent[tuple[int, str], tuple[str, str]] = field(
        default_factory=lambda: Recent(2000)
    )
    """What was said last, without and with its spoilers, by portal and event id: for what is told
    of edits. Empty of what was taken back."""
