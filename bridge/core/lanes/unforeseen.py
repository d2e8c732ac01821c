"""What nobody foresaw, in rounds that go on for as long as we run."""

import asyncio
import logging
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from bridge.matrix.cache import Recent
from bridge.sdk.errors import TrestleError

log = logging.getLogger(__name__)

_MOST = 1000


class Unforeseen:
    """Outlives exceptions that nobody foresaw, with a pause after each that is longer than the one
    before.

    Each is in the log. A cancellation goes through, and so does every ``TrestleError``: that is
    raised on purpose, and for whoever goes round to tell apart.
    """

    def __init__(self, rounds: str, *, first: float = 1.0, longest: float = 600.0) -> None:
        """``rounds``: what goes round, for the log; the rest are seconds of a pause."""
        self._rounds = rounds
        self._first = first
        self._longest = longest
        self._pauses: Recent[Hashable, float] = Recent(_MOST)
        self._until: Recent[Hashable, float] = Recent(_MOST)

    @contextmanager
    def outlived(self, part: Hashable = "") -> Iterator[None]:
        """Go on after what fails in here. ``part``: of what, where others go on meanwhile; the
        log has it, too."""
        try:
            yield
        except TrestleError:
            raise
        except Exception:
            pause = min(2 * (self._pauses.get(part) or self._first / 2), self._longest)
            self._pauses.put(part, pause)
            self._until.put(part, asyncio.get_running_loop().time() + pause)
            log.exception(
                "%s: nobody foresaw what failed; it is tried again after a pause", self._rounds,
                extra={"event": "round_failed", **_where(part)},
            )  # fmt: skip
        else:
            self._pauses.drop(part)
            self._until.drop(part)

    def rests_until(self, part: Hashable = "") -> float:
        """Until when it is to be left alone, by the loop's clock; 0 if it went well last time."""
        return self._until.get(part) or 0.0

    async def rest(self) -> None:
        """Wait out the pause of the round itself."""
        await asyncio.sleep(self.rests_until() - asyncio.get_running_loop().time())


def _where(part: Hashable) -> dict[str, str]:
    """What the log has of a part: a round as a whole has none."""
    words = part if isinstance(part, tuple) else (part,)
    return {} if part == "" else {"part": " ".join(map(str, words))}
