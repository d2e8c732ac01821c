"""Changes of a channel's modes, read by what the server says of itself (ISUPPORT)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import Line, line
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import Rank

RANKS = {"q": Rank.OWNER, "a": Rank.OWNER, "o": Rank.MODERATOR, "h": Rank.HELPER, "v": Rank.VOICED}
"""What the letters stand for where a server has them."""


@dataclass(frozen=True, slots=True)
class Change:
    """One mode that was set or taken away."""

    adding: bool
    mode: str
    value: str = ""
    place: int = field(default=0, compare=False)
    """Where the value stands among the words that it was read from."""

    @property
    def spelled(self) -> str:
        """As it is written in ``MODE``, without its value."""
        return f"{'+' if self.adding else '-'}{self.mode}"


def read_changes(words: Sequence[str], limits: Isupport) -> list[Change]:
    """Read what follows the channel in ``MODE``, or in numeric 324.

    Which letters take a value is the server's to say (``CHANMODES``, ``PREFIX``): a guess makes
    one mode's value another's.
    """
    if not words:
        return []
    values = enumerate(words[1:], 1)
    changes, adding = [], True
    for letter in words[0]:
        if letter in "+-":
            adding = letter == "+"
            continue
        takes = _takes_value(letter, limits, adding=adding)
        # A list's letter alone is a question; some servers say it back.
        place, value = next(values, (0, "")) if takes else (0, "")
        changes.append(Change(adding, letter, value, place))
    return changes


def read_typed(words: Sequence[str], limits: Isupport) -> list[Change]:
    """Read the same from what somebody typed.

    Raises ``PermanentFailure`` for a mode that the network does not have, or has otherwise.
    """
    changes = read_changes(words, limits)
    if not changes:
        raise PermanentFailure("say which modes, with the values that they take: +m-i, or +l 20")
    known = {*"".join(limits.channel_modes), *limits.prefixes.values()}
    for one in changes:
        if one.mode not in known:
            there = "".join(sorted(known))
            raise PermanentFailure(f"{one.mode!r} is no channel mode there; these are: {there}")
        if not one.value and _takes_value(one.mode, limits, adding=one.adding):
            raise PermanentFailure(f"the mode {one.spelled} takes a value there")
    left = words[1 + sum(one.value != "" for one in changes) :]
    if left:
        raise PermanentFailure(f"none of these modes takes the value {left[0][:50]!r}")
    return changes


def lines(channel: str, changes: Sequence[Change]) -> list[Line]:
    """What sets them: those without a value by one line, the others each by its own.

    A list of modes with values was once given to the wrong people.
    """
    flags = "".join(one.spelled for one in changes if not one.value)
    made = [line("MODE", channel, flags)] if flags else []
    return made + [line("MODE", channel, one.spelled, one.value) for one in changes if one.value]


def _takes_value(letter: str, limits: Isupport, *, adding: bool) -> bool:
    lists, always, when_set, _ = limits.channel_modes
    with_value = {*lists, *always, *limits.prefixes.values()}
    return letter in with_value or (adding and letter in when_set)


def rank_of(letters: str) -> Rank:
    """The highest of the ranks that somebody holds."""
    return max((RANKS.get(letter, Rank.NONE) for letter in letters), default=Rank.NONE)
