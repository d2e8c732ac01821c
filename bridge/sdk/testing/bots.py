"""The contract of a bot, as a test."""

import inspect
import re
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from itertools import count
from typing import Any

from pydantic import BaseModel

from bridge.sdk.events import MessageKind
from bridge.sdk.ids import RoomId
from bridge.sdk.module import Command, HearsMessages
from bridge.sdk.testing.declarations import (
    check_declarations,
    check_kept,
    check_words,
    make_settings,
)
from bridge.sdk.testing.hosts import FakeBotHost
from bridge.sdk.testing.outcomes import END_SECONDS, attempt, demand, require
from bridge.sdk.testing.rooms import FakeRoom
from bridge.sdk.testing.watching import Watch
from bridge.sdk.timers import LONGEST_WAIT, HearsTimers

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_TAKEN = {"help": "on this one the host lists them all", "trestle": "the main bot hears this one"}
_ROOM = RoomId("!room:example.org")
_MOST_RINGS = 20
_RUBBISH = (
    "",
    "-1",
    "x" * 5000,
    "a\0b\r\n\u2028",
    "९" * 40,
    "👩‍👩‍👧",
    "@alice:example.org, or or",
)


async def check_bot(
    bot_class: Any,
    settings: BaseModel | Mapping[str, object],
    *,
    said: Sequence[str] = (),
    limit: float = 10.0,
) -> None:
    """Hold a bot against the contract. Needs no homeserver.

    Every command is given what its ``usage`` shows, nothing, and rubbish; ``said`` is what else
    people may say in a room. Each thing said runs again, by the same bot and by one that was
    made anew on the same store, as after a crash; so does each timer that it set. Each may take
    ``limit`` seconds.

    Raises ``AssertionError`` with a sentence for the first rule that is broken.
    """
    files = check_declarations(bot_class, "trestle.bots")
    checked, secrets = make_settings(bot_class, settings)
    watch = Watch(files)
    check = _Check(bot_class, checked, watch, limit)
    with watch.watching():
        await check.run(said)
    check_words(secrets, [*check.said, *watch.logged])
    check_kept(bot_class.info, check.host.store)


class _Check:
    """One bot under test."""

    def __init__(self, bot_class: Any, settings: BaseModel, watch: Watch, limit: float) -> None:
        self._class = bot_class
        self._settings = settings
        self._watch = watch
        self._limit = limit
        self._numbers = count(1)
        self.host = FakeBotHost(info=bot_class.info)
        self.said: list[str] = []
        """What it answered, and what its errors said."""

    def _make(self) -> Any:
        with self._watch.quiet("making the bot", "its commands"):
            return self._class(self._settings, self.host)

    async def run(self, said: Sequence[str]) -> None:
        """Check everything."""
        bot = self._make()
        commands = _check_commands(bot.commands)
        names = [command.name for command in bot.commands]
        require(
            names == [command.name for command in commands],
            "`commands` gives other commands each time; they are looked up once",
        )
        for command in commands:
            example = command.usage.partition(" ")[2]
            for text in (example, *_RUBBISH):
                await self._check_said(bot, f"!{command.name} {text}".strip(), answered=True)
        for text in said:
            await self._check_said(bot, text)
        if isinstance(bot, HearsMessages):
            for text in ("hello", *_RUBBISH):
                for kind in (MessageKind.TEXT, MessageKind.EMOTE):
                    await self._check_said(bot, text, kind)
        await self._check_timers(bot)
        await self._watch.wait_until_clean(min(END_SECONDS, self._limit))

    async def _check_timers(self, bot: Any) -> None:
        """Have what was set so far ring, twice, as after a crash."""
        timers, info = self.host.timers, self._class.info
        if not timers.set_so_far:
            return
        check_kept(info, self.host.store)  # Before time passes, and what is kept goes with it.
        require(
            isinstance(bot, HearsTimers),
            "it sets timers but cannot hear them; give it `async def on_timer(timer, call)`",
        )
        room = FakeRoom(bot, self.host, _ROOM)
        end = self.host.now() + LONGEST_WAIT
        for _ in range(_MOST_RINGS):
            due = timers.find_due(end, _ROOM)
            if due is None:
                break
            self.host.clock.advance(max(due.timer.at - self.host.now(), timedelta(0)))
            what = f"the timer {due.timer.key!r}"
            first = await self._try(what, room.ring(due))
            anew = FakeRoom(self._make(), self.host, _ROOM)
            for again, how in ((room, "again"), (anew, "again by a bot that was made anew")):
                second = await self._try(what, again.ring(due))
                _require_equal(what, first, second, how)
            timers.finish(due)
        for timer in timers.set_so_far:
            require(
                any(timer.key.startswith(kept.prefix) for kept in info.keeps),
                f"it sets the timer {timer.key!r}, of which info.keeps says nothing",
            )

    async def _check_said(
        self,
        bot: Any,
        text: str,
        kind: MessageKind = MessageKind.TEXT,
        *,
        answered: bool = False,
    ) -> None:
        event_id = f"$item{next(self._numbers)}"
        first = await self._answers(bot, text, kind, event_id)
        require(
            first or not answered,
            f"{text[:40]!r} got no answer; say what was done, or what is wrong with it",
        )
        for again, how in ((bot, "again"), (self._make(), "again by a bot that was made anew")):
            second = await self._answers(again, text, kind, event_id)
            _require_equal(repr(text[:40]), first, second, how)

    async def _answers(self, bot: Any, text: str, kind: MessageKind, event_id: str) -> list[str]:
        room = FakeRoom(bot, self.host, _ROOM)
        return await self._try(repr(text[:40]), room.say(text, kind=kind, event_id=event_id))

    async def _try(self, what: str, call: Awaitable[object]) -> list[str]:
        """The answers, or what the error says."""
        found, error = await attempt(
            what, call, self._limit, may_wait=False, end=min(END_SECONDS, self._limit)
        )
        self._watch.check_blocked()
        answers = demand(found, list, "") if error is None else [str(error)]
        self.said += answers
        return answers


def _require_equal(what: str, first: Sequence[str], second: Sequence[str], how: str) -> None:
    require(
        first == second,
        f"{what} was answered {_short(first)}, and when the same item ran {how}, "
        f"{_short(second)}; take chance from call.random, the time from host.now(), keep what "
        "must last in host.store, and have a second run change nothing",
    )


def _check_commands(commands: object) -> Sequence[Command]:
    sentence = "`commands` must be a property that gives a list or tuple of Command"
    found: Sequence[Command] = demand(commands, list | tuple, sentence)  # type: ignore[arg-type]
    names: set[str] = set()
    for command in found:
        name = demand(command, Command, sentence).name
        require(
            _NAME.fullmatch(name),
            f"the command {name!r} is never found; a name has a-z, 0-9 and - only, a letter first",
        )
        require(name not in names, f"two commands are called {name!r}")
        require(
            name not in _TAKEN,
            f"the command {name!r} needs another name: {_TAKEN.get(name)}",
        )
        names.add(name)
        require(
            command.usage.partition(" ")[0] == name,
            f"!{name}: `usage` begins with the name and shows an example: '{name} 2d6'",
        )
        has_help = command.help.strip() and "\n" not in command.help
        require(has_help, f"!{name} has no help; say on one line what it does")
        require(inspect.iscoroutinefunction(command.run), f"!{name}: `run` must be an `async def`")
    return found


def _short(answers: Sequence[str]) -> str:
    text = " / ".join(answers)
    return repr(text if len(text) < 80 else f"{text[:77]}...")
