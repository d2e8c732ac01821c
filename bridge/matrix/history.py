"""What was said in a room, read backwards (client-server API, ``/rooms/{roomId}/messages``)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import orjson

from bridge.matrix.client import HomeserverClient, MatrixError, path
from bridge.matrix.dates import is_dated
from bridge.matrix.intents import MARK
from bridge.matrix.wordings import POLLS
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import EventId, RoomId, UserId

TYPES = (
    "m.room.message", "m.room.encrypted", "m.sticker", "m.reaction", "m.room.redaction",
    "m.room.member", "m.room.encryption", "m.room.tombstone", "m.policy.rule.*", "m.room.rule.*",
    "org.matrix.mjolnir.rule.*", *POLLS,
)  # fmt: skip
"""What is looked for, as a filter spells it. Not topics and power levels: found late, what they
say may be outdated, and would be brought to the network all the same. Encryption stays; a
tombstone and a rule are compared with the present."""
_FILTER = orjson.dumps({"types": TYPES}).decode()

T = TypeVar("T")

WereSent = Callable[[Sequence[str]], Awaitable[bool]]
"""Whether one of the transaction ids is of an event that surely was there before."""

_MOST_SENDERS = 30
"""Names in a filter, which goes into the URL."""
_PAGES = 1000
_MOST_EMPTY = 50
"""Pages in a row on which nothing is to be seen; it is not looked behind more."""
_SLACK = timedelta(minutes=10)
"""By how much the homeserver's clock may be behind ours; ``doctor`` complains of a tenth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some events of a room, the newest first."""

    events: list[dict[str, Any]]
    start: str = ""
    """Where it begins, to read the same again."""
    before: str = ""
    """Where the next page begins; empty if there is none."""


