"""What people say about what is kept about them: see it, have a copy of it, have it erased."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from math import ceil, inf
from typing import Any

from bridge.core.commands.privateanswers import refusal, show_privately
from bridge.core.consent.erasure import Erased, Erasure
from bridge.core.host.bots import BotCall, Stage, say
from bridge.core.lanes.cancellation import Work
from bridge.core.lanes.patience import LONGEST_PAUSE, persistently
from bridge.core.outbox.outgoing import once, transaction_id
from bridge.matrix.cache import Recent
from bridge.matrix.mediastore import MediaStore
from bridge.model import Clock, KeptRows, Outgoing, SendKind
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure, TrestleError
from bridge.sdk.events import MessageKind
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.module import Store
from bridge.storage.personal import PersonalData
from bridge.storage.portals import BotRooms

log = logging.getLogger(__name__)

YES_SECONDS = 600.0
"""For so long a yes counts after somebody was told what it means."""
COPY_AGAIN_SECONDS = 300.0
"""A copy reads every table, and lies at the homeserver: nobody has one as often as they ask."""
COPY_STARTS = 3
"""A copy that was cut off is begun so often in all: a start must not end by it for ever."""
COPY_PATIENCE = 3600.0
"""Seconds for which a copy that is taken up waits for the homeserver."""
_AT_ONCE = 10
"""Copies that are taken up side by side at a start. One at a time is written, as ever."""
COPY_WAITS = timedelta(days=1)
"""For so long it is known that somebody waits for one."""
TELL_AGAIN_SECONDS = 30.0
"""What goes is counted in every table before somebody is told of it."""

_COPY = "copy:"
"""What the keys in our store begin with: behind it comes who waits for a copy."""

PASSING = (
    "Besides, what passes through here lies sealed in a log for at most 14 days, in the order in "
    "which it came; and what crossed to a network is there, and not mine to show or to take back."
)


@dataclass(slots=True)
class _Asked:
    """What somebody asked for lately; times are the loop's. The item that was the last to ask may
    be tried again, and is not refused."""

    copy_by: str = ""
    copy_again_at: float = 0.0
    """``inf``: while a copy is made, or waits for that."""
    told_by: str = ""
    tell_again_at: float = 0.0
    """When they may be told again what it means to have everything erased."""
    yes_until: float = 0.0


class OwnData:
    """Obeys ``data`` and ``forget``, where nobody else reads the answer."""

    def __init__(
        self, personal: PersonalData, erasure: Erasure, media: MediaStore, stage: Stage,
        rooms: BotRooms, clock: Clock, store: Store, *, bot: UserId,
        do: Callable[[Work], object],
    ) -> None:  # fmt: skip
        """``store``: where it is kept who waits for a copy, until they have it."""
        self._personal = personal
        self._erasure = erasure
        self._rooms = rooms
        self._do = do
        self._media = media
        self._stage = stage
        self._clock = clock
        self._store = store
        self._bot = bot
        self._asked: Recent[UserId, _Asked] = Recent(1000)
        self._copying = asyncio.Semaphore(1)
        """Copies are made one after another: each is of every table, and in memory."""

    async def show(self, call: BotCall) -> str:
        """Have whoever asks told what is kept about them, and given all of it in a file.

        The file is made in the background, and at the next start if we stop meanwhile. Return
        what to answer where it was asked. Raises a ``DeliveryError``; then there is no copy.
        """
        person, item = call.sender.user_id, str(call.item.id)
        asked = self._asked_by(person)
        left = asked.copy_again_at - asyncio.get_running_loop().time()
        if left == inf:
            raise PermanentFailure("I am making your copy already; you get it in our direct chat")
        if left > 0 and asked.copy_by != item:
            raise PermanentFailure(
                f"you have just asked for a copy; you can have a new one in {ceil(left)} seconds"
            )
        asked.copy_by, asked.copy_again_at = item, inf
        try:
            # The chat is a direct one, and somebody may be in it besides.
            room, answer = await self._stage.private_chats.room_for(
                self._bot, person, call.room, direct=call.direct
            )
            await self._note(person, room, item, starts=1)
        except BaseException:  # What cannot be done for the moment may be asked for again at once.
            asked.copy_again_at = 0.0
            raise
        if self._do(partial(self._make, person, room, item, asked)) is None:
            raise TemporaryFailure("Trestle stops")
        return "I am making it; you get it in our direct chat." if answer else "I am making it."

    async def forget(self, call: BotCall, words: Sequence[str]) -> str:
        """Say what it means to have everything erased, or have it done, if that was said.

        Return what to answer where it was asked. Raises a ``DeliveryError``.
        """
        person, item = call.sender.user_id, str(call.item.id)
        asked = self._asked_by(person)
        now = asyncio.get_running_loop().time()
        match [word.casefold() for word in words]:
            case ["me"]:
                if now < asked.tell_again_at and asked.told_by != item:
                    raise PermanentFailure(
                        "I have just told you what that does; say forget me yes to have it done"
                    )
                asked.told_by, asked.tell_again_at = item, now + TELL_AGAIN_SECONDS
                try:
                    text = what_goes(await self._personal.summary(person))
                    answer = await show_privately(self._stage, self._bot, call, text)
                except BaseException:
                    asked.tell_again_at = 0.0
                    raise
                asked.yes_until = now + YES_SECONDS
                return answer
            case ["me", "yes"] if now < asked.yes_until:
                room, answer = await self._stage.private_chats.room_for(
                    self._bot, person, call.room, direct=call.direct
                )
                await self._erasure.begin(person, person)
                asked.tell_again_at = asked.yes_until = 0.0
                self._do(partial(self._erase, person, room))
                return answer or "It is being done; I tell you when it is."
            case ["me", "yes"]:
                raise PermanentFailure(
                    "say forget me first, read what that does, and say forget me yes within ten "
                    "minutes"
                )
        raise PermanentFailure("say forget me; I tell you what that does, and ask once more")

    def _asked_by(self, person: UserId) -> _Asked:
        asked = self._asked.get(person) or _Asked()
        self._asked.put(person, asked)
        return asked

    async def tell_taken_up(self) -> None:
        """Tell those whose erasure was taken up when we began, if they have a chat with us.

        It is said where nobody else reads it, however long the homeserver is away.
        """
        text = (
            "What I kept about you is erased, as was wished: I had been interrupted, or an older "
            "backup was restored."
        )
        people, chats = set(self._erasure.taken_up), self._stage.private_chats
        self._erasure.taken_up.clear()
        rooms = await persistently(self._rooms.bot_rooms, LONGEST_PAUSE)
        known = {person for user, _, person in rooms if user == self._bot and person is not None}

        async def tell(person: UserId) -> None:
            room = await chats.open(self._bot, person)
            source = ("erasure taken up", person, room, self._clock.today())
            await say(self._stage, self._bot, room, text, MessageKind.NOTICE, *source)

        for person in sorted(people & known):
            try:
                await persistently(partial(tell, person), LONGEST_PAUSE)
            except TrestleError as error:
                log.warning("nobody told of an erasure: %s", error, extra={"event": "not_told"})

    async def make_again(self) -> None:
        """Begin the copies anew that were being made when Trestle stopped. Call once, at a start.

        It goes on until the last of them was given, or given up.
        """
        # Whoever's homeserver is away, so that no chat with them can be made, holds up few.
        slots = asyncio.Semaphore(_AT_ONCE)

        async def take_up(key: str) -> None:
            async with slots:
                try:
                    await self._take_up(key)
                except Exception:  # The others have theirs nevertheless.
                    log.exception("a copy is not taken up", extra={"event": "copy_failed"})

        keys = await persistently(partial(self._store.find, _COPY), LONGEST_PAUSE)
        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(take_up(key), name="copy")

    async def _take_up(self, key: str) -> None:
        """Begin one of them anew, in a chat in which nobody else reads by now.

        Raises a ``TrestleError`` where that cannot be had; it is taken up at the next start then.
        """
        value = await persistently(partial(self._store.get, key), LONGEST_PAUSE)
        person = UserId(key.removeprefix(_COPY))
        asked = self._asked_by(person)
        if value is None or asked.copy_again_at:
            return  # They were erased, or have asked again.
        _, item, starts = json.loads(value)
        asked.copy_by, asked.copy_again_at = item, inf
        try:
            # After a reboot the homeserver may come later than we do.
            open_chat = partial(self._stage.private_chats.open, self._bot, person)
            room = await persistently(open_chat, LONGEST_PAUSE, COPY_PATIENCE)
            if starts < COPY_STARTS:
                again = partial(self._note, person, room, item, starts=starts + 1)
                await persistently(again, LONGEST_PAUSE)
                await self._make(person, room, item, asked, patience=COPY_PATIENCE)
                return
        finally:
            if asked.copy_again_at == inf:
                asked.copy_again_at = 0.0
        text = "I was stopped each time that I made your copy. To try once more, say data."
        await self._say(person, room, text, "no copy")
        await self._forget_note(person)

    async def _note(self, person: UserId, room: RoomId, item: str, *, starts: int) -> None:
        """Note that the person waits for a copy, and how often it was begun."""
        value = json.dumps([room, item, starts]).encode()
        await self._store.put(
            _COPY + person, value, subject=person, room=room, keep_for=COPY_WAITS
        )

    async def _forget_note(self, person: UserId) -> None:
        await persistently(partial(self._store.delete, _COPY + person), LONGEST_PAUSE)

    async def _erase(self, person: UserId, room: RoomId) -> None:
        try:
            text = what_was_done(await self._erasure.finish(person, person))
        except TrestleError:  # It is in the log.
            text = (
                "I could not finish it; whoever runs this bridge finds why in the log. It is "
                "taken up when Trestle starts again, or when you say forget me once more."
            )
        await self._say(person, room, text, "erased")

    async def _make(
        self, person: UserId, room: RoomId, item: str, asked: _Asked, patience: float = 0.0
    ) -> None:
        """Give the copy, or say why there is none. Cut off, it is made at the next start.

        ``patience``: for so many seconds it is tried again while it cannot be given.
        """
        again_at = 0.0
        try:
            give = partial(self._give, person, room, item)
            again_at = await self._give_or_refuse(
                person, room, lambda: persistently(give, LONGEST_PAUSE, patience)
            )
            await self._forget_note(person)
        finally:
            asked.copy_again_at = again_at

    async def _give_or_refuse(
        self, person: UserId, room: RoomId, give: Callable[[], Awaitable[None]]
    ) -> float:
        """Return when they may have another one."""
        now = asyncio.get_running_loop().time
        try:
            await give()
        except PermanentFailure as error:  # It was not given: it may be asked for again soon.
            again_at = now() + TELL_AGAIN_SECONDS
            await self._say(person, room, refusal(error), "no copy")
            return again_at
        except DeliveryError as error:  # It may be asked for again at once.
            await self._say(person, room, refusal(error), "no copy")
            return 0.0
        except Exception:
            log.exception("a copy failed", extra={"event": "copy_failed"})
            text = "I could not make your copy; whoever runs this bridge finds why in the log."
            await self._say(person, room, text, "no copy")
            return 0.0
        return now() + COPY_AGAIN_SECONDS

    async def _say(self, person: UserId, room: RoomId, text: str, what: str) -> None:
        """Say what came of something, however long the homeserver is away.

        Where there is no private chat any more, and no other can be made, nobody is told.
        """
        source = (what, once())

        async def tell() -> None:
            place = await self._private_room(person, room)
            await say(self._stage, self._bot, place, text, MessageKind.NOTICE, *source)

        try:
            await persistently(tell, LONGEST_PAUSE)
        except TrestleError as error:
            log.warning("nobody told of own data: %s", error, extra={"event": "not_told"})

    async def _private_room(self, person: UserId, room: RoomId) -> RoomId:
        """Where only they read it by now: what they asked for may have taken long, and somebody
        else have come in meanwhile. Raises a ``DeliveryError``."""
        chats = self._stage.private_chats
        private, _ = await chats.room_for(self._bot, person, room, direct=True)
        return private

    async def _give(self, person: UserId, room: RoomId, item: str) -> None:
        async with self._copying:
            summary = await self._personal.summary(person)
            content = await self._upload(await self._personal.copy(person))
        room = await self._private_room(person, room)
        await self._stage.sender.put([Outgoing(
            room=room, user=self._bot, kind=SendKind.EVENT, type="m.room.message",
            content=content,
            transaction_id=transaction_id(self._stage.key_of, "copy of own data", item),
        )])  # fmt: skip
        await say(
            self._stage, self._bot, room, in_words(summary), MessageKind.NOTICE, "own data", item
        )

    async def _upload(self, data: bytes) -> dict[str, Any]:
        """Give the homeserver a copy; what a message has of it."""
        name = f"my-data-{self._clock.today()}.zip"
        try:
            media = await self._media.put(data, "application/zip", name, what="your copy")
        except PermanentFailure as error:
            raise PermanentFailure(
                f"{error}. Whoever runs this bridge can make it for you: trestle export"
            ) from error
        return {
            "msgtype": "m.file", "body": name, "filename": name, "url": media.mxc,
            "info": {"mimetype": "application/zip", "size": len(data)}, "m.mentions": {},
        }  # fmt: skip


def in_words(summary: Sequence[KeptRows]) -> str:
    """What is kept about somebody, a line for each table."""
    if not summary:
        return f"I keep nothing about you. {PASSING}"
    lines = ["What I keep about you, how much of it, and how long; the file has all of it:"]
    lines += [f"{one.what}: {one.number}, kept {one.how_long}" for one in summary]
    lines.append(
        "Passwords, tokens and keys are named in it and not shown. Whoever has the file reads it; "
        "delete it here once you have saved it."
    )
    return "\n".join([*lines, PASSING, "To have it erased, say forget me."])


def what_goes(summary: Sequence[KeptRows]) -> str:
    """What somebody should know before everything is erased."""
    goes = [f"{one.what}: {one.number}" for one in summary if not one.stays]
    return "\n".join([
        "That ends your logins, on their networks too where those can be told, and your direct "
        "chats with people there. It erases your nick and your other settings, what you sign in "
        "with, your sessions at the web, your reminders, and what you were told. It cannot be "
        "undone. Rooms that you bridged stay bridged, and name you no more.",
        *(["What goes:", *goes] if goes else []),
        *_what_stays(summary),
        "To have it done, say forget me yes within ten minutes. To have a copy first, say data.",
    ])  # fmt: skip


def what_was_done(done: Erased) -> str:
    """What came of it, for whose data it was."""
    logins = ", ".join(done.logins) or "none"
    return "\n".join([
        f"It is done. Logins ended: {logins}. Direct chats ended: {done.chats}. Rows erased: "
        f"{done.rows}. The key of what you signed in with is destroyed, so that no backup opens "
        "that either.",
        *done.remarks,
        *_what_stays(done.left),
        PASSING,
        "What you say in a bridged room is bridged as before, from a connection that is made anew "
        "and known to me again; if you do not want that, say optout everywhere.",
    ])  # fmt: skip


def _what_stays(summary: Sequence[KeptRows]) -> Sequence[str]:
    stays = [
        f"{one.what}: {one.number}, {one.stays}; kept {one.after_erasure or one.how_long}"
        for one in summary if one.stays
    ]  # fmt: skip
    return ["What stays:", *stays] if stays else []
