"""The parts of the program, each built once and handed to those that need it."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import orjson

from bridge.control import ControlServer
from bridge.core.aside import Aside
from bridge.core.bots import ModuleSeat, Seat, Stage
from bridge.core.catalogue import find_module
from bridge.core.commands import MainBot, MainSeat
from bridge.core.declared import DeclaredRooms
from bridge.core.directory import Answers
from bridge.core.doorway import House
from bridge.core.inflight import InFlight
from bridge.core.instances import Instance
from bridge.core.intake import Intake
from bridge.core.permissions import Permissions
from bridge.core.plumbing import Plumbing
from bridge.core.portals import Portals
from bridge.core.privatechat import PrivateChats
from bridge.core.progress import Marker
from bridge.core.reconciler import Reconciler
from bridge.core.router import Patience, Router
from bridge.core.routes import Routes
from bridge.core.sender import Sender
from bridge.core.timers import TimerKeeper
from bridge.core.watch import Watcher
from bridge.matrix.body import parse_transaction
from bridge.matrix.client import HomeserverClient
from bridge.matrix.history import History
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.matrix.pulse import Pulse
from bridge.matrix.receiver import Receiver
from bridge.model import Permission
from bridge.ops import OpsServer
from bridge.options import check_module
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.sdk.module import Bot, FindsChats
from bridge.settings import Settings
from bridge.storage.accounts import Accounts
from bridge.storage.audit import Audit
from bridge.storage.items import Items
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys, EventKeys
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.storage.portals import BotRooms, PortalStore
from bridge.storage.retention import Retention
from bridge.storage.shelf import Shelf
from bridge.storage.timers import InstanceTimers
from bridge.telemetry import Telemetry, hide
from bridge.workshop import Workshop, load_module, make_module

log = logging.getLogger(__name__)

_MAIN_BOT_NAME = "Trestle"


@dataclass(slots=True, kw_only=True)
class Parts:
    """Everything that runs."""

    settings: Settings
    telemetry: Telemetry
    database: Database
    journal: Journal
    outbox: Outbox
    items: Items
    retention: Retention
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
    control: ControlServer
    house: House
    workshop: Workshop
    permissions: Permissions
    declared: DeclaredRooms
    homeserver_state: list[Callable[[], str]] = field(default_factory=list)
    introduced: bool = False

    @asynccontextmanager
    async def listening(
        self,
        live: Callable[[], str | None],
        ready: Callable[[], str | None],
        homeserver_state: Callable[[], str],
    ) -> AsyncIterator[None]:
        """Have the listeners open. The receiver says 503 until the intake is open."""
        self.homeserver_state.append(homeserver_state)
        await self.receiver.start()
        ops = OpsServer(self.settings.ops.listen, self.telemetry, live=live, ready=ready)
        try:
            await ops.start()
            await self.control.start()
            yield
        finally:
            await self.control.stop()
            await ops.stop()
            await self.receiver.stop()

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
        await self.bot_rooms.add_bot_room(user, room, None)
        self.seat(user, room, None)

    async def move_out(self, user: UserId, room: RoomId) -> None:
        """Note that a bot has left a room by itself."""
        await self.bot_rooms.remove_bot_room(user, room)
        self.routes.remove_seat(user, room)

    async def furnish(self) -> None:
        """Have the bots' seats as they were, the gauges, and what the settings declare."""
        self.stage.private_chats.on_room = self.seat
        self.declared.residence = self
        for user, room, direct_with in await self.bot_rooms.bot_rooms():
            self.seat(user, room, direct_with)
        await self.count_parked()
        self.declared.declare(self.settings.rooms, admins_of(self.settings))

    async def stage_bots(self) -> None:
        """Have the bots' accounts, and their seats as the homeserver says."""
        names = {self.namespaces.bot: _MAIN_BOT_NAME}
        names |= {self.namespaces.bot_of(i): bot.info.name for i, bot in self.bots.items()}
        for user, name in names.items():
            await self.intents.ensure_registered(user, name)
            there = await self.intents.rooms_of(user)
            known = {room for bot, room in self.routes.seats if bot == user}
            for room in there - known:
                await self.move_in(user, room)
            for room in known - there:
                await self.move_out(user, room)

    async def note_long_ids(self) -> None:
        """Store what newly shortened ids stand for."""
        fresh = self.namespaces.new_long_ids
        while fresh:
            await self.accounts.note_long_id(*fresh[0])
            fresh.pop(0)

    async def count_parked(self) -> None:
        """Set the gauges of what is put aside."""
        for reason, number in (await self.items.count_parked()).items():
            self.telemetry.parked.labels(reason=reason.value).set(number)


