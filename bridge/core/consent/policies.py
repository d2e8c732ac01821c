"""Policy lists that rooms follow: read, put in force, and kept up with."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bridge.core.consent.chatbans import change_bans, find_bans
from bridge.core.lanes.lane import Item, Lane
from bridge.core.lanes.patience import asked_for
from bridge.core.lanes.unforeseen import Unforeseen
from bridge.core.outbox.outgoing import notice, once
from bridge.core.permissions.policyrules import KINDS, Aimed, Rule, Weighed, aim, read_rule, weigh
from bridge.core.portals.declared import Residence
from bridge.core.portals.portals import Portals
from bridge.core.rooms.house import House
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import MatrixError, failure_of, heed_token
from bridge.model import AuditAction, ParkReason, Subscription
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.sdk.module import BansChats
from bridge.storage.policies import PolicyStore

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 10.0
_AGAIN_WITHOUT_RIGHTS_SECONDS = 600.0
_BAN_SECONDS = 30.0

Rules = dict[tuple[str, str], Rule]
"""A list's rules by the type and the state key of their events."""


class Policies:
    """Knows which portal follows which lists, and puts in force what they say.

    Anyone whom a rule is about is kept out of the portal; a rule about people of the network, by
    their names, is a ban on the chat. A rule about the bridge, those who run the room or very many
    people needs a yes of its own.
    """

    name, deadline, holds = "policies", 60.0, False

    def __init__(self, house: House, portals: Portals, store: PolicyStore) -> None:
        self._house = house
        self._portals = portals
        self._store = store
        self._followed: dict[tuple[int, RoomId], Subscription] = {}
        self._rules: dict[RoomId, Rules] = {}
        self._heard: Counter[RoomId] = Counter()
        """By list: how many changes of it came."""
        self._read_at: dict[RoomId, float] = {}
        """By list: when it was last read as a whole (loop time)."""
        self._outdated: dict[RoomId, float] = {}
        """Lists that changed while they were read, and when they are read again (loop time)."""
        self._bans: dict[int, set[str]] = {}
        self._late: dict[int, float] = {}
        """Portals with something left to do, and when it is tried again (loop time)."""
        self._due: set[int] = set()
        """Portals whose lists have changed."""
        self._told: set[tuple[int, str]] = set()
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()
        self._asking_one: dict[InstanceId, asyncio.Lock] = {}
        """By network: one chat's bans are changed at a time."""
        self._turns: dict[InstanceId, asyncio.Lock] = {}
        """By network: of the rooms for which it is asked of our own accord, one at a time waits
        for the above; a command waits for no more than that one."""
        self._asking: set[int] = set()
        """Portals whose network is asked by :meth:`run`, or is to be."""
        self._with_news: set[int] = set()
        """Portals with new rules, against which those who are connected were not held yet."""
        self._looked: set[int] = set()
        """Portals whose bans were compared with the chat's since we run."""
        self._unforeseen = Unforeseen("policy lists")
        self.residence: Residence
        self.has_seat: Callable[[UserId, RoomId], bool]

    async def load(self) -> None:
        """Read what is followed. Call once, before events are dispatched."""
        ids = {door.portal.id for door in self._portals.all}
        for one in await self._store.all():
            if one.portal in ids:
                self._followed[one.portal, one.room] = one
            else:
                await self._store.remove(one.portal, one.room)
        for portal, pattern in await self._store.bans():
            if portal in ids:
                self._bans.setdefault(portal, set()).add(pattern)
            else:
                await self._store.remove_bans(portal, [pattern])
        waiting = {one.portal for one in self._followed.values() if one.applied}
        self._house.policies.waiting.update(waiting)
        self._late = dict.fromkeys([*waiting, *self._bans], 0.0)

    async def run(self) -> None:
        """Do what is left to do; what cannot be done is tried again. Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._go_round(group)
                with suppress(TimeoutError):
                    times = (*self._late.values(), *self._outdated.values())
                    async with asyncio.timeout_at(min(times, default=None)):
                        await self._changed.wait()

    async def _go_round(self, group: asyncio.TaskGroup) -> None:
        now = asyncio.get_running_loop().time()
        for room in [room for room, at in self._outdated.items() if at <= now]:
            del self._outdated[room]
            self._rules.pop(room, None)
            self._have_due(room)
        self._changed.clear()
        doors = [door for door in self._portals.all if not door.facts.is_ended]
        ids = {door.portal.id for door in doors}
        self._late = {portal: at for portal, at in self._late.items() if portal in ids}
        due = self._due | {portal for portal, at in self._late.items() if at <= now}
        self._due.clear()
        for door in doors:
            if door.portal.id in due:
                await self._try_to_put(group, door)

    async def _try_to_put(self, group: asyncio.TaskGroup, door: Doorway) -> None:
        number, loop = door.portal.id, asyncio.get_running_loop()
        try:
            with self._unforeseen.outlived(number):
                await self._put_rules(door)
                self._begin_to_ban(group, door)
                return
            self._late[number] = self._unforeseen.rests_until(number)
        except (DeliveryError, MatrixError) as error:
            self._late[number] = loop.time() + max(_AGAIN_SECONDS, asked_for(error))

    # --- the walk of an event ---

    def lanes(self, event: dict[str, Any]) -> Sequence[Lane]:
        """The lane of a list's event; none if nobody follows the list."""
        room = event["room_id"]
        is_about_rules = event["type"] in KINDS or event["type"] == "m.room.redaction"
        if is_about_rules and any(one.room == room for one in self._followed.values()):
            return [self._house.router.lane(self)]
        return ()

    async def handle(self, item: Item) -> None:
        """Take a change of a list, as the homeserver has it now: events may come late."""
        event = item.event
        item.drop()
        room = RoomId(event["room_id"])
        self._heard[room] += 1
        if room not in self._rules:
            return  # It is read as a whole when its turn comes.
        known = dict(self._rules[room])
        if event["type"] == "m.room.redaction":
            await self.read(room)
        else:
            await self._read_one(room, event["type"], str(event["state_key"]))
        if self._rules.get(room, known) == known:
            return
        # A list may change by the hundred: what comes of it is seen to beside the lane, at once.
        self._have_due(room)

    def _have_due(self, room: RoomId) -> None:
        self._due |= {one.portal for one in self.of_list(room) if one.applied}
        self._changed.set()

    async def _read_one(self, room: RoomId, kind: str, key: str) -> None:
        try:
            content = await self._house.intents.state(room, kind, key) or {}
        except MatrixError as error:
            raise TemporaryFailure(str(error)) from error
        rules, rule = self._rules.get(room, {}), read_rule(kind, content)
        if rule is None:
            rules.pop((kind, key), None)
        else:
            rules[kind, key] = rule

    async def parked(self, item: Item, reason: ParkReason, detail: str) -> None:
        """Nobody to tell: the log has it."""

    # --- what is followed ---

    def of(self, door: Doorway) -> Sequence[Subscription]:
        """The lists that a portal follows, oldest first."""
        return [one for one in self._followed.values() if one.portal == door.portal.id]

    def of_list(self, room: RoomId) -> Sequence[Subscription]:
        """Who follows a list."""
        return [one for one in self._followed.values() if one.room == room]

    async def read(self, room: RoomId) -> Rules:
        """A list's rules as they are now. Raises a ``DeliveryError``."""
        heard, now = self._heard[room], asyncio.get_running_loop().time()
        may_again_at = self._read_at.get(room, now - _AGAIN_SECONDS) + _AGAIN_SECONDS
        self._read_at[room] = now
        try:
            found = await self._house.intents.states(room, KINDS)
        except MatrixError as error:
            raise failure_of(error, f"the list cannot be read: {error.message}") from error
        read = {place: read_rule(place[0], content) for place, content in found.items()}
        rules = self._rules[room] = {place: rule for place, rule in read.items() if rule}
        if self._heard[room] != heard:
            # The answer may be older than that. A list that changes all the time is not read so.
            self._outdated[room] = may_again_at
            self._changed.set()
        return rules

    async def weigh(self, door: Doorway, rules: Sequence[Rule], by: UserId) -> Weighed:
        """See what rules would do to a portal's room. Raises a ``DeliveryError``."""
        house, room = self._house, door.portal.room
        try:
            members = await house.intents.joined_members(room)
            guarded = await house.intents.who_can(room, "m.bridge")
        except MatrixError as error:
            raise TemporaryFailure("the homeserver does not answer as it should") from error
        guarded |= {by, *house.namespaces.bot_ids}
        instance = door.portal.instance
        too_wide = self.aim(rules, instance).too_wide
        return await asyncio.to_thread(weigh, rules, members, guarded, too_wide, instance)

    def aim(self, rules: Iterable[Rule], instance: InstanceId) -> Aimed:
        """See whom of a network rules are about."""
        namespaces = self._house.namespaces
        return aim(rules, lambda text: namespaces.read_pattern(text, instance))

    async def look(self, door: Doorway, name: str, by: UserId) -> tuple[Subscription, Rules]:
        """Follow a list without doing anything; give it. Raises a ``DeliveryError``."""
        bot = self._house.namespaces.bot
        room = await self._house.intents.enter(name, bot)
        if not self.has_seat(bot, room):
            await self.residence.move_in(bot, room)
        rules = await self.read(room)
        known = self._followed.get((door.portal.id, room))
        if known is not None:
            return known, rules
        one = Subscription(portal=door.portal.id, room=room, by=by)
        await self._record(AuditAction.SUBSCRIBE, door, by, room)
        await self._put(one)
        return one, rules

    async def apply(self, door: Doorway, one: Subscription, by: UserId, *, agreed: bool) -> None:
        """Put a list in force from now on. Raises ``TemporaryFailure``."""
        await self._record(AuditAction.APPLY, door, by, one.room)
        await self._put(replace(one, applied=True, agreed=agreed, by=by))
        await self.enforce(door)

    async def end(self, door: Doorway, one: Subscription, by: UserId) -> None:
        """Follow a list no more, and take back what came of it. Raises ``TemporaryFailure``."""
        await self._record(AuditAction.UNSUBSCRIBE, door, by, one.room)
        is_last = len(self.of_list(one.room)) == 1
        if is_last and not self._portals.in_room(one.room):
            # First: if the homeserver is away, all of it is done again.
            bot = self._house.namespaces.bot
            try:
                await self._house.intents.leave(one.room, bot)
            except MatrixError as error:
                heed_token(error)
            await self.residence.move_out(bot, one.room)
        await self._store.remove(one.portal, one.room)
        self._followed.pop((one.portal, one.room), None)
        if is_last:
            self._rules.pop(one.room, None)
        await self.enforce(door)

    async def end_all(self, door: Doorway, by: UserId) -> None:
        """Follow nothing for a portal that ends. Raises ``TemporaryFailure``."""
        if door.facts.is_ended:  # While the relay is there: the homeserver may be away.
            await self.enforce(door)
        for one in self.of(door):
            await self.end(door, one, by)
        left = self._bans.pop(door.portal.id, set())
        if left:  # The network did not let us lift them: they are the channel's now.
            await self._store.remove_bans(door.portal.id, sorted(left))
        self._late.pop(door.portal.id, None)

    # --- putting it in force ---

    async def enforce(self, door: Doorway) -> None:
        """Put in force what the lists say; what cannot be done now is done later.

        Raises a ``DeliveryError`` if it is not known what they say.
        """
        await self._put_rules(door)
        await self._have_out(door)

    async def _put_rules(self, door: Doorway) -> None:
        """Put the rules in force that the lists have now: no network is asked for anything."""
        number = door.portal.id
        async with self._reading:
            self._late[number] = asyncio.get_running_loop().time() + _AGAIN_SECONDS
            self._changed.set()
            # On a chat whose bridge was ended by those who run it nothing is in force any more,
            # whatever the lists say, and whether or not the homeserver tells that.
            if not door.facts.is_ended:
                rules = await self._rules_for(door)
                if rules - self._house.policies.of(number):
                    self._with_news.add(number)
                self._house.policies.put(number, rules)

    def _begin_to_ban(self, group: asyncio.TaskGroup, door: Doorway) -> None:
        """Ask the network beside what else is to be done: it may never answer."""
        if door.portal.id not in self._asking:
            self._asking.add(door.portal.id)
            group.create_task(self._try_to_have_out(door), name="bans")

    async def _try_to_have_out(self, door: Doorway) -> None:
        number = door.portal.id
        try:
            with suppress(DeliveryError, MatrixError), self._unforeseen.outlived(("bans", number)):
                async with self._turns.setdefault(door.portal.instance, asyncio.Lock()):
                    await self._have_out(door)
        finally:
            self._asking.discard(number)
        if number in self._late:
            rests_until = self._unforeseen.rests_until(("bans", number))
            self._late[number] = max(self._late[number], rests_until)

    async def _have_out(self, door: Doorway) -> None:
        """Put out of the chat, and ban there, those whom the rules in force are about."""
        portal, loop = door.portal, asyncio.get_running_loop()
        async with self._asking_one.setdefault(portal.instance, asyncio.Lock()):
            is_ended, rests_until = door.facts.is_ended, 0.0
            if portal.id in self._with_news and not is_ended:
                rests_until = await self._put_out(door)
            rules = self._house.policies.of(portal.id)
            aimed = self.aim(() if is_ended else rules, portal.instance)
            wait = await self._change_bans(door, aimed.patterns)
            if wait is None and rules != self._house.policies.of(portal.id):
                wait = 0.0  # They have changed meanwhile.
            if wait is None and portal.id in self._with_news:
                wait = max(_AGAIN_SECONDS, rests_until - loop.time())
            if wait is None:
                self._late.pop(portal.id, None)
            else:
                self._late[portal.id] = loop.time() + wait
                self._changed.set()

    async def _rules_for(self, door: Doorway) -> frozenset[Rule]:
        agreed: set[Rule] = set()
        asked: set[Rule] = set()
        by = self._house.namespaces.bot
        for one in self.of(door):
            if one.applied:
                rules = self._rules.get(one.room)
                if rules is None:
                    rules = await self._read_again(door, one)
                (agreed if one.agreed else asked).update(rules.values())
                by = one.by
        if not asked:
            return frozenset(agreed)
        weighed = await self.weigh(door, list(asked), by)
        for rule, why in weighed.held.items():
            if rule not in agreed:
                await self._tell(
                    door, str(rule), f"A policy list that this room follows has a rule, {rule}, "
                    f"that is about {why}. It is not in force; say "
                    f"`{as_typed('policy apply')}` with the list and yes if it is to be.",
                )  # fmt: skip
        return frozenset(agreed | weighed.in_force)

    async def _read_again(self, door: Doorway, one: Subscription) -> Rules:
        try:
            return await self.read(one.room)
        except PermanentFailure as error:
            await self._tell(
                door, one.room, f"The policy list {one.room} is not in force: {error}."
            )
            return {}

    async def _put_out(self, door: Doorway) -> float:
        """Put the connections of whoever is kept out of the portal out of the chat.

        Where that fails with one, the rules are news still: give the time (the loop's) before
        which that one is to be left alone.
        """
        number, is_over, rests_until = door.portal.id, False, 0.0
        instance = self._house.instances.get(door.portal.instance)
        self._with_news.discard(number)  # First: others may come before it is over.
        try:
            for session in instance.sessions if instance is not None else ():
                owner = session.row.owner
                if owner is None or not self._house.policies.cover(number, owner):
                    continue
                part = ("out", number, owner)
                with suppress(DeliveryError), self._unforeseen.outlived(part):
                    await door.let_go(owner, "is on a policy list")
                    continue
                self._with_news.add(number)
                rests_until = max(rests_until, self._unforeseen.rests_until(part))
            is_over = True
        finally:
            if not is_over:
                self._with_news.add(number)
        return rests_until

    async def _change_bans(self, door: Doorway, wanted: Sequence[str]) -> float | None:
        """Set these bans on the chat, and no others of ours; give the seconds until the next try
        if there must be one."""
        portal, house = door.portal, self._house
        held = self._bans.setdefault(portal.id, set())
        add, lift = sorted(set(wanted) - held), sorted(held - set(wanted))
        is_new = bool(held) and portal.id not in self._looked
        instance = house.instances.get(portal.instance)
        if instance is None or not (add or lift or is_new):
            return None
        if instance.relay is None:
            return _AGAIN_SECONDS
        client = instance.relay.client
        if not isinstance(client, BansChats):
            return None
        try:
            async with asyncio.timeout(_BAN_SECONDS):
                if is_new:  # Of what was noted before a crash it is not known whether it was done.
                    held.intersection_update(await find_bans(door, client, sorted(held)))
                    self._looked.add(portal.id)
                    add = sorted(set(wanted) - held)
                # What others banned before is theirs, and stays when the list changes.
                there = await find_bans(door, client, add)
                add = [pattern for pattern in add if pattern not in there]
                await self._note_bans(door, add, lift)
                await change_bans(door, client, add, lift)
        except PermanentFailure as error:
            await self._undo(door, client, add)
            await self._tell(
                door, "bans", f"{portal.chat_name} on {portal.instance} did not take the bans of "
                f"this room's policy lists: {str(error).rstrip('.')}. I try again.",
            )  # fmt: skip
            return _AGAIN_WITHOUT_RIGHTS_SECONDS
        except (TemporaryFailure, TimeoutError) as error:
            log.info("bans wait: %s", error, extra={"event": "bans_wait"})
            await self._undo(door, client, add)
            return max(_AGAIN_SECONDS, asked_for(error))
        if lift:
            await self._store.remove_bans(portal.id, lift)
            held.difference_update(lift)
        self._told.discard((portal.id, "bans"))
        return None

    async def _note_bans(self, door: Doorway, add: Sequence[str], lift: Sequence[str]) -> None:
        """Remember that they are ours before they are made."""
        portal, by = door.portal, self._house.namespaces.bot
        for action, patterns in ((AuditAction.BAN, add), (AuditAction.UNBAN, lift)):
            if patterns:
                await self._house.audit.record(
                    actor=by, action=action,
                    target=f"{portal.instance} {portal.chat} {' '.join(patterns)}"[:1000],
                )  # fmt: skip
        if add:
            await self._store.add_bans(portal.id, add)
            self._bans[portal.id].update(add)

    async def _undo(self, door: Doorway, client: BansChats, add: Sequence[str]) -> None:
        """Forget the bans that were not made after all, as far as that can be seen."""
        if not add:
            return
        try:
            async with asyncio.timeout(_BAN_SECONDS):
                there = await find_bans(door, client, add)
        except (DeliveryError, TimeoutError):
            there = set()
        missing = [pattern for pattern in add if pattern not in there]
        if missing:
            await self._store.remove_bans(door.portal.id, missing)
            self._bans[door.portal.id].difference_update(missing)

    # --- small things ---

    def crossing(self, door: Doorway, people: Sequence[UserId]) -> list[UserId]:
        """Those of the people who are not themselves of the portal's network."""
        parse_ghost, instance = self._house.namespaces.parse_ghost, door.portal.instance
        return [one for one in people if (parse_ghost(one) or ("",))[0] != instance]

    async def _put(self, one: Subscription) -> None:
        await self._store.put(one)
        self._followed[one.portal, one.room] = one

    async def _tell(self, door: Doorway, about: str, text: str) -> None:
        """Say it in the room, once for as long as we run; of what stays so, once a day."""
        house, portal = self._house, door.portal
        if (portal.id, about) in self._told:
            return
        source = ("policy", portal.id, about, house.clock.today() if about != "bans" else once())
        await house.sender.put([
            notice(house.key_of, room=portal.room, user=house.namespaces.bot, text=text,
                   source=source)
        ])  # fmt: skip
        self._told.add((portal.id, about))

    async def _record(self, action: AuditAction, door: Doorway, by: UserId, room: RoomId) -> None:
        """Note it before it is done."""
        portal = door.portal
        await self._house.audit.record(
            actor=by, action=action, subject=by, target=f"{portal.instance} {portal.chat} {room}"
        )
