"""The ledgers of a proof, and what must hold between them. Pure: no I/O."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

UNREAD_SECONDS = 2.0
"""How long before its end the program may have read a word that it had not stored yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Said in Matrix, and accepted by the homeserver."""

    text: str
    room: str
    event_id: str
    asks: bool = False
    """The witness owes an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Said on IRC."""

    text: str
    room: str
    """The room that its channel is bridged to."""
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A text as the homeserver handed it to us first."""

    text: str
    fetched: bool
    """We fetched it ourselves, since it never came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """From when to when nobody of ours listened on IRC."""

    began: float
    ended: float


@dataclass(slots=True, kw_only=True)
class Ledgers:
    """All that was written down, by room where it has one."""

    lines: list[Line] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    bridged: set[str] = field(default_factory=set)
    """The rooms that have a channel."""
    shown: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What the module was shown."""
    seen: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What others on IRC saw in the room's channel, of everybody."""
    held: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What the room holds in the end: every text, of everybody."""
    held_ids: set[str] = field(default_factory=set)
    flagged: set[str] = field(default_factory=set)
    """Events whose senders were told that they may be there twice."""
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What the witness answered in the room: the texts that it answers to."""
    arrivals: Mapping[str, Sequence[Arrival]] = field(default_factory=dict)
    parked: Sequence[str] = ()
    outages: Sequence[Outage] = ()
    ends: int = 0
    """How often the program was ended."""

    @property
    def said(self) -> int:
        """How much was said on both sides."""
        return len(self.lines) + len(self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one comparison found."""

    claim: str
    count: int
    """How many it looked at."""
    faults: tuple[str, ...] = ()
    remark: str = ""

    @property
    def holds(self) -> bool:
        """Whether what is claimed is so."""
        return not self.faults


def compare(ledgers: Ledgers) -> list[Finding]:
    """Hold the ledgers against each other, and against what is promised."""
    return [
        _accepted(ledgers),
        *_module(ledgers),
        *_to_irc(ledgers),
        *_to_matrix(ledgers),
        *_answered(ledgers),
        Finding(claim="nothing is parked", count=len(ledgers.lines), faults=tuple(ledgers.parked)),
    ]


def lacks_nearby(ledgers: Ledgers) -> list[str]:
    """Of what was said in Matrix, that which the module or IRC has not got yet."""
    found: list[str] = []
    for room, lines in _by_room(ledgers.lines).items():
        shown, seen = set(ledgers.shown.get(room, ())), set(ledgers.seen.get(room, ()))
        found += [line.text for line in lines if line.text not in shown]
        if room in ledgers.bridged:
            found += [line.text for line in lines if line.text not in seen]
    return found


def lacks(ledgers: Ledgers) -> list[str]:
    """What has not arrived yet, of all that must."""
    found = lacks_nearby(ledgers)
    for room, lines in _by_room(ledgers.lines).items():
        answered = set(ledgers.answers.get(room, ()))
        found += [line.text for line in lines if line.asks and line.text not in answered]
    for word in ledgers.words:
        if word.text not in ledgers.held.get(word.room, ()) and not _excused(ledgers, word):
            found.append(word.text)
    return found


def _accepted(ledgers: Ledgers) -> Finding:
    lost = tuple(x.text for x in ledgers.lines if x.event_id not in ledgers.held_ids)
    return Finding(
        claim="the homeserver kept what it accepted", count=len(ledgers.lines), faults=lost
    )


def _module(ledgers: Ledgers) -> Iterable[Finding]:
    lost, strange, disorder, again = [], [], [], 0
    for room, lines in _by_room(ledgers.lines).items():
        own = {line.text for line in lines}
        shown = [text for text in ledgers.shown.get(room, ()) if text in own]
        told_apart = _apart(shown)
        again += len(shown) - len(told_apart)
        lost += sorted(own - set(shown))
        strange += _repeated(told_apart)
        disorder += _disorder(room, shown, ledgers)
    count = len(ledgers.lines)
    yield Finding(claim="the module was shown every line", count=count, faults=tuple(lost))
    yield Finding(
        claim="the module was shown none of them again later",
        count=count,
        faults=tuple(strange),
        remark=f"{again} were shown twice in a row: what was in hand at a kill runs again",
    )
    yield Finding(
        claim="the module was shown them in the order of the room",
        count=count,
        faults=tuple(disorder),
    )


def _to_irc(ledgers: Ledgers) -> Iterable[Finding]:
    lost, disorder, unflagged, often, count, doubled = [], [], [], [], 0, 0
    for room, lines in _by_room(ledgers.lines).items():
        if room not in ledgers.bridged:
            continue
        count += len(lines)
        own = {line.text: line.event_id for line in lines}
        seen = [text for text in ledgers.seen.get(room, ()) if text in own]
        times = Counter(seen)
        lost += [text for text in own if text not in times]
        disorder += _disorder(room, seen, ledgers)
        twice = [text for text, number in times.items() if number > 1]
        doubled += len(seen) - len(times)
        unflagged += [text for text in twice if own[text] not in ledgers.flagged]
        often += [f"{text}, and not in a row" for text in _repeated(_apart(seen))]
    allowed = ledgers.ends * len(ledgers.bridged)
    if doubled > allowed:
        often.append(f"{doubled} lines are doubled, {allowed} may be")
    yield Finding(claim="IRC saw every line", count=count, faults=tuple(lost))
    yield Finding(
        claim="IRC saw none twice, but for what was on its way at a kill",
        count=count,
        faults=tuple(often),
        remark=f"{doubled} doubled; at most {allowed} are allowed, one of each channel at a kill",
    )
    yield Finding(
        claim="those whose lines are doubled were told so", count=doubled, faults=tuple(unflagged)
    )
    yield Finding(
        claim="IRC saw them in the order of the room", count=count, faults=tuple(disorder)
    )


def _to_matrix(ledgers: Ledgers) -> Iterable[Finding]:
    lost, doubled, disorder, gone = [], [], [], 0
    for room in ledgers.bridged:
        words = [word for word in ledgers.words if word.room == room]
        texts = {word.text for word in words}
        held = [text for text in ledgers.held.get(room, ()) if text in texts]
        doubled += _repeated(held)
        missing = [word for word in words if word.text not in set(held)]
        lost += [_when(ledgers, word) for word in missing if not _excused(ledgers, word)]
        gone += sum(_excused(ledgers, word) for word in missing)
        there = set(held)
        spoken = [text for text in ledgers.seen.get(room, ()) if text in there]
        disorder += _first_difference(list(dict.fromkeys(held)), spoken)
    count = len(ledgers.words)
    yield Finding(
        claim="Matrix holds every word from IRC",
        count=count,
        faults=tuple(lost),
        remark=f"{gone} were said around a kill, while nobody of ours had them stored: plain IRC "
        "says nothing again",
    )
    yield Finding(claim="Matrix holds none of them twice", count=count, faults=tuple(doubled))
    yield Finding(
        claim="Matrix holds them in the order of the channel", count=count, faults=tuple(disorder)
    )


def _answered(ledgers: Ledgers) -> Iterable[Finding]:
    lost, doubled, disorder, count = [], [], [], 0
    for room, lines in _by_room(ledgers.lines).items():
        asked = {line.text for line in lines if line.asks}
        count += len(asked)
        answers = list(ledgers.answers.get(room, ()))
        lost += sorted(asked - set(answers))
        doubled += _repeated(answers)
        disorder += _disorder(room, answers, ledgers)
    yield Finding(claim="every question was answered", count=count, faults=tuple(lost))
    yield Finding(claim="no question was answered twice", count=count, faults=tuple(doubled))
    yield Finding(claim="the answers came in order", count=count, faults=tuple(disorder))


def _disorder(room: str, texts: Sequence[str], ledgers: Ledgers) -> list[str]:
    """Where the first of each text is not in the order in which we were handed them.

    A homeserver that was told to wait may hand on a later transaction first, or keep one back
    until the room is looked at; the order that a bridge can keep is the one that it is given.
    """
    there = set(texts)
    arrivals = ledgers.arrivals.get(room, ())
    handed = [one.text for one in arrivals if one.text in there]
    faults = _first_difference(list(dict.fromkeys(texts)), handed)
    return faults + _overtaken(arrivals, [x for x in ledgers.held.get(room, ()) if x in there])


def _overtaken(arrivals: Sequence[Arrival], held: Sequence[str]) -> list[str]:
    """Events fetched before something earlier had come: that would be disorder of our making."""
    numbers = {text: number for number, text in enumerate(held)}
    landed: set[int] = set()
    complete = 0
    faults = []
    for one in arrivals:
        number = numbers.get(one.text)
        if number is None:
            continue
        if one.fetched and number > complete:
            faults.append(f"{one.text} was fetched before {held[complete]}")
        landed.add(number)
        while complete in landed:
            complete += 1
    return faults


def _first_difference(found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    for number, (one, other) in enumerate(zip(found, wanted, strict=False)):
        if one != other:
            return [f"at {number}: {one!r} came, {other!r} was next"]
    if len(found) != len(wanted):
        return [f"{len(found)} came, {len(wanted)} were handed on"]
    return []


def _repeated(texts: Iterable[str]) -> list[str]:
    return [text for text, number in Counter(texts).items() if number > 1]


def _apart(texts: Sequence[str]) -> list[str]:
    return [text for text, _ in groupby(texts)]


def _excused(ledgers: Ledgers, word: Word) -> bool:
    return any(o.began - UNREAD_SECONDS <= word.at <= o.ended for o in ledgers.outages)


def _when(ledgers: Ledgers, word: Word) -> str:
    """The word, and how long before the next outage it was said."""
    after = [outage.began - word.at for outage in ledgers.outages if outage.began > word.at]
    then = f"{min(after):.1f} s before the next kill" if after else "after the last kill"
    return f"{word.text} (said {then})"


def _by_room(lines: Iterable[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.room, []).append(line)
    return found