def _rooms_of(routes: Routes, portals: Portals, namespaces: Namespaces) -> dict[RoomId, UserId]:
    """The rooms that somebody here listens to, and who of ours can read each."""
    return routes.rooms() | {door.portal.room: namespaces.bot for door in portals.all}


def split_modules(settings: Settings) -> tuple[list[InstanceId], list[InstanceId]]:
    """The instances of networks and those of bots. Raises ``ConfigError`` for unknown modules."""
    networks: list[InstanceId] = []
    bots: list[InstanceId] = []
    for instance, module in settings.modules.items():
        found = find_module(module.module, f"modules.{instance}.module")
        (bots if found.is_bot else networks).append(instance)
    return networks, bots


def namespaces_of(settings: Settings) -> Namespaces:
    """Who is ours, by the settings."""
    networks, bots = split_modules(settings)
    appservice = settings.appservice
    return Namespaces(
        server_name=settings.homeserver.server_name,
        prefix=appservice.prefix,
        bot_localpart=appservice.bot_localpart,
        sender_localpart=appservice.sender_localpart,
        networks=networks,
        bots=bots,
    )


def check_modules(settings: Settings) -> None:
    """Raise ``ConfigError`` for the first module or room with something wrong."""
    for error in module_problems(settings):
        raise error


def module_problems(settings: Settings) -> Iterator[ConfigError]:
    """Say of each module that is unknown or has an option wrong what it is; of rooms too."""
    kinds: dict[InstanceId, bool] = {}
    for instance, module in settings.modules.items():
        try:
            kinds[instance] = find_module(module.module, f"modules.{instance}.module").is_bot
            check_module(load_module(settings, instance).settings, module)
        except ConfigError as error:
            yield error
    for number, room in enumerate(settings.rooms):
        for instance in room.bridge:
            if instance not in settings.modules or kinds.get(instance):
                yield _no_such(instance, "network", f"rooms[{number}].bridge", kinds, bots=False)
        for instance in room.bots:
            if instance not in settings.modules or kinds.get(instance) is False:
                yield _no_such(instance, "bot", f"rooms[{number}].bots", kinds, bots=True)
    if settings.rooms and not admins_of(settings):
        yield ConfigError(
            "somebody must answer for them: name an admin in permissions, "
            f"`'@you:{settings.homeserver.server_name}': admin`",
            path="rooms",
        )


def admins_of(settings: Settings) -> list[UserId]:
    """The people whom the permissions name as admins."""
    return [
        UserId(who)
        for who, level in settings.permissions.items()
        if who.startswith("@") and level is Permission.ADMIN
    ]


def _no_such(
    instance: InstanceId, what: str, path: str, kinds: dict[InstanceId, bool], *, bots: bool
) -> ConfigError:
    names = ", ".join(sorted(one for one, is_bot in kinds.items() if is_bot is bots)) or "none"
    return ConfigError(f"modules has no {what} called {instance!r}; there are: {names}", path=path)


def protocols_of(settings: Settings) -> list[str]:
    """The third-party protocols of the configured networks, for the registration."""
    found = set()
    for instance in split_modules(settings)[0]:
        connector = make_module(settings, instance)
        if isinstance(connector, FindsChats):
            found.add(connector.directory.protocol)
    return sorted(found)


