"""Repairs gaps: what the homeserver knows and never told us.

Synapse keeps what it has not delivered in memory while it runs, and loses it when it stops. So
after its restart, at our own start, and now and then, each room is read backwards to the newest
event that is sure to be known, and what we never saw goes through the same journal.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bridge.core.lanes.patience import asked_for
from bridge.core.lanes.unforeseen import Unforeseen
from bridge.jsontext import encode
from bridge.matrix.history import Page
from bridge.model import Source, Transaction
from bridge.sdk.errors import TemporaryFailure, TrestleError
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.portals import BotRooms
from bridge.waits import is_set_within

log = logging.getLogger(__name__)

_BLANK, _FEW_BLANK = 500, 3
"""After so many pages with nothing known on them a room is read no further; the few are for a room
of which nothing was known before."""
_SIDE_BY_SIDE = 4
_AWAY_AFTER, _AWAY_LATER = 5, 20
"""When so many rooms in a row cannot be looked at, the trouble is the homeserver's, not theirs: at
the start of a look, and once a room could be."""
_UNFORESEEN = "a room could not be read back, in a way that nobody foresaw"
_FROM_NOW = b""
"""A mark: the room goes on from what is newest when it is looked at next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds between things."""

    every: float = 6 * 3600.0
    grace: float = 5.0
    """For what is still on its way: only what is unknown after that was missed."""
    again: float = 60.0
    """To the second look after a restart: homeservers go on losing while they recover."""
    retry: float = 30.0
    """After a look that failed, unless somebody wants one; doubled each time, up to ``most``, and
    longer where the homeserver asks for that."""
    most: float = 600.0
    patience: float = 300.0
    """After a restore: for rooms that cannot be looked at, since one last could be."""


class Place(NamedTuple):
    """Where a page begins."""

    token: str
    is_there: bool
    """Whether the reader was in the room when the newest event behind that was said."""


@dataclass(slots=True, kw_only=True)
class Gap:
    """What one look at a room found. Of its pages only the places are kept, to read again."""

    newest: bytes | None
    mark: bytes | None = None
    """The event to which it was read back; None: to the oldest that is known."""
    is_torn: bool = False
    """Something is missing."""
    places: list[Place] = field(default_factory=list)
    """The pages that count, the newest first."""


class Reading(NamedTuple):
    """What of one page never came, the newest first."""

    is_found: bool
    """The mark is in it."""
    is_known: bool
    """Something in it had come."""
    missing: list[dict[str, Any]]
    """Between known events: newer than the mark, or than the oldest that is known."""
    behind: list[dict[str, Any]]
    """The rest: older than anything known in the page."""
    is_there: bool
    """Whether the reader was in the room before the oldest of the page."""


async def _nothing() -> None:
    pass


class Reconciler:
    """Looks at every room that somebody here listens to."""

    def __init__(
        self,
        newest: BotRooms,
        *,
        page: Callable[..., Awaitable[Page | None]],
        accept: Callable[[Transaction], Awaitable[None]],
        known: Callable[[Sequence[bytes]], set[bytes]],
        keys_of: Callable[[Sequence[str]], list[bytes]],
        rooms: Callable[[], Mapping[RoomId, UserId]],
        is_encrypted: Callable[[RoomId], bool],
        is_ours: Callable[[str], bool],
        look_before: Callable[[], Awaitable[None]] = _nothing,
        pace: Pace | None = None,
    ) -> None:
        """``look_before`` finds what is missing elsewhere than in rooms; it is called first."""
        self._newest = newest
        self._page = page
        self._accept = accept
        self._known = known
        self._keys_of = keys_of
        self._rooms = rooms
        self._is_encrypted = is_encrypted
        self._is_ours = is_ours
        self._look_before = look_before
        self._pace = pace or Pace()
        self._unforeseen = Unforeseen("gaps in rooms")
        self._wanted = asyncio.Event()
        self._told_encrypted: set[RoomId] = set()
        self._begun: dict[RoomId, bytes] = {}
        """After a restore: where each room looked at so far goes on."""
        self._tied: dict[RoomId, bool] = {}
        """Rooms that were tied since the last look began; True: since the one before it, and they
        are not listened to yet."""
        self._noting = asyncio.Lock()
        self._patient_until = 0.0
        self.repaired = 0
        """Events taken up so far that had been missed."""

    def want(self) -> None:
        """Have a look soon: the homeserver was away, or we were."""
        self._wanted.set()

    async def run(self) -> None:
        """Look when wanted, and now and then. Runs until cancelled."""
        pace, retry = self._pace, self._pace.retry
        while True:
            is_wanted = await is_set_within(pace.every, self._wanted)
            looks = (pace.grace, pace.again) if is_wanted else (0.0,)
            self._wanted.clear()
            for wait in looks:
                await asyncio.sleep(wait)
                asked = 0.0
                try:
                    with self._unforeseen.outlived():
                        await self._look_before()
                        await self.run_once()
                        retry = pace.retry
                        continue
                except TrestleError as error:
                    log.info("rooms are looked at later: %s", error, extra={"event": "look_later"})
                    asked = asked_for(error)
                await is_set_within(max(retry, asked), self._wanted)
                retry = min(2 * retry, pace.most)
                self._wanted.set()
                break

    async def start_over(self) -> None:
        """Have each room go on from its newest event of now, if the database was restored.

        What came before had crossed, or still comes by itself; what comes after is found, whoever
        loses it. So no event is to be taken before this is done. It is called again until it is:
        raises a ``TrestleError`` when the homeserver or the database is away.
        """
        if not await self._newest.is_restored():
            return
        rooms = {room: user for room, user in self._rooms().items() if not self._skips(room)}
        left = {room: user for room, user in rooms.items() if room not in self._begun}
        failed: dict[RoomId, TrestleError] = {}

        async def begin(room: RoomId, user: UserId) -> None:
            try:
                with self._unforeseen.outlived(room):
                    gap = await self._look(room, user, _FROM_NOW)
                    self._begun[room] = (gap and gap.newest) or _FROM_NOW
                    return
                failed[room] = TemporaryFailure(_UNFORESEEN)
            except TrestleError as error:
                failed[room] = error

        await _for_each(left, begin)
        now = asyncio.get_running_loop().time()
        if len(failed) < len(left):
            self._patient_until = now + self._pace.patience
        if failed and (not self._begun or now < self._patient_until):
            raise next(iter(failed.values()))
        for room, error in failed.items():
            # Its trouble must not keep all others from going on.
            log.warning(
                "%s goes on from when it can be looked at: %s", room, error,
                extra={"event": "room_begins_late"},
            )  # fmt: skip
            self._begun[room] = _FROM_NOW
        await self._newest.start_over({room: self._begun[room] for room in rooms})
        log.info("rooms go on from now, after a restore", extra={"event": "after_restore"})

    async def begin(self, room: RoomId, user: UserId) -> None:
        """Have a room go on from its newest event of now: somebody listens there from now on.

        What was said there before, to nobody, is not looked for. ``user`` can read the room.
        Raises a ``TrestleError`` when the database is away.
        """
        gap = None
        # What fails goes on from when it can be seen.
        with contextlib.suppress(TrestleError), self._unforeseen.outlived(room):
            gap = await self._look(room, user, _FROM_NOW)
        mark = (gap and gap.newest) or _FROM_NOW
        async with self._noting:
            self._tied[room] = False
            await self._note({room: mark})

    async def run_once(self) -> None:
        """Look at each room, one request for a quiet one, and take up what was missed.

        After a restore :meth:`start_over` must be done first, or what crossed before is taken up.
        Raises a ``TrestleError`` when the homeserver or the database is away, and in the end for a
        room that cannot be looked at.
        """
        troubles = _Troubles(self._unforeseen)
        async with self._noting:
            newest = await self._newest.newest()
            heard = self._rooms()
            # What is not listened to by the second look was untied meanwhile.
            self._tied = {
                room: True for room, late in self._tied.items() if not late and room not in heard
            }
        clear = {room: user for room, user in self._rooms().items() if not self._skips(room)}
        gaps = await self._look_at(clear, newest, troubles)
        fresh = {r: gap.newest for r, gap in gaps.items() if gap.newest and not gap.is_torn}
        changed = {room: key for room, key in fresh.items() if newest.get(room) != key}
        await self._note_found(changed)
        torn = {room: gap for room, gap in gaps.items() if gap.is_torn}
        if torn:
            # What is on its way to us comes meanwhile, and is known then.
            await asyncio.sleep(self._pace.grace)
        for room, gap in torn.items():
            if troubles.are_too_many:
                break
            with troubles.passed_over(room):
                # Noted room by room: whoever is cut off does not begin anew with all.
                if await self._take_up(room, clear[room], gap) and gap.newest:
                    await self._note_found({room: gap.newest})
        if troubles.worst is not None:
            raise troubles.worst

    async def _note_found(self, fresh: Mapping[RoomId, bytes]) -> None:
        """Note what a look found; a room that was tied since it began has a mark of its own."""
        async with self._noting:
            await self._note({r: key for r, key in fresh.items() if r not in self._tied})

    async def _note(self, fresh: Mapping[RoomId, bytes]) -> None:
        # Which are ours is asked now: a look takes minutes, and rooms are tied meanwhile.
        await self._newest.note_newest(fresh, ours=[*self._rooms(), *self._tied])

    def _skips(self, room: RoomId) -> bool:
        if not self._is_encrypted(room):
            return False
        if room not in self._told_encrypted:
            self._told_encrypted.add(room)
            log.info(
                "%s is encrypted: what its homeserver does not deliver is not looked for",
                room, extra={"event": "room_not_repairable"},
            )  # fmt: skip
        return True

    async def _look_at(
        self,
        rooms: Mapping[RoomId, UserId],
        newest: Mapping[RoomId, bytes],
        troubles: "_Troubles",
    ) -> dict[RoomId, Gap]:
        gaps: dict[RoomId, Gap] = {}

        async def look(room: RoomId, user: UserId) -> None:
            if troubles.are_too_many:
                return
            with troubles.passed_over(room):
                gap = await self._look(room, user, newest.get(room))
                if gap is not None:
                    gaps[room] = gap

        # In another order each time, so that none is always behind those that cannot be seen.
        await _for_each(dict(random.sample(list(rooms.items()), len(rooms))), look)
        return gaps

    async def _look(self, room: RoomId, user: UserId, mark: bytes | None) -> Gap | None:
        """Read the room back to ``mark``. None if the user may not see the room.

        Without a mark, or if it is not found, only what lies between known events counts:
        nothing from before a room was bridged must cross. A room without one is read to where
        the user came in last, or nothing is known any more. What was said while the user was
        out of the room was not said to us, mark or no mark; what came before that was.
        """
        gap, before, blank, places = Gap(newest=mark), "", 0, list[Place]()
        behind, is_there = False, True
        """Something is missing behind the oldest known event so far; the user was in the room."""
        while True:
            page = await self._page(room, user, before=before)
            if page is None:
                return None
            if not places and page.events:
                (gap.newest,) = self._keys_of([str(page.events[0].get("event_id"))])
            if mark == _FROM_NOW:
                return gap
            places.append(Place(before or page.start, is_there))
            reading = self._read(page, mark, user, is_there=is_there)
            is_there = reading.is_there
            if reading.is_found or reading.is_known:
                gap.is_torn |= behind or bool(reading.missing)
                gap.places = list(places)
                behind, blank = bool(reading.behind), 0
            else:
                behind, blank = behind or bool(reading.behind), blank + 1
            if reading.is_found:
                gap.mark = mark
            came = mark is None and not is_there
            most = _BLANK if mark is not None or gap.places else _FEW_BLANK
            if reading.is_found or came or not page.before or blank >= most:
                return gap
            before = page.before

    def _read(self, page: Page, mark: bytes | None, user: UserId, *, is_there: bool) -> Reading:
        events = page.events
        *there, is_there = _presence(events, user, is_there=is_there)
        if mark is None and not all((*there, is_there)):
            # No further than to where it came in, whatever it was before.
            events, is_there = events[: [*there, False].index(False)], False
        keys = self._keys_of([str(event.get("event_id")) for event in events])
        known = self._known(keys)
        is_found = mark is not None and mark in keys
        oldest = max((at for at, key in enumerate(keys) if key in known), default=0)
        end = keys.index(mark) if mark is not None and is_found else oldest
        missing = [
            (at, event)
            for at, (event, key) in enumerate(zip(events, keys, strict=True))
            if there[at] and key not in known and self._matters(event)
        ]
        return Reading(
            is_found, bool(known), [event for at, event in missing if at < end],
            [] if is_found else [event for at, event in missing if at >= end], is_there,
        )  # fmt: skip

    def _matters(self, event: dict[str, Any]) -> bool:
        """Own users' events are not for us; what happened to them is asked of the present."""
        return isinstance(event.get("event_id"), str) and not (
            self._is_ours(str(event.get("sender")))
            or (
                event.get("type") == "m.room.member" and self._is_ours(str(event.get("state_key")))
            )
        )

    async def _take_up(self, room: RoomId, user: UserId, gap: Gap) -> bool:
        """Take up what is missing, the oldest first.

        False if the room is not to be seen now, or is tied: what came before was not for it.
        """
        number = 0
        for at, place in reversed(list(enumerate(gap.places))):
            page = await self._page(room, user, before=place.token)
            if page is None or room in self._tied:
                return False
            reading = self._read(page, gap.mark, user, is_there=place.is_there)
            missing = reading.missing
            if at < len(gap.places) - 1:  # Behind it lies something that is known, too.
                missing = [*missing, *reading.behind]
            events = [{**event, "room_id": room} for event in reversed(missing)]
            if events:
                await self._accept(
                    Transaction(
                        id="", body=encode({"events": events}), events=events,
                        source=Source.RECONCILE,
                    )
                )  # fmt: skip
            number += len(events)
        self.repaired += number
        if number:
            log.warning(
                "%d events of a room never came; they are taken up now", number,
                extra={"event": "gap_repaired", "events": number},
            )  # fmt: skip
        return True


