"""The status room: a line for each trouble, edited in place, and cleared when it is over."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from bridge.core.bots import Stage
from bridge.core.conditions import is_same
from bridge.core.outgoing import transaction_id
from bridge.model import Clock, Outgoing, SendKind, Trouble
from bridge.sdk.errors import TrestleError
from bridge.sdk.ids import RoomId, UserId

log = logging.getLogger(__name__)

_EVERY = 5.0
_LEAST_BETWEEN = 60.0
"""Seconds between two changes of a line that differ by numbers only."""
_NAME = "Trestle: status"


class Shown(Protocol):
    """Where the room is, and what it shows."""

    async def room(self) -> RoomId | None: ...
    async def set_room(self, room: RoomId) -> None: ...
    async def all(self) -> Sequence[Trouble]: ...
    async def keep(self, trouble: Trouble) -> None: ...
    async def forget(self, key: str) -> None: ...
    async def is_refused(self, room: RoomId) -> bool: ...


class StatusRoom:
    """Made with the first admin that the settings name, who are all invited."""

    def __init__(
        self,
        shown: Shown,
        stage: Stage,
        clock: Clock,
        *,
        bot: UserId,
        admins: Sequence[UserId],
        find: Callable[[], Awaitable[Mapping[str, str]]],
        has_seat: Callable[[UserId, RoomId], bool],
        on_room: Callable[[UserId, RoomId], Awaitable[None]],
        every: float = _EVERY,
    ) -> None:
        """``find`` gives what is wrong now; ``on_room`` seats the bot in a new room."""
        self._shown = shown
        self._stage = stage
        self._clock = clock
        self._bot = bot
        self._admins = admins
        self._find = find
        self._has_seat = has_seat
        self._on_room = on_room
        self._every = every
        self._changed_at: dict[str, datetime] = {}
        self._one_at_a_time = asyncio.Lock()
        self._made: RoomId | None = None
        """A new room that is not noted yet: the disk may be full."""
        self._invited: set[UserId] = set()

    def set_admins(self, admins: Sequence[UserId]) -> None:
        """Have these invited from now on."""
        self._admins = admins

    async def run(self) -> None:
        """Keep the room as things are. Runs until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.look()
            except TrestleError as error:
                log.info("the status room waits: %s", error, extra={"event": "status_waits"})
                await asyncio.sleep(self._every)

    async def look(self) -> None:
        """Show what is wrong now; without admins there is nobody to show it to.

        Raises ``TemporaryFailure`` or ``PermanentFailure``.
        """
        async with self._one_at_a_time:
            await self._look()

    async def _look(self) -> None:
        if not self._admins:
            return
        found = await self._find()
        room = await self._room(make=bool(found))
        if room is None or await self._shown.is_refused(room):
            return  # What is put aside there would only be one more thing to tell there.
        await self._invite(room)
        known = {one.key: one for one in await self._shown.all()}
        for key, sentence in found.items():
            trouble = known.get(key)
            if trouble is None or trouble.over_at is not None:
                await self._begin(room, key, sentence)
            else:
                await self._change(room, replace(trouble, sentence=sentence))
        for key, trouble in known.items():
            if key not in found:
                await self._end(room, trouble)

    async def acknowledge(self, by: UserId) -> int:
        """Note on every line that somebody has seen it; give how many there are."""
        async with self._one_at_a_time:
            return await self._acknowledge(by)

    async def _acknowledge(self, by: UserId) -> int:
        room = await self._shown.room()
        open_ones = [one for one in await self._shown.all() if one.over_at is None]
        for trouble in open_ones:
            if room is not None:
                await self._change(room, replace(trouble, seen_by=by), now=True)
        return len(open_ones)

    async def is_here(self, room: RoomId) -> bool:
        """Whether this is the status room."""
        return await self._shown.room() == room

    # --- the room ---

    async def _room(self, *, make: bool) -> RoomId | None:
        room = await self._shown.room()
        if room is not None and self._has_seat(self._bot, room):
            return room
        if not make:
            return None
        if self._made is None:
            self._made = await self._stage.intents.create_room(
                self._bot, preset="trusted_private_chat", name=_NAME
            )
        room = self._made
        await self._on_room(self._bot, room)
        await self._shown.set_room(room)
        self._made = None
        log.info("the admins are invited to a status room", extra={"event": "status_room"})
        return room

    async def _invite(self, room: RoomId) -> None:
        """Have every admin invited, once in each run: also who was named later."""
        for admin in self._admins:
            if admin in self._invited:
                continue
            self._invited.add(admin)
            try:
                await self._stage.intents.invite(room, self._bot, admin)
            except TrestleError as error:
                log.info("an admin is not invited: %s", type(error).__name__,
                         extra={"event": "not_invited"})  # fmt: skip

    # --- its lines ---

    async def _begin(self, room: RoomId, key: str, sentence: str) -> None:
        now = self._clock.now()
        trouble = Trouble(key=key, sentence=sentence, since=now, day=now.date())
        first = self._first(room, trouble)
        trouble = replace(trouble, said=_line(trouble), transaction_id=first.transaction_id)
        await self._shown.keep(trouble)
        await self._stage.sender.put([first])
        self._changed_at[key] = now

    def _first(self, room: RoomId, trouble: Trouble) -> Outgoing:
        """The message that is edited later; the same each time that it is made."""
        first = replace(trouble, revision=0, over_at=None, seen_by=None)
        return self._outgoing(room, first, _content(_line(first)))

    async def _change(self, room: RoomId, trouble: Trouble, *, now: bool = False) -> None:
        said, at = _line(trouble), self._clock.now()
        last = self._changed_at.get(trouble.key)
        too_soon = last is not None and (at - last).total_seconds() < _LEAST_BETWEEN
        if said == trouble.said:
            return
        if trouble.event_id is None:
            # On its way, and edited then; or the last process was cut off before it said it.
            await self._shown.keep(trouble)
            await self._stage.sender.put([self._first(room, trouble)])
        elif not now and too_soon and is_same(said, trouble.said):
            await self._shown.keep(trouble)
        else:
            await self._edit(room, trouble, said)
            self._changed_at[trouble.key] = at

    async def _end(self, room: RoomId, trouble: Trouble) -> None:
        if trouble.event_id is None:
            await self._stage.sender.put([self._first(room, trouble)])
            return
        over = replace(trouble, over_at=trouble.over_at or self._clock.now())
        await self._edit(room, over, _line(over))
        await self._shown.forget(trouble.key)
        self._changed_at.pop(trouble.key, None)

    async def _edit(self, room: RoomId, trouble: Trouble, said: str) -> None:
        changed = replace(trouble, said=said, revision=trouble.revision + 1)
        content: dict[str, Any] = {
            **_content(f"* {said}"),
            "m.new_content": _content(said),
            "m.relates_to": {"rel_type": "m.replace", "event_id": trouble.event_id},
        }
        await self._stage.sender.put([self._outgoing(room, changed, content)])
        await self._shown.keep(changed)

    def _outgoing(self, room: RoomId, trouble: Trouble, content: dict[str, Any]) -> Outgoing:
        return Outgoing(
            room=room, user=self._bot, kind=SendKind.EVENT, type="m.room.message",
            content=content,
            transaction_id=transaction_id(
                self._stage.key_of, "trouble", trouble.key, trouble.since.isoformat(),
                trouble.revision,
            ),
        )  # fmt: skip


def _line(trouble: Trouble) -> str:
    if trouble.over_at is not None:
        span = f"{trouble.since:%Y-%m-%d %H:%M} to {trouble.over_at:%H:%M} UTC"
        return f"\N{WHITE HEAVY CHECK MARK} Over ({span}): {trouble.sentence}"
    seen = f" Seen by {trouble.seen_by}." if trouble.seen_by else ""
    return f"\N{WARNING SIGN} {trouble.sentence} Since {trouble.since:%Y-%m-%d %H:%M} UTC.{seen}"


def _content(text: str) -> dict[str, Any]:
    # Not a notice: whoever is on call wants to be woken.
    return {"msgtype": "m.text", "body": text, "m.mentions": {}}
