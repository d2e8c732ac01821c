"""Our connections, and those that ended, found by a nick."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from bridge.networks.irc.wire import Source


@dataclass(frozen=True, slots=True)
class ByNick:
    """What is known at one moment, each by the nick as the network compares it."""

    held: Mapping[str, Source]
    """As what a connection is known."""
    last: Mapping[str, Source]
    """How those whose connections ended were seen last."""
    former: Mapping[str, tuple[tuple[float, str], ...]]
    """Since when a nick is not ours any more, in seconds of the loop, and with which user name."""

    @classmethod
    def of(
        cls,
        held: Iterable[Source],
        last: Iterable[Source],
        former: Mapping[str, tuple[float, str]],
        fold: Callable[[str], str],
    ) -> Self:
        """Bring it into this order; of those who were seen last by one nick the first counts."""
        gone: dict[str, tuple[tuple[float, str], ...]] = {}
        for nick, one in former.items():
            gone[fold(nick)] = (*gone.get(fold(nick), ()), one)
        seen: dict[str, Source] = {}
        for one_seen in last:
            seen.setdefault(fold(one_seen.nick), one_seen)
        return cls({fold(own.nick): own for own in held}, seen, gone)
