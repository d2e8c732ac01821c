"""Bots that break one rule each, with the words by which their author is told."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, Field

from bridge.sdk import BotHost, Call, Command, ModuleInfo, RoomMessage, Timer, TimerCall
from tests.sdk.faulty_clients import LEFT, linger
from tests.sdk.faulty_connectors import SEEN, STRICT, Fault, look_up


class CoinSettings(BaseModel):
    model_config = STRICT


class CoinBot:
    """A bot that is as it must be."""

    info = ModuleInfo(
        id="coin",
        name="Coin",
        summary="Flips a coin.",
        docs="https://example.org/coin",
        removal="Kick it.",
        keeps=(SEEN,),
    )
    settings = CoinSettings

    def __init__(self, settings: CoinSettings, host: BotHost) -> None:
        self._host = host
        self._count = 0

    @property
    def commands(self) -> Sequence[Command]:
        """What it understands."""
        return (Command(name="flip", usage="flip", help="flip a coin", run=self._flip),)

    async def _flip(self, call: Call) -> None:
        await call.reply(call.random.choice(("heads", "tails")))


class BranchSettings(BaseModel):
    model_config = STRICT
    branches: "list[BranchSettings]" = Field(default_factory=list, description="More of them.")


def bot(**changes: Any) -> type:
    """The bot with something changed."""
    return type("Faulty", (CoinBot,), changes)


def commands(*found: Any) -> type:
    """The bot with other commands."""
    return bot(commands=property(lambda self: found))


async def say_nothing(call: Call) -> None:
    """Do not answer."""


FLIP = Command(name="flip", usage="flip", help="flip a coin", run=say_nothing)


async def flip_by_chance(self: CoinBot, call: Call) -> None:
    """Take chance from elsewhere."""
    await call.reply(str(random.getrandbits(64)))


async def flip_and_count(self: CoinBot, call: Call) -> None:
    """Count in memory."""
    self._count += 1
    await call.reply(str(self._count))


async def flip_and_store(self: CoinBot, call: Call) -> None:
    """Count in the store, twice for an item that runs twice."""
    number = int(await self._host.store.get("seen:count") or b"0") + 1
    await self._host.store.put("seen:count", str(number).encode())
    await call.reply(str(number))


async def flip_by_memory(self: CoinBot, call: Call) -> None:
    """Know only what this object has seen."""
    await call.reply(f"this is object {id(self)}")


async def flip_into_error(self: CoinBot, call: Call) -> None:
    """Trust what people write."""
    await call.reply(str(int(call.text or "1")))


async def flip_slowly(self: CoinBot, call: Call) -> None:
    """Wait for longer than allowed."""
    await asyncio.Event().wait()


async def flip_and_block(self: CoinBot, call: Call) -> None:
    """Keep everything waiting."""
    time.sleep(1.5)  # noqa: ASYNC251 - the fault
    await call.reply("heads")


async def flip_and_leave(self: CoinBot, call: Call) -> None:
    """Leave something running."""
    LEFT.append(asyncio.get_running_loop().create_task(linger()))
    await call.reply("heads")


async def flip_and_keep(self: CoinBot, call: Call) -> None:
    """Keep what nobody was told of."""
    await self._host.store.put("flip:last", b"heads")
    await call.reply("heads")


async def hear_and_crash(self: CoinBot, message: RoomMessage, call: Call) -> None:
    """Trust what people write."""
    message.body.nodes[0]


async def flip_later(self: CoinBot, call: Call) -> None:
    """Set a timer."""
    await self._host.timers.set("flip", after=timedelta(hours=1), room=call.room)
    await call.reply("I will flip in an hour.")


async def ring_by_chance(self: CoinBot, timer: Timer, call: TimerCall) -> None:
    """Take chance from elsewhere."""
    await call.reply(str(random.getrandbits(64)))


async def ring_well(self: CoinBot, timer: Timer, call: TimerCall) -> None:
    """Ring as it must be."""
    await call.reply("heads")


async def ring_and_crash(self: CoinBot, timer: Timer, call: TimerCall) -> None:
    """Fail with an error that says nothing to the host."""
    raise LookupError(timer.key)


def open_early(self: CoinBot, settings: CoinSettings, host: BotHost) -> None:
    """Touch the network where nothing may wait."""
    self._host = host
    look_up()


NAMES = iter(["flip", *(f"flip{number}" for number in range(99))])
KEEPS_A_DAY = (replace(SEEN, prefix="flip:", keep_for=timedelta(days=1)),)

BOTS: list[Fault] = [
    ("no commands", bot(commands=None), "`commands` must be a property"),
    ("no command", commands("flip"), "a list or tuple of Command"),
    ("a capital", commands(replace(FLIP, name="Flip")), "the command 'Flip' is never found"),
    ("two alike", commands(FLIP, FLIP), "two commands are called 'flip'"),
    ("the host's", commands(replace(FLIP, name="help")), "needs another name"),
    ("no usage", commands(replace(FLIP, usage="")), "`usage` begins with the name"),
    ("no help", commands(replace(FLIP, help="")), "!flip has no help"),
    (
        "not async",
        commands(
            replace(FLIP, run=print)  # type: ignore[arg-type]
        ),
        "`run` must be an `async def`",
    ),
    ("silent", commands(FLIP), "'!flip' got no answer"),
    (
        "other commands each time",
        bot(commands=property(lambda self: (replace(FLIP, name=(n := next(NAMES)), usage=n),))),
        "gives other commands each time",
    ),
    ("chance", bot(_flip=flip_by_chance), "take chance from call.random"),
    ("counts in memory", bot(_flip=flip_and_count), "when the same item ran again, '2'"),
    ("counts in the store", bot(_flip=flip_and_store), "have a second run change nothing"),
    ("lives in memory", bot(_flip=flip_by_memory), "again by a bot that was made anew"),
    ("trusts people", bot(_flip=flip_into_error), "'!flip x.*' raised ValueError"),
    ("takes for ever", bot(_flip=flip_slowly), "'!flip' takes longer than"),
    ("blocks", bot(_flip=flip_and_block), r"faulty_bots.py, line \d+, in flip_and_block"),
    ("leaves a task", bot(_flip=flip_and_leave), "the task linger still runs"),
    ("keeps in secret", bot(_flip=flip_and_keep), "of which info.keeps says nothing"),
    (
        "keeps for ever",
        bot(_flip=flip_and_keep, info=replace(CoinBot.info, keeps=KEEPS_A_DAY)),
        "give put\\(\\) a keep_for",
    ),
    ("crashes at a text", bot(on_message=hear_and_crash), "raised IndexError"),
    ("hears no timers", bot(_flip=flip_later), "it sets timers but cannot hear them"),
    (
        "rings by chance",
        bot(_flip=flip_later, on_timer=ring_by_chance),
        "the timer 'flip' was answered .* have a second run change nothing",
    ),
    (
        "crashes when it rings",
        bot(_flip=flip_later, on_timer=ring_and_crash),
        "the timer 'flip' raised LookupError",
    ),
    (
        "sets timers in secret",
        bot(_flip=flip_later, on_timer=ring_well),
        "it sets the timer 'flip', of which info.keeps says nothing",
    ),
    ("makes a call", bot(__init__=open_early), "making the bot looked up"),
]
"""The bot does not do as it must."""
