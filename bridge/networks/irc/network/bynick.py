"""Our connections, and those that ended, found by a nick."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from bridge.networks.irc.protocol.isupport import Isupport
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
        limits: Isupport,
    ) -> Self:
        """Bring it into this order; of those who were seen last by one nick the first counts."""
        gone: dict[str, tuple[tuple[float, str], ...]] = {}
        for nick, one in former.items():
            key = limits.fold(nick)
            gone[key] = (*gone.get(key, ()), one)
        seen: dict[str, Source] = {}
        for one_seen in last:
            seen.setdefault(limits.key(one_seen), one_seen)
        return cls({limits.key(own): own for own in held}, seen, gone)
