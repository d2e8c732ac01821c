"""The channels that a client is to be in, over its connections: its ways into them, and back."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from bridge.networks.irc.channels.channels import Channels
from bridge.networks.irc.network.renamed import Renamed
from bridge.networks.irc.protocol.replies import ChannelFullError
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat, RemoteShutOut
from bridge.sdk.ids import RemoteChatId
from bridge.sdk.module import Host

LONGEST_REJOIN_SECONDS = 3600.0
KICKS_SECONDS = 6 * 3600.0
"""After so long without another, a kick is forgotten."""
LEFT_RETRY_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
SHORTEST_REST_SECONDS = 0.1
"""The pause is over, and we are just about to knock."""

Tell = Callable[[RemoteShutOut], Awaitable[None]]


class PutOutError(TemporaryFailure):
    """A channel let us in, and we were out of it again at once."""


class Way:
    """One way into a chat. It is void once the chat is left."""

    def __init__(self, chat: RemoteChat, memberships: "Memberships") -> None:
        self.chat = chat
        self._memberships = memberships
        self.is_void = False

    def check(self) -> None:
        """Raise ``TemporaryFailure`` if the chat was left since, ``PermanentFailure`` if it is
        called otherwise now."""
        if self.is_void:
            raise TemporaryFailure(
                f"{self.chat.name} was left meanwhile.", retry_after=LEFT_RETRY_SECONDS
            )
        self._memberships.check_name(self.chat)

    def check_rest(self) -> None:
        """Raise as ``check``, and ``TemporaryFailure`` while nobody is to knock after a kick."""
        self.check()
        self._memberships.check_rest(self.chat)

    def check_act(self) -> None:
        """Raise as ``check_rest``; ``PermanentFailure`` while that is for longer than a minute:
        nobody is kept waiting behind a topic for an hour."""
        rest = self._memberships.rest_of(self.chat)
        if rest is not None and rest > LONGEST_WAIT_SECONDS:
            raise PermanentFailure(
                f"We were put out of {self.chat.name} and come back in {rest / 60:.0f} minutes."
            )
        self.check_rest()

    async def enter(self, channels: Channels) -> None:
        """Be in the channel, and still there. Raises as ``Channels.enter``; ``PutOutError``."""
        try:
            await channels.enter(self.chat.name, self.check)
        except ChannelFullError as error:
            if not self._memberships.comes_back:
                raise
            raise TemporaryFailure(str(error)) from error
        if not channels.is_in(self.chat.name):
            raise PutOutError(f"{self.chat.name} let us in, and we were out again at once.")

    async def come(self, channels: Channels) -> None:
        """Be in the channel, or have been put out of it with a return to come, before which
        nobody knocks there. Raises as ``enter``; put out again only where we were never to be
        before, so that whoever ties it to a room hears why.

        Where it lets nobody in at the moment, whoever asked for it asks again.
        """
        if self._memberships.rest_of(self.chat) is not None:
            return
        is_new = self._memberships.find(self.chat.id) is None
        self._memberships.hand_over(self.chat)
        try:
            await self.enter(channels)
        except PutOutError:
            self.check()
            if not self._memberships.rest(self.chat) or is_new:
                raise

    async def join(self, channels: Channels) -> None:
        """Come in, and be there from now on. Raises as ``come``; the relay then is to be there all
        the same, if it is not let in for now."""
        try:
            await self.come(channels)
        except (TemporaryFailure, asyncio.CancelledError):
            if self._memberships.comes_back:
                self.stay_open()
            raise
        self.arrive()

    async def return_now(self, channels: Channels) -> None:
        """Be in the channel now, as a person wishes who does not ask again: what is refused for
        now is tried again. Raises as ``check_rest`` and ``enter``."""
        self.check_rest()
        try:
            # One that is on its way goes on: it waits for the same answer.
            await self.enter(channels)
        except (TemporaryFailure, asyncio.CancelledError):
            if not self.is_void:
                self._memberships.keep_trying(self.chat)
            raise
        self.arrive()

    def arrive(self) -> None:
        """Take note that we are there, and are to be from now on. Raises as ``check``."""
        self.check()
        self._memberships.note(self.chat)

    def stay_open(self) -> None:
        """Take note that we are to be there although we are not let in yet, unless it was left:
        a yes may still come, a kick after it counts, and so does the next connection."""
        if not self.is_void:
            self._memberships.note(self.chat)


class Memberships:
    """One client's."""

    def __init__(
        self,
        host: Host,
        rejoin_seconds: float,
        complain: Callable[[DeliveryError], None],
        renamed: Renamed,
        *,
        returns: bool,
    ) -> None:
        """``returns``: whether it comes back by itself to where it was kicked from, as the relay
        does, and whoever has it join a chat asks again until it is there; ``complain``: told what
        keeps it out; ``renamed``: what all clients know of channels that are called otherwise."""
        self._host = host
        self._renamed = renamed
        self._rejoin_seconds = rejoin_seconds
        self._complain = complain
        self._returns = returns
        self._chats: dict[RemoteChatId, RemoteChat] = {}
        self._ways: list[Way] = []
        self._connected: tuple[asyncio.TaskGroup, Channels, Tell] | None = None
        """Where there is a connection: what owns the returns, where they lead to, and who hears
        of it."""
        self._returning: dict[RemoteChatId, asyncio.Task[None]] = {}
        self._resting: dict[RemoteChatId, float] = {}
        """Those that we were put out of and have not knocked at since: when the pause is over, in
        the loop's seconds. It outlives a connection."""
        self._next: dict[RemoteChatId, float] = {}
        """When each of those that we return to is knocked at next, or was, in the loop's
        seconds."""
        self._kicks: dict[RemoteChatId, tuple[int, float]] = {}
        """How many there were, and when the last of them was, in the loop's seconds."""
        self.kicks_seconds = KICKS_SECONDS
        self._invited_at: dict[RemoteChatId, float] = {}
        """When we knock at a chat, or did, as somebody invited us: in the loop's seconds."""

    @property
    def chats(self) -> list[RemoteChat]:
        """The chats that it is to be in."""
        return list(self._chats.values())

    @property
    def wanted(self) -> list[RemoteChat]:
        """The same, and those that it is on its way into."""
        return [*self.chats, *(way.chat for way in self._ways if not way.is_void)]

    @property
    def comes_back(self) -> bool:
        """Whether it comes back by itself to where it was kicked from or refused."""
        return self._returns

    def find(self, chat: RemoteChatId) -> RemoteChat | None:
        """The chat's record, if it is to be there."""
        return self._chats.get(chat)

    def note(self, chat: RemoteChat) -> None:
        """Take note that it is to be in the chat from now on."""
        self._chats[chat.id] = chat

    @contextmanager
    def way_into(self, chat: RemoteChat) -> Iterator[Way]:
        """Come into the chat in the block, which asks the way where it has waited for long."""
        way = Way(chat, self)
        self._ways.append(way)
        try:
            yield way
        finally:
            self._ways.remove(way)

    def leave(self, chat: RemoteChat) -> RemoteChat:
        """Be there no more, whoever is on the way; return the record that was noted."""
        for way in self._ways:
            if way.chat.id == chat.id:
                way.is_void = True
        self._end_return(chat)
        self._kicks.pop(chat.id, None)
        self._invited_at.pop(chat.id, None)
        return self._chats.pop(chat.id, chat)

    def forget_all(self) -> None:
        """Be nowhere until somebody comes in again."""
        self._chats.clear()

    def hand_over(self, chat: RemoteChat) -> None:
        """Leave it to whoever asks for the chat to ask again: two would knock there by turns."""
        if self._returns:
            self._end_return(chat)

    def put_out_of(self, name: str, fold: Callable[[str], str]) -> None:
        """Take note that we were kicked from a channel, or made to leave it."""
        for chat in [one for one in self.chats if fold(one.name) == fold(name)]:
            if self._renamed.find(chat.id) is not None:
                continue  # That is how it was told.
            if not self._returns:
                # A puppet comes back when its owner speaks again, not before.
                del self._chats[chat.id]
                continue
            self._return_after_kick(chat)

    def renamed(
        self, name: str, new: str, fold: Callable[[str], str], *, is_whole: bool
    ) -> RemoteChat | None:
        """Take note that a channel is called otherwise now, and that nobody comes back to the old
        name. Return the chat, if we were to be there.

        ``new``: empty if it is not known; ``is_whole``: false if it may be the same but for the
        case of its letters, in which case we come in again.
        """
        self._renamed.note(RemoteChatId(fold(name)), new)
        chat = next((one for one in self.chats if fold(one.name) == fold(name)), None)
        if chat is not None:
            self._end_return(chat)
            self._kicks.pop(chat.id, None)
            if is_whole and not self._returns:
                del self._chats[chat.id]
        return chat

    def check_name(self, chat: RemoteChat) -> None:
        """Raise ``PermanentFailure`` if a chat is called otherwise now: what is said to the old
        name is said to nobody, or to strangers."""
        if trouble := self.name_trouble(chat):
            raise PermanentFailure(trouble)

    def name_trouble(self, chat: RemoteChat) -> str:
        """How a chat is called now, and what to do about it, in a sentence; empty if it has the
        name that it is bridged by."""
        new = self._renamed.find(chat.id)
        if new is None:
            return ""
        bridging = as_typed(f"bridge {self._host.instance} {new or '<its new name>'}")
        return (
            f"{chat.name} is called {new or 'otherwise'} now: to have that here, say "
            f"{as_typed('unbridge')}, then {bridging}"
        )

    def rest_of(self, chat: RemoteChat) -> float | None:
        """Seconds until we come back to a chat that we were put out of; None for any other."""
        until = self._resting.get(chat.id)
        if until is None:
            return None
        return max(until - asyncio.get_running_loop().time(), SHORTEST_REST_SECONDS)

    def check_rest(self, chat: RemoteChat) -> None:
        """Raise ``TemporaryFailure`` while nobody is to knock at a chat after a kick."""
        rest = self.rest_of(chat)
        if rest is not None:
            raise TemporaryFailure(
                f"We were put out of {chat.name} and come back in {rest:.0f} seconds.",
                retry_after=rest,
            )

    def check_in(self, chat: RemoteChat, channels: Channels | None) -> None:
        """Raise ``TemporaryFailure`` if we are not in the chat, as ``check_name`` if it has
        another name: from outside nobody may be seen there, which is not the truth."""
        if channels is None or not channels.is_in(chat.name):
            self.check_name(chat)
            self.check_rest(chat)
            raise TemporaryFailure(f"We are not in {chat.name}.")

    def keep_trying(self, chat: RemoteChat) -> None:
        """Take note that we are to be in a chat that lets nobody in at the moment, and
        come back."""
        self.note(chat)
        if self._returns and chat.id not in self._returning:
            self._begin_return(chat, self._rejoin_seconds)

    def rest(self, chat: RemoteChat) -> bool:
        """Take note that we are to be in a chat that has just put us out, and come back as after
        a kick; False if that is not to be, or not now."""
        if not self._returns or self._connected is None:
            return False
        self.note(chat)
        if self.rest_of(chat) is None:  # Else it was noted before, and its kick counted.
            self._return_after_kick(chat)
        return True

    def _return_after_kick(self, chat: RemoteChat) -> None:
        now = asyncio.get_running_loop().time()
        before, last = self._kicks.get(chat.id, (0, now))
        kicks = 1 if now - last >= self.kicks_seconds else before + 1
        self._kicks[chat.id] = kicks, now
        pause = min(self._rejoin_seconds * 2 ** min(kicks - 1, 20), LONGEST_REJOIN_SECONDS)
        # One that is still on its way knows nothing of the kick, and may rest for an hour.
        self._end_return(chat)
        self._resting[chat.id] = now + pause
        self._begin_return(chat, pause)

    async def keep(self, channels: Channels, tell: Tell) -> None:
        """Be in all of them on a connection. What comes back runs until cancelled; else this
        ends when all have been tried.

        ``tell``: what a chat's room is to hear, in order with what is heard in the chat."""
        async with asyncio.TaskGroup() as returns:
            self._connected = returns, channels, tell
            try:
                for chat in self.chats:
                    # Whoever had the relay join on this connection before asks again.
                    if self._returns and channels.was_asked(chat.name):
                        self._resting.pop(chat.id, None)
                    else:
                        self._begin_return(chat, self.rest_of(chat) or 0)
                if self._returns:
                    await asyncio.get_running_loop().create_future()
            finally:
                self._connected = None
                self._returning.clear()
                self._next.clear()

    def _begin_return(self, chat: RemoteChat, pause: float) -> None:
        if self._renamed.find(chat.id) is not None:
            return
        if self._connected is not None:  # Else all are tried at once on the next connection.
            returns, channels, tell = self._connected
            self._next[chat.id] = asyncio.get_running_loop().time() + pause
            coming = self._return(channels, chat, pause, tell)
            self._returning[chat.id] = returns.create_task(coming)

    def _end_return(self, chat: RemoteChat) -> None:
        self._resting.pop(chat.id, None)
        self._next.pop(chat.id, None)
        task = self._returning.pop(chat.id, None)
        if task is not None:
            task.cancel()

    async def _return(
        self, channels: Channels, chat: RemoteChat, pause: float, tell: Tell
    ) -> None:
        """Come back once the pause is over; what is refused for now is tried again and again."""
        while await self._is_refused_for_now(channels, chat, pause, tell):
            pause = min(max(pause * 2, self._rejoin_seconds), LONGEST_REJOIN_SECONDS)
            self._next[chat.id] = asyncio.get_running_loop().time() + pause
        self._returning.pop(chat.id, None)
        self._next.pop(chat.id, None)

    async def _is_refused_for_now(
        self, channels: Channels, chat: RemoteChat, pause: float, tell: Tell
    ) -> bool:
        await asyncio.sleep(pause)
        self._resting.pop(chat.id, None)
        if chat.id not in self._chats:
            return False
        try:
            with self.way_into(chat) as way:
                await way.enter(channels)
        except PermanentFailure as error:
            self._complain(error)
            if not self._returns:
                self._chats.pop(chat.id, None)
            elif not channels.is_in(chat.name):  # Else the network put us in meanwhile.
                await tell(RemoteShutOut(chat=chat.id, reason=str(error)))
        except DeliveryError as error:
            self._host.log.info("%s", error, extra={"event": "rejoin_failed"})
            return True
        return False

    def invited(self, chat: RemoteChat, by_operator: bool) -> bool:
        """Be in a chat into which we are invited, now or soon: it may have refused us or put us
        out. After a kick only an operator brings us back early: False if it is not known to be
        one. The old name of a channel that was renamed is anybody's: an invitation there means
        nothing."""
        if self._renamed.find(chat.id) is not None:
            return True
        if self.rest_of(chat) is not None and not by_operator:
            return False
        now = asyncio.get_running_loop().time()
        # Anybody may invite, again and again: each would be one more knock at a closed door.
        at = max(now, self._invited_at.get(chat.id, -math.inf) + self._rejoin_seconds)
        if at > now and self._next.get(chat.id, math.inf) <= at:
            return True
        is_resting = self.rest_of(chat) is not None
        self._invited_at[chat.id] = at
        self.note(chat)
        self._end_return(chat)
        if is_resting and at > now:
            self._resting[chat.id] = at
        self._begin_return(chat, at - now)
        return True
