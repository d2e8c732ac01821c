"""Builds every object once, by hand; runs them in one task group; stops in reverse order."""

import asyncio
import contextlib
import gc
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from math import inf
from typing import Any

from bridge.core.lanes.forgetting import forget
from bridge.core.lanes.unforeseen import Unforeseen
from bridge.core.oversight.watchdog import Watchdog
from bridge.logs import tidy_log_files
from bridge.matrix.client import NOT_REACHED, PING_ERRORS, MatrixError
from bridge.model import Clock, SystemClock
from bridge.running.assembly import build
from bridge.running.crew import Crew, end
from bridge.running.hours import Hours
from bridge.running.parts import Parts
from bridge.running.reload import Reloader
from bridge.running.roster import check_modules
from bridge.running.service import tell
from bridge.sdk.errors import TemporaryFailure, TrestleError
from bridge.settings.confidential import refuse_exposed_keys
from bridge.settings.records import Settings
from bridge.storage.backup import last_backup
from bridge.storage.pool import Database
from bridge.storage.thread import to_its_end
from bridge.waits import is_set_within

log = logging.getLogger(__name__)

_STOP_LIMIT = 9.5
"""Seconds for an orderly stop; then the program ends as it is. Nothing is lost by that."""
_DRAIN_LIMIT = 3.0
"""Seconds of those for what is being handled."""
_TASKS_LIMIT = 7.0
"""Seconds of those until all that runs has ended; the rest is for the database."""
_PING_SECONDS = 60.0
"""From one ping to the next, while all is well."""
_FED_SECONDS = 30.0
"""So long after a transaction we need not ask whether the homeserver reaches us."""
_COUNT_LIMIT = 10.0
_LOOK_SECONDS = 60
"""Between two words to the service manager that we still wait for the homeserver."""
_HUNG_SECONDS = 3600.0
"""After so long one turn of the housekeeping is taken to hang for ever, as with a dead disk."""
_EAGER_TRIES = 30
"""Pings that fail at most a second apart; those after them leave more and more time."""


