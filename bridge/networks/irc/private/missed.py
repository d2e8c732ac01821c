"""What was said to one connection alone while it was away, out of the server's memory.

A server keeps that for an account (IRCv3 ``draft/chathistory``), and says with whom something was
said since a time (``TARGETS``); each of them is asked for as a channel is. One mark tells up to
where all is heard: it is not moved while something of a gap is missing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.network import history
from bridge.networks.irc.network.history import (
    ANSWER_SECONDS,
    MOST_HELD,
    REMEMBERED,
    Heard,
    History,
    Mark,
    Marks,
    Put,
)
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.private.partners import Partners
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.times import read_past, read_stamp, stamp
from bridge.networks.irc.wire import Incoming, Source, line
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import RemoteEvent
from bridge.sdk.ids import RemoteChatId

NEEDS = frozenset({history.CAPABILITY, "message-tags", "server-time"})
"""Without these nothing could be asked for, or it could not be known as what was heard."""
STORE_PREFIX = "heard-alone:"
KEEP = timedelta(days=59)
"""A mark is kept for so long after the last thing that was heard."""
ALONE = RemoteChatId("")
"""The lane of all that is said to one connection: one after another, so that nobody who takes
another nick is met as a stranger meanwhile."""
MOST_TARGETS = 1000
MOST_PEOPLE = 50
"""So many people are asked for after one absence, those who spoke last."""
MOST_PAGES = 20
"""So many answers to the question who said something are asked for."""
TICK = timedelta(milliseconds=1)
"""The least time that a server is asked by."""
MARGIN = timedelta(days=1)
"""The server's clock may be before ours."""
AGAIN_SECONDS = 1.0


