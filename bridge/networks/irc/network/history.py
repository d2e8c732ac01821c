"""Fills the time of our own absence from the server's memory (IRCv3 ``draft/chathistory``).

When the relay is in a channel again, what was said since the last message heard there is asked
for. What happens meanwhile is held back, so that the room's order is the channel's. Where that
takes long, because the server is silent or the question must wait for its turn, it is held back no
more; but the gap stays open, and is asked for again a few times.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.protocol.times import stamp
from bridge.networks.irc.wire import Incoming, Line, line
from bridge.sdk.errors import DeliveryError
from bridge.sdk.events import RemoteEvent
from bridge.sdk.ids import RemoteChatId
from bridge.sdk.module import Store

CAPABILITY = "draft/chathistory"
TARGETS = "draft/chathistory-targets"
"""The group of lines that say with whom something was said."""
PLAYBACK = "draft/event-playback"
"""The memory holds what was done to messages, too, and who came and went."""
MOST_PAGES = 20
"""So many answers are asked for after one absence: nobody needs to be told more than they hold."""
PAGE = 100
ANSWER_SECONDS = 20.0
"""So long a server may say nothing of an answer, doubled with each time that it is asked again."""
LOOK_SECONDS = 0.25
"""Between two looks at what is late, at least: while we are the slow ones, the clock that counts
stands still, and what is nearly late stays so."""
MOST_TIMES = 5
"""One page is asked for so often at most."""
MOST_HELD = 500
"""So much of one channel is held back at most."""
STORE_PREFIX = "heard:"
WRITE_SECONDS = 30.0
REMEMBERED = 1000
"""Ids of a channel that are known to be heard."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The last message heard in a channel; an entry, when we came in and heard nothing."""

    at: datetime
    msgid: str
    is_entry: bool = False
    """It is kept as a mark without an id."""

    def encode(self) -> bytes:
        """Return it as it is kept."""
        return f"{self.at.astimezone(UTC).isoformat()} {self.msgid}".encode()

    @classmethod
    def decode(cls, raw: bytes) -> "Mark | None":
        """Read what was kept; None if that is no mark."""
        at, _, msgid = raw.decode("utf-8", "replace").partition(" ")
        try:
            return cls(datetime.fromisoformat(at), msgid, is_entry=not msgid)
        except ValueError:
            return None


@dataclass(slots=True)  # Not frozen, as in wire.py.
class Heard:
    """What a line means to a room, and up to where the channel is heard once that is stored."""

    event: RemoteEvent | None
    chat: RemoteChatId
    mark: Mark | None = None
    voids_mark: bool = False
    """How far the channel is heard is not known any more."""


def lane_of(heard: object) -> RemoteChatId | None:
    """Where it must not be overtaken: what was heard in a channel, in that one."""
    return heard.chat if isinstance(heard, Heard) else None


class Put(Protocol):
    """Takes what may be told now, all of it at once: nothing comes in between."""

    def __call__(self, *heard: Heard) -> Awaitable[None]: ...


@dataclass(slots=True, eq=False)
class _Asking:
    name: str
    after: datetime
    question: Line | None = None
    """Still to be written."""
    is_asked: bool = False
    """The question is written."""
    heard_at: float = 0.0
    """When it was to be asked, was asked, or something of the answer was heard."""
    times: int = 0
    """How often it was asked for this page."""
    by_time: bool = False
    pages: int = 0
    lines: int = 0
    held: list[Heard] = field(default_factory=list)
    is_late: bool = False
    """Nothing is held back any more."""
    beyond: Mark | None = None
    """The last message that was told already although the gap before it is open."""

    def pass_by(self, heard: Heard) -> Heard:
        """Let something be told before the gap is filled: the channel is not heard up to there."""
        self.beyond = heard.mark or self.beyond
        return replace(heard, mark=None)

    def stop_holding(self) -> list[Heard]:
        """Let what is held back be told, and from now on all at once."""
        self.is_late = True
        held, self.held = self.held, []
        return [self.pass_by(heard) for heard in held]


