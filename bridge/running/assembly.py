"""The parts of the program, each built once and handed to those that need it."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic

from bridge import __version__
from bridge.core.commands.commands import MainBot
from bridge.core.commands.confidences import Confidences
from bridge.core.commands.loginchat import LoginChat
from bridge.core.commands.networkcommands import NetworkCommands
from bridge.core.commands.owndata import OwnData
from bridge.core.commands.parkedcommand import ParkedCommand
from bridge.core.commands.sessions import Sessions
from bridge.core.consent.consents import Consents
from bridge.core.consent.erasure import Erasure
from bridge.core.consent.guests import Guests
from bridge.core.consent.moderators import Moderators
from bridge.core.consent.policies import Policies
from bridge.core.consent.privacy import Privacy
from bridge.core.host.announcing import Announcer
from bridge.core.host.bots import Stage
from bridge.core.host.instances import Instance
from bridge.core.host.privatechat import PrivateChats
from bridge.core.intake.directory import Answers
from bridge.core.intake.intake import Intake
from bridge.core.intake.reconciler import Reconciler
from bridge.core.intake.routes import Routes
from bridge.core.intake.unanswered import Unanswered
from bridge.core.intake.watch import Watcher, watch_name
from bridge.core.lanes.crossings import Crossings
from bridge.core.lanes.deletions import Deletions
from bridge.core.lanes.inflight import InFlight
from bridge.core.lanes.late import Lateness
from bridge.core.lanes.patience import Patience
from bridge.core.lanes.progress import Marker
from bridge.core.lanes.router import Router
from bridge.core.logins.doublepuppets import DoublePuppets
from bridge.core.logins.loginmeans import Means
from bridge.core.logins.logins import Logins
from bridge.core.outbox.encryption import Encryption
from bridge.core.outbox.registeredpost import RegisteredPost
from bridge.core.outbox.sender import Sender
from bridge.core.oversight.aside import Aside
from bridge.core.oversight.bookkeeper import Bookkeeper
from bridge.core.oversight.conditions import Conditions
from bridge.core.oversight.roomkeeping import RoomKeeping
from bridge.core.oversight.status import Status, Troubles
from bridge.core.oversight.statusroom import StatusRoom
from bridge.core.oversight.tracer import Tracer
from bridge.core.permissions.blocks import Blocks
from bridge.core.permissions.optouts import OptOuts
from bridge.core.permissions.peace import Peace
from bridge.core.permissions.permissions import Permissions
from bridge.core.portals.declared import DeclaredRooms
from bridge.core.portals.directchats import DirectChats
from bridge.core.portals.encryptedrooms import EncryptedRooms
from bridge.core.portals.invitations import Invitations
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.core.portals.shutrooms import see_who_put_it_out
from bridge.core.portals.upgrades import Upgrades
from bridge.core.rooms.house import House
from bridge.core.rooms.typingnotices import TypingNotices
from bridge.doors.controlserver import ControlServer
from bridge.jsontext import encode
from bridge.logs import hide
from bridge.matrix.body import parse_transaction
from bridge.matrix.client import HomeserverClient
from bridge.matrix.doubles import Doubles
from bridge.matrix.history import History
from bridge.matrix.intents import Intents
from bridge.matrix.medialinks import MediaLinks
from bridge.matrix.mediastore import MediaStore
from bridge.matrix.namespaces import Namespaces
from bridge.matrix.pulse import Pulse
from bridge.matrix.receiver import Receiver
from bridge.running.parts import MAIN_BOT_NAME, HomeserverState, Parts
from bridge.running.roster import admins_of, namespaces_of
from bridge.running.workshop import Workshop
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.settings.records import Settings
from bridge.storage.accounts import Accounts
from bridge.storage.audit import Audit
from bridge.storage.backup import began_at, last_backup
from bridge.storage.books import Books
from bridge.storage.consents import BlockStore, ConsentStore
from bridge.storage.deletions import DeletionStore
from bridge.storage.doublepuppets import DoublePuppetStore
from bridge.storage.endedlogins import EndedLogins
from bridge.storage.erasednotes import ErasedPeople
from bridge.storage.items import Items
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys, EventKeys
from bridge.storage.optouts import OptOutStore
from bridge.storage.outbox import Outbox
from bridge.storage.personal import PersonalData
from bridge.storage.policies import PolicyStore
from bridge.storage.pool import Database
from bridge.storage.portals import BotRooms, PortalStore
from bridge.storage.retention import Retention
from bridge.storage.rotation import Rotation
from bridge.storage.shelf import Shelf
from bridge.storage.tokens import Tokens
from bridge.storage.traces import Traces
from bridge.storage.troubles import TroubleStore
from bridge.storage.vault import Vault
from bridge.telemetry import Telemetry
from bridge.web.places import read_more

log = logging.getLogger(__name__)


def _rooms_of(routes: Routes, portals: Portals, namespaces: Namespaces) -> dict[RoomId, UserId]:
    """The rooms that somebody here listens to, and who of ours can read each."""
    return routes.rooms() | {door.portal.room: namespaces.bot for door in portals.all}


@asynccontextmanager
async def build(  # noqa: PLR0915 - a straight list of every object there is
    settings: Settings, database: Database
) -> AsyncIterator[Parts]:
    """Build the parts on an open database, and let go of them on the way out."""
    appservice = settings.appservice
    hide(appservice.as_token, *appservice.hs_tokens)
    async with AsyncExitStack() as stack:
        telemetry = Telemetry()
        day_keys = DayKeys(settings.state_dir, database.clock)
        retention = Retention(database, day_keys)
        await retention.run_or_complain()
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
        doubles = Doubles(client, namespaces, key_of)
        intents = Intents(
            client, namespaces, device_of=accounts.send_device, bot_name=MAIN_BOT_NAME,
            as_double=doubles.send,
        )  # fmt: skip
        vault = await Vault.at(database, settings.state_dir)
        audit = Audit(database, settings.state_dir)
        double_puppets = DoublePuppets(
            DoublePuppetStore(database, settings.state_dir), vault, doubles, audit,
            settings.homeserver.server_name,
        )  # fmt: skip
        await double_puppets.load()

        encryption = Encryption(
            await bot_rooms.encrypted_rooms(), intents, mark=bot_rooms.mark_encrypted,
            unmark=bot_rooms.unmark_encrypted, bot=namespaces.bot,
        )  # fmt: skip
        intents.before_saying = doubles.before_saying = encryption.refuse_news
        permissions = Permissions(
            settings.permissions,
            settings.homeserver.server_name,
            namespaces.is_ours,
            {name: module.rules.permissions for name, module in settings.modules.items()},
        )
        router = Router(
            inflight, items, telemetry, encode=encode,
            patience=Patience(tries=settings.limits.tries),
        )  # fmt: skip
        store = PortalStore(database)
        optouts = OptOuts(OptOutStore(database, settings.state_dir), audit)
        await optouts.load()
        blocks = Blocks(BlockStore(database))
        await blocks.load()
        crossings = Crossings(store)
        marker = router.marker = Marker(journal, crossings)
        history = History(
            client, namespaces.is_ours, lambda event: doubles.find_instance(event) is not None
        )
        sender = Sender(
            outbox, intents, telemetry, database.clock, encryption=encryption,
            find_ours=history.find_ours, find_links=crossings.find_remote,
            is_ours=namespaces.is_ours, bot=namespaces.bot,
        )  # fmt: skip
        instances: dict[InstanceId, Instance] = {}
        private_chats = PrivateChats(bot_rooms, intents, sender, permissions, key_of)
        announcer = Announcer(
            bot_rooms, RegisteredPost(sender, outbox), private_chats, database.clock, key_of,
            namespaces.bot, read_more(settings.web),
        )  # fmt: skip
        media = MediaStore(client, namespaces.bot)
        media_links = MediaLinks(
            settings.web.public_url, key_of, database.clock, days=settings.web.media_days,
            generation=database.generation,
        )  # fmt: skip
        deletion_store = DeletionStore(database, link_days=settings.web.media_days)
        deletions = Deletions(deletion_store, media_links, router)
        house = House(
            store=store, audit=audit,
            sender=sender, intents=intents, namespaces=namespaces, permissions=permissions,
            instances=instances, router=router, marker=marker, telemetry=telemetry,
            key_of=key_of, clock=database.clock, crossings=crossings, optouts=optouts,
            blocks=blocks, announcer=announcer, told=bot_rooms, double_puppets=double_puppets,
            typing=TypingNotices(intents.set_typing), media=media, media_links=media_links,
            deletions=deletions, is_encrypted=encryption.is_known,
            rules=lambda name: parts.rules_of(name),  # noqa: PLW0108 - not there yet
            deadline=settings.limits.send_deadline, tell_after=settings.limits.tell_after,
            lateness=Lateness(
                after=settings.limits.late_after, keep=settings.limits.late_keep
            ),
        )  # fmt: skip
        portals = Portals(house)
        await portals.load()
        sender.listings.on_given_up = portals.forget_listing
        plumbing = Plumbing(house, portals)
        privacy = Privacy(house, portals)
        sender.may_go, sender.find_over = privacy.may_go, day_keys.find_over
        intents.on_came_in = privacy.look_again
        answers = ConsentStore(database)
        plumbing.peace = Peace(answers, database.clock)
        consents = Consents(house, portals, plumbing, answers)
        await consents.load()
        encrypted_rooms = EncryptedRooms(house, portals, plumbing, private_chats, encryption)
        encryption.on_encrypted = encrypted_rooms.note
        policies = Policies(house, portals, PolicyStore(database))
        await policies.load()
        plumbing.before_unbridging = policies.end_all
        guests = Guests(
            double_puppets, optouts, portals, namespaces, Moderators(house, plumbing, consents)
        )
        workshop = Workshop(
            database=database, day_keys=day_keys, accounts=accounts, telemetry=telemetry,
            namespaces=namespaces, guests=guests,
        )  # fmt: skip
        instances.update(workshop.networks(settings, portals))
        bots, timers = workshop.bots(settings)
        logins = Logins(instances, Means(
            vault=vault, accounts=accounts, ended=EndedLogins(settings.state_dir),
            told=bot_rooms, sender=sender,
            private_chats=private_chats, permissions=permissions, key_of=key_of,
            bot=namespaces.bot, double_puppets=double_puppets, audit=audit,
        ))  # fmt: skip
        for one in instances.values():
            logins.serve(one)
        stage = Stage(
            sender=sender, intents=intents, permissions=permissions,
            private_chats=private_chats, key_of=key_of, deadline=settings.limits.item_deadline,
        )  # fmt: skip
        homeserver = HomeserverState()

        def list_bots() -> Sequence[tuple[str, str, UserId]]:
            return [(i, bot.info.name, namespaces.bot_of(i)) for i, bot in sorted(bots.items())]

        main_bot = MainBot(
            plumbing, portals, router, stage, bot=namespaces.bot, bots=list_bots,
            homeserver_state=lambda: homeserver.words,
            optouts=optouts, double_puppets=double_puppets,
        )  # fmt: skip
        main_bot.login_chat = LoginChat(logins, stage, namespaces.bot, bot_rooms)
        main_bot.network_commands = NetworkCommands(
            plumbing, portals, intents, announcer, house.rules, permissions.allows, namespaces.bot
        )
        main_bot.login_chat.is_command = main_bot.network_commands.is_one
        house.bare_orders.secrets = main_bot.network_commands.secrets
        main_bot.bare_orders = house.bare_orders
        main_bot.confidences = Confidences(
            main_bot.login_chat, main_bot.network_commands, double_puppets
        )
        personal = PersonalData(
            database, day_keys, is_ours=namespaces.is_ours,
            modules=lambda: {
                **{name: one.connector.info.keeps for name, one in instances.items()},
                **{name: bot.info.keeps for name, bot in bots.items()},
            },
        )  # fmt: skip
        erasure = Erasure(
            house, portals, logins, vault, personal, ErasedPeople(settings.state_dir), bots,
            database.clock, lambda: database.generation,
        )  # fmt: skip
        main_bot.own_data = own_data = OwnData(
            personal, erasure, media, stage, bot_rooms, database.clock,
            workshop.store(InstanceId("")), bot=namespaces.bot, do=logins.do,
        )  # fmt: skip
        main_bot.consents = consents
        main_bot.policies = policies
        main_bot.tracer = tracer = Tracer(
            Traces(database, journal, items, keys_of=event_keys.keys_of, parse=parse_transaction),
            lanes=lambda: router.lanes, name_of=portals.name_of, why_waiting=portals.why_waiting,
        )  # fmt: skip
        routes = Routes(router, portals, namespaces, intents, deletions)
        routes.policies, policies.has_seat = policies, routes.has_seat
        keepers = workshop.keepers(settings, bots, timers, stage, routes)
        declared = DeclaredRooms(
            plumbing, portals, intents, namespaces, workshop.store(InstanceId("")), routes
        )
        intake = Intake(
            journal, items, router, marker, telemetry, database.clock,
            keys_of=event_keys.keys_of, route=routes, parse=parse_transaction,
            memory=settings.limits.items_in_memory,
        )  # fmt: skip
        unanswered = Unanswered(
            ask=intents.open_invitations, accept=intake.accept,
            bots=lambda: [namespaces.bot, *map(namespaces.bot_of, bots)],
            is_known=lambda event_id: bool(intake.known(event_keys.keys_of([event_id]))),
            is_at_work=lambda room: watch_name(room) in router.lanes,
        )  # fmt: skip

        async def look_before() -> None:
            await unanswered.look()
            await see_who_put_it_out(portals, intents, namespaces.bot)

        reconciler = Reconciler(
            bot_rooms, page=history.page, accept=intake.accept, known=intake.known,
            keys_of=event_keys.keys_of, is_encrypted=encryption.is_known,
            is_ours=namespaces.is_ours, rooms=lambda: _rooms_of(routes, portals, namespaces),
            look_before=look_before,
        )  # fmt: skip

        portals.on_room = reconciler.begin

        def doubt_homeserver() -> None:
            sender.doubt()
            intents.doubt()
            encryption.doubt_all()
            portals.forget_audiences()
            reconciler.want()

        intake.on_restart = doubt_homeserver
        intake.ephemeral.on_read = announcer.note_read
        intake.ephemeral.on_typing = house.typing.hear
        house.typing.on_typing = portals.typing
        aside = Aside(
            Shelf(database, day_keys), sender, timers, house.audit, take_back=outbox.take_back,
            take_again=intake.take_again,
        )  # fmt: skip
        main_bot.parked = ParkedCommand(aside)
        books = Books(database)
        bookkeeper = Bookkeeper(
            books, telemetry, rows_in_hand=intake.rows_in_hand, holding=sender.holding
        )
        troubles = Troubles()
        logging.getLogger("bridge").addHandler(troubles)
        stack.callback(logging.getLogger("bridge").removeHandler, troubles)
        status = Status(
            version=__version__, telemetry=telemetry, router=router, sender=sender,
            portals=portals, instances=instances, bots=list_bots, items=items,
            homeserver=lambda: homeserver.words,
            difference=lambda: bookkeeper.difference, unfinished=retention.unfinished,
            encrypted=encrypted_rooms.troubles, troubles=troubles, began=monotonic(),
        )  # fmt: skip
        tokens = Tokens(database, audit)
        conditions = Conditions(
            settings.state_dir,
            now=database.clock.now,
            last_backup=lambda: last_backup(settings.state_dir),
            began=began_at(settings.state_dir),
        )

        async def find_troubles() -> Mapping[str, str]:
            return conditions.find(await status.look())

        main_bot.status = status
        main_bot.status_room = status_room = StatusRoom(
            TroubleStore(database), stage, database.clock, bot=namespaces.bot,
            admins=admins_of(settings), find=find_troubles, has_seat=routes.has_seat,
            on_room=lambda user, room: parts.move_in(user, room),  # noqa: PLW0108 - not there yet
        )  # fmt: skip
        parts = Parts(
            settings=settings, telemetry=telemetry, database=database, journal=journal,
            items=items, retention=retention, accounts=accounts,
            bot_rooms=bot_rooms, inflight=inflight, namespaces=namespaces, client=client,
            intents=intents, router=router, marker=marker, sender=sender, portals=portals,
            plumbing=plumbing, routes=routes, intake=intake,
            receiver=Receiver(
                appservice, intake, Answers(plumbing, intents, namespaces), telemetry
            ),
            reconciler=reconciler, pulse=Pulse(settings.homeserver.url, doubt_homeserver),
            instances=instances, bots=bots, timers=timers, keepers=keepers, stage=stage,
            main_bot=main_bot, house=house, privacy=privacy, workshop=workshop,
            permissions=permissions, declared=declared, aside=aside, encryption=encryption,
            encrypted_rooms=encrypted_rooms,
            homeserver=homeserver,
            books=books, bookkeeper=bookkeeper, policies=policies, status=status,
            status_room=status_room, optouts=optouts, vault=vault, double_puppets=double_puppets,
            logins=logins, consents=consents, erasure=erasure, own_data=own_data,
            control=ControlServer(
                settings.state_dir, aside=aside, tracer=tracer, status=status,
                rooms=RoomKeeping(portals, plumbing, intents),
                rotation=Rotation(database, vault), audit=house.audit,
                on_forgotten=logins.note_forgotten, personal=personal, erasure=erasure,
            ),
        )  # fmt: skip
        invitations = Invitations(intents)
        portals.direct_chats = direct_chats = DirectChats(
            house, portals, parts.move_in, invitations
        )
        main_bot.network_commands.direct_chats = direct_chats
        logins.on_end, direct_chats.is_ending = portals.end_login, logins.is_ending
        portals.on_tombstone = Upgrades(house, portals, plumbing, parts.move_in).follow
        portals.on_empowered = plumbing.publish_late
        routes.watcher = Watcher(
            bot_rooms, intents, namespaces, permissions, private_chats, invitations,
            on_join=parts.seat, on_leave=routes.remove_seat,
            has_seat=routes.has_seat, encryption=encryption,
        )  # fmt: skip
        routes.watcher.direct_chats, routes.watcher.hand_on = direct_chats, routes.hand_on
        routes.watcher.bot_came = portals.bot_came
        if settings.web.manager_url is not None or settings.web.public_url is not None:
            # What serves it takes a sixth of the memory that all of us has.
            from bridge.running.webparts import open_web  # noqa: PLC0415

            parts.web = await stack.enter_async_context(
                open_web(parts, tokens, media_links, deletion_store.has)
            )
        main_bot.login_chat.make_link = parts.web.make_link
        main_bot.sessions = sessions = Sessions(tokens, stage, namespaces.bot, logins.do)
        parts.web.on_session = sessions.begun
        await parts.furnish()
        yield parts
