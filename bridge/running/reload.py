"""``trestle reload``: reads the settings again and applies whatever does not need a restart.

First everything is checked and made, which touches nothing that runs; only then is it put to
work, an instance at a time. Whatever is wrong leaves the program as it was.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from bridge.core.host.bots import ModuleSeat, Seat
from bridge.core.host.instances import Instance
from bridge.core.host.timers import TimerKeeper
from bridge.core.lanes.lane import Lane
from bridge.core.lanes.late import Lateness
from bridge.core.oversight.byhand import HERE
from bridge.core.oversight.watchdog import Watchdog
from bridge.logs import Log, levels_by_logger
from bridge.matrix.registration import registration
from bridge.model import AuditAction
from bridge.running.crew import Crew
from bridge.running.parts import Parts
from bridge.running.roster import (
    admins_of,
    check_modules,
    namespaces_of,
    protocols_of,
    split_modules,
    templates_of,
)
from bridge.running.workshop import read_options
from bridge.sdk.errors import TrestleError
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.sdk.login import LoginKind
from bridge.sdk.module import Bot
from bridge.settings.records import Settings, keys_of, name_in_file
from bridge.storage.timers import InstanceTimers

log = logging.getLogger(__name__)


def open_log(settings: Settings) -> Log:
    """Open the log as the settings want it. Raises ``ConfigError`` if it cannot be opened."""
    modules = {name: one.module for name, one in settings.modules.items()}
    wanted = settings.logging
    return Log(
        wanted.format, wanted.level, levels=levels_by_logger(wanted.levels, modules),
        file=wanted.file,
    )  # fmt: skip


NEEDS_RESTART = (
    "homeserver", "appservice", "database", "state_dir", "web", "fetching", "ops",
)  # fmt: skip
"""Sections that are read at the start only."""

AT_ONCE = ("permissions", "logging", "limits", "rooms")
"""Sections that take effect at a reload, beside ``modules``."""

_QUIET_SECONDS = 5.0
"""How long an instance may take to finish what it is doing, before it is ended."""
_ROOMS_SECONDS = 60.0
"""Whoever asked for the reload waits, and so does the next reload; a homeserver may be away."""


Options = Mapping[InstanceId, tuple[str, BaseModel]]
"""Each instance's module and options as read: a secret in a file may change by itself."""


@dataclass(slots=True)
class Reloaded:
    """What came of it, for people."""

    done: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)
    """Keys whose change waits for a restart."""
    notes: list[str] = field(default_factory=list)
    """What is left to the admin."""

    def sentences(self) -> list[str]:
        """Say it, a line each."""
        lines = [*self.done] or ["nothing to change"]
        if self.restart:
            lines.append(f"needs a restart: {', '.join(self.restart)}")
        return [*lines, *self.notes]


@dataclass(slots=True)
class _Change:
    """One instance that is added, changed or removed; its parts are made, and not started."""

    instance: InstanceId
    word: str
    was_bot: bool = False
    network: Instance | None = None
    bot: "_Bot | None" = None


@dataclass(slots=True)
class _Bot:
    """A bot that is made, with what belongs to it."""

    bot: Bot
    timers: InstanceTimers
    keeper: TimerKeeper | None
    seats: Sequence[tuple[RoomId, UserId | None]] = ()
    """The rooms it was in when it last ran, as stored."""


