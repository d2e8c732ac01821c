"""Everything that runs, and what concerns several parts of it."""

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.core.commands.commands import MainBot
from bridge.core.commands.mainseat import MainSeat
from bridge.core.commands.owndata import OwnData
from bridge.core.consent.consents import Consents
from bridge.core.consent.erasure import Erasure
from bridge.core.consent.policies import Policies
from bridge.core.consent.privacy import Privacy
from bridge.core.host.bots import ModuleSeat, Seat, Stage
from bridge.core.host.instances import Instance
from bridge.core.host.timers import TimerKeeper
from bridge.core.intake.intake import Intake
from bridge.core.intake.reconciler import Reconciler
from bridge.core.intake.routes import Routes
from bridge.core.intake.watch import watch_name
from bridge.core.lanes.inflight import InFlight
from bridge.core.lanes.progress import Marker
from bridge.core.lanes.router import Router
from bridge.core.logins.doublepuppets import DoublePuppets
from bridge.core.logins.logins import Logins
from bridge.core.outbox.encryption import Encryption
from bridge.core.outbox.sender import Sender
from bridge.core.oversight.aside import Aside
from bridge.core.oversight.bookkeeper import Bookkeeper
from bridge.core.oversight.status import Status
from bridge.core.oversight.statusroom import StatusRoom
from bridge.core.permissions.optouts import OptOuts
from bridge.core.permissions.permissions import Permissions
from bridge.core.portals.declared import DeclaredRooms
from bridge.core.portals.encryptedrooms import EncryptedRooms
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.core.portals.shutrooms import see_who_put_it_out
from bridge.core.rooms.house import House
from bridge.doors.controlserver import ControlServer
from bridge.doors.ops import Health, OpsServer
from bridge.matrix.client import HomeserverClient
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.matrix.pulse import Pulse
from bridge.matrix.receiver import Receiver
from bridge.model import InstanceRules, ParkReason
from bridge.net.reach import Reach
from bridge.running.noweb import NoWeb
from bridge.running.roster import admins_of
from bridge.running.workshop import Workshop
from bridge.sdk.errors import TrestleError
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.sdk.module import Bot
from bridge.settings.records import Address, Settings
from bridge.storage.accounts import Accounts
from bridge.storage.books import Books
from bridge.storage.items import Items
from bridge.storage.journal import Journal
from bridge.storage.pool import Database
from bridge.storage.portals import BotRooms
from bridge.storage.retention import Retention
from bridge.storage.timers import InstanceTimers
from bridge.storage.vault import Vault
from bridge.telemetry import Telemetry

if TYPE_CHECKING:  # They load a library for all of HTTP, which few need.
    from bridge.net.fetcher import GuardedFetcher
    from bridge.web.server import WebServer

log = logging.getLogger(__name__)

MAIN_BOT_NAME = "Trestle"


@dataclass(slots=True)
class HomeserverState:
    """How the homeserver is for us."""

    words: str = "not asked yet"