class App:
    """The running program."""

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        *,
        on_ready: Callable[["App"], None] | None = None,
        end_for_sure: bool = False,
        read_again: Callable[[], Settings] | None = None,
    ) -> None:
        self.settings = settings
        self.parts = parts
        self._read_again = read_again
        self._told_to_reload = asyncio.Event()
        self._unforeseen = Unforeseen("keeping house")
        self._greeting = Unforeseen("greeting the homeserver", longest=_PING_SECONDS)
        self.ready = asyncio.Event()
        self._on_ready = on_ready
        self._end_for_sure = end_for_sure
        self._reached = False
        """Whether the homeserver answered the last ping, whatever it said of us."""
        self._turned_at = inf
        """When the housekeeping began its last turn (loop time)."""
        self._looked = asyncio.Event()
        self._waits_for_rooms = False

    async def run(self) -> None:
        """Run until cancelled. Raises a ``TrestleError`` when it cannot go on."""
        parts = self.parts
        async with asyncio.TaskGroup() as group:
            crew, watchdog = Crew(group), self._watchdog()
            background = [
                group.create_task(parts.database.guard(), name="database"),
                group.create_task(self._tell_how_it_is(), name="gauges"),
                group.create_task(self._keep_house(), name="housekeeping"),
                group.create_task(self._greet(), name="homeserver"),
                group.create_task(watchdog.run(), name="watchdog"),
                group.create_task(parts.pulse.run(), name="pulse"),
                group.create_task(parts.status_room.run(), name="status room"),
                group.create_task(parts.logins.run(), name="logins"),
                group.create_task(parts.house.typing.run(), name="typing"),
                group.create_task(parts.house.gathering.run(), name="gathering"),
                group.create_task(parts.house.catching_up.run(), name="catching up"),
            ]
            marker = group.create_task(parts.marker.run(), name="marks")
            await self._load()
            sender = group.create_task(parts.sender.run(), name="sender")
            crew.start_networks(parts.instances)
            routing: list[asyncio.Task[None]] = []
            try:
                await self._recover(group)
                routing += [
                    group.create_task(parts.router.run(), name="router"),
                    group.create_task(parts.intake.feed(), name="feeder"),
                    *(group.create_task(run(), name=name) for name, run in self._rounds().items()),
                    group.create_task(self._reload(crew, watchdog), name="reload"),
                ]
                crew.start_keepers(parts.keepers)
                await self._look_first()
                parts.intake.open()
                routing.append(group.create_task(parts.reconciler.run(), name="reconciler"))
                self.ready.set()
                parts.logins.do(parts.own_data.tell_taken_up)
                parts.logins.do(parts.own_data.make_again)
                _calm_the_collector()
                tell("READY=1")
                log.info("ready at %s: %s", *self._who_is_where(), extra={"event": "ready"})
                if self._on_ready is not None:
                    self._on_ready(self)
                await asyncio.Event().wait()
            finally:
                self.ready.clear()
                tell("STOPPING=1")
                log.info("stopping", extra={"event": "stopping"})
                if self._end_for_sure:
                    _end_later()
                until = asyncio.get_running_loop().time() + _TASKS_LIMIT
                await parts.receiver.stop(_DRAIN_LIMIT)
                await parts.router.drain(_DRAIN_LIMIT)
                await end(routing[::-1], until)
                await crew.end_all(until)
                await end([sender], until)
                await end([marker], until)
                await end(background, until)

    def _rounds(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """What goes round the bridged rooms, each until it is cancelled."""
        parts = self.parts
        return {
            "rooms": parts.declared.run, "consents": parts.consents.run,
            "encrypted": parts.encrypted_rooms.run, "policies": parts.policies.run,
            "privacy": parts.privacy.run,
        }  # fmt: skip

    def not_ready(self) -> str | None:
        """None if events are taken; else why not."""
        if self._waits_for_rooms:
            return "it waits for the homeserver: after a restore the rooms are looked at first"
        if not self.ready.is_set():
            return "starting"
        if not self.parts.database.up:
            return "the database is away"
        return None

    # --- inside ---

    def _watchdog(self) -> Watchdog:
        def running() -> str:
            lanes = self.parts.router.lanes.values()
            names = [lane.consumer.name for lane in lanes if lane.current is not None]
            keepers = self.parts.keepers.values()
            names += [f"a timer of {one.name}" for one in keepers if one.is_ringing]
            return ", ".join(names)

        return Watchdog(self.settings.limits.watchdog, running)

    async def _reload(self, crew: Crew, watchdog: Watchdog) -> None:
        """Read the settings again whenever ``SIGHUP`` or the command line says so."""
        if self._read_again is None:
            return
        reloader = self.parts.control.reloader = Reloader(
            self.parts, crew, watchdog, self._read_again
        )
        with self._hearing_hangups():
            while True:
                await self._told_to_reload.wait()
                self._told_to_reload.clear()
                try:
                    reloaded = await reloader.reload()
                except TrestleError as error:
                    log.error(
                        "the settings stay as they were: %s", error,
                        extra={"event": "reload_refused"},
                    )  # fmt: skip
                    continue
                except Exception:  # Whatever is in a file, what runs goes on.
                    log.exception(
                        "the settings could not be read or applied",
                        extra={"event": "reload_failed"},
                    )
                    continue
                for sentence in reloaded.sentences():
                    log.info("%s", sentence, extra={"event": "reloaded"})

    @contextlib.contextmanager
    def _hearing_hangups(self) -> Iterator[None]:
        loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGHUP)
        loop.add_signal_handler(signal.SIGHUP, self._told_to_reload.set)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, before)

    async def _load(self) -> None:
        """Know what waits, and undo what a restore brought back, before a network is at work."""
        parts = self.parts
        await parts.sender.load()
        await parts.logins.load()
        await parts.erasure.load()

    async def _recover(self, group: asyncio.TaskGroup) -> None:
        parts = self.parts
        await parts.intake.refill()
        await parts.intake.recover(parts.inflight.recover(), group, alone=10.0)
        # Not before what the file says is in the journal's marks.
        await parts.marker.settle()
        parts.inflight.clear(parts.router.suspects())

    async def _look_first(self) -> None:
        """After a restore, wait until it is noted where each room goes on from.

        What is said before that, and lost by the homeserver, is not found; so until then nobody is
        told that we are ready.
        """
        if not await self.parts.bot_rooms.is_restored():
            return
        log.info(
            "after a restore, events are taken once the rooms have been looked at",
            extra={"event": "rooms_first"},
        )
        self._waits_for_rooms = True
        try:
            while not self._looked.is_set():
                # A service manager that waits for us is to wait on, however long they are away.
                tell(f"EXTEND_TIMEOUT_USEC={2 * _LOOK_SECONDS * 1_000_000}")
                await is_set_within(_LOOK_SECONDS, self._looked)
        finally:
            self._waits_for_rooms = False

    async def _greet(self) -> None:
        """Introduce ourselves to the homeserver, as often as it takes; learn what it can."""
        parts, loop = self.parts, asyncio.get_running_loop()
        failures, is_held_back = 0, False
        while True:
            try:
                with self._greeting.outlived():
                    await self._introduce(is_unreached=failures > 0)
                    if is_held_back:
                        parts.reconciler.want()  # What it could not hand us it may have lost.
                    if parts.homeserver.words != "answers":
                        log.info("the homeserver answers", extra={"event": "homeserver_answers"})
                    parts.homeserver.words = "answers"
                    self._note_ping(None)
                    failures = 0
                    is_held_back = await self._rest(_PING_SECONDS)
                    continue
                # Whose fault it is nobody knows: it may be the database's.
                self._reached = False
                self._note_homeserver("greeting it failed; the log has more")
            except TrestleError as error:
                self._note_ping(error)
                self._note_homeserver(self._explain(error))
            failures, is_held_back = failures + 1, True
            await self._rest(max(_after(failures), self._greeting.rests_until() - loop.time()))

    async def _rest(self, seconds: float) -> bool:
        """Wait, but not while the homeserver holds back what we can take again; say if it does.

        It was turned away when we started or the database was away; a ping ends its waiting,
        which grows to minutes otherwise. While we wait for it, it shows that it is there again.
        """
        loop, receiver = asyncio.get_running_loop(), self.parts.receiver
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, 0.5))
            can_go_on = self._waits_for_rooms or self.not_ready() is None
            if receiver.turned_away and can_go_on:
                receiver.turned_away = False
                return True
        return False

    async def _introduce(self, *, is_unreached: bool) -> None:
        """``is_unreached``: the last try has failed."""
        parts = self.parts
        is_known = parts.introduced
        if not is_known:
            await parts.intents.learn_device_support()
            if not parts.client.supports_device_id:
                log.warning(
                    "this homeserver forgets transaction ids when it restarts: a message may be "
                    "there twice after that (it lacks device_id masquerading, MSC4326)",
                    extra={"event": "no_device_id"},
                )
            await parts.stage_bots()
            await parts.reconciler.start_over()
            self._looked.set()
            await parts.double_puppets.look()
            parts.introduced = True
            parts.reconciler.want()
        if is_known and not is_unreached and parts.receiver.is_fed(_FED_SECONDS):
            # A ping would have Synapse deliver what it holds back twice at once, and ever slower.
            await parts.client.whoami()
        else:
            # A good ping makes Synapse deliver at once what it holds back.
            await parts.client.ping(self.settings.appservice.id)

    def _who_is_where(self) -> tuple[str, str]:
        """Where events come in, and whom they reach."""
        names = sorted([*self.parts.instances, *self.parts.bots])
        return str(self.parts.receiver.address), ", ".join(names) or "no module is switched on"

    @staticmethod
    def _explain(error: TrestleError) -> str:
        """Say why the homeserver does not work for us, with the way out where it is known."""
        cause = error.__cause__
        if isinstance(cause, MatrixError) and cause.errcode == "M_UNKNOWN_TOKEN":
            return PING_ERRORS[cause.errcode]
        if isinstance(error, MatrixError):
            return PING_ERRORS.get(error.errcode, str(error))
        return str(error)

    def _note_homeserver(self, reason: str) -> None:
        if reason != self.parts.homeserver.words:
            url = self.settings.homeserver.url
            log.warning("%s", reason, extra={"event": "homeserver_trouble", "homeserver.url": url})
        self.parts.homeserver.words = reason

    def _note_ping(self, error: TrestleError | None) -> None:
        """Tell not reaching the homeserver from not being reached by it."""
        cut = isinstance(error, MatrixError) and error.errcode in NOT_REACHED
        self._reached = cut or error is None
        if self._reached:  # Else nobody knows.
            self.parts.telemetry.reached_by_homeserver.set(not cut)

    async def _tell_how_it_is(self) -> None:
        """Set gauges and have the service manager hear of us each second, whatever the database
        lets us wait for: up to an hour, so that what hangs for ever ends by a restart."""
        loop = asyncio.get_running_loop()
        while True:
            self._set_gauges()
            before = loop.time()
            await asyncio.sleep(1)
            if loop.time() - self._turned_at < _HUNG_SECONDS:
                tell("WATCHDOG=1")
            self.parts.telemetry.loop_lag_seconds.observe(max(0.0, loop.time() - before - 1))

    async def _keep_house(self) -> None:
        """What changes seldom every minute; retention every hour and when a day has begun."""
        loop, clock = asyncio.get_running_loop(), self.parts.database.clock
        hours, minute = Hours(loop.time(), clock.today()), loop.time()
        while True:
            self._turned_at = loop.time()
            if loop.time() >= minute:
                minute = loop.time() + 60
                with self._unforeseen.outlived("each minute"):
                    await self._each_minute()
            await asyncio.sleep(1)
            if loop.time() >= self._unforeseen.rests_until("long ids"):
                with contextlib.suppress(TemporaryFailure), self._unforeseen.outlived("long ids"):
                    await self.parts.note_long_ids()
            if hours.are_due(loop.time(), clock.today()):
                with contextlib.suppress(TemporaryFailure), self._unforeseen.outlived("hourly"):
                    await self._hourly()
                    continue
                hours.note_failure(loop.time())

    async def _hourly(self) -> None:
        await self.parts.bookkeeper.balance()
        tidy_log_files(self.parts.database.clock.today())
        await to_its_end(self.parts.database.tidy_log)
        forget(self.parts.router, await self.parts.retention.run_or_complain())

    def _set_gauges(self) -> None:
        parts = self.parts
        telemetry = parts.telemetry
        telemetry.lanes.set(len(parts.router.lanes))
        telemetry.items_waiting.set(parts.intake.waiting)
        telemetry.outbox_waiting.set(parts.sender.waiting)
        ages = (item.age for item in parts.router.heads)
        telemetry.oldest_item_seconds.set(max(ages, default=0.0))
        put = parts.sender.oldest()
        age = 0.0 if put is None else (parts.database.clock.now() - put).total_seconds()
        telemetry.oldest_outbox_seconds.set(max(0.0, age))
        telemetry.database_up.set(parts.database.up)
        telemetry.homeserver_up.set(self._reached and not parts.sender.trouble)

    async def _each_minute(self) -> None:
        """What seldom changes, or costs something to find out."""
        telemetry, state_dir = self.parts.telemetry, self.settings.state_dir
        made = last_backup(state_dir)
        telemetry.backup_timestamp_seconds.set(0 if made is None else made.timestamp())
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(state_dir)
            telemetry.disk_bytes.set(usage.total)
            telemetry.disk_free_bytes.set(usage.free)
        with contextlib.suppress(TemporaryFailure, TimeoutError):
            async with asyncio.timeout(_COUNT_LIMIT):
                await self.parts.count_parked()