class Reloader:
    """Brings new settings into the running program."""

    def __init__(
        self, parts: Parts, crew: Crew, watchdog: Watchdog, read: Callable[[], Settings]
    ) -> None:
        self._parts = parts
        self._crew = crew
        self._watchdog = watchdog
        self._read = read
        self._options = read_options(parts.settings)
        self._one_at_a_time = asyncio.Lock()
        self.patience = _ROOMS_SECONDS
        """Seconds that a reload waits for the declared rooms."""

    async def reload(self) -> Reloaded:
        """Read the settings and apply them.

        Raises ``ConfigError`` for what is wrong with them and ``TemporaryFailure`` if the database
        is away; then nothing has changed.
        """
        async with self._one_at_a_time:
            new = await asyncio.to_thread(self._read)
            running, answer = self._parts.settings, Reloaded()
            answer.restart = list(_waiting_for_restart(running, new))
            kept = {name: getattr(running, name) for name in NEEDS_RESTART}
            new = replace(new, **kept)
            check_modules(new)
            namespaces_of(new)
            options = read_options(new)
            changes = [self._prepare(new, *one) for one in _changes(self._options, options)]
            written = open_log(new) if new.logging != running.logging else None
            try:
                await self._ask_database(changes)
                await self._record(running, new, changes)
                registered = _registration_of(running)
                for change in changes:
                    await self._apply(change)
                    # One by one: if a later one fails, the next reload knows what is left.
                    self._note(change.instance, options)
                    answer.done.append(f"{change.word} {change.instance}")
                answer.done += self._apply_values(running, new, written)
            finally:
                if written is not None:
                    written.let_go()
            self._parts.settings = new
            answer.notes += await self._review_logins()
            if any(change.bot for change in changes):
                answer.notes += await self._stage_bots()
            if new.rooms != running.rooms or changes:
                answer.notes += await self._rooms(new)
            if _registration_of(new) != registered:
                answer.notes.append(
                    "the registration has changed: write it with `trestle registration`, and "
                    "restart the homeserver"
                )
        log.info("the settings were read again", extra={"event": "reloaded"})
        return answer

    async def drift(self) -> Reloaded:
        """Say what a reload would do, and where the rooms are not as declared."""
        new, running = await asyncio.to_thread(self._read), self._parts.settings
        answer = Reloaded(restart=list(_waiting_for_restart(running, new)))
        check_modules(new)
        changes = _changes(self._options, read_options(new))
        answer.done = [f"{word} {instance}" for instance, word in changes]
        answer.done += [text for _, text in _changed_values(running, new)]
        answer.notes = list(await self._parts.declared.drift())
        return answer

    def _note(self, instance: InstanceId, options: Options) -> None:
        """Remember with which options an instance runs by now, or that it does not."""
        if instance in options:
            self._options[instance] = options[instance]
        else:
            self._options.pop(instance, None)

    # --- checking ---

    def _prepare(self, new: Settings, instance: InstanceId, word: str) -> _Change:
        parts = self._parts
        change = _Change(instance, word, was_bot=instance in parts.bots)
        if instance not in new.modules:
            return change
        if instance in split_modules(new)[0]:
            change.network = parts.workshop.network(new, instance, parts.portals)
        else:
            bot, timers = parts.workshop.bot(new, instance)
            keeper = parts.workshop.keeper(new, instance, bot, timers, parts.stage, parts.routes)
            change.bot = _Bot(bot, timers, keeper)
        return change

    async def _ask_database(self, changes: Sequence[_Change]) -> None:
        """Get what a start needs from the database, so that it cannot fail for that later."""
        seats = await self._parts.bot_rooms.bot_rooms()
        for change in changes:
            if change.bot is not None:
                user = self._parts.namespaces.bot_of(change.instance)
                change.bot.seats = [(room, with_) for one, room, with_ in seats if one == user]
            if change.network is not None:
                await self._parts.accounts.get_or_add_login(change.instance, LoginKind.RELAY, None)

    async def _record(self, running: Settings, new: Settings, changes: Sequence[_Change]) -> None:
        """Note it in the audit before it is done."""
        words = [f"{change.word} {change.instance}" for change in changes]
        words += [text for _, text in _changed_values(running, new)]
        if words:
            await self._parts.house.audit.record(
                actor=HERE, action=AuditAction.RELOAD, target="; ".join(words)
            )

    async def _review_logins(self) -> Sequence[str]:
        try:
            await self._parts.logins.review()
        except TrestleError as error:
            return [f"who may keep a login is checked at the next start: {error}"]
        return []

    # --- putting to work ---

    async def _apply(self, change: _Change) -> None:
        parts, instance = self._parts, change.instance
        log.info(
            "%s %s",
            change.word,
            instance,
            extra={"event": "instance_changed", "instance": instance},
        )
        if change.network is None and not change.was_bot:
            await self._remove_network(instance)
        elif change.bot is None and change.was_bot:
            await self._remove_bot(instance)
        networks, bots = set(parts.namespaces.networks), set(parts.namespaces.bots)
        for names, there in ((networks, change.network), (bots, change.bot)):
            names.discard(instance)
            if there is not None:
                names.add(instance)
        parts.namespaces.know_instances(networks, bots)
        if change.network is not None:
            await self._put_network(instance, change.network)
        if change.bot is not None:
            await self._put_bot(instance, change.bot)

    async def _put_network(self, instance: InstanceId, network: Instance) -> None:
        """Start it, in the place of the one before. What is sent meanwhile waits in its lane."""
        old = self._parts.instances.get(instance)
        self._parts.instances[instance] = network
        self._parts.logins.serve(network)
        if old is not None:
            await self._wait_until_quiet(self._lanes_of_network(instance))
            await self._crew.end(instance)
        self._crew.start_networks({instance: network})

    async def _remove_network(self, instance: InstanceId) -> None:
        if self._parts.instances.pop(instance, None) is None:
            return
        await self._wait_until_quiet(self._lanes_of_network(instance))
        await self._crew.end(instance)
        self._parts.telemetry.forget(instance)

    async def _put_bot(self, instance: InstanceId, new: _Bot) -> None:
        """From now on it hears what the one before has not heard yet."""
        parts = self._parts
        await self._rest_timers(instance)
        parts.bots[instance], parts.timers[instance] = new.bot, new.timers
        there = set()
        for lane in self._lanes_of_bot(instance):
            seat = lane.consumer
            assert isinstance(seat, ModuleSeat)  # noqa: S101 - the lane is a bot's
            there.add(seat.room)
            parts.routes.change_seat(
                ModuleSeat(
                    instance, new.bot, seat.user, seat.room, parts.stage,
                    direct_with=seat.direct_with,
                )
            )  # fmt: skip
        for room, direct_with in new.seats:
            if room not in there:
                parts.seat(parts.namespaces.bot_of(instance), room, direct_with)
        if new.keeper is not None:
            parts.keepers[instance] = new.keeper
            self._crew.start_keepers({instance: new.keeper})

    async def _remove_bot(self, instance: InstanceId) -> None:
        parts = self._parts
        lanes = self._lanes_of_bot(instance)
        await self._rest_timers(instance)
        await self._wait_until_quiet(lanes, empty=True)
        for lane in lanes:
            seat = lane.consumer
            assert isinstance(seat, ModuleSeat)  # noqa: S101 - the lane is a bot's
            parts.routes.remove_seat(seat.user, seat.room)
        parts.bots.pop(instance, None)
        parts.timers.pop(instance, None)
        parts.telemetry.forget(instance)

    async def _rest_timers(self, instance: InstanceId) -> None:
        keeper = self._parts.keepers.pop(instance, None)
        if keeper is None:
            return
        try:
            async with asyncio.timeout(_QUIET_SECONDS):
                while keeper.is_ringing:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("%s is cut off in a timer", keeper.name, extra={"event": "timer_cut_off"})
        await self._crew.end(instance)

    def _lanes_of_network(self, instance: InstanceId) -> list[Lane]:
        lanes = self._parts.router.lanes
        doors = [door for door in self._parts.portals.all if door.portal.instance == instance]
        return [lanes[door.name] for door in doors if door.name in lanes]

    def _lanes_of_bot(self, instance: InstanceId) -> list[Lane]:
        user = self._parts.namespaces.bot_of(instance)
        return [
            lane
            for lane in self._parts.router.lanes.values()
            if isinstance(lane.consumer, ModuleSeat) and lane.consumer.user == user
        ]

    async def _wait_until_quiet(self, lanes: Sequence[Lane], *, empty: bool = False) -> None:
        """Let the lanes finish what they are doing; what comes next waits, or goes elsewhere."""
        busy = {lane: lane.current for lane in lanes}
        try:
            async with asyncio.timeout(_QUIET_SECONDS):
                for lane, item in busy.items():
                    while (item is not None and lane.current is item) or (empty and len(lane)):
                        await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("what is on its way is cut off", extra={"event": "cut_off"})

    def _apply_values(self, old: Settings, new: Settings, written: Log | None) -> list[str]:
        """Have the new levels, limits and log; say which."""
        changed = dict(_changed_values(old, new))
        parts, limits = self._parts, new.limits
        # An instance that is new has its own rules, though none were changed.
        parts.permissions.set(
            new.permissions,
            {name: module.rules.permissions for name, module in new.modules.items()},
        )
        parts.namespaces.know_templates(templates_of(new))
        parts.status_room.set_admins(admins_of(new))
        if written is not None:
            written.use()
        if "limits" in changed:
            self._watchdog.limit = limits.watchdog
            parts.stage.deadline = limits.item_deadline
            parts.house.deadline = limits.send_deadline
            parts.house.tell_after = limits.tell_after
            parts.house.lateness = Lateness(after=limits.late_after, keep=limits.late_keep)
            for lane in parts.router.lanes.values():
                if isinstance(lane.consumer, Seat):
                    lane.consumer.deadline = limits.item_deadline
            for door in parts.portals.all:
                door.deadline = limits.send_deadline
            parts.router.set_tries(limits.tries)
            for keeper in parts.keepers.values():
                keeper.set_tries(limits.tries)
            parts.intake.memory = limits.items_in_memory
        return list(changed.values())

    async def _stage_bots(self) -> list[str]:
        try:
            await self._parts.stage_bots()
        except TrestleError as error:
            self._parts.introduced = False  # It is tried again with the next greeting.
            return [f"its bots' accounts are not made yet: {error}"]
        return []

    async def _rooms(self, new: Settings) -> Sequence[str]:
        declared = self._parts.declared
        declared.declare(new.rooms, admins_of(new))
        try:
            async with asyncio.timeout(self.patience):
                return await declared.reconcile()
        except TimeoutError:
            later = "the declared rooms take longer, and go on by themselves"
            return [later, *await declared.drift()]
        except TrestleError as error:
            return [f"the rooms wait: {error}"]


