"""A Matrix room for tests of bots."""

import random
from datetime import timedelta
from itertools import count

from bridge.sdk.events import MessageKind, RoomMessage, Sender
from bridge.sdk.ids import EventId, RoomId, UserId
from bridge.sdk.module import Bot, HearsMessages, help_of
from bridge.sdk.rich import Rich
from bridge.sdk.testing.hosts import FakeBotHost
from bridge.sdk.testing.records import name_of
from bridge.sdk.testing.timers import FakeTimerCall, Waiting
from bridge.sdk.text import to_plain
from bridge.sdk.timers import HearsTimers


class FakeCall:
    """What ``sdk.Call`` promises; remembers the answers of this run."""

    def __init__(self, host: FakeBotHost, message: RoomMessage, text: str) -> None:
        self.room = message.room
        self.sender = message.sender
        self.text = text
        self.random = random.Random(f"{host.instance} {message.event_id}")  # noqa: S311 - a test's
        self.answers: list[Rich] = []

    async def reply(self, answer: str | Rich) -> None:
        """Take an answer. Raises ``TypeError`` for what is neither text nor ``Rich``."""
        if not isinstance(answer, str | Rich):
            raise TypeError(f"reply() takes text or Rich, not {answer!r}")
        self.answers.append(Rich.plain(answer) if isinstance(answer, str) else answer)


class FakeRoom:
    """A room that the bot is in. As with the real host, notices are not heard, ``!help`` is
    answered by the host, and of an item that runs twice each answer appears once."""

    def __init__(self, bot: Bot, host: FakeBotHost, room: str = "!room:example.org") -> None:
        self._bot = bot
        self._host = host
        host.info = host.info or bot.info
        self._room = RoomId(room)
        self._shown: dict[tuple[EventId | int, int], Rich] = {}
        self._numbers = count(1)
        self.rung: list[tuple[Rich, MessageKind]] = []
        """What was said when timers rang, each time, and how it is spoken."""

    @property
    def texts(self) -> list[str]:
        """The bot's answers as they stand in the room."""
        return [to_plain(answer) for answer in self._shown.values()]

    async def say(
        self,
        text: str,
        *,
        sender: str = "@alice:example.org",
        kind: MessageKind = MessageKind.TEXT,
        event_id: str | None = None,
        direct: bool = False,
    ) -> list[str]:
        """Say something in the room; give the answers of this run as plain text.

        The same ``event_id`` again is the same item running twice, as after a crash.
        """
        message = RoomMessage(
            room=self._room,
            event_id=EventId(event_id or f"$event{next(self._numbers)}-{self._room}"),
            sender=Sender(user_id=UserId(sender), name=name_of(sender)),
            kind=kind,
            body=Rich.plain(text),
            direct=direct,
        )
        answers = await self._hear(message, text)
        for number, answer in enumerate(answers):
            self._shown.setdefault((message.event_id, number), answer)
        return [to_plain(answer) for answer in answers]

    async def pass_time(self, by: timedelta) -> list[str]:
        """Let time pass and ring this room's timers; give the answers as plain text.

        Raises what ``on_timer`` raises, where the host would try again.
        """
        clock, timers = self._host.clock, self._host.timers
        end = clock.now() + by
        found: list[str] = []
        while (due := timers.find_due(end, self._room)) is not None:
            clock.advance(max(due.timer.at - clock.now(), timedelta()))
            found += await self.ring(due)
            timers.finish(due)
        clock.advance(end - clock.now())
        return found

    async def ring(self, due: Waiting) -> list[str]:
        """Ring one timer once; a second time is the same ring, as after a crash."""
        if not isinstance(self._bot, HearsTimers):
            raise TypeError("a bot without on_timer() cannot set a timer")
        call = FakeTimerCall(due.timer.room)
        await self._bot.on_timer(due.timer, call)
        for number, (answer, _) in enumerate(call.answers):
            self._shown.setdefault((due.number, number), answer)
        self.rung += call.answers
        return [to_plain(answer) for answer, _ in call.answers]

    async def _hear(self, message: RoomMessage, text: str) -> list[Rich]:
        if message.kind is MessageKind.NOTICE:
            return []
        if text.startswith("!"):
            word, _, rest = text[1:].partition(" ")
            for command in self._bot.commands:
                if command.name == word.casefold():
                    call = FakeCall(self._host, message, rest.strip())
                    await command.run(call)
                    return call.answers
            if word.casefold() == "help":
                return [Rich.plain(help_of(self._bot.info, self._bot.commands))]
        call = FakeCall(self._host, message, text)
        if isinstance(self._bot, HearsMessages):
            await self._bot.on_message(message, call)
        return call.answers