class History:
    """The channels of one listening connection. Pure but for :meth:`keep_asking` and
    :meth:`keep_releasing`.

    Times are parameters: seconds that we waited for the server, so that what lies unread while
    we are the slow ones is no silence of it.
    """

    def __init__(self, isupport: Isupport, marks: Mapping[RemoteChatId, Mark]) -> None:
        self._marks = dict(marks)
        self._answer_seconds = ANSWER_SECONDS
        self._seen: dict[RemoteChatId, deque[str]] = {}
        self._asking: dict[RemoteChatId, _Asking] = {}
        self._unasked: dict[RemoteChatId, Mark] = {}
        """Channels of which a server may say again by itself what was said there, and up to where
        each was heard."""
        self._to_ask: asyncio.Queue[_Asking] = asyncio.Queue()
        self._new: set[_Asking] = set()
        """Those whose first question is not written."""
        self._all_asked = asyncio.Event()
        self._all_asked.set()
        self._changed = asyncio.Event()
        """Something may be late sooner than it was."""
        limit = isupport.tokens.get("CHATHISTORY", "")
        most = int(limit[:6]) if limit.isascii() and limit.isdecimal() else 0
        self._page = min(most or PAGE, PAGE)
        kinds = isupport.tokens.get("MSGREFTYPES", "timestamp,msgid").lower()
        self._is_channel = isupport.is_channel
        self._knows_ids = "msgid" in kinds.split(",")
        self._begun: dict[RemoteChatId, Mark] = {}
        """When we came into channels of which nothing was ever heard."""
        self._gives_ids = self._knows_ids and "MSGREFTYPES" in isupport.tokens
        """Whether messages are known to have ids: without, what was heard would be told again."""

    async def keep_asking(
        self, say: Callable[[Line], Awaitable[None]], now: Callable[[], float]
    ) -> None:
        """Write the questions, each as soon as ``say`` lets. Runs until cancelled."""
        while True:
            asking = await self._to_ask.get()
            # One that was answered meanwhile, by an answer that came late, is not asked again.
            question, asking.question = asking.question, None
            if question is not None and asking in self._asking.values():
                await say(question)
                # An answer to the one before may have come meanwhile, and led to the next.
                if asking.question is None:
                    asking.is_asked, asking.heard_at = True, now()
                    self._changed.set()
            self._new.discard(asking)
            if not self._new:
                self._all_asked.set()

    async def keep_releasing(self, put: Put, now: Callable[[], float]) -> None:
        """Hand over what was held back for too long, though nothing more is heard. Runs until
        cancelled."""
        while True:
            self._changed.clear()
            if late := self._release_late(now()):
                await put(*late)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause(now())):
                    await self._changed.wait()

    def _pause(self, now: float) -> float | None:
        """Seconds until something may be late; None if nothing can be."""
        # Of one that is late already and not asked yet there is nothing to tell.
        ends = [
            self._late_at(one) for one in self._asking.values() if one.is_asked or not one.is_late
        ]
        return max(min(ends) - now, LOOK_SECONDS) if ends else None

    def _late_at(self, asking: _Asking) -> float:
        return asking.heard_at + self._answer_seconds * 2.0 ** (asking.times - 1)

    async def wait_until_asked(self) -> None:
        """Return when each channel that we came into was asked about once: that goes first, since
        what is said there waits for it."""
        await self._all_asked.wait()

    @property
    def is_asking(self) -> bool:
        """Whether something of a gap is missing."""
        return bool(self._asking)

    def is_asked(self, chat: RemoteChatId) -> bool:
        """Whether something of the gap there is missing."""
        return chat in self._asking

    def enter(self, chat: RemoteChatId, name: str, now: float, since: Mark | None = None) -> None:
        """Ask for what was said in a channel that we are in now, if we were before; or since a
        mark of the caller's."""
        if since is not None:
            self._marks.setdefault(chat, since)
        mark = self._marks.get(chat)
        if mark is not None and chat not in self._asking:
            # What was heard up to then, or was said before we came, may be of the same moment.
            after = mark.at + timedelta(microseconds=1) if mark.is_entry else mark.at
            by_time = not self._knows_ids or since is not None
            asking = _Asking(name, after, by_time=by_time)
            self._asking[chat] = asking
            self._new.add(asking)
            self._all_asked.clear()
            self._ask_page(asking, mark, now)

    def expect(self, chat: RemoteChatId) -> None:
        """Take what a server that cannot be asked says again by itself as we come into a channel
        (a channel mode, often ``+H``): if we were there before."""
        mark = self._marks.get(chat)
        if mark is not None:
            self._unasked[chat] = mark

    def begin(self, chat: RemoteChatId, at: datetime) -> None:
        """Take note of when, by the server's clock, we have come into a channel: where nothing
        was ever heard there, our next absence is filled from then."""
        if chat not in self._marks:
            self._begun.setdefault(chat, Mark(at, "", is_entry=True))

    def distrust(self, chat: RemoteChatId) -> list[Heard]:
        """Take note that something was said without an id: no gap is filled from an entry, since
        what was heard there could not be known again. Return what may be told now."""
        self._gives_ids = False
        self._begun.clear()
        known = self._marks.get(chat)
        if known is None or not known.is_entry:
            return []
        del self._marks[chat]
        self._unasked.pop(chat, None)
        held = self._release(chat) if chat in self._asking else []
        return [Heard(None, chat, voids_mark=True), *held]

    def has_mark(self, chat: RemoteChatId) -> bool:
        """Whether it is known up to where a channel is heard, and it was not left since."""
        return chat in self._marks

    def begun(self, message: Incoming, *, has_tags: bool) -> list[Heard]:
        """Return the beginnings that count, once a line shows that the server gives ids.

        ``has_tags``: whether lines may have tags like these now."""
        self._gives_ids = self._gives_ids or bool(message.tags.get("msgid"))
        if not (has_tags and self._gives_ids and self._begun):
            return []
        heard = [
            Heard(None, chat, mark) for chat, mark in self._begun.items()
            if chat not in self._marks
        ]  # fmt: skip
        self._begun.clear()
        for one in heard:
            self._advance(one)
        return heard

    def _ask_page(self, asking: _Asking, mark: Mark, now: float) -> None:
        asking.times = 0
        asking.pages += 1
        self._ask(asking, mark, now)

    def _ask(self, asking: _Asking, mark: Mark, now: float) -> None:
        by_time = asking.by_time or not mark.msgid
        since = stamp(mark.at) if by_time else f"msgid={mark.msgid}"
        asking.times += 1
        asking.is_asked, asking.heard_at = False, now
        asking.question = line("CHATHISTORY", "AFTER", asking.name, since, str(self._page))
        self._to_ask.put_nowait(asking)
        self._changed.set()

    def forget(self, chat: RemoteChatId) -> None:
        """Forget a channel that is bridged no more: bridged again, it has no past."""
        self._marks.pop(chat, None)
        self._seen.pop(chat, None)
        self._asking.pop(chat, None)
        self._unasked.pop(chat, None)
        self._begun.pop(chat, None)

    def is_wanted(self, chat: RemoteChatId, msgid: str, at: datetime) -> bool:
        """Whether a message out of the server's memory is of the gap, and was not heard before.

        Some servers say again what nobody asked for.
        """
        asking, unasked = self._asking.get(chat), self._unasked.get(chat)
        if asking is not None:
            after = asking.after
        elif unasked is None or msgid == unasked.msgid != "":
            return False
        elif unasked.is_entry:  # What was said before we came may be of the same second.
            return at > unasked.at and msgid not in self._seen.get(chat, ())
        else:  # Some of these servers know the second alone.
            after = unasked.at if at.microsecond else unasked.at.replace(microsecond=0)
        if at < after:
            return False
        return msgid not in self._seen.get(chat, ()) if msgid else at > after

    def count(self, chat: RemoteChatId) -> None:
        """Take note of one more line of an answer."""
        if chat in self._asking:
            self._asking[chat].lines += 1

    def pass_over(self, chat: RemoteChatId, at: datetime, msgid: str) -> list[Heard]:
        """Take note of something said again of which nothing is to be told."""
        known = self._marks.get(chat)
        is_entry = known is not None and known.is_entry and not msgid
        told = self.take(Heard(None, chat, Mark(at, msgid, is_entry=is_entry)), replayed=True)
        # What has no id leads to the next page, but the next connection could not ask by it.
        return told if msgid else []

    def take(self, heard: Heard, *, replayed: bool) -> list[Heard]:
        """Take note of what was heard; return what may be told now.

        What is said now is held back until the gap before it is filled, unless that takes long or
        it is too much.
        """
        if heard.mark is not None:
            seen = self._seen.setdefault(heard.chat, deque(maxlen=REMEMBERED))
            seen.append(heard.mark.msgid)
            if not replayed:
                self._unasked.pop(heard.chat, None)
        asking = self._asking.get(heard.chat)
        if asking is not None and not replayed:
            if asking.is_late:
                return [asking.pass_by(heard)]
            asking.held.append(heard)
            return asking.stop_holding() if len(asking.held) > MOST_HELD else []
        self._advance(heard)
        return [heard]

    def _advance(self, heard: Heard) -> None:
        mark, known = heard.mark, self._marks.get(heard.chat)
        if mark is not None and (known is None or mark.at >= known.at):
            self._marks[heard.chat] = mark

    def handle(
        self, message: Incoming, find: Callable[[str], RemoteChatId | None], now: float
    ) -> list[Heard]:
        """Follow one line; return what was held back and may go now."""
        batch = message.batch
        if batch is not None and batch.kind == "chathistory":
            chat = find(batch.params[0]) if batch.params else None
            asking = self._asking.get(chat) if chat is not None else None
            if chat is not None and batch.is_over:
                self._unasked.pop(chat, None)
            if asking is not None and asking.is_asked:
                asking.heard_at = now
            if message.command == "BATCH" and chat is not None and asking is not None:
                return self._on_page(chat, asking, now, is_over=batch.is_over)
        elif message.command == "FAIL" and message.param(0).upper() == "CHATHISTORY":
            named = [chat for chat in map(find, message.params[1:-1]) if chat in self._asking]
            if not named and any(map(self._is_channel, message.params[1:-1])):
                return []  # Of one that was left meanwhile.
            return self._on_refusal(named[0] if named else None, now)
        elif message.command == "421" and message.param(1).upper() == "CHATHISTORY":
            return self._release_all()
        return self._release_late(now)

    def _on_page(
        self, chat: RemoteChatId, asking: _Asking, now: float, *, is_over: bool
    ) -> list[Heard]:
        if not is_over:
            asking.lines = 0
            return []
        mark = self._marks.get(chat)
        if not asking.is_asked and asking.times == 1:
            return []  # Nobody has asked yet.
        if asking.lines < self._page or asking.pages >= MOST_PAGES or mark is None:
            return self._release(chat)
        self._ask_page(asking, mark, now)
        return []

    def _on_refusal(self, chat: RemoteChatId | None, now: float) -> list[Heard]:
        if chat is None:
            return self._release_all()
        asking, mark = self._asking[chat], self._marks.get(chat)
        if asking.by_time or mark is None or not mark.msgid:
            return self._release(chat)
        # The message that we know may be too old for the server's memory.
        asking.by_time = True
        self._ask_page(asking, mark, now)
        return []

    def _release_late(self, now: float) -> list[Heard]:
        """Hold nothing back where the server is silent, or was not even asked for so long; ask
        again for what is missing.

        It is told then, but the channel is not heard up to there: who is in it with the next
        connection asks once more. What a server has not said in the end is given up, or each
        connection after this one would ask for all that was told since.
        """
        told = []
        for chat, asking in list(self._asking.items()):
            if now <= self._late_at(asking):
                continue
            mark = self._marks.get(chat)
            if asking.is_asked and (asking.times >= MOST_TIMES or mark is None):
                told += self._release(chat)
                continue
            told += asking.stop_holding()
            if asking.is_asked and mark is not None:
                self._ask(asking, mark, now)
        return told

    def _release_all(self) -> list[Heard]:
        return [heard for chat in list(self._asking) for heard in self._release(chat)]

    def _release(self, chat: RemoteChatId) -> list[Heard]:
        asking = self._asking.pop(chat)
        held = asking.held
        if asking.beyond is not None:
            held.append(Heard(None, chat, asking.beyond))
        for heard in held:
            self._advance(heard)
        return held