class _Troubles:
    """Those of single rooms: the trouble of one keeps no other from being repaired."""

    def __init__(self, unforeseen: Unforeseen) -> None:
        self._unforeseen = unforeseen
        self.worst: TrestleError | None = None
        """The one that asks for the most patience, else the first."""
        self._in_a_row = 0
        self._most = _AWAY_AFTER

    @property
    def are_too_many(self) -> bool:
        """Whether no other room is to be asked about."""
        return self._in_a_row >= self._most

    @contextlib.contextmanager
    def passed_over(self, room: RoomId) -> Iterator[None]:
        """Go on after a room's trouble."""
        failure: TrestleError = TemporaryFailure(_UNFORESEEN)
        try:
            with self._unforeseen.outlived(room):
                yield
                self._in_a_row, self._most = 0, _AWAY_LATER
                return
        except TrestleError as error:
            failure = error
        if self.worst is None or asked_for(failure) > asked_for(self.worst):
            self.worst = failure
        self._in_a_row += 1


async def _for_each(
    rooms: Mapping[RoomId, UserId], do: Callable[[RoomId, UserId], Awaitable[None]]
) -> None:
    """Do it for some rooms at a time. Raises ``TemporaryFailure`` for a fault of ours."""
    left = deque(rooms.items())

    async def work() -> None:
        while left:
            await do(*left.popleft())

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_SIDE_BY_SIDE):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise TemporaryFailure(repr(errors.exceptions[0])) from errors


def _presence(events: Sequence[Mapping[str, Any]], user: UserId, *, is_there: bool) -> list[bool]:
    """Of each event, the newest first, whether the user was in the room when it was said.

    ``is_there``: whether it was before anything newer than these. The last says it of what is
    older than all of them. A change of the user's own profile is neither a coming nor a going.
    """
    found = []
    for event in events:
        if event.get("type") == "m.room.member" and event.get("state_key") == user:
            found.append(True)
            unsigned = event.get("unsigned")
            before = unsigned.get("prev_content") if isinstance(unsigned, dict) else None
            is_there = _membership(before) == "join"
        else:
            found.append(is_there)
    return [*found, is_there]


def _membership(content: object) -> object:
    return content.get("membership") if isinstance(content, dict) else None
