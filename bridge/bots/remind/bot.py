"""Reminds people of what they asked for: once, in the room where they asked, restarts or not."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from pydantic import BaseModel

from bridge.bots.remind.settings import RemindSettings
from bridge.bots.remind.spans import read_span, spell_span
from bridge.sdk import (
    BotHost,
    Call,
    Command,
    ConfigError,
    Holds,
    Kept,
    MessageKind,
    Metric,
    ModuleInfo,
    Rich,
    Timer,
    TimerCall,
)
from bridge.sdk.rich import Mention, Text
from bridge.sdk.timers import LONGEST_WAIT

_HOW = "Say when and what: !remind 20m tea, !remind 1h30m leave. Also !remind list, cancel 2."
_CANCEL = re.compile(r"#?([0-9]{1,6})")
_LATE = timedelta(minutes=5)
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class _Note:
    """What a timer remembers of a reminder."""

    number: int
    """Its owner cancels it by this; it counts the owner's reminders in one room."""
    name: str
    text: str

    def pack(self) -> bytes:
        return json.dumps([self.number, self.name, self.text], ensure_ascii=False).encode()

    @classmethod
    def read(cls, timer: Timer) -> "_Note":
        return cls(*json.loads(timer.note))


class RemindBot:
    """Invited like a person; people see and cancel only their own reminders in the room."""

    info: ClassVar[ModuleInfo] = ModuleInfo(
        id="remind",
        name="Reminders",
        summary="Reminds you in this room of what you ask for.",
        docs="docs/reference/remind.md",
        removal="Kick it from a room, or remove the instance from `modules:`.",
        keeps=(
            Kept(
                prefix="reminder:",
                holds=Holds.CONTENT,
                purpose="Whom to remind of what, until it is said.",
                keep_for=LONGEST_WAIT,
            ),
            Kept(
                prefix="item:",
                holds=Holds.ID,
                purpose="Not doing twice what was asked once, if the program is interrupted.",
                keep_for=timedelta(days=1),
            ),
        ),
        metrics=(
            Metric(
                name="reminders",
                help="Reminders, by what became of them.",
                labels={"what": ("set", "cancelled", "said")},
            ),
            Metric(
                name="late_seconds",
                help="How late a reminder was said.",
                buckets=(1, 5, 30, 60, 300, 3600, 86400),
            ),
        ),
    )
    settings: ClassVar[type[BaseModel]] = RemindSettings

    def __init__(self, settings: BaseModel, host: BotHost) -> None:
        if not isinstance(settings, RemindSettings):
            raise ConfigError("these are no settings of the remind module")
        self._settings = settings
        self._host = host

    @property
    def commands(self) -> Sequence[Command]:
        """What it understands."""
        return (
            Command(
                name="remind",
                usage="remind 20m tea",
                help="be reminded; also `remind list` and `remind cancel 2`",
                run=self._remind,
            ),
        )

    async def on_timer(self, timer: Timer, call: TimerCall) -> None:
        """Say the reminder, so that it rings on the person's phone."""
        note = _Note.read(timer)
        late = self._host.now() - timer.at
        nodes: list[Text | Mention] = [Text("Reminder for ")]
        if timer.subject is not None:
            nodes.append(Mention(timer.subject, note.name))
        after = f" (this was due {spell_span(late)} ago)" if late > _LATE else ""
        body = Rich((*nodes, *Rich.plain(f": {note.text}{after}").nodes))
        await call.reply(body, kind=MessageKind.TEXT)
        self._host.count("reminders", what="said")
        self._host.observe("late_seconds", late.total_seconds())

    async def _remind(self, call: Call) -> None:
        word, _, rest = call.text.partition(" ")
        if word.casefold() == "list" and not rest:
            await call.reply(await self._list(call))
        elif word.casefold() == "cancel":
            await call.reply(await self._cancel(call, rest.strip()))
        else:
            await call.reply(await self._set(call))

    async def _set(self, call: Call) -> str:
        wait, text = read_span(call.text)
        text = text.encode("utf-8", "replace").decode()
        if wait is None or not text:
            return _HOW
        if not timedelta(seconds=1) <= wait <= LONGEST_WAIT:
            return f"I can wait from a second to {LONGEST_WAIT.days} days."
        if len(text) > self._settings.longest_text:
            return f"I remember at most {self._settings.longest_text} characters."
        number = await self._have(call, wait, text)
        if number is None:
            most = self._settings.most_per_person
            return f"You have {most} reminders waiting already; cancel one of them first."
        return f"I will remind you in {spell_span(wait)}. To stop me: !remind cancel {number}"

    async def _have(self, call: Call, wait: timedelta, text: str) -> int | None:
        """Set the timer once, though the item may run twice; give its number, None if full."""
        item = _item_of(call)
        before = await self._host.store.get(f"item:{item}")
        if before is not None:
            return int(before)
        sender, key = call.sender, f"reminder:{item}"
        waiting = await self._host.timers.list(subject=sender.user_id)
        known = {timer.key: _Note.read(timer).number for timer in waiting}
        number = known.get(key)
        if number is None:
            if len(waiting) >= self._settings.most_per_person:
                return None
            taken = {known[timer.key] for timer in waiting if timer.room == call.room}
            number = next(n for n in range(1, len(taken) + 2) if n not in taken)
            name = " ".join(sender.name.split())[:_LONGEST_NAME]
            note = _Note(number, name.encode("utf-8", "replace").decode(), text)
            await self._host.timers.set(
                key, after=wait, note=note.pack(), room=call.room, subject=sender.user_id
            )
            self._host.count("reminders", what="set")
        await self._note_done(call, item, str(number))
        return number

    async def _list(self, call: Call) -> str:
        waiting = await self._own(call)
        now = self._host.now()
        lines = []
        for timer in waiting:
            note = _Note.read(timer)
            lines.append(f"{note.number}: in {spell_span(timer.at - now)}: {note.text}")
        return "\n".join(lines) or "You have no reminders waiting in this room."

    async def _cancel(self, call: Call, text: str) -> str:
        match = _CANCEL.fullmatch(text)
        if match is None:
            return "Say which one: !remind cancel 2. Their numbers: !remind list"
        number = int(match[1])
        item = _item_of(call)
        done = await self._host.store.get(f"item:{item}")
        if done is None:
            own = {_Note.read(timer).number: timer.key for timer in await self._own(call)}
            if number not in own:
                return f"You have no reminder {number} waiting in this room."
            done = own[number].encode()
            await self._note_done(call, item, own[number])
        if await self._host.timers.cancel(done.decode()):
            self._host.count("reminders", what="cancelled")
        return f"Reminder {number} is cancelled."

    async def _own(self, call: Call) -> Sequence[Timer]:
        """The sender's own in this room, the next one first."""
        return await self._host.timers.list(room=call.room, subject=call.sender.user_id)

    async def _note_done(self, call: Call, item: str, what: str) -> None:
        await self._host.store.put(
            f"item:{item}",
            what.encode(),
            subject=call.sender.user_id,
            room=call.room,
            keep_for=timedelta(days=1),
        )


def _item_of(call: Call) -> str:
    """A name of the item, the same when it runs twice."""
    return f"{call.random.getrandbits(64):016x}"
