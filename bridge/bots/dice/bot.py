"""Rolls dice, flips coins, chooses: the same answer when an item runs twice."""

import re
from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel

from bridge.bots.dice.settings import DiceSettings
from bridge.sdk import BotHost, Call, Command, ConfigError, Metric, ModuleInfo

_ROLL = re.compile(r"(\d{0,6})d(\d{1,9})\s*(?:([+-])\s*(\d{1,9}))?")


class DiceBot:
    """Invited like a person; answers in its rooms only."""

    info: ClassVar[ModuleInfo] = ModuleInfo(
        id="dice",
        name="Dice",
        summary="Rolls dice, flips coins and chooses for you.",
        docs="docs/reference/dice.md",
        removal="Kick it from a room, or remove the instance from `modules:`.",
        metrics=(
            Metric(
                name="throws",
                help="What the bot left to chance, by kind.",
                labels={"what": ("roll", "flip", "choice")},
            ),
        ),
    )
    settings: ClassVar[type[BaseModel]] = DiceSettings

    def __init__(self, settings: BaseModel, host: BotHost) -> None:
        if not isinstance(settings, DiceSettings):
            raise ConfigError("these are no settings of the dice module")
        self._settings = settings
        self._host = host

    @property
    def commands(self) -> Sequence[Command]:
        """What it understands."""
        return (
            Command(name="roll", usage="roll 2d6+1", help="roll dice", run=self._roll),
            Command(name="flip", usage="flip", help="flip a coin", run=self._flip),
            Command(
                name="choose",
                usage="choose tea, coffee or water",
                help="choose one of several",
                run=self._choose,
            ),
        )

    async def _roll(self, call: Call) -> None:
        match = _ROLL.fullmatch(call.text.casefold() or "1d6")
        if match is None:
            await call.reply("Say how many dice with how many sides: !roll 2d6, or !roll d20+3.")
            return
        number, sides = int(match[1] or "1"), int(match[2])
        if not 1 <= number <= self._settings.most_dice:
            await call.reply(f"I have {self._settings.most_dice} dice; roll at least one.")
            return
        if not 2 <= sides <= self._settings.most_sides:
            await call.reply(f"My dice have 2 to {self._settings.most_sides} sides.")
            return
        rolled = [call.random.randint(1, sides) for _ in range(number)]
        extra = int(match[4] or "0") * (-1 if match[3] == "-" else 1)
        self._host.count("throws", what="roll")
        await call.reply(_spell(rolled, extra))

    async def _flip(self, call: Call) -> None:
        self._host.count("throws", what="flip")
        await call.reply(call.random.choice(("heads", "tails")))

    async def _choose(self, call: Call) -> None:
        options = [one.strip() for one in re.split(r",|\bor\b", call.text) if one.strip()]
        if len(options) < 2:
            await call.reply("Name at least two: !choose tea, coffee or water.")
            return
        self._host.count("throws", what="choice")
        await call.reply(call.random.choice(options))


def _spell(rolled: Sequence[int], extra: int) -> str:
    total = sum(rolled) + extra
    if len(rolled) == 1 and not extra:
        return str(total)
    parts = " + ".join(map(str, rolled)) if len(rolled) <= 20 else f"{len(rolled)} dice"
    sign = f" {'+' if extra > 0 else '-'} {abs(extra)}" if extra else ""
    return f"{parts}{sign} = {total}"
