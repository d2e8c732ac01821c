"""Links to media in Matrix for people who have no account there: signed, and good for some days.

Nothing is stored when one is made: the link itself says what it leads to, until when, and by a
mark which message showed it. Nobody can make one without our key. It ends earlier when that
message is deleted, which is stored.
"""

import base64
import hmac
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from urllib.parse import quote

from bridge.model import Clock
from bridge.sdk.ids import EventId, RoomId

_MXC = re.compile(r"mxc://([A-Za-z0-9.:\[\]-]{1,255})/([A-Za-z0-9_-]{1,255})")
_FIRST_DAY = date(2020, 1, 1)
_LONGEST_NAME = 80
_MARK_BYTES = 9
"""Enough to tell messages apart; links on networks are short of room."""
_UNMARKED = "-"


class Media(NamedTuple):
    """Something in a homeserver's media repository."""

    server: str
    id: str

    @property
    def mxc(self) -> str:
        """Its ``mxc://`` URI."""
        return f"mxc://{self.server}/{self.id}"


def read_mxc(url: object) -> Media | None:
    """Read a ``mxc://`` URI; None if it is none."""
    match = _MXC.fullmatch(url) if isinstance(url, str) else None
    return Media(match[1], match[2]) if match else None


class MediaLinks:
    """Makes such links, and reads them again."""

    def __init__(
        self, public_url: str | None, key_of: Callable[[str], bytes], clock: Clock, *,
        days: int, generation: int,
    ) -> None:  # fmt: skip
        """``public_url``: where they lead; None: nowhere, so there are none.

        With another ``generation`` those made before are no longer good: after a restore it is not
        known what was deleted since the backup.
        """
        self._public_url = public_url
        self._key_of = key_of
        self._clock = clock
        self._days = days
        self._generation = generation

    @property
    def can_link(self) -> bool:
        """Whether there is a public address."""
        return self._public_url is not None

    def mark_of(self, room: RoomId, event: EventId) -> str:
        """Mark the links to what an event shows.

        With its room: nobody can end a link by a redaction elsewhere.
        """
        key = self._key_of("\x1f".join(("shown", room, event)))
        return base64.urlsafe_b64encode(key[:_MARK_BYTES]).decode()

    def make(self, media: Media, name: str, mark: str = _UNMARKED) -> str:
        """A link; ``name`` is what the file is called, ``mark`` says which event shows it, if any.

        The same all day long. Raises ``ValueError`` without a public address.
        """
        if self._public_url is None:
            raise ValueError("there is no public address")
        until = (self._clock.today() + timedelta(days=self._days) - _FIRST_DAY).days
        kept = _tidy(name)
        signature = self._sign(until, media, mark, kept)
        parts = (str(until), media.server, media.id, mark, signature, kept)
        path = "/".join(quote(part, safe="") for part in parts)
        return f"{self._public_url.rstrip('/')}/media/{path}"

    def read(self, until: str, media: Media, mark: str, signature: str, name: str) -> bool:
        """Whether these are the parts of a link that we made and that is still good."""
        if not until.isascii() or not until.isdecimal() or len(until) > 6:
            return False
        right = self._sign(int(until), media, mark, name)
        if not hmac.compare_digest(right.encode(), signature.encode("utf-8", "replace")):
            return False
        last = datetime.combine(_FIRST_DAY, datetime.min.time(), UTC) + timedelta(
            days=int(until) + 1
        )
        # One that is good for longer was made while the clock was ahead, or before its days were
        # made fewer: that what it leads to was deleted is not known for as long.
        left = last - self._clock.now()
        return timedelta() < left <= timedelta(days=self._days + 2)

    def _sign(self, until: int, media: Media, mark: str, name: str) -> str:
        numbers = (str(self._generation), str(until))
        said = "\x1f".join(("media", *numbers, media.server, media.id, mark, name))
        return base64.urlsafe_b64encode(self._key_of(said)).decode().rstrip("=")


def _tidy(name: str) -> str:
    """A file's name as it may stand in an address."""
    kept = "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in name).strip("._")
    # Its end says what kind it is. Percent-encoded, a letter takes up to twelve characters.
    first, left = len(kept), _LONGEST_NAME
    while first and (left := left - len(quote(kept[first - 1], safe=""))) >= 0:
        first -= 1
    return kept[first:] or "file"