class Marks:
    """Where each channel was heard up to, over restarts.

    Written now and then, not with every message: after a crash some messages are asked for again,
    and known by their ids.
    """

    def __init__(
        self, store: Store, prefix: str = STORE_PREFIX, *, subject: str | None = None,
        keep_for: timedelta | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._prefix = prefix
        self._subject, self._keep_for = subject, keep_for
        self._marks: dict[RemoteChatId, Mark] = {}
        self._changed: set[RemoteChatId] = set()

    async def load(self) -> Mapping[RemoteChatId, Mark]:
        """Return what is kept, and what was noted since. Raises ``TemporaryFailure``."""
        for key, raw in (await self._store.find(self._prefix)).items():
            mark, chat = Mark.decode(raw), RemoteChatId(key.removeprefix(self._prefix))
            # What has changed is newer here, or forgotten.
            if mark is not None and chat not in self._changed:
                self._marks.setdefault(chat, mark)
        return self._marks

    def note(self, chat: RemoteChatId, mark: Mark) -> None:
        """Take note of a new mark."""
        self._marks[chat] = mark
        self._changed.add(chat)

    def void(self, chat: RemoteChatId) -> None:
        """Take note that there is no mark any more."""
        self._marks.pop(chat, None)
        self._changed.add(chat)

    async def forget(self, chat: RemoteChatId) -> None:
        """Forget a channel that is bridged no more. Raises ``TemporaryFailure`` if that is not
        written yet; it will be."""
        self.void(chat)
        await self._store.delete(self._prefix + chat)

    async def write(self) -> None:
        """Write what has changed. Raises ``TemporaryFailure``; the rest is the next one's."""
        for chat in list(self._changed):
            mark = self._marks.get(chat)
            if mark is not None:
                await self._store.put(
                    self._prefix + chat, mark.encode(), subject=self._subject,
                    keep_for=self._keep_for,
                )  # fmt: skip
            if chat not in self._marks:
                # Forgotten, it may be just while its mark was being written.
                await self._store.delete(self._prefix + chat)
            # What changed once more meanwhile is written once more.
            if self._marks.get(chat) == mark:
                self._changed.discard(chat)

    async def keep_writing(self) -> None:
        """Write now and then, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            with contextlib.suppress(DeliveryError):  # The next time, then.
                await self.write()