class History:
    """Reads rooms as one of our users who is in them."""

    def __init__(
        self,
        client: HomeserverClient,
        is_ours: Callable[[str], bool],
        is_double: Callable[[dict[str, Any]], bool] = lambda event: False,
    ) -> None:
        """``is_double`` tells an event that a double puppet of ours said."""
        self._client = client
        self._is_ours = is_ours
        self._is_double = is_double

    async def page(self, room: RoomId, user: UserId, *, before: str = "") -> Page | None:
        """The newest events, or those before a point: of :data:`TYPES`.

        None if the user may not see them. Raises ``TemporaryFailure``.
        """
        return await self._page(room, user, _FILTER, before)

    async def find_ours(
        self, room: RoomId, readers: Sequence[UserId], senders: Sequence[UserId], since: datetime,
        were_sent: WereSent | None = None,
    ) -> dict[str, EventId]:  # fmt: skip
        """The events that our users sent into the room since then, by transaction id.

        Each of ``readers`` may see only what was said while they were in the room. The last is the
        most likely to see all of it, and reads it alone if it surely has been there since then;
        else all of them read it. Nothing is found if none of them may see the room. No ``senders``
        is all of them.

        It is read no further than to an event of which ``were_sent`` says that it was there before
        ``since``, or whose own time is before that: our own users' times are the homeserver's, so
        they may be believed. But for those that we gave it: a message that was told late bears the
        time at which it was said (``Outgoing.said_at``), however new it is in the room. Its
        content says so, as long as it was not taken back; so a message ends the search only if its
        content is whole and says no such time, or if one of us took it back before ``since``.
        Raises ``TemporaryFailure``.
        """
        wanted: dict[str, Any] = {"not_types": ["m.room.member"]}
        if 0 < len(senders) <= _MOST_SENDERS:
            wanted["senders"] = list(senders)
        spelled = orjson.dumps(wanted).decode()
        oldest = (since - _SLACK).timestamp() * 1000
        *others, last = dict.fromkeys(readers)
        asked = self._is_in_since(room, last, oldest) if others else None
        sees_all = asked is not None and await self._tried(asked)
        found: dict[str, EventId] = {}
        for reader in (last, *others) if sees_all else (*others, last):
            page = await self._tried(self._page(room, reader, spelled, ""))
            if page is not None:
                try:
                    found |= await self._collect(room, reader, spelled, page, oldest, were_sent)
                except MatrixError as error:
                    raise TemporaryFailure(f"a room cannot be read back: {error}") from error
                if sees_all:
                    break
        return found

    async def _tried(self, asked: Awaitable[T]) -> T | None:
        """What it gives; None if it is refused to the reader, who has no account yet, say.

        Raises ``TemporaryFailure``.
        """
        try:
            return await asked
        except MatrixError as error:
            if error.is_of_token:
                # It does not know us at all just now: that is no "it is not there".
                raise TemporaryFailure(f"a room cannot be read back: {error}") from error
            return None

    async def _is_in_since(self, room: RoomId, user: UserId, oldest: float) -> bool:
        """Whether the user has surely been in the room since then, and not been out of it."""
        place = path("v3", "rooms", room, "state", "m.room.member", user)
        member = await self._client.request("GET", place, user=user, query={"format": "event"})
        content, stamp = member.get("content"), member.get("origin_server_ts")
        is_in = isinstance(content, dict) and content.get("membership") == "join"
        # A newer one may be of another name only; a homeserver may tell the content alone.
        return is_in and isinstance(stamp, int) and stamp < oldest

    async def _collect(
        self, room: RoomId, reader: UserId, wanted: str, page: Page | None, oldest: float,
        were_sent: WereSent | None,
    ) -> dict[str, EventId]:  # fmt: skip
        found: dict[str, EventId] = {}
        for _ in range(_PAGES):
            if page is None:
                break
            marks: list[str] = []
            for event in page.events:
                if not self._is_ours(str(event.get("sender"))) and not self._is_double(event):
                    continue  # Others' times and marks are whatever they like.
                if self._was_there(event, oldest):
                    return found
                content = event.get("content")
                mark = content.get(MARK) if isinstance(content, dict) else None
                if isinstance(mark, str):
                    found[mark] = EventId(str(event.get("event_id")))
                    marks.append(mark)
            if not page.before or (marks and were_sent and await were_sent(marks)):
                break
            page = await self._page(room, reader, wanted, page.before)
        return found

    def _was_there(self, event: Mapping[str, Any], oldest: float) -> bool:
        """Whether an event of ours was surely there before, by a time that we did not give."""
        unsigned, content = event.get("unsigned"), event.get("content")
        because = unsigned.get("redacted_because") if isinstance(unsigned, dict) else None
        if (
            isinstance(because, dict)
            and self._is_ours(str(because.get("sender")))
            and self._was_there(because, oldest)
        ):
            return True  # It is older than what took it back.
        stamp = event.get("origin_server_ts")
        if not isinstance(stamp, int) or stamp >= oldest:
            return False
        if event.get("type") != "m.room.message" or "state_key" in event:
            return True
        # Without a mark it was taken back, and no longer says whose its time is.
        if not isinstance(content, dict) or not isinstance(content.get(MARK), str):
            return False
        return not is_dated(content, stamp)

    async def _page(self, room: RoomId, user: UserId, wanted: str, before: str) -> Page | None:
        query = {"dir": "b", "limit": "100", "filter": wanted}
        if before:
            query["from"] = before
        events: list[dict[str, Any]] = []
        start = end = ""
        # A page is empty, too, if nothing on it is for the user: then it goes on behind it.
        for _ in range(_MOST_EMPTY):
            try:
                reply = await self._client.request(
                    "GET", path("v3", "rooms", room, "messages"), user=user, query=query
                )
            except MatrixError as error:
                if error.errcode in {"M_FORBIDDEN", "M_NOT_FOUND"}:
                    return None
                raise
            chunk = reply.get("chunk")
            events = [event for event in chunk if isinstance(event, dict)] if chunk else []
            start, end = start or _token(reply, "start"), _token(reply, "end")
            if end == query.get("from"):
                end = ""  # Some homeservers say so of the room's beginning.
            if events or not end:
                break
            query["from"] = end
        return Page(events=events, start=start, before=end if events else "")


def _token(reply: Mapping[str, Any], name: str) -> str:
    token = reply.get(name)
    return token if isinstance(token, str) else ""
