"""Bots at work: one seat for each bot in each of its rooms."""

import logging
import random
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.core.host.hosting import InstanceHost, InstanceMetrics
from bridge.core.host.privatechat import PrivateChats
from bridge.core.lanes.lane import Item
from bridge.core.outbox.outgoing import KeyOf, transaction_id
from bridge.core.outbox.sender import Sender
from bridge.core.permissions.permissions import Permissions
from bridge.matrix.cache import Recent
from bridge.matrix.html import content_for, parse
from bridge.matrix.htmltree import clean
from bridge.matrix.intents import Intents
from bridge.model import Clock, ItemId, Outgoing, ParkReason, Permission, SendKind
from bridge.sdk.events import MessageKind, RoomMessage
from bridge.sdk.events import Sender as Person
from bridge.sdk.ids import EventId, InstanceId, RoomId, UserId
from bridge.sdk.module import Bot, Command, HearsMessages, Store, help_of
from bridge.sdk.rich import Rich
from bridge.sdk.timers import Timers

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Stage:
    """What all bots share."""

    sender: Sender
    intents: Intents
    permissions: Permissions
    private_chats: PrivateChats
    key_of: KeyOf
    deadline: float = 30.0
    unsaid: Recent[ItemId, tuple[RoomId, str, str]] = field(default_factory=lambda: Recent(1000))
    """What was done and is not said yet, by the item that asked for it: the private room, what to
    answer where it was asked, and what came of it."""


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

    __slots__ = ("_answers", "_item", "_random", "_seat", "text")

    def __init__(self, seat: "Seat", item: Item, text: str) -> None:
        self._seat = seat
        self._item = item
        self._answers = 0
        self._random: random.Random | None = None
        self.text = text

    @property
    def sender(self) -> Person:
        """Who said it."""
        return self._seat.person(self._item.event["sender"])

    @property
    def direct(self) -> bool:
        """Whether the room is the bot's direct chat with the sender."""
        return bool(self._seat.direct_with == self._item.event["sender"])

    @property
    def room(self) -> RoomId:
        """The room it was said in."""
        return self._seat.room

    @property
    def reply_to(self) -> str | None:
        """The event that it answers, if it answers one."""
        relates = self._item.event["content"].get("m.relates_to")
        answered = relates.get("m.in_reply_to") if isinstance(relates, dict) else None
        event_id = answered.get("event_id") if isinstance(answered, dict) else None
        return event_id if isinstance(event_id, str) else None

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


class Heard(RoomMessage):
    """A message as a bot hears it: what the bot does not ask for is not read."""

    __slots__ = ("_body", "_call")
    _body: Rich | None
    _call: BotCall

    def __init__(self, call: BotCall) -> None:
        _SET(self, "_call", call)
        _SET(self, "_body", None)

    @property
    def room(self) -> RoomId:
        return self._call.room

    @property
    def event_id(self) -> EventId:
        return EventId(self._call.item.event["event_id"])

    @property
    def sender(self) -> Person:
        return self._call.sender

    @property
    def kind(self) -> MessageKind:
        emote = self._call.item.event["content"].get("msgtype") == "m.emote"
        return MessageKind.EMOTE if emote else MessageKind.TEXT

    @property
    def body(self) -> Rich:
        if self._body is None:
            _SET(self, "_body", parse(self._call.item.event["content"]))
        return self._body or Rich()

    @property
    def direct(self) -> bool:
        return self._call.direct


_SET = object.__setattr__


class Seat:
    """A bot in one room: the consumer of its lane."""

    holds = False
    """What a bot does twice is as if done once."""

    def __init__(
        self, prefix: str, user: UserId, room: RoomId, stage: Stage, *, direct_with: UserId | None
    ) -> None:
        self.name = f"{prefix}:{room}"
        self.user = user
        self.room = room
        self.stage = stage
        self.direct_with = direct_with
        self.deadline = stage.deadline

    def wants(self, event: Mapping[str, Any]) -> bool:
        """Whether an event of the room may be for the bot: an encrypted one, or a message with a
        body that changes no other. Others need not wait in its lane."""
        kind, content = event["type"], event["content"]
        if kind == "m.room.message":
            return type(content.get("body")) is str and not is_edit(content)
        return bool(kind == "m.room.encrypted")

    def handle(self, item: Item) -> Awaitable[None]:
        """Hear one event of the room, if it is wanted: not all that comes was asked for."""
        event = item.event
        if not self.wants(event):
            item.drop()
            return _nothing()
        if event["type"] == "m.room.message":
            content = event["content"]
            return self.hear(item, content, content["body"])
        person = UserId(event["sender"])
        return self.stage.private_chats.offer(
            self.user, person, self.room, direct=self.direct_with == person
        )

    async def hear(self, item: Item, content: dict[str, Any], body: str) -> None:
        """Handle a message of the room that is wanted."""
        raise NotImplementedError

    async def parked(self, item: Item, reason: ParkReason, detail: str) -> None:
        """Tell the sender that the bot could not answer, if it was spoken to."""
        content, call = item.event["content"], self.call(item, "")
        # Notices are what bots say; answering them is how loops begin.
        if item.event["type"] != "m.room.message" or content.get("msgtype") == "m.notice":
            return
        if call.direct or str(content.get("body")).startswith("!"):
            await call.reply(f"I could not do that: {detail.rstrip('.')}.")

    def call(self, item: Item, text: str) -> BotCall:
        """Wrap the item for a module."""
        return BotCall(self, item, text)

    def person(self, user: UserId) -> Person:
        """Somebody in the room, by the name known now."""
        return Person(user_id=user, name=self.stage.intents.cached_name(user, self.room))


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
        self._instance = instance
        self._bot = bot
        self._commands: Mapping[str, Command] = {c.name: c for c in bot.commands}
        self._listener = bot if isinstance(bot, HearsMessages) else None

    def wants(self, event: Mapping[str, Any]) -> bool:
        """Whether it may be a command of the bot's, or the bot hears all that is said."""
        if not super().wants(event):
            return False
        is_said = event["type"] == "m.room.message"
        return self._listener is not None or not is_said or "!" in event["content"]["body"]

    async def hear(self, item: Item, content: dict[str, Any], body: str) -> None:
        """Run a command of the bot, or let it hear the message."""
        # Notices are what bots say; answering them is how loops begin.
        if content.get("msgtype") == "m.notice" or (
            self.stage.permissions.of(item.event["sender"], self._instance) < Permission.USER
        ):
            item.drop()
            return
        body = clean(body)
        if body.startswith("!"):
            word, _, rest = body[1:].partition(" ")
            command = self._commands.get(word.casefold())
            if command is not None:
                await command.run(self.call(item, rest.strip()))
                return
            if word.casefold() == "help":
                await self.call(item, "").reply(help_of(self._bot.info, self._bot.commands))
                return
        if self._listener is not None:
            call = BotCall(self, item, body)
            await self._listener.on_message(Heard(call), call)


def is_edit(content: Mapping[str, Any]) -> bool:
    """Whether it changes an earlier message: a command that is edited in is not obeyed."""
    relates = content.get("m.relates_to")
    return isinstance(relates, dict) and relates.get("rel_type") == "m.replace"


async def _nothing() -> None:
    pass