def _changes(old: Options, new: Options) -> Iterator[tuple[InstanceId, str]]:
    """The instances that differ: first those that go, then those that change, then new ones."""
    for instance in old:
        if instance not in new:
            yield instance, "removed"
    for instance, options in new.items():
        if instance in old and old[instance] != options:
            yield instance, "changed"
    for instance in new:
        if instance not in old:
            yield instance, "added"


def _changed_values(old: Settings, new: Settings) -> Iterator[tuple[str, str]]:
    for name in AT_ONCE:
        if getattr(old, name) != getattr(new, name):
            yield name, f"changed {name}"
    rules = [{name: one.rules for name, one in each.modules.items()} for each in (old, new)]
    if any(rules[1].get(name, rule) != rule for name, rule in rules[0].items()):
        yield "rules", "changed who may do what on single networks, and how"


def _waiting_for_restart(old: Settings, new: Settings) -> Iterator[str]:
    """The keys that differ and are only read at the start."""
    for section in NEEDS_RESTART:
        before, after = getattr(old, section), getattr(new, section)
        if not dataclasses.is_dataclass(before):
            if before != after:
                yield section
            continue
        for name, (key, _, _) in keys_of(type(before)).items():
            if getattr(before, name) != getattr(after, name):
                yield f"{section}.{name_in_file(name, key)}"


def _registration_of(settings: Settings) -> dict[str, Any]:
    return registration(settings.appservice, namespaces_of(settings), protocols_of(settings))
