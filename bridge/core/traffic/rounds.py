"""What goes round: a text that other bridges bring back, and that would be carried once more."""

import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

_SECONDS = 300.0
"""So long a text is known again that comes back."""
_ROUNDS = 2
"""So often a text may come back, with one name more before it each time."""
_REPEAT_SECONDS = 20.0
_REPEATS, _SHORT_REPEATS = 5, 10
"""So often the same may be said within so many seconds: people say short things often."""
_SHORT = 40
"""Characters of a text that several people may well say at once."""
_MOST_KEPT = 200
_MOST_NAMES = 8
_NAME = re.compile(r"(?:<[^<>]{1,100}>|‹[^‹›]{1,100}›|\* \S{1,100}) (?=.)")
"""What relays put before a text: who says it."""


class _Said(NamedTuple):
    heard_at: float
    at: float
    """When it was said, in seconds of the clock of who says it."""
    event_id: str
    sender: str
    whole: int
    """The text, with the names before it."""
    bare: int
    """The text alone."""
    is_counted: bool
    """It comes of another network, as far as can be seen."""


class Rounds:
    """What was said of late in one place, and what of it goes round. Pure; seconds of any clock.

    Of a ring of bridges each puts a name before what it carries: ``<trestle> <ann> hi`` holds all
    of ``<ann> hi``, and that of ``hi``. Where none does, what is said again and again is left.

    It counts when something was said, not when it came to us: after an outage hours of messages
    come within a second, in which people may well have said the same ten times. A ring goes on
    while it is there, so that what it brings is as new each time. Our ghosts' events bring the
    time at which it was said on their network (``SAID_AT``), since what waited in our own outbox
    comes to the homeserver within a second, too. Others' time is their word, but one that lies
    stands for itself alone: nothing is forgotten for it, and each other one is compared as
    before. Whoever gives what they carry another time at each lap runs a bridge of the ring, or a
    network in it, and could as well change the text.
    """

    def __init__(self) -> None:
        self._said: deque[_Said] = deque(maxlen=_MOST_KEPT)

    def is_endless(
        self, now: float, said_at: float, event_id: str, sender: str, text: str, *, is_ghost: bool
    ) -> bool:
        """Whether it has come back too often. The same event may be asked about again.

        ``said_at``: seconds of the clock of the sender's homeserver, or of a ghost's network.
        ``is_ghost``: it is one of our own who says it, for somebody of another network.
        """
        while self._said and now - self._said[0].heard_at > _SECONDS:
            self._said.popleft()
        texts = list(_peeled(text))
        whole, *inner = map(hash, texts)
        said = _Said(
            now, said_at, event_id, sender, whole, (whole, *inner)[-1], is_ghost or bool(inner)
        )
        if not (self._said and self._said[-1].event_id == event_id):
            self._said.append(said)
        if not said.is_counted:
            return False  # As nearly all is; what came before need not be gone through.
        before = [
            one for one in self._said
            if one.event_id != event_id and abs(said_at - one.at) <= _SECONDS
        ]  # fmt: skip
        is_short = len(texts[-1]) <= _SHORT
        return _rounds(said, inner, before) >= _ROUNDS or _is_repeated(
            said, before, is_short=is_short
        )


def _peeled(text: str) -> Iterator[str]:
    """The text, and what is left of it as name after name is taken away from before it."""
    text = " ".join(text.split()).casefold()
    yield text
    for _ in range(_MOST_NAMES):
        name = _NAME.match(text)
        if name is None:
            return
        text = text[name.end() :]
        yield text


def _rounds(said: _Said, inner: list[int], before: list[_Said]) -> int:
    """How often it came back: with another name, or as it was by somebody else."""
    # Five people who say the same through one honest relay have names side by side, not nested.
    nested = {one.whole for one in before if one.whole in inner}
    others = {one.sender for one in before if inner and one.whole == said.whole}
    return len(nested) + len(others - {said.sender})


def _is_repeated(said: _Said, before: list[_Said], *, is_short: bool) -> bool:
    recent = [one for one in before if one.is_counted and abs(said.at - one.at) < _REPEAT_SECONDS]
    if is_short:
        same = [one for one in recent if (one.sender, one.whole) == (said.sender, said.whole)]
        return len(same) >= _SHORT_REPEATS
    return sum(one.bare == said.bare for one in recent) >= _REPEATS
