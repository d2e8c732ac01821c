"""What is said in a proof: made by chance from a seed, so that it can be said again."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

_WORDS = (
    "tea", "rain", "tram", "Straße", "naïve", "snow ☃", "日本", "half past ten", "a:b", "100%",
    "<not a tag>", "and so on", "señor", "👋", "__init__", "the end",
)  # fmt: skip
_MOST_WORDS = 25
ASKS = "?"
"""A line that ends so is answered by the witness."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One thing that somebody says. No two of a proof are the same text."""

    text: str
    place: int
    """Which of the places: the number of a room or a channel."""
    emote: bool = False
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """Several things in a row, and the seconds of silence after them."""

    said: tuple[Utterance, ...]
    pause: float


def chance(seed: int, name: str) -> random.Random:
    """Chance that the same seed repeats; ``name`` tells one use from another."""
    return random.Random(f"{seed} {name}")  # noqa: S311 - to be repeated, not to be secret


def turns(seed: int, speaker: str, places: int) -> Iterator[Turn]:
    """What a speaker says, for ever: single lines, bursts and pauses, in all the places."""
    dice = chance(seed, f"script of {speaker}")
    number = 0
    while True:
        place = dice.randrange(places)
        said = []
        for _ in range(dice.choice((1, 1, 1, 2, 3, 5, 12))):
            number += 1
            said.append(_utterance(dice, f"{speaker}-{number}", place))
        yield Turn(tuple(said), pause=dice.choice((0.0, 0.0, 0.02, 0.1, 0.4)))


def _utterance(dice: random.Random, name: str, place: int) -> Utterance:
    words = dice.choices(_WORDS, k=dice.randrange(1, _MOST_WORDS))
    text = f"{name} {' '.join(words)}"
    if dice.random() < 0.12:
        return Utterance(f"{text} {ASKS}", place)
    return Utterance(text, place, emote=dice.random() < 0.05, bold=dice.random() < 0.1)