async def run(
    settings: Settings,
    *,
    clock: Clock | None = None,
    on_ready: Callable[[App], None] | None = None,
    end_for_sure: bool = False,
    read_again: Callable[[], Settings] | None = None,
) -> None:
    """Run Trestle until cancelled.

    ``on_ready`` is called once events are taken. With ``end_for_sure`` the process ends even if
    a module refuses to stop. ``read_again`` reads the settings anew when somebody asks for it.
    Raises ``ConfigError`` with the way out when it cannot start or go on.
    """
    clock = clock or SystemClock()
    check_modules(settings)  # Before anything is started for them.
    refuse_exposed_keys(settings.state_dir)
    try:
        async with (
            Database.open(settings.database, settings.state_dir, clock) as database,
            build(settings, database) as parts,
        ):
            app = App(
                settings, parts, on_ready=on_ready, end_for_sure=end_for_sure,
                read_again=read_again,
            )  # fmt: skip
            async with parts.listening(app.not_ready):
                await app.run()
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _after(failures: int) -> float:
    """Seconds until the next try.

    At first it is soon: Synapse may have connections left to one of us that was killed, fails on
    each of them once, and holds events back until a ping gets through.
    """
    return min(2.0 ** max(0, failures - _EAGER_TRIES), _PING_SECONDS)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the task group: ours, if one of them is."""
    ours = group.subgroup(TrestleError)
    chosen: BaseException = ours if ours is not None else group
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen


def _calm_the_collector() -> None:
    """What was built at the start stays; look for cycles among the rest less often.

    Events come and go without cycles; looking for some after every 700 objects costs a tenth of
    the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _end_later() -> None:
    """A module that refuses to stop must not keep the program alive."""
    timer = threading.Timer(_STOP_LIMIT, os._exit, (3,))
    timer.daemon = True
    timer.start()
