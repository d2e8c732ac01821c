"""From the outbox into Matrix: one lane a room, in order, each entry until it is there."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import replace
from datetime import date, datetime

from bridge.core.lanes.patience import persistently
from bridge.core.lanes.putaside import tell_forgotten
from bridge.core.outbox.along import Along
from bridge.core.outbox.carriers import Carriers
from bridge.core.outbox.encryption import Encryption, RoomEncrypted
from bridge.core.outbox.listings import Listings
from bridge.core.outbox.readback import FindOurs, ReadBack
from bridge.core.outbox.roomlane import Pause, RoomLane
from bridge.core.outbox.targets import aim, wordless
from bridge.core.outbox.unclaimed import Unclaimed
from bridge.core.outbox.unwritten import Unwritten
from bridge.failpoint import failpoint
from bridge.matrix.client import HomeserverAway
from bridge.matrix.intents import Intents
from bridge.model import (
    Clock,
    Forgotten,
    LinkKind,
    MessageLink,
    Outgoing,
    ParkReason,
    QueuedOutgoing,
    SendKind,
    Sent,
)
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import EventId, RoomId, UserId
from bridge.slots import Slots
from bridge.storage.outbox import Outbox
from bridge.telemetry import Telemetry

log = logging.getLogger(__name__)

_AT_ONCE = 32
"""Requests to the homeserver side by side."""
_AGAIN_AT_ONCE = 16
"""And of those that failed or hung before: they must not take the others' places."""
_NEAR = 100
"""Entries of a room that are in memory; what comes after them lies in the outbox."""
_MEMORY = 20_000
"""Entries in memory from which on a room gets only a few of its own."""
_FEW = 10
_LOOKS = 3
"""What waits for its portal's move is tried each 4 seconds, from the fourth try on."""
_AWAY_AFTER = 3
"""So many failures in a row, in whatever rooms, are the homeserver's or the database's."""

FindLinks = Callable[[int, str], Awaitable[Sequence[MessageLink]]]
"""Gives the events that a remote message is: (portal, remote id)."""

OnEnd = Callable[[Outgoing, str], None]
"""Hears that an entry is in its room, or why it will not be there by itself."""
MayGo = Callable[[Outgoing], Awaitable[bool]]
"""Says whether what a chat says may be put into its room now. Raises ``TemporaryFailure``."""
FindOver = Callable[[date], Forgotten | None]
"""Gives why, if nothing that was put on a day is kept any more."""
_DONE = frozenset({SendKind.LEAVE, SendKind.REDACT, SendKind.KICK, SendKind.BAN, SendKind.UNBAN})
"""What is done at any time: only the reason is somebody's words."""


async def _always(outgoing: Outgoing) -> bool:
    return True