class Missed:
    """The memory of what is said to one connection."""

    def __init__(
        self, connection: Connection, network: Network, marks: Marks, partners: Partners,
        now: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._connection = connection
        self._network = network
        self._marks = marks
        self._partners = partners
        self._now = now
        self._history = History(connection.isupport, {})
        limit = connection.isupport.tokens.get("CHATHISTORY", "")
        most = int(limit[:6]) if limit.isascii() and limit.isdecimal() else 0
        self._most_targets = min(most or MOST_TARGETS, MOST_TARGETS)
        self._since: Mark | None = None
        self._begun = asyncio.Event()
        self._told = asyncio.Event()
        """Nothing is held back any more."""
        self._is_open = False
        """It is not known yet who said something."""
        self._people: deque[str] = deque(maxlen=MOST_TARGETS)
        self._page: deque[datetime] = deque(maxlen=MOST_TARGETS)
        """When something was said last with those of one answer."""
        self._pages: asyncio.Queue[datetime] = asyncio.Queue()
        """After which times it is still to be asked who said something."""
        self._pages_asked = 0
        self._held: list[Heard] = []
        self._ids: deque[str] = deque(maxlen=REMEMBERED)
        self._newest: Mark | None = None
        """What was told last and is not marked yet."""

    def begin(self) -> None:
        """Know that the server knows whose connection it is: now it can be asked."""
        if not self._begun.is_set():
            self._is_open = True
            self._begun.set()

    async def serve(self, put: Put) -> None:
        """Ask for what was missed, and keep the mark. Runs until cancelled, or the connection
        breaks."""
        await self._begun.wait()
        connection = self._connection
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._marks.keep_writing())
                tasks.create_task(
                    self._history.keep_asking(connection.say, lambda: connection.waited)
                )
                tasks.create_task(self._history.keep_releasing(put, lambda: connection.waited))
                tasks.create_task(self._ask(put))
        except* TemporaryFailure:
            pass  # It broke; who listens says it.

    async def _ask(self, put: Put) -> None:
        since = self._since = await self._find_mark()
        if since is None:
            # The first time there is no past, but from now on there will be one.
            self._is_open = False
            self._advance(Mark(self._now(), ""))
            await put(*self._let_go())
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_asking_who(since.at))
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._told.wait()
            except TimeoutError:
                if self._is_open:
                    # Of the people of the answers before nothing is lost for want of one more;
                    # while it is not known who else spoke the mark stays where it is.
                    self._enter(self._people)
            await put(*self.release())

    async def _keep_asking_who(self, since: datetime) -> None:
        until, limit = max(since, self._now()) + MARGIN, str(self._most_targets)
        self._pages.put_nowait(since)
        while True:
            after = await self._pages.get()
            self._pages_asked += 1
            await self._connection.say(
                line("CHATHISTORY", "TARGETS", stamp(after), stamp(until), limit)
            )

    def _next_page(self) -> datetime | None:
        """After which time to ask once more, where an answer was as long as the server lets."""
        if len(self._page) < self._most_targets or self._pages_asked >= MOST_PAGES:
            return None
        newest = max(self._page)
        # Of those at one time the answer may hold some only; but if it holds no other, it would be
        # the same again.
        return newest - TICK if min(self._page) < newest else newest

    async def _find_mark(self) -> Mark | None:
        while True:
            try:
                return (await self._marks.load()).get(ALONE)
            except TemporaryFailure as error:
                await asyncio.sleep(error.retry_after or AGAIN_SECONDS)

    def follow(self, incoming: Incoming) -> list[Heard]:
        """Follow one line as it comes; return what may be told now."""
        if not self._begun.is_set():
            return []
        batch = incoming.batch
        is_asked = self._is_open and self._since is not None
        if batch is not None and batch.kind == history.TARGETS:
            if is_asked:
                self._read_targets(incoming, is_over=batch.is_over)
        elif is_asked and self._refuses_targets(incoming):
            # It does not say who, or not all of them: those whom we know are asked for, too.
            partners = map(self._partners.find, self._partners.chats)
            self._ask_for([*(one.nick for one in partners if one is not None), *self._people])
        elif is_asked and incoming.command == "421" and incoming.param(1) == "CHATHISTORY":
            self._ask_for(())
        else:
            self._history.handle(incoming, self._chat, self._connection.waited)
        return self._let_go()

    def _refuses_targets(self, incoming: Incoming) -> bool:
        """Whether a line is the no to the question who said something: one person's words may have
        been asked for already."""
        if incoming.command != "FAIL" or incoming.param(0).upper() != "CHATHISTORY":
            return False
        named = incoming.params[1:-1]
        is_of_one = any(self._history.is_asked(self._chat(one)) for one in named)
        return not is_of_one and all(one.upper() != "AFTER" for one in named)

    def _read_targets(self, incoming: Incoming, *, is_over: bool) -> None:
        """Read a line of an answer to the question who said something."""
        if incoming.command == "CHATHISTORY" and incoming.param(0).upper() == "TARGETS":
            self._people.append(incoming.param(1))
            at = read_stamp(incoming.param(2))
            if at is not None:
                self._page.append(at)
        elif incoming.command == "BATCH" and not is_over:
            self._page.clear()
        elif incoming.command == "BATCH":
            self._end_page()

    def _end_page(self) -> None:
        after = self._next_page()
        self._page.clear()
        if after is not None:
            self._pages.put_nowait(after)
        else:
            self._ask_for(self._people)

    def _ask_for(self, people: Iterable[str]) -> None:
        self._is_open = False
        self._enter(people)

    def _enter(self, people: Iterable[str]) -> None:
        limits, since = self._connection.isupport, self._since
        nicks = [
            nick for nick in dict.fromkeys(people)
            if nick and not limits.is_channel(nick) and not self._network.is_ours(Source(nick))
        ]  # fmt: skip
        for nick in nicks[-MOST_PEOPLE:] if since is not None else ():
            # The mark may be of what another said.
            begin = since and replace(since, msgid="", is_entry=False)
            self._history.enter(self._chat(nick), nick, self._connection.waited, begin)

    def wants(self, message: Incoming) -> bool:
        """Whether a message out of the memory is of a gap, not ours and not heard before."""
        source = message.source
        told, msgid = read_past(message, self._now()), message.tags.get("msgid", "")
        if source is None or self._connection.isupport.is_channel(message.param(0)):
            return False
        sides = self._chat(source.nick), self._chat(message.param(0))
        chat = next(filter(self._history.is_asked, sides), None)
        if chat is None:
            return False
        self._history.count(chat)
        if told is None or not msgid or not self._history.is_wanted(chat, msgid, told):
            return False
        self._history.take(Heard(None, chat, Mark(told, msgid)), replayed=True)
        is_known = msgid in self._ids or (self._since is not None and msgid == self._since.msgid)
        is_own = self._connection.is_own(source) or self._network.was_ours(source, msgid)
        self._advance(Mark(told, msgid))
        return not is_known and not is_own and source.is_person and chat == sides[0]

    def take(self, message: Incoming, told: Iterable[RemoteEvent]) -> Sequence[Heard]:
        """Take what a line means; return what may be told now: what is said now comes after what
        was missed, unless that takes long."""
        heard = [Heard(one, ALONE) for one in told]
        if not self._begun.is_set() or not heard or message.is_replayed:
            return heard
        at, msgid = read_past(message, self._now()), message.tags.get("msgid", "")
        is_kept = (
            message.command in replies.SPEAKING
            or history.PLAYBACK in self._connection.capabilities
        )
        if at is not None and msgid and is_kept:
            self._ids.append(msgid)
            self._advance(Mark(at, msgid))
        return self.hold(heard)

    def hold(self, heard: Sequence[Heard]) -> Sequence[Heard]:
        """Take what is to be told now; return what may be."""
        if not self._begun.is_set() or self._told.is_set():
            return heard
        self._held += heard
        return self.release() if len(self._held) > MOST_HELD else []

    def _chat(self, nick: str) -> RemoteChatId:
        return RemoteChatId(self._connection.isupport.fold(nick))

    def _advance(self, mark: Mark) -> None:
        if self._newest is None or mark.at >= self._newest.at:
            self._newest = mark

    def _let_go(self) -> list[Heard]:
        """Return what was held back once there is no gap, and up to where all is heard then."""
        if self._is_open or self._history.is_asking:
            return []
        held = self.release()
        newest, self._newest = self._newest, None
        return held if newest is None else [*held, Heard(None, ALONE, newest)]

    def release(self) -> list[Heard]:
        """Return what is held back, which waits no more. The gap before it may still be there."""
        self._told.set()
        held, self._held = self._held, []
        return held
