"""The bounded memory of event keys that tells a repeated event from a new one."""

from collections.abc import Iterable, Sequence

_SIZE = 200_000


class KeyWindow:
    """Two generations of keyed event hashes; the older one is forgotten as a whole.

    Holds between 200,000 and twice as many keys. Membership is exact within that window;
    what has fallen out is asked of the journal.
    """

    def __init__(self) -> None:
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return those of ``keys`` that are in the window."""
        asked = set(keys)
        return (asked & self._young) | (asked & self._old)

    def add(self, keys: Iterable[bytes]) -> None:
        """Remember ``keys`` as the newest."""
        self._young.update(keys)
        if len(self._young) >= _SIZE:
            self._old = self._young
            self._young = set()
