"""The status room: a line for each trouble, edited in place, and cleared when it is over."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bridge.core.host.bots import Stage
from bridge.core.lanes.patience import LONGEST_PAUSE, asked_for
from bridge.core.outbox.outgoing import transaction_id
from bridge.core.oversight.conditions import PARKED, is_same
from bridge.model import Clock, Outgoing, SendKind, Trouble
from bridge.sdk.errors import TrestleError
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.troubles import TroubleStore

log = logging.getLogger(__name__)

_EVERY = 5.0
_LEAST_BETWEEN = 60.0
"""Seconds between two changes of a line that differ by numbers only."""
_TRY_AGAIN = timedelta(minutes=5)
_NAME = "Trestle: status"


class StatusRoom:
    """It is made once the settings name an admin; all admins are invited."""

    def __init__(
        self,
        shown: TroubleStore,
        stage: Stage,
        clock: Clock,
        *,
        bot: UserId,
        admins: Sequence[UserId],
        find: Callable[[], Awaitable[Mapping[str, str]]],
        has_seat: Callable[[UserId, RoomId], bool],
        on_room: Callable[[UserId, RoomId], Awaitable[None]],
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
        self._changed_at: dict[str, datetime] = {}
        self._one_at_a_time = asyncio.Lock()
        self._made: RoomId | None = None
        """A new room that is not noted yet: the disk may be full."""
        self._not_before: dict[UserId, datetime] = {}
        """When somebody who could not be invited, or removed, is tried again."""

    def set_admins(self, admins: Sequence[UserId]) -> None:
        """Have these in the room from now on, and those from before out of it."""
        self._admins = admins
        self._not_before.clear()

    async def run(self) -> None:
        """Keep the room as things are. Runs until cancelled."""
        pause = _EVERY
        while True:
            await asyncio.sleep(pause)
            try:
                await self.look()
            except TrestleError as error:
                log.info("the status room waits: %s", error, extra={"event": "status_waits"})
                pause = pause_after(error)
            except Exception:  # Nothing that is shown here may end what it tells of.
                log.exception(
                    "the status room could not be brought up to date; that is tried again in a "
                    "minute", extra={"event": "status_failed"},
                )  # fmt: skip
                pause = LONGEST_PAUSE
            else:
                pause = _EVERY

    async def look(self) -> None:
        """Show what is wrong now; without admins there is nobody to show it to.

        Raises ``TemporaryFailure`` or ``PermanentFailure``.
        """
        async with self._one_at_a_time:
            found = await self._find() if self._admins else {}
            room = await self._room(make=bool(found))
            if room is not None:
                await self._seat_admins(room)
            if room is not None and self._admins:
                await self._show(room, found)

    async def _show(self, room: RoomId, found: Mapping[str, str]) -> None:
        refused = await self._shown.refused(room)
        known = {one.key: one for one in await self._shown.all()}
        # A line that is put aside would only be repeated, and the others go on.
        mute = {key for key, one in known.items() if self._transaction_ids(one) & set(refused)}
        if refused:
            mute.add(PARKED)  # It would tell of that, and be put aside too.
        for key, sentence in found.items():
            trouble = known.get(key)
            if key in mute:
                continue
            if trouble is None or trouble.over_at is not None:
                await self._begin(room, key, sentence)
            else:
                await self._change(room, replace(trouble, sentence=sentence))
        for key, trouble in known.items():
            if key in found:
                continue
            if key not in mute:
                await self._end(room, trouble)
            elif trouble.event_id is None:
                await self._shown.forget(key)  # Nobody has seen it.

    async def acknowledge(self, by: UserId) -> int:
        """Note on every line that somebody has seen it; give how many there are."""
        async with self._one_at_a_time:
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

    async def _seat_admins(self, room: RoomId) -> None:
        """Invite every admin once, and remove whoever is none any more."""
        before = await self._shown.invited()
        invited = [
            one for one in before
            if one in self._admins or not await self._unseat(room, one)
        ]  # fmt: skip
        for admin in self._admins:
            if admin not in invited and await self._seat(room, admin):
                invited.append(admin)
        if invited != before:
            await self._shown.set_invited(invited)

    async def _seat(self, room: RoomId, admin: UserId) -> bool:
        invite = self._stage.intents.invite
        return await self._try(room, admin, lambda: invite(room, self._bot, admin), is_in=True)

    async def _unseat(self, room: RoomId, person: UserId) -> bool:
        kick, reason = self._stage.intents.kick, "no admin of Trestle any more"
        return await self._try(
            room, person, lambda: kick(room, self._bot, person, reason), is_in=False
        )

    async def _try(
        self, room: RoomId, person: UserId, act: Callable[[], Awaitable[None]], *, is_in: bool
    ) -> bool:
        """Do it, and say whether it is so; what fails is tried again a while later."""
        now = self._clock.now()
        if now < self._not_before.get(person, now):
            return False
        try:
            await act()
        except TrestleError as error:
            members = await self._stage.intents.joined_members(room)
            if members and (person in members) is is_in:
                return True
            self._not_before[person] = now + _TRY_AGAIN
            log.info(
                "an admin is not %s: %s", "invited" if is_in else "removed",
                type(error).__name__, extra={"event": "not_invited"},
            )  # fmt: skip
            return False
        return True

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
            content=content, transaction_id=self._transaction_id(trouble),
        )  # fmt: skip

    def _transaction_id(self, trouble: Trouble) -> str:
        """The transaction id of what is said last of it."""
        return transaction_id(
            self._stage.key_of, "trouble", trouble.key, trouble.since.isoformat(), trouble.revision
        )

    def _transaction_ids(self, trouble: Trouble) -> set[str]:
        """The transaction ids of its first message and of its last."""
        return {trouble.transaction_id, self._transaction_id(trouble)}


def pause_after(error: TrestleError) -> float:
    """Seconds from a look that failed to the next: at least what is asked for, up to a minute."""
    return max(2 * _EVERY, min(asked_for(error), LONGEST_PAUSE))


def _line(trouble: Trouble) -> str:
    if trouble.over_at is not None:
        span = f"{trouble.since:%Y-%m-%d %H:%M} to {trouble.over_at:%H:%M} UTC"
        return f"\N{WHITE HEAVY CHECK MARK} Over ({span}): {trouble.sentence}"
    seen = f" Seen by {trouble.seen_by}." if trouble.seen_by else ""
    return f"\N{WARNING SIGN} {trouble.sentence} Since {trouble.since:%Y-%m-%d %H:%M} UTC.{seen}"


def _content(text: str) -> dict[str, Any]:
    # Not a notice: whoever is on call wants to be woken.
    return {"msgtype": "m.text", "body": text, "m.mentions": {}}