@asynccontextmanager
async def build(settings: Settings, database: Database) -> AsyncIterator[Parts]:
    """Build the parts on an open database, and let go of them on the way out."""
    appservice = settings.appservice
    hide(appservice.as_token, *appservice.hs_tokens)
    async with AsyncExitStack() as stack:
        telemetry = Telemetry()
        day_keys = DayKeys(settings.state_dir, database.clock)
        retention = Retention(database, day_keys)
        await retention.run_once()
        event_keys = EventKeys(settings.state_dir)
        key_of = event_keys.key_of
        journal, outbox = Journal(database, day_keys), Outbox(database, day_keys)
        items, accounts, bot_rooms = (
            Items(database, day_keys), Accounts(database), BotRooms(database),
        )  # fmt: skip
        await journal.open()
        stack.push_async_callback(journal.close)
        await outbox.open()
        inflight = InFlight(settings.state_dir / "inflight")
        stack.callback(inflight.close)

        namespaces = namespaces_of(settings)
        namespaces.know_long_ids(await accounts.long_ids())
        client = await stack.enter_async_context(
            HomeserverClient(settings.homeserver.url, appservice.as_token)
        )
        intents = Intents(
            client, namespaces, device_of=accounts.send_device, bot_name=_MAIN_BOT_NAME
        )

        encrypted = await bot_rooms.encrypted_rooms()
        permissions = Permissions(
            settings.permissions, settings.homeserver.server_name, namespaces.is_ours
        )
        router = Router(
            inflight, items, telemetry, encode=orjson.dumps,
            patience=Patience(tries=settings.limits.tries),
        )  # fmt: skip
        marker = router.marker = Marker(journal)
        sender = Sender(
            outbox, intents, telemetry, database.clock, is_encrypted=encrypted.__contains__
        )
        instances: dict[InstanceId, Instance] = {}
        house = House(
            store=PortalStore(database), audit=Audit(database, day_keys, settings.state_dir),
            sender=sender, intents=intents, namespaces=namespaces, permissions=permissions,
            instances=instances, router=router, marker=marker, telemetry=telemetry,
            key_of=key_of, deadline=settings.limits.send_deadline,
        )  # fmt: skip
        portals = Portals(house)
        await portals.load()
        plumbing = Plumbing(house, portals)
        workshop = Workshop(
            database=database, day_keys=day_keys, accounts=accounts, telemetry=telemetry,
            namespaces=namespaces,
        )  # fmt: skip
        instances.update(workshop.networks(settings, portals))
        bots, timers = workshop.bots(settings)
        private_chats = PrivateChats(bot_rooms, intents, sender, permissions, key_of)
        stage = Stage(
            sender=sender, intents=intents, permissions=permissions,
            private_chats=private_chats, key_of=key_of, deadline=settings.limits.item_deadline,
        )  # fmt: skip
        states: list[Callable[[], str]] = []

        def list_bots() -> Sequence[tuple[str, str, UserId]]:
            return [(i, bot.info.name, namespaces.bot_of(i)) for i, bot in sorted(bots.items())]

        main_bot = MainBot(
            plumbing, portals, router, stage, bots=list_bots,
            homeserver_state=lambda: states[-1]() if states else "not asked yet",
        )  # fmt: skip
        routes = Routes(router, portals, namespaces, intents)
        keepers = workshop.keepers(settings, bots, timers, stage, routes)
        declared = DeclaredRooms(
            plumbing, portals, intents, namespaces, workshop.store(InstanceId("")), routes
        )
        intake = Intake(
            journal, items, router, marker, telemetry, keys_of=event_keys.keys_of, route=routes,
            parse=parse_transaction, encode=orjson.dumps, memory=settings.limits.items_in_memory,
        )  # fmt: skip
        reconciler = Reconciler(
            bot_rooms, page=History(client).page, accept=intake.accept, known=intake.known,
            keys_of=event_keys.keys_of, is_encrypted=encrypted.__contains__,
            is_ours=namespaces.is_ours, rooms=lambda: _rooms_of(routes, portals, namespaces),
        )  # fmt: skip
        intake.on_restart = reconciler.want
        main_bot.aside = aside = Aside(
            Shelf(database, day_keys), sender, timers, house.audit, take_back=outbox.take_back,
            take_again=intake.take_again,
        )  # fmt: skip
        parts = Parts(
            settings=settings, telemetry=telemetry, database=database, journal=journal,
            outbox=outbox, items=items, retention=retention, accounts=accounts,
            bot_rooms=bot_rooms, inflight=inflight, namespaces=namespaces, client=client,
            intents=intents, router=router, marker=marker, sender=sender, portals=portals,
            plumbing=plumbing, routes=routes, intake=intake,
            receiver=Receiver(
                appservice, intake, Answers(plumbing, intents, namespaces), telemetry
            ),
            reconciler=reconciler, pulse=Pulse(settings.homeserver.url, reconciler.want),
            instances=instances, bots=bots, timers=timers, keepers=keepers, stage=stage,
            main_bot=main_bot, house=house, workshop=workshop, permissions=permissions,
            declared=declared,
            aside=aside, control=ControlServer(settings.state_dir, aside),
            homeserver_state=states,
        )  # fmt: skip
        routes.watcher = Watcher(
            bot_rooms, intents, namespaces, permissions, private_chats,
            is_bot=namespaces.is_bot, on_join=parts.seat, on_leave=routes.remove_seat,
            encrypted=encrypted,
        )  # fmt: skip
        await parts.furnish()
        yield parts
