"""Which of those that a login talks with come and go, where the server tells (``MONITOR``)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from bridge.networks.irc.connections.flag import Flag
from bridge.networks.irc.format import clean_text, strip_codes
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.private.partners import Partner, Partners
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import Incoming, Line, Source, line
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import RemoteRemark
from bridge.sdk.ids import RemoteChatId

MOST_WATCHED = 200
KEEPER_PLACES = 1
"""Places of the server's list that are left for taking back our own nick."""
PATIENCE_SECONDS = 120.0
"""Nothing is said of anybody who is back so soon: a netsplit, another connection."""
ROW_BYTES = 400
"""Names in one line."""


class Lookout:
    """One connection's list, and what it means. Pure but for :meth:`serve`."""

    def __init__(self, limits: Isupport, network: Network, partners: Partners) -> None:
        self._limits = limits
        self._network = network
        self._partners = partners
        self._most = min(limits.most_watched - KEEPER_PLACES, MOST_WATCHED)
        self._watched: set[RemoteChatId] = set()
        self._patience = min(PATIENCE_SECONDS, network.settings.netsplit_seconds)
        self._left = Flag()

    @property
    def is_possible(self) -> bool:
        """Whether the server watches anybody for us."""
        return self._most > 0

    async def serve(
        self,
        say: Callable[[Line], Awaitable[None]],
        put: Callable[[RemoteRemark], Awaitable[None]],
    ) -> None:
        """Have the server watch the newest chats, and tell who is gone, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_asking(say))
            tasks.create_task(self._keep_telling(put))

    async def _keep_asking(self, say: Callable[[Line], Awaitable[None]]) -> None:
        with suppress(TemporaryFailure):  # The connection broke; who listens says it.
            while True:
                self._partners.changed.clear()
                for one in self.ask():
                    await say(one)
                await self._partners.changed.wait()

    async def _keep_telling(self, put: Callable[[RemoteRemark], Awaitable[None]]) -> None:
        while True:
            self._left.clear()
            for remark in self.due():
                await put(remark)
            waits = [one.left_at for _, one in self._open() if one.left_at is not None]
            until = min(waits, default=None)
            pause = None if until is None else until + self._patience - self._partners.now()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._left.wait()

    def ask(self) -> list[Line]:
        """Return what to say for the server to watch the newest chats, and no others."""
        if not self.is_possible:
            return []
        chats = [chat for chat, one in self._open() if self._can_be_watched(chat, one)]
        wanted = chats[-self._most :]
        gone = sorted(self._watched - set(wanted))
        new = [chat for chat in wanted if chat not in self._watched]
        self._watched = set(wanted)
        return [*_lines("-", gone), *_lines("+", new)]

    def _can_be_watched(self, chat: RemoteChatId, partner: Partner) -> bool:
        is_name = not set(chat) & set(" ,!@*") and not chat.startswith(":")
        # Who writes that name in another charset is not whom the server would watch.
        return is_name and partner.is_utf8 and self._network.is_stranger(chat)

    def hear(self, message: Incoming) -> list[RemoteRemark]:
        """Follow a reply of the server; return what is to be told at once."""
        names = message.param(-1 if message.command != replies.MONITOR_FULL else 2).split(",")
        sources = [Source.parse(name) for name in names if name]
        if message.command == replies.MONITOR_FULL:
            self._watched -= {self._chat(one) for one in sources}
            self._most = min(self._most, len(self._watched))
            self._partners.changed.set()
            return []
        told: list[RemoteRemark] = []
        for source in sources:
            partner = self._partners.find(self._chat(source))
            if partner is None or not partner.has_chat or not partner.is_utf8:
                continue
            if message.command == replies.MONITOR_ONLINE:
                told += self._come(partner, source)
            else:
                self._go(partner)
        return told

    def _come(self, partner: Partner, source: Source) -> list[RemoteRemark]:
        mask = f"{source.user}@{source.host}"
        if source.is_person and not partner.mask and partner.is_there is None:
            partner.mask = mask  # They were there before we looked.
        now, was_there = self._partners.now(), partner.is_there is not False
        is_news = partner.is_told_gone or (
            not was_there and partner.left_at is None and partner.is_waited_for(now)
        )
        partner.be_there()
        if not is_news:
            return []
        partner.be_told(now, is_gone=False)
        text = f"{strip_codes(partner.nick)} is on the network again."
        if source.is_person and partner.mask not in {"", mask}:
            text = (
                f"{text[:-1]}, as {clean_text(mask)}, and was {clean_text(partner.mask)} before: "
                "it may be somebody else."
            )
            partner.mask = mask
        return [self._network.remark(self._chat(source), text)]

    def _go(self, partner: Partner) -> None:
        is_known = partner.is_there is False
        partner.is_there = False
        if not is_known and not partner.is_told_gone:
            partner.left_at = self._partners.now()
            self._left.set()

    def due(self) -> list[RemoteRemark]:
        """Say who is gone and did not come back in time, of those for whom somebody waits."""
        told, now = [], self._partners.now()
        for chat, partner in self._open():
            if partner.left_at is None or now < partner.left_at + self._patience:
                continue
            is_news = partner.is_utf8 and partner.is_waited_for(partner.left_at)
            partner.left_at = None
            if is_news:
                partner.be_told(now, is_gone=True)
                told.append(self._network.remark(
                    chat, f"{strip_codes(partner.nick)} is not on the network now, or goes by "
                    "another name. Whoever comes back under this name may be somebody else.",
                ))  # fmt: skip
        return told

    def _open(self) -> list[tuple[RemoteChatId, Partner]]:
        found = [(chat, self._partners.find(chat)) for chat in self._partners.chats]
        return [(chat, partner) for chat, partner in found if partner is not None]

    def _chat(self, source: Source) -> RemoteChatId:
        return RemoteChatId(self._limits.fold(source.nick))


def _lines(sign: str, names: Iterable[str]) -> list[Line]:
    rows: list[str] = []
    for name in names:
        if rows and len(f"{rows[-1]},{name}".encode()) <= ROW_BYTES:
            rows[-1] += f",{name}"
        else:
            rows.append(name)
    return [line("MONITOR", sign, row) for row in rows]
