"""Bots at work: one seat for each bot in each of its rooms."""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.core.hosting import InstanceHost, InstanceMetrics
from bridge.core.outgoing import KeyOf, transaction_id
from bridge.core.permissions import Permissions
from bridge.core.privatechat import PrivateChats
from bridge.core.router import Item
from bridge.core.sender import Sender
from bridge.matrix.html import content_for, parse
from bridge.matrix.intents import Intents
from bridge.model import Clock, Outgoing, ParkReason, Permission, SendKind
from bridge.sdk.events import MessageKind, RoomMessage
from bridge.sdk.events import Sender as Person
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.sdk.module import Bot, Command, HearsMessages, Store
from bridge.sdk.rich import Rich
from bridge.sdk.timers import Timers

log = logging.getLogger(__name__)

_KINDS = {"m.text": MessageKind.TEXT, "m.emote": MessageKind.EMOTE, "m.notice": MessageKind.NOTICE}


@dataclass(slots=True, kw_only=True)
class Stage:
    """What all bots share."""

    sender: Sender
    intents: Intents
    permissions: Permissions
    private_chats: PrivateChats
    key_of: KeyOf
    deadline: float = 30.0


class BotHost(InstanceHost):
    """What a bot gets of us (``sdk.BotHost``)."""

    def __init__(
        self,
        instance: InstanceId,
        store: Store,
        clock: Clock,
        metrics: InstanceMetrics,
        timers: Timers,
    ) -> None:
        super().__init__(instance, store, clock, metrics)
        self._timers = timers

    @property
    def timers(self) -> Timers:
        """The instance's timers."""
        return self._timers


async def say(
    stage: Stage,
    user: UserId,
    room: RoomId,
    answer: str | Rich,
    kind: MessageKind,
    *source: object,
) -> None:
    """Say something in a room as a bot: stored, then sent. ``source`` is what it answers.

    The same source is the same message, however often it is said. Raises ``TemporaryFailure``
    when the database is away, ``PermanentFailure`` for what cannot be stored.
    """
    body = Rich.plain(answer) if isinstance(answer, str) else answer
    await stage.sender.put([
        Outgoing(
            room=room,
            user=user,
            kind=SendKind.EVENT,
            type="m.room.message",
            content=content,
            transaction_id=transaction_id(stage.key_of, *source, piece),
        )
        for piece, content in enumerate(content_for(body, kind))
    ])  # fmt: skip


class BotCall:
    """A command or message in a room (``sdk.Call``); answers are stored before they are sent."""

    __slots__ = ("_answers", "_item", "_random", "_seat", "direct", "sender", "text")

    def __init__(
        self, seat: "Seat", item: Item, sender: Person, text: str, *, direct: bool
    ) -> None:
        self._seat = seat
        self._item = item
        self._answers = 0
        self._random: random.Random | None = None
        self.sender = sender
        self.text = text
        self.direct = direct

    @property
    def room(self) -> RoomId:
        """The room it was said in."""
        return self._seat.room

    @property
    def item(self) -> Item:
        """The item that it is."""
        return self._item

    @property
    def random(self) -> random.Random:
        """Chance, the same when the item runs twice and not to be guessed from outside."""
        if self._random is None:
            seed = self._seat.stage.key_of(f"{self._item.event['event_id']}{self._seat.name}")
            self._random = random.Random(seed)  # noqa: S311 - seeded so that twice is once
        return self._random

    async def reply(self, answer: str | Rich) -> None:
        """Say it in the room as a notice of the bot."""
        seat = self._seat
        self._answers += 1
        source = (self._item.id, seat.name, self._answers)
        await say(seat.stage, seat.user, seat.room, answer, MessageKind.NOTICE, *source)


class Seat:
    """A bot in one room: the consumer of its lane."""

    def __init__(
        self, prefix: str, user: UserId, room: RoomId, stage: Stage, *, direct_with: UserId | None
    ) -> None:
        self.name = f"{prefix}:{room}"
        self.user = user
        self.room = room
        self.stage = stage
        self.direct_with = direct_with
        self.deadline = stage.deadline
        self._people: dict[UserId, Person] = {}

    async def handle(self, item: Item) -> None:
        """Hear one event of the room."""
        event = item.event
        if event["type"] == "m.room.encrypted":
            await self.stage.private_chats.offer(self.user, UserId(event["sender"]), self.room)
            return
        content = event["content"]
        body = content.get("body")
        if event["type"] != "m.room.message" or not isinstance(body, str):
            return
        relates = content.get("m.relates_to")
        if isinstance(relates, dict) and relates.get("rel_type") == "m.replace":
            return  # A command that was edited in later is not obeyed.
        await self.hear(item, content, body)

    async def hear(self, item: Item, content: dict[str, Any], body: str) -> None:
        """Handle a message of the room."""
        raise NotImplementedError

    async def parked(self, item: Item, reason: ParkReason, detail: str) -> None:
        """Tell the sender that the bot could not answer."""
        if item.event["type"] == "m.room.message" and str(
            item.event["content"].get("body")
        ).startswith("!"):
            call = self.call(item, "")
            await call.reply(f"I could not do that: {detail}.")

    def call(self, item: Item, text: str) -> BotCall:
        """Wrap the item for a module."""
        user: UserId = item.event["sender"]
        name = self.stage.intents.cached_name(user, self.room)
        person = self._people.get(user)
        if person is None or person.name != name:
            if len(self._people) > 1000:
                self._people.clear()
            person = self._people[user] = Person(user_id=user, name=name)
        return BotCall(self, item, person, text, direct=self.direct_with == user)


class ModuleSeat(Seat):
    """A bot module in one room."""

    def __init__(
        self,
        instance: InstanceId,
        bot: Bot,
        user: UserId,
        room: RoomId,
        stage: Stage,
        *,
        direct_with: UserId | None,
    ) -> None:
        super().__init__(f"bot:{instance}", user, room, stage, direct_with=direct_with)
        self._bot = bot
        self._commands: Mapping[str, Command] = {c.name: c for c in bot.commands}
        self._listener = bot if isinstance(bot, HearsMessages) else None

    async def hear(self, item: Item, content: dict[str, Any], body: str) -> None:
        """Run a command of the bot, or let it hear the message."""
        if content.get("msgtype") == "m.notice":
            return  # Notices are what bots say; answering them is how loops begin.
        if self.stage.permissions.of(item.event["sender"]) < Permission.USER:
            return
        if body.startswith("!"):
            word, _, rest = body[1:].partition(" ")
            command = self._commands.get(word.casefold())
            if command is not None:
                await command.run(self.call(item, rest.strip()))
                return
            if word.casefold() == "help":
                await self.call(item, "").reply(self._help())
                return
        if self._listener is not None:
            call = self.call(item, body)
            message = RoomMessage(
                room=self.room,
                event_id=item.event["event_id"],
                sender=call.sender,
                kind=_KINDS.get(str(content.get("msgtype")), MessageKind.TEXT),
                body=parse(content),
                direct=call.direct,
            )
            await self._listener.on_message(message, call)

    def _help(self) -> str:
        lines = [f"{self._bot.info.name}: {self._bot.info.summary}"]
        lines += [f"!{c.usage} — {c.help}" for c in self._bot.commands]
        return "\n".join(lines)


def usages(commands: Sequence[Command]) -> list[str]:
    """One line a command, for help."""
    return [f"!{command.usage} — {command.help}" for command in commands]