@dataclass(slots=True, kw_only=True)
class Parts:
    """Everything that runs."""

    settings: Settings
    telemetry: Telemetry
    database: Database
    journal: Journal
    items: Items
    retention: Retention
    vault: Vault
    logins: Logins
    erasure: Erasure
    own_data: OwnData
    accounts: Accounts
    bot_rooms: BotRooms
    inflight: InFlight
    namespaces: Namespaces
    client: HomeserverClient
    intents: Intents
    router: Router
    marker: Marker
    sender: Sender
    portals: Portals
    plumbing: Plumbing
    routes: Routes
    intake: Intake
    receiver: Receiver
    reconciler: Reconciler
    pulse: Pulse
    instances: dict[InstanceId, Instance]
    bots: dict[InstanceId, Bot]
    timers: dict[InstanceId, InstanceTimers]
    keepers: dict[InstanceId, TimerKeeper]
    stage: Stage
    main_bot: MainBot
    aside: Aside
    books: Books
    bookkeeper: Bookkeeper
    status: Status
    status_room: StatusRoom
    optouts: OptOuts
    consents: Consents
    policies: Policies
    double_puppets: DoublePuppets
    control: ControlServer
    house: House
    privacy: Privacy
    workshop: Workshop
    permissions: Permissions
    declared: DeclaredRooms
    encryption: Encryption
    encrypted_rooms: EncryptedRooms
    homeserver: HomeserverState
    introduced: bool = False
    web: "WebServer | NoWeb" = field(default_factory=NoWeb)

    @asynccontextmanager
    async def listening(self, ready: Health) -> AsyncIterator[None]:
        """Have the listeners open. The receiver says 503 until the intake is open."""
        await self.receiver.start()
        ops = OpsServer(self.settings.ops.listen, self.telemetry, ready)
        try:
            await ops.start()
            await self.control.start()
            await self.web.start()
            yield
        finally:
            await self.web.stop()
            await self.control.stop()
            await ops.stop()
            await self.receiver.stop()

    def own_listeners(self) -> Sequence[Address]:
        """Where we listen ourselves, which nobody is to reach through us."""
        found = (
            self.receiver.address, self.settings.ops.listen, self.web.address,
            self.web.public_address,
        )  # fmt: skip
        return [address for address in found if address is not None]

    def make_fetcher(self) -> "GuardedFetcher":
        """What fetches for modules what a user has named."""
        from bridge.net.fetcher import GuardedFetcher  # noqa: PLC0415

        return GuardedFetcher(
            Reach(allow=self.settings.fetching.allow, own_listeners=self.own_listeners)
        )

    def rules_of(self, instance: InstanceId) -> InstanceRules:
        """What the settings say now of an instance, beside its module's own options."""
        module = self.settings.modules.get(instance)
        return module.rules if module is not None else InstanceRules()

    def seat(self, user: UserId, room: RoomId, direct_with: UserId | None) -> None:
        """A bot is in a room from now on."""
        instance = self.namespaces.bot_ids.get(user)
        seat: Seat
        if instance == "":
            seat = MainSeat(self.main_bot, user, room, self.stage, direct_with=direct_with)
        elif instance is not None and instance in self.bots:
            seat = ModuleSeat(
                instance, self.bots[instance], user, room, self.stage, direct_with=direct_with
            )
        else:
            return
        self.routes.add_seat(seat)

    async def move_in(self, user: UserId, room: RoomId) -> None:
        """Note that a bot has come into a room by itself."""
        await self.bot_rooms.keep_bot_room(user, room)
        # One that it has may be that of a direct chat, which must stay one.
        if not self.routes.has_seat(user, room):
            self.seat(user, room, None)
        # Where that fails it stays unknown, and is asked before anything is said there.
        with contextlib.suppress(TrestleError):
            await self.encryption.look(room, user)

    async def move_out(self, user: UserId, room: RoomId) -> None:
        """Note that a bot has left a room by itself."""
        await self.bot_rooms.remove_bot_room(user, room)
        self.routes.remove_seat(user, room)

    async def furnish(self) -> None:
        """Have the bots' seats as they were, the gauges, and what the settings declare."""
        self.stage.private_chats.on_room = self.seat
        self.declared.residence = self.policies.residence = self
        self.aside.on_change = self.count_parked
        for user, room, direct_with in await self.bot_rooms.bot_rooms():
            self.seat(user, room, direct_with)
        await self.count_parked()
        self.declared.declare(self.settings.rooms, admins_of(self.settings))

    async def stage_bots(self) -> None:
        """Have the bots' accounts, and their seats as the homeserver says."""
        names = {self.namespaces.bot: MAIN_BOT_NAME}
        names |= {self.namespaces.bot_of(i): bot.info.name for i, bot in self.bots.items()}
        for user, name in names.items():
            await self.intents.ensure_registered(user, name)
            # In this order: it may join rooms while the homeserver is asked.
            # Where it is let in just now it has a seat already, and is maybe not yet said to be.
            known = {
                room for bot, room in self.routes.seats
                if bot == user and watch_name(room) not in self.router.lanes
            }  # fmt: skip
            there = await self.intents.rooms_of(user)
            for room in there:
                if not self.routes.has_seat(user, room):
                    await self.move_in(user, room)
            for room in known - there:
                if watch_name(room) not in self.router.lanes:
                    await self.move_out(user, room)
        await see_who_put_it_out(self.portals, self.intents, self.namespaces.bot)

    async def note_long_ids(self) -> None:
        """Store what newly shortened ids stand for."""
        fresh = self.namespaces.new_long_ids
        while fresh:
            await self.accounts.note_long_id(*fresh[0])
            fresh.pop(0)

    async def count_parked(self) -> None:
        """Set the gauges of what is put aside. Raises ``TemporaryFailure``."""
        counted = await self.items.count_parked()
        for reason in ParkReason:
            self.telemetry.parked.labels(reason=reason.value).set(counted.get(reason, 0))
