"""One connection to one server: signing in, signs of life, flood control, what was taken."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge.networks.irc.connections.delivery import RETRY_SECONDS, Deliveries
from bridge.networks.irc.connections.flood import Flood
from bridge.networks.irc.connections.lifeline import Lifeline
from bridge.networks.irc.connections.overdue import Overdue
from bridge.networks.irc.connections.reader import Reader, reason_of
from bridge.networks.irc.connections.sending import Delivered, Means, Sending
from bridge.networks.irc.protocol import endings, multiline, relaymsg, replies
from bridge.networks.irc.protocol.acts import TAGS, without_client_tags
from bridge.networks.irc.protocol.batches import Batches, is_playback
from bridge.networks.irc.protocol.handshake import Handshake, Identity
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.protocol.multiline import Limits
from bridge.networks.irc.protocol.offers import Offers
from bridge.networks.irc.protocol.relaymsg import relayed_by
from bridge.networks.irc.settings import IrcSettings, ServerSettings
from bridge.networks.irc.wire import (
    Incoming,
    Line,
    LineReader,
    Source,
    is_chatter,
    lacks_name,
    line,
    parse,
    read_pong,
)
from bridge.sdk.errors import DeliveryError, ModuleError, ModuleNotReady, TemporaryFailure

READ_BYTES = 16 * 1024
MOST_UNWRITTEN_BYTES = 1024 * 1024
"""What waits to be written to a server that does not read; flood control lets out far less."""
MOST_HELD, MOST_HELD_BYTES = 20_000, 4 * 1024 * 1024
"""Lines that a server says between letting us in and answering our first PING."""
GOODBYE_SECONDS = 2.0
"""How long the server gets to take our QUIT and close."""
LEISURE_SECONDS = 60.0
PATIENCE_SECONDS = 2.0
"""How long a server that confirms messages itself has for it before it is asked by a PING."""


class Connection:
    """A registered connection. Made by :func:`bridge.networks.irc.connections.dial.connect`."""

    def __init__(
        self,
        streams: tuple[Reader, asyncio.StreamWriter],
        server: ServerSettings,
        settings: IrcSettings,
        flood: Flood,
    ) -> None:
        self._reader, self._writer = streams
        self._transport = self._writer.transport
        self._settings = settings
        self._flood = flood
        self._line_reader = LineReader()
        self._held: list[bytes] | None = None
        """What goes out in one write, while it is gathered; nothing is awaited meanwhile."""
        self._lines: Iterator[bytes] = iter(())
        self._read_before: Iterator[Incoming] = iter(())
        self._error = ""
        self._personal = False
        self._signed_in = False
        self._silence = ""
        """Why we gave it up."""
        self._ended = False
        self._deliveries = Deliveries(server.label)
        self._batches = Batches()
        self._asking: asyncio.TimerHandle | None = None
        self._lifeline = Lifeline(
            settings.ping_seconds, settings.ping_timeout_seconds, self.ask, self._miss
        )
        self._overdue = Overdue(
            self._deliveries, self._lifeline, settings.confirm_seconds, self._lose_patience
        )
        self._received = 0
        """Bytes, in all."""
        self.listens = True
        """Whether what others say in channels is read: see ``speak_only``."""
        self.server = server.label
        self.awaited = "let us in"
        """What the server has to do before we are at work, in words."""
        self.own = Source("")
        """Our nick, user and host, as others see them; user and host once we joined."""
        self.accounts: list[str] = []
        """The accounts that services signed us in to, in order; whoever reads takes them out."""
        self.unanswered: DeliveryError | None = None
        """Why the line that was read last got no answer, though it asks for one; whoever reads
        takes it out."""
        self.on_pong: Callable[[], object] = tuple
        """Called when the server has answered a PING."""
        self.isupport = Isupport()
        self.offers = Offers()
        self.is_signed_in = self.is_refused = False
        """Whether services knew us when we were let in, or did not know our certificate."""

    @property
    def capabilities(self) -> frozenset[str]:
        """What the server gave us of what it offers (IRCv3)."""
        return self.offers.held

    @property
    def last_words(self) -> str:
        """What the server said of why it ends the connection, if it did."""
        return self._error

    @property
    def means(self) -> Means:
        """How this server confirms what is said."""
        return self._deliveries.means

    @property
    def waited(self) -> float:
        """Seconds that we waited for the server to say something: see ``Lifeline.waited``."""
        return self._lifeline.waited

    @property
    def multiline(self) -> Limits | None:
        """What the server takes as one message of several lines, if it does."""
        if multiline.CAPABILITY not in self.offers.held:
            return None
        return Limits.parse(self.offers.values.get(multiline.CAPABILITY, ""))

    @property
    def is_up(self) -> bool:
        """Whether what is written now has a chance to arrive."""
        return not (self._ended or self._transport.is_closing())

    def speak_only(self) -> None:
        """Pass over what others say in channels, from now on.

        With hundreds of our connections in one channel each line comes hundreds of times.
        """
        self.listens = False
        self._reader.at_once = self._is_done_with

    def is_own(self, source: Source | None) -> bool:
        """Whether who says or is named in a line is ourselves."""
        return source is not None and self.isupport.are_one(source, self.own)

    def is_relayed(self, message: Incoming) -> bool:
        """Whether we had it said in another's name."""
        by = relayed_by(message) if message.tags else ""
        return bool(by) and self.is_own(Source(by))

    @property
    def relay_separators(self) -> str | None:
        """The signs in names in which we speak for others; None if the server has no such."""
        if relaymsg.CAPABILITY not in self.offers.held:
            return None
        return self.offers.values.get(relaymsg.CAPABILITY, "")

    def write(self, one: Line) -> None:
        """Write a line at once. On a connection that ended it goes nowhere: see ``is_up``."""
        if self._held is not None:
            self._held.append(one.encode())
        elif self.is_up:
            self._transport.write(one.encode())
            self._check_unwritten()

    def _check_unwritten(self) -> None:
        """Give up a server that reads nothing of what it has us write."""
        if self._transport.get_write_buffer_size() > MOST_UNWRITTEN_BYTES:
            self._give_up(f"{self.server} does not read what is written to it.")

    def _give_up(self, why: str) -> None:
        self._silence = why
        self._transport.abort()

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held and self.is_up:
            self._transport.write(b"".join(held))
            self._check_unwritten()

    def answer(self, one: Line) -> bool:
        """Write a line that may as well be left out, if flood control has room for it.

        Gives whether it had."""
        if not self._flood.take():
            return False
        self.write(one)
        return True

    async def answer_at_leisure(self, one: Line) -> None:
        """Write such a line as soon as flood control has room that nobody else wants.

        Left out if it has none for ``LEISURE_SECONDS``."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LEISURE_SECONDS
        while not self.answer(one) and loop.time() < end:
            await asyncio.sleep(self._flood.pause)

    async def leisure(self, seconds: float) -> bool:
        """Wait until others have left half of flood control's burst, for some seconds at most.

        Gives whether it came to that."""
        end = asyncio.get_running_loop().time() + seconds
        while (pause := self._flood.leisure) and (
            left := end - asyncio.get_running_loop().time()
        ) > 0:
            await asyncio.sleep(min(pause, left))
        return not pause

    async def say(self, one: Line) -> None:
        """Write a line as soon as flood control allows. Raises ``TemporaryFailure`` if that cannot
        be."""
        if pause := self._flood.reserve():
            await asyncio.sleep(pause)
        if not self.is_up:
            raise TemporaryFailure(f"{self.server} is not connected.", retry_after=RETRY_SECONDS)
        self.write(one)

    async def deliver(
        self,
        target: str,
        lines: Sequence[Line],
        now: Callable[[], datetime],
        stop: asyncio.Future[None] | None = None,
    ) -> Delivered:
        """Write the lines of one message; return when the server has taken them.

        Once ``stop`` is done, no more of them are written.

        Several messages may be on their way at once; one question may be about all of them.
        Raises the refusal that the server answers with, ``TemporaryFailure`` if nothing was
        written, and ``DeliveryUncertain`` if the connection broke, or the server was silent for
        ``confirm_seconds``, before it said that it has read the message.
        """
        if not self.is_up:
            raise TemporaryFailure(f"{self.server} is not connected.", retry_after=RETRY_SECONDS)
        parcels = multiline.pack(lines, self.multiline, self._flood.burst)
        sending = self._deliveries.begin(self.isupport.fold(target), len(parcels))
        sent_at = None
        try:
            for parcel in parcels:
                if pause := [self._flood.reserve() for _ in parcel][-1]:
                    self._let_go()
                    ends: list[asyncio.Future[Any]] = [sending.answer]
                    ends += [stop] if stop is not None else []
                    await asyncio.wait(ends, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if stop is not None and stop.done():
                    sending.shorten()
                    break
                if sending.refusal is not None or not self.is_up:
                    break
                self._held = [] if self._held is None else self._held
                for first, *others in self._as_taken_now(sending, parcel, lines):
                    for one in (self._deliveries.speak(sending, first), *others):
                        self.write(one)
                sent_at = now()
        finally:
            # Also for one that was cancelled: a refusal of it must not fall on the next.
            self._deliveries.finish(sending)
            self._ask_in_turn()
            self._let_go()
        failure = await sending.answer
        if failure is not None:
            raise failure
        return sending.delivered(sent_at)

    def _as_taken_now(
        self, sending: Sending, parcel: list[Line], lines: Sequence[Line]
    ) -> list[list[Line]]:
        """What is written of a parcel; what it needs may have been taken away while it waited."""
        is_group, burst = len(parcel) > 1, self._flood.burst
        parts = multiline.pack(lines, self.multiline, burst) if is_group else [parcel]
        sending.total += len(parts) - 1
        has_tags = TAGS in self.offers.held
        return parts if has_tags else [[*map(without_client_tags, part)] for part in parts]

    def _ask_in_turn(self) -> None:
        """Have the server asked when flood control has room; what is written till then counts.

        One that has its own means is asked only for what it leaves open.
        """
        if self._asking is None and self._deliveries.must_ask:
            plain = self._deliveries.means is Means.PING
            pause = self._flood.reserve() if plain else PATIENCE_SECONDS
            if not pause and self._deliveries.is_single:
                self._ask()  # In one write with the message.
            else:
                self._asking = asyncio.get_running_loop().call_later(pause, self._ask)

    def _ask(self) -> None:
        self._asking = None
        if self.is_up and self._deliveries.must_ask:
            self.ask()

    def ask(self) -> str:
        """Write a PING; return what is in its PONG, which says that all before it is done."""
        marker = self._deliveries.ask()
        self.write(Line("PING", (marker,)))
        self._overdue.watch()
        return marker

    def awaits(self, marker: str) -> bool:
        """Whether the PONG of such a PING has not come yet."""
        return self._deliveries.awaits(marker)

    async def ask_paced(self) -> str:
        """The same, once flood control has room for it."""
        if pause := self._flood.reserve():
            await asyncio.sleep(pause)
        return self.ask()

    def _lose_patience(self) -> None:
        within = f"within {self._settings.confirm_seconds:g} seconds"
        self._give_up(f"{self.server} did not say {within} that it has read a message.")

    async def check_answers(self, since: datetime | None) -> None:
        """Return when the server has answered a PING, as it must for us to learn what it has read,
        or when a bouncer plays back more from before ``since`` than is held: the rest is read as
        it comes."""
        self.awaited = "answer a PING"
        self.ask()
        held, before = list(self._read_before), self._received
        while self._deliveries.is_asking:
            held.append(await self._read_next())
            if len(held) > MOST_HELD or self._received - before > MOST_HELD_BYTES:
                if 2 * sum(is_playback(one, since) for one in held) > len(held):
                    break
                raise ModuleNotReady(f"{self.server} said too much before it answered a PING.")
        self._read_before = iter(held)

    async def read(self) -> Incoming:
        """Return the next line; answers PING itself.

        Raises ``ModuleNotReady`` or ``LoginRequired`` with the reason when the connection ends.
        """
        return next(self._read_before, None) or await self._read_next()

    async def _read_next(self) -> Incoming:
        while True:
            for raw in self._lines:
                if not self.listens and is_chatter(raw, self.own.nick):
                    continue
                read = parse(raw)
                if read is not None and not lacks_name(read):
                    message = self._batches.place(read)
                    try:
                        self._observe(message)
                    except DeliveryError as error:
                        self.unanswered = error
                    return message
            try:
                await self._fill()
            except ModuleError:
                self._end()
                raise

    def _end(self) -> None:
        self._ended = True
        self._lifeline.cut()
        self._overdue.cut()
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self._deliveries.end()

    async def _fill(self) -> None:
        broke: Exception | None = None
        try:
            data = await self._receive()
            self._lines = iter(self._line_reader.feed(data))
        except (OSError, ValueError) as error:
            broke, data = error, b""
        if data:
            return
        # What the server said last is the reason, however the connection ended after it.
        if broke is not None and not self._error:
            raise ModuleNotReady(
                f"The connection to {self.server} broke: {reason_of(broke)}"
            ) from broke
        if self._silence and not self._error:
            raise ModuleNotReady(self._silence)
        raise endings.ended(self.server, self._error, personal=self._personal) from broke

    def _is_done_with(self, data: bytes) -> bool:
        """Do at once what nobody need be woken for: hear that the server has read what we said,
        and pass over what others say in channels. Gives whether that was all that arrived."""
        # What was read before it may change our nick; and of what is no whole line nobody knows.
        lifeline, own = self._lifeline, self.own.nick
        if not lifeline.is_waiting or self._line_reader.is_amid or not data.endswith(b"\n"):
            return False
        pongs: list[Incoming] = []
        for raw in data[:-1].split(b"\n"):
            if pong := read_pong(raw):
                pongs.append(pong)
            elif not is_chatter(raw, own):
                return False
        lifeline.hear()
        self._received += len(data)
        for pong in pongs:
            self._hear_pong(pong)
        return True

    def _hear_pong(self, pong: Incoming) -> None:
        self._deliveries.hear_pong(pong)
        self.on_pong()

    async def _receive(self) -> bytes:
        """Wait for more; of nothing when it is over."""
        self._lifeline.wait()
        try:
            data = await self._reader.read(READ_BYTES)
            self._received += len(data)
            return data
        finally:
            self._lifeline.work()

    def _miss(self, seconds: float) -> None:
        self._give_up(f"{self.server} gave no sign of life for {seconds:g} seconds.")

    def _observe(self, message: Incoming) -> None:
        if message.is_replayed:
            return  # It is over: nothing of it is about us now.
        match message.command:
            case "PING":
                self.write(line("PONG", message.param(-1)))
            case "PONG":
                self._hear_pong(message)
            case "CAP":
                self._on_cap(message)
            case "ERROR":
                self._error = message.param(-1)
            case "NICK" if self.is_own(message.source):
                named = message.named(0)
                self.own = replace(self.own, nick=named.nick, is_utf8=named.is_utf8)
            case "JOIN" if self.is_own(message.source) and message.source:
                self.own = message.source
            case "CHGHOST" if self.is_own(message.source):
                self.own = replace(self.own, user=message.param(0), host=message.param(1))
            case replies.LOGGED_IN if message.param(2):
                self.accounts.append(message.param(2))
            case replies.HOST_HIDDEN:
                user, _, host = message.param(1).rpartition("@")
                self.own = replace(self.own, user=user or self.own.user, host=host)
            case replies.ISUPPORT:
                self.isupport = self.isupport.with_tokens(message.params[1:-1])
            case _:
                waits = self._deliveries.is_waiting
                own = waits and (self.is_own(message.source) or self.is_relayed(message))
                self._deliveries.hear(message, own=own, fold=self.isupport.fold)

    def _on_cap(self, message: Incoming) -> None:
        if not self._signed_in:
            return  # The handshake's.
        for one in self.offers.follow(message):
            self.write(one)
        self._deliveries.use(Means.of(self.capabilities))
        # What is on its way may have counted on what is gone.
        self._ask_in_turn()

    async def sign_in(self, identity: Identity) -> None:
        """Register. Raises ``LoginRequired`` or ``ModuleNotReady`` with the server's reason,
        ``PermanentFailure`` if no line holds what we would say."""
        handshake = Handshake(identity, self.server)
        self._personal = identity.personal
        # In one write: one that closes at once would answer the second with a reset.
        self._held = [one.encode() for one in handshake.start()]
        self._let_go()
        while not handshake.done:
            for one in handshake.feed(await self.read()):
                self.write(one)
            self.awaited = handshake.awaited
            self.own = Source(handshake.nick)
        self._read_before = iter(handshake.unheard)
        self.offers = handshake.offers
        self.is_signed_in, self.is_refused = handshake.is_signed_in, handshake.is_refused
        self._deliveries.use(Means.of(self.capabilities))
        self._signed_in = True

    async def close(self, reason: str) -> None:
        """Say goodbye, hear what the server still has to say, and leave no socket."""
        if self._deliveries.must_ask:
            self.ask()
        self.write(line("QUIT", reason))
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                # A socket that is closed with unread input is reset, and the server may then
                # lose what we wrote last. So its side closes first.
                with contextlib.suppress(ModuleError):
                    while not self._ended:
                        await self._read_next()
                self._writer.close()
                await self._writer.wait_closed()
        except (TimeoutError, OSError):
            self._transport.abort()
        finally:
            self._end()
            self._writer.close()
