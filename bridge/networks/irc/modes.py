"""Changes of a channel's modes, read by what the server says of itself (ISUPPORT)."""

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.networks.irc.isupport import Isupport
from bridge.sdk.events import Rank

RANKS = {"q": Rank.OWNER, "a": Rank.OWNER, "o": Rank.MODERATOR, "h": Rank.HELPER, "v": Rank.VOICED}
"""What the letters stand for where a server has them."""


@dataclass(frozen=True, slots=True)
class Change:
    """One mode that was set or taken away."""

    adding: bool
    mode: str
    value: str = ""


def read_changes(words: Sequence[str], limits: Isupport) -> list[Change]:
    """Read what follows the channel in ``MODE``, or in numeric 324.

    Which letters take a value is the server's to say (``CHANMODES``, ``PREFIX``): a guess makes
    one mode's value another's.
    """
    if not words:
        return []
    lists, always, when_set, _ = limits.channel_modes
    with_value = set(lists + always) | set(limits.prefixes.values())
    values = iter(words[1:])
    changes, adding = [], True
    for letter in words[0]:
        if letter in "+-":
            adding = letter == "+"
            continue
        takes = letter in with_value or (adding and letter in when_set)
        # A list's letter alone is a question; some servers say it back.
        changes.append(Change(adding, letter, next(values, "") if takes else ""))
    return changes


def rank_of(letters: str) -> Rank:
    """The highest of the ranks that somebody holds."""
    return max((RANKS.get(letter, Rank.NONE) for letter in letters), default=Rank.NONE)