class Sender:
    """Stores what must go out, and sends it."""

    def __init__(
        self,
        outbox: Outbox,
        intents: Intents,
        telemetry: Telemetry,
        clock: Clock,
        *,
        encryption: Encryption,
        find_ours: FindOurs,
        find_links: FindLinks,
        is_ours: Callable[[str], bool],
        bot: UserId,
    ) -> None:
        self._outbox = outbox
        self._intents = intents
        self._telemetry = telemetry
        self._clock = clock
        self._encryption = encryption
        self._find_links = find_links
        self._is_ours = is_ours
        self.read_back = ReadBack(outbox, find_ours, clock, bot)
        self._lanes: dict[RoomId, RoomLane] = {}
        self.listings = Listings(self._list, self._drop, clock)
        self._group: asyncio.TaskGroup | None = None
        self._carriers: Carriers | None = None
        self._slots, self._again = Slots(_AT_ONCE), Slots(_AGAIN_AT_ONCE)
        self._unclaimed = Unclaimed(outbox, self.push)
        outbox.on_unclaimed = lambda: self._unclaimed.seek(self._group)
        self._held = 0
        self.unwritten = Unwritten(outbox)
        self.along = Along(outbox.moves, self.push, self.note_dropped)
        self._away, self._failures = False, 0
        self._back = asyncio.Event()
        self.on_end: OnEnd = lambda outgoing, refusal: None
        self.find_over: FindOver = lambda day: None
        self.may_go: MayGo = _always
        """Whether an entry may be put into its room at this moment; else it is left out, or what
        is done there is done without the words."""
        self.trouble = ""
        """Why the homeserver does not take what we send; empty if it does."""

    @property
    def waiting(self) -> int:
        """Entries not sent yet."""
        return sum(map(len, self._lanes.values())) + self.listings.waiting().total()

    def oldest(self) -> datetime | None:
        """When the oldest entry that is not sent was put, those of lists aside."""
        heads = [lane.queue[0].received_at for lane in self._lanes.values() if lane.queue]
        return min(heads, default=None)

    def standing(self) -> list[RoomLane]:
        """The lanes in which something waits; that of the oldest first."""
        lanes = [lane for lane in self._lanes.values() if lane.queue]
        return sorted(lanes, key=lambda lane: lane.queue[0].received_at)

    def holding(self) -> dict[RoomId, int]:
        """By room, how many entries the outbox still has as not sent, as far as we know."""
        held = {room: len(lane) for room, lane in self._lanes.items()}
        for room, number in self.listings.waiting().items():
            held[room] = held.get(room, 0) + number
        for sent in self.unwritten:
            room = sent.queued.outgoing.room
            held[room] = held.get(room, 0) + 1
        return held

    def may_wait(self, entry: Outgoing) -> bool:
        """Whether an entry that was put may be on its way to its room yet."""
        lane = self.lane_of(entry.room)
        return lane is not None and lane.may_hold(entry)

    def lane_of(self, room: RoomId) -> RoomLane | None:
        """What waits for a room; None for nothing."""
        return self._lanes.get(room)

    async def put(self, outgoing: Sequence[Outgoing]) -> None:
        """Store the entries; they go out from now on and cannot be lost.

        Raises ``TemporaryFailure`` when the database is away; then nothing is stored.
        """
        if not outgoing:
            return
        portals = {one.portal for one in outgoing if one.portal is not None}
        await self.along.hold(portals)
        try:
            stored = await self._outbox.add([self.along.readdress(one) for one in outgoing])
            failpoint("queued")
            for queued in stored:
                self.push(queued)
        finally:
            self.along.release(portals)

    async def set_aside(self, room: RoomId) -> bool:
        """Park what the room waits for first; False if it is being tried just now.

        Then it is parked when the try has failed. Raises ``PermanentFailure`` if nothing waits,
        and ``TemporaryFailure`` when the database is away.
        """
        lane = self._lanes.get(room) or RoomLane(room, deque())
        async with lane.parking:
            if not lane.queue:
                raise PermanentFailure("nothing waits for that room")
            queued, detail = lane.queue[0], lane.by_hand
            if not lane.is_resting:
                lane.unwanted = queued.seq
                return False
            await self._outbox.park(queued, ParkReason.FAILED, detail)
            lane.queue.popleft()
            self._held -= 1
            lane.tried, lane.trouble = False, ""
            lane.wake()
        self._note_parked(queued, ParkReason.FAILED, detail)
        return True

    async def load(self) -> None:
        """Take up what the last process left. Call once, before anything is put."""
        for waiting in await self._outbox.waiting():
            lane = self.lane(waiting.room)
            lane.beyond, lane.until, lane.left = waiting.number, waiting.last, waiting.last
            # The last process may have sent some of it, to a homeserver that has forgotten.
            self.read_back.doubt(lane)
            self._start(lane)

    def doubt(self) -> None:
        """Read rooms back before anything that was tried is put again.

        For a homeserver that was restarted: it may be an older copy of itself.
        """
        for lane in self._lanes.values():
            if lane.tried:
                self.read_back.doubt(lane)

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group, self._carriers = group, Carriers(group, self._run_lane)
            try:
                for lane in list(self._lanes.values()):
                    self._start(lane)
                self._unclaimed.seek(group)
                await self.unwritten.keep_writing()
            finally:
                self._group = self._carriers = None

    # --- lanes ---

    def lane(self, room: RoomId) -> RoomLane:
        """What waits for a room, be it nothing."""
        lane = self._lanes.get(room)
        if lane is None:
            lane = self._lanes[room] = RoomLane(room, deque())
        return lane

    def go_on(self, lane: RoomLane) -> None:
        """Send what waits there, if anything does."""
        if len(lane) or lane.is_running:
            self._start(lane)
        elif self._lanes.get(lane.room) is lane:
            del self._lanes[lane.room]

    def push(self, queued: QueuedOutgoing) -> None:
        """Send an entry that is stored, behind those that are in memory and before it."""
        lane, place = self.lane(queued.outgoing.room), queued.seq
        if lane.has(place):  # It was stored, and read, before this.
            return
        room_for = _NEAR if self._held < _MEMORY else _FEW
        if place <= lane.last:
            # It was parked, or its commit's answer was lost.
            self._held += 1
            lane.queue.append(queued)
        elif lane.beyond or len(lane.queue) >= room_for:
            lane.beyond += 1
            lane.is_misread |= place <= lane.until
            lane.until = max(lane.until, place)
        else:
            self._held += 1
            lane.queue.append(queued)
            lane.last = lane.until = place
        if queued.again:
            # It may be older than the homeserver's memory, or the homeserver another one by now.
            self.read_back.doubt(lane)
        self._start(lane)

    def take_out(self, room: RoomId, numbers: Set[int]) -> None:
        """Have entries wait for the room no longer; while it is held."""
        self._held -= self.lane(room).take_out(numbers)

    def _start(self, lane: RoomLane) -> None:
        if self._carriers is not None and not lane.is_running:
            lane.is_running = True
            self._carriers.take(lane)

    async def _run_lane(self, lane: RoomLane) -> None:
        tries, was_woken, tried = 0, False, 0
        while len(lane):
            async with lane.turn:
                if lane.beyond and len(lane.queue) <= _FEW // 2:
                    await self._feed(lane)
                    continue
                if not lane.queue:  # All went along with its portal.
                    continue
                queued = lane.queue[0]
                if queued.seq != tried:
                    tries, was_woken, tried = 0, False, queued.seq
                pause = await self._attempt(lane, queued, tries)
                if pause is not None and lane.unwanted == queued.seq:
                    await self._park(queued, ParkReason.FAILED, lane.by_hand)
                    pause = None
                if pause is None:
                    lane.queue.popleft()
                    self._held -= 1
                    lane.tried, lane.trouble = False, ""
            if pause is not None:
                tries += 1
                # Woken once for nothing, it is not the homeserver that was away.
                was_woken = await self._rest(lane, pause, by_its_return=not was_woken)
        del self._lanes[lane.room]

    async def _feed(self, lane: RoomLane) -> None:
        """Bring the next entries of a long lane into memory."""
        limit = _NEAR if self._held < _MEMORY else _FEW
        until, counted, lane.is_misread = lane.until, lane.beyond, False
        try:
            more = await self._outbox.next_of(lane.room, lane.last, until, limit)
        except TemporaryFailure:
            await asyncio.sleep(1)
            return
        if lane.is_misread:
            return
        lane.queue.extend(more.entries)
        self._held += len(more.entries)
        if more.is_all:
            # So there is no more up to there, whatever was counted.
            lane.beyond, lane.last = lane.beyond - counted, until
        else:
            lane.beyond = max(1, lane.beyond - len(more.entries))
            lane.last = more.last

    async def _rest(self, lane: RoomLane, pause: Pause, *, by_its_return: bool) -> bool:
        """Wait, but no longer than the homeserver is away, unless it asked for it.

        Gives whether the homeserver's return ended it.
        """
        back = self._back if by_its_return else asyncio.Event()
        least = pause.seconds if pause.is_asked_for else min(pause.seconds, 0.3)
        is_back, lane.is_resting = False, True
        try:
            async with asyncio.timeout(pause.seconds) as lane.limit:
                await asyncio.sleep(least)
                await back.wait()
                is_back = True
        except TimeoutError:
            pass
        lane.limit = None
        async with lane.parking:
            lane.is_resting = False
        return is_back

    # --- one entry ---

    async def _attempt(self, lane: RoomLane, queued: QueuedOutgoing, tries: int) -> Pause | None:
        outgoing = queued.outgoing
        try:
            if outgoing.kind is SendKind.LIST and self._group is not None:
                self.listings.take(queued, self._group)
                return None
            if (over := self.find_over(queued.day)) is not None:
                tell_forgotten("room", over)
                await self._drop(queued)
                return None
            async with self._again if tries else self._slots:
                await self._encryption.refuse_in_clear(outgoing)
                await self.read_back.look(lane, queued)
                event_id = lane.find_there(outgoing)
                if event_id is None:
                    if await self.along.pass_on(queued):
                        return None
                    aimed = await self._aim(outgoing)
                    if not await self.may_go(outgoing):
                        if outgoing.kind not in _DONE:
                            await self._drop(queued)
                            return None
                        aimed = [wordless(one) for one in aimed]
                    failpoint("sending")
                    lane.note_try(self.read_back.elapsed())
                    for one in aimed:
                        event_id = await self._intents.send(one)
                        if one.alias != outgoing.alias:
                            queued = replace(queued, outgoing=replace(outgoing, alias=one.alias))
                elif outgoing.link is LinkKind.EDIT:  # Said by itself, it has a second name.
                    (one,) = await self._aim(outgoing)
                    queued = replace(queued, outgoing=replace(outgoing, alias=one.alias))
        except TemporaryFailure as error:
            lane.trouble = str(error)
            self._note_up(error)
            return self._put_off(error, tries)
        except Exception as error:  # noqa: BLE001 - told apart, and logged, there
            return await self._settle_refused(lane, queued, error, tries)
        failpoint("sent")
        self._note_up(None)
        self._note_sent(queued, event_id)
        return None

    async def _settle_refused(
        self, lane: RoomLane, queued: QueuedOutgoing, error: Exception, tries: int
    ) -> Pause | None:
        """Put aside what cannot be sent, unless its portal may yet move along."""
        try:
            if await self.along.may_wait(queued.outgoing, error):
                # Refused, it is not there: nothing is to be read back.
                lane.trouble, lane.tried = "another room is taking its place", False
                return self._put_off(TemporaryFailure(lane.trouble), min(tries, _LOOKS))
        except TemporaryFailure as failure:
            lane.trouble = str(failure)
            return self._put_off(failure, tries)
        except Exception as unforeseen:  # noqa: BLE001 - logged there
            error = unforeseen
        await self._park_for(queued, error)
        return None

    async def _list(self, queued: QueuedOutgoing, tries: int) -> Pause | None:
        """Put the room into a list, or take it out. That fails alone, so it tells of nothing."""
        try:
            async with self._again if tries else self._slots:
                await self._intents.send(queued.outgoing)
        except TemporaryFailure as error:
            return self._put_off(error, tries)
        except Exception as error:  # noqa: BLE001 - told apart, and logged, there
            await self._park_for(queued, error)
        else:
            self._note_sent(queued, None)
        return None

    async def _aim(self, outgoing: Outgoing) -> Sequence[Outgoing]:
        """What is to be done for the entry, now that what was put before it is sent.

        Of another room that room's lane does it: nothing waits here for what is refused there.
        """
        if not outgoing.about or outgoing.portal is None:
            return (outgoing,)
        links = await self.links_of(outgoing.portal, outgoing.about)
        ours = [link.sender for link in links if self._is_ours(link.sender)]
        if self.along.readdress(outgoing) is not outgoing:
            # Tried again after its portal's move: whoever has left must not come back for it.
            ours = [user for user in ours if self._intents.is_in(outgoing.room, user)]
        aimed = aim(outgoing, links, ours)
        await self.put([one for one in aimed if one.room != outgoing.room])
        return [one for one in aimed if one.room == outgoing.room]

    async def links_of(self, portal: int, about: str) -> Sequence[MessageLink]:
        """Which events a remote message is, the oldest first."""
        newest = self.unwritten.of_remote(portal, about)
        return [*await self._find_links(portal, about), *newest]

    def _put_off(self, error: TemporaryFailure, tries: int) -> Pause:
        self._telemetry.count_send("to_matrix", "retried")
        if error.retry_after is not None:
            return Pause(error.retry_after, is_asked_for=True)
        return Pause(min(0.5 * 2 ** min(tries, 7), 60) * random.uniform(0.8, 1.2))  # noqa: S311

    def _note_sent(self, queued: QueuedOutgoing, event_id: EventId | None) -> None:
        outgoing, now = queued.outgoing, self._clock.now()
        self._telemetry.count_send("to_matrix", "sent")
        if outgoing.kind is SendKind.EVENT and outgoing.portal is not None:
            seconds = (now - queued.received_at).total_seconds()
            self._telemetry.time_crossing("to_matrix", seconds)
        self.unwritten.add(Sent(queued, event_id, now))
        self.on_end(outgoing, "")

    async def _drop(self, queued: QueuedOutgoing) -> None:
        """Leave it out by rule. Raises ``TemporaryFailure``."""
        await self._outbox.drop(queued)
        self.note_dropped(queued.outgoing)

    def note_dropped(self, outgoing: Outgoing) -> None:
        """Tell that an entry is left out by rule."""
        self.on_end(outgoing, "it is left out")
        self._telemetry.count_send("to_matrix", "dropped")

    async def _park_for(self, queued: QueuedOutgoing, error: Exception) -> None:
        """Put an entry aside that the error has kept from being sent."""
        reason, detail = ParkReason.REFUSED, str(error)
        if isinstance(error, RoomEncrypted):
            reason = ParkReason.NO_KEY
        elif not isinstance(error, PermanentFailure):
            # What nobody foresaw is this entry's trouble, and no other's.
            log.error("sending into Matrix failed", exc_info=error, extra={"event": "send_failed"})
            reason, detail = ParkReason.FAILED, f"sending it failed with {type(error).__name__}"
        await self._park(queued, reason, detail)

    async def _park(self, queued: QueuedOutgoing, reason: ParkReason, detail: str) -> None:
        await persistently(lambda: self._outbox.park(queued, reason, detail))
        self._note_parked(queued, reason, detail)

    def _note_parked(self, queued: QueuedOutgoing, reason: ParkReason, detail: str) -> None:
        log.warning("not sent into Matrix: %s", reason.value, extra={"event": "send_parked"})
        self._telemetry.count_send("to_matrix", "parked")
        self._telemetry.parked.labels(reason=reason.value).inc()
        failpoint("set_aside")
        self.on_end(queued.outgoing, detail)

    # --- the homeserver's state, and what is done ---

    def _note_up(self, error: Exception | None) -> None:
        """Tell a homeserver that is away from a room that it does not manage."""
        if error is None:
            self._failures = 0
            if self.trouble:
                log.info("the homeserver takes events again", extra={"event": "hs_back"})
                self.trouble = ""
            if self._away:
                self._away = False
                self._back.set()
                self._back = asyncio.Event()
            return
        self._failures += 1
        if self._failures < _AWAY_AFTER:
            return
        self._away = True
        trouble = str(error) if isinstance(error, HomeserverAway) else ""  # Else the database's.
        if trouble and not self.trouble:
            log.warning("the homeserver does not take it: %s", error, extra={"event": "hs_away"})
        self.trouble = trouble
