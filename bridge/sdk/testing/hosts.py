"""Hosts for tests: they keep the real one's rules and remember what a module did."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from bridge.sdk.errors import LoginRequired, ModuleNotReady, PermanentFailure
from bridge.sdk.events import (
    ModeratorWish,
    Rank,
    RemoteAccess,
    RemoteEdit,
    RemoteEvent,
    RemoteJoin,
    RemoteLeave,
    RemoteMembers,
    RemoteMessage,
    RemoteRanks,
    RemoteReaction,
    RemoteRedaction,
    RemoteRemark,
    RemoteRemoval,
    RemoteRename,
    RemoteShutOut,
    RemoteTopic,
    RemoteTyping,
    RemoteUser,
    Wish,
)
from bridge.sdk.ids import InstanceId, RemoteChatId, RemoteUserId
from bridge.sdk.log import ModuleLog
from bridge.sdk.login import LoginState
from bridge.sdk.metrics import check_use
from bridge.sdk.module import Client, ModuleInfo
from bridge.sdk.secret import Secret
from bridge.sdk.testing.store import FakeClock, FakeStore, is_storable
from bridge.sdk.testing.timers import FakeTimers
from bridge.sdk.text import to_plain

STOP_SECONDS = 5.0
"""How long the real host waits for ``run()`` to end before it leaves it behind."""


class FakeMetrics:
    """Remembers what a module counts."""

    def __init__(self, info: ModuleInfo | None) -> None:
        self.info = info
        """Where the metrics are declared. Without it nothing may be counted."""
        self.counted: list[tuple[str, dict[str, str]]] = []
        """Each call of ``count``: the name and the labels."""
        self.observed: list[tuple[str, float, dict[str, str]]] = []

    def count(self, name: str, /, **labels: str) -> None:
        """Count one more. Raises ``ValueError`` for what is not declared."""
        check_use(self.info.metrics if self.info else (), name, labels, measured=False)
        self.counted.append((name, labels))

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Take a value. Raises ``ValueError`` for what is not declared."""
        check_use(self.info.metrics if self.info else (), name, labels, measured=True)
        self.observed.append((name, float(value), labels))


class FakeHost(FakeMetrics):
    """What ``sdk.Host`` promises to a client.

    Like the real one it shows a message with the same id once, keeps who is in which chat, and
    takes no notice of chats that are not bridged. Whatever the real host could make nothing of
    raises ``AssertionError`` and is listed in ``faults``.
    """

    def __init__(
        self,
        instance: str = "test",
        *,
        chats: Collection[str] | None = None,
        store: FakeStore | None = None,
        clock: FakeClock | None = None,
        info: ModuleInfo | None = None,
    ) -> None:
        """``chats``: ids of the bridged ones; None: all are. ``info``: the connector's."""
        super().__init__(info)
        self.instance = InstanceId(instance)
        self.log = ModuleLog(self.instance)
        self.clock = clock or FakeClock()
        self.store = store or FakeStore(self.clock)
        self.received: list[RemoteEvent] = []
        """All that was taken, repetitions too."""
        self.ignored: list[RemoteEvent] = []
        """What came from chats that are not bridged."""
        self.messages: list[RemoteMessage] = []
        """What stands in the rooms: each message once, as it was changed last."""
        self.remarks: list[RemoteRemark] = []
        """What the bot says in the rooms for the module."""
        self.reactions: list[RemoteReaction] = []
        """The reactions in the rooms, each once."""
        self.typing: dict[RemoteChatId, set[RemoteUserId]] = {}
        """Who is writing in each chat."""
        self.people: dict[RemoteChatId, dict[RemoteUserId, str]] = {}
        """Who is in each chat: id to name."""
        self.topics: dict[RemoteChatId, str] = {}
        self.access: dict[RemoteChatId, RemoteAccess] = {}
        """Who sees each chat, and who may come in."""
        self.ranks: dict[RemoteChatId, dict[RemoteUserId, Rank]] = {}
        """What people may do in each chat, above nothing."""
        self.removals: list[RemoteRemoval] = []
        """Who of our own was put out, or let in again."""
        self.reports: list[tuple[LoginState, str]] = []
        self.accounts: list[RemoteUserId] = []
        """Which account the login said it is."""
        self.opted_out: set[RemoteUserId] = set()
        """Who does not want to be bridged."""
        self.kept: dict[str, Secret] = {}
        """What the login keeps beside what it signs in with."""
        self.wishes: list[ModeratorWish] = []
        """What those who run chats asked for."""
        self.faults: list[str] = []
        self._chats = chats
        self._refusals: deque[PermanentFailure] = deque()
        self._storing = asyncio.Event()
        self._storing.set()
        self._changed = asyncio.Event()

    @property
    def state(self) -> LoginState:
        """How the client says that its login is."""
        return self.reports[-1][0] if self.reports else LoginState.STARTING

    @property
    def texts(self) -> list[str]:
        """The messages as ``name: text``."""
        return [f"{one.sender.name}: {to_plain(one.body)}" for one in self.messages]

    def now(self) -> datetime:
        """The time of the clock, in UTC."""
        return self.clock.now()

    def refuse_next(self, error: PermanentFailure) -> None:
        """Have the next call of ``receive`` or ``obey`` raise this."""
        self._refusals.append(error)

    def stop_storing(self) -> None:
        """Have ``receive`` wait from now on, as the real one does without its database."""
        self._storing.clear()

    def store_again(self) -> None:
        """Let those go on that wait in ``receive``."""
        self._storing.set()

    async def receive(self, event: RemoteEvent) -> None:
        """Take an event from the network.

        Raises what ``refuse_next`` was given, and ``AssertionError`` for what is no event.
        """
        self._check(event)
        await asyncio.sleep(0)  # The real host writes to its database here.
        await self._storing.wait()
        if self._refusals:
            raise self._refusals.popleft()
        if self._chats is not None and event.chat not in self._chats:
            self.ignored.append(event)
        else:
            self.received.append(event)
            self._apply(event)
        self._changed.set()

    def report(self, state: LoginState, reason: str = "") -> None:
        """Take note of how the login is. Raises ``AssertionError`` for bad news without why."""
        if not isinstance(state, LoginState):
            self._fault(f"report() takes a LoginState, not {state!r}")
        if state in {LoginState.RECONNECTING, LoginState.SIGN_IN_NEEDED} and not reason:
            self._fault(f"report({state.name}) needs a reason: a sentence for the login's owner")
        self.reports.append((state, reason))
        self._changed.set()

    async def identify(self, account: RemoteUserId) -> None:
        """Take note of which account the login is."""
        if not account:
            self._fault("identify() needs the id of an account")
        await self._storing.wait()
        self.accounts.append(account)
        self._changed.set()

    async def keep_secret(self, name: str, secret: Secret | None) -> None:
        """Take note of what the login keeps."""
        if not name or " " in name:
            self._fault("keep_secret() needs a name without spaces")
        await self._storing.wait()
        if secret is None:
            self.kept.pop(name, None)
        else:
            self.kept[name] = secret
        self._changed.set()

    async def opt_out(self, user: RemoteUserId, *, is_out: bool = True) -> None:
        """Take note of who does not want to be bridged."""
        if not user:
            self._fault("opt_out() needs the id of a person")
        await self._storing.wait()
        (self.opted_out.add if is_out else self.opted_out.discard)(user)
        self._changed.set()

    def has_opted_out(self, user: RemoteUserId) -> bool:
        """Whether the module said that somebody does not want to be bridged."""
        return user in self.opted_out

    async def obey(self, wish: ModeratorWish) -> str:
        """Take note of what somebody who runs a chat wishes, and give an answer.

        Raises ``AssertionError`` for what is no such wish, and what ``refuse_next`` was given.
        """
        if not isinstance(wish, ModeratorWish) or not isinstance(wish.wish, Wish):
            self._fault(f"obey() takes a ModeratorWish with a Wish, not {wish!r}")
        if not (wish.chat.id and wish.moderator.id and wish.moderator.name):
            self._fault("obey() needs the chat, and the id and the name of who runs it")
        if wish.wish in {Wish.BLOCK, Wish.UNBLOCK} and not wish.about.strip():
            self._fault(f"obey({wish.wish.name}) needs to know about whom")
        await self._storing.wait()
        if self._refusals:
            raise self._refusals.popleft()
        self.wishes.append(wish)
        self._changed.set()
        return f"{wish.wish.value}: it is done"

    async def wait_until(self, is_so: Callable[["FakeHost"], bool], limit: float = 10.0) -> None:
        """Return when what the client did makes it so. Raises ``TimeoutError``."""
        async with asyncio.timeout(limit):
            while not is_so(self):
                self._changed.clear()
                await self._changed.wait()

    async def wait_until_connected(self, limit: float = 10.0) -> None:
        """Return when the client says that it is connected. Raises ``TimeoutError``."""
        await self.wait_until(lambda host: host.state is LoginState.CONNECTED, limit)

    def _fault(self, sentence: str) -> None:
        self.faults.append(sentence)
        raise AssertionError(sentence)

    def _check(self, event: RemoteEvent) -> None:
        if not isinstance(event, RemoteEvent):
            self._fault(f"receive() takes one of the sdk's RemoteEvents, not {event!r}")
        kind = type(event).__name__
        texts: list[str] = [event.chat]
        for user in _users(event):
            if not user.id or not user.name:
                self._fault(f"{kind}: a RemoteUser needs an id and a name, not {user!r}")
            texts += [user.id, user.name]
        texts += self._check_said(event, kind)
        texts += self._check_rule(event)
        if not event.chat:
            self._fault(f"{kind}: `chat` is empty")
        if not all(map(is_storable, texts)):
            self._fault(f"{kind}: it holds half a character; decode with errors='replace'")

    def _check_said(self, event: RemoteEvent, kind: str) -> list[str]:
        """See that what was said, or done to it, can be told apart; give the texts in it."""
        match event:
            case RemoteMessage() | RemoteEdit():
                texts = [event.id, to_plain(event.body)]
                if event.at.tzinfo is None:
                    self._fault(f"{kind}: `at` needs a time zone; host.now() has one")
            case RemoteReaction():
                texts = [event.id, event.key]
                if not event.key.strip():
                    self._fault(f"{kind}: `key` is empty; it is the emoji, or a short text")
            case _:
                texts = []
        if texts and not texts[0]:
            self._fault(f"{kind}: without an id the same message would appear twice")
        if isinstance(event, RemoteMessage) and event.part < 0:
            self._fault("RemoteMessage: `part` counts from 0")
        if isinstance(event, RemoteEdit | RemoteReaction | RemoteRedaction):
            texts.append(event.target)
            if not event.target:
                self._fault(f"{kind}: `target` is empty; it is the id of the message meant")
        return texts

    def _check_rule(self, event: RemoteEvent) -> Sequence[str]:
        """Look at what is said of a chat itself; give the texts in it."""
        match event:
            case RemoteRanks(ranks=ranks, own=own) if not all(
                isinstance(r, Rank) for r in (*ranks.values(), *own.values())
            ):
                self._fault(f"RemoteRanks: each of the ranks is a Rank, not {ranks!r}, {own!r}")
            case RemoteRemoval(user=user) if not user.startswith("@"):
                self._fault(f"RemoteRemoval: `user` is one of ours, a Matrix id, not {user!r}")
            case RemoteTopic(topic=topic):
                return [topic]
        return ()

    def _apply(self, event: RemoteEvent) -> None:
        people = self.people.setdefault(event.chat, {})
        match event:
            case RemoteMessage():
                keys = {(one.chat, one.id, one.part, one.sender.id) for one in self.messages}
                if (event.chat, event.id, event.part, event.sender.id) not in keys:
                    self.messages.append(event)
                    people[event.sender.id] = event.sender.name
            case RemoteEdit() | RemoteReaction() | RemoteRedaction():
                self._apply_to_another(event)
            case RemoteTyping():
                writing = self.typing.setdefault(event.chat, set())
                (writing.add if event.is_typing else writing.discard)(event.user.id)
            case RemoteJoin():
                people[event.user.id] = event.user.name
            case RemoteLeave():
                people.pop(event.user.id, None)
            case RemoteRename():
                if people.pop(event.old.id, None) is not None:
                    people[event.new.id] = event.new.name
            case RemoteMembers():
                people.clear()
                people.update({user.id: user.name for user in event.users})
            case _:
                self._apply_rule(event)

    def _apply_rule(self, event: RemoteEvent) -> None:
        match event:
            case RemoteRemark() if event not in self.remarks:
                self.remarks.append(event)
            case RemoteTopic():
                self.topics[event.chat] = event.topic
            case RemoteAccess():
                self.access[event.chat] = event
            case RemoteRanks():
                ranks = {} if event.is_all else self.ranks.get(event.chat, {})
                ranks |= event.ranks
                self.ranks[event.chat] = {who: one for who, one in ranks.items() if one}
            case RemoteRemoval():
                self.removals.append(event)

    def _apply_to_another(self, event: RemoteEdit | RemoteReaction | RemoteRedaction) -> None:
        """Change what stands in the rooms; what is not known there is left alone."""
        if isinstance(event, RemoteEdit):
            self.messages = [
                replace(one, body=event.body, kind=event.kind)
                if (one.chat, one.id) == (event.chat, event.target)
                else one
                for one in self.messages
            ]
        elif isinstance(event, RemoteReaction):
            if all((one.chat, one.id) != (event.chat, event.id) for one in self.reactions):
                self.reactions.append(event)
        else:
            gone = (event.chat, event.target)
            self.messages = [one for one in self.messages if (one.chat, one.id) != gone]
            self.reactions = [
                one for one in self.reactions
                if gone not in {(one.chat, one.id), (one.chat, one.alias)}
            ]  # fmt: skip


def _users(event: RemoteEvent) -> Sequence[RemoteUser]:
    match event:
        case RemoteMessage() | RemoteEdit() | RemoteReaction() | RemoteRedaction():
            return (event.sender,)
        case RemoteJoin() | RemoteLeave() | RemoteTyping():
            return (event.user,)
        case RemoteRename():
            return (event.old, event.new)
        case RemoteMembers():
            return event.users
        case RemoteRemoval():
            return () if event.by is None else (event.by,)
        case RemoteRanks():
            return tuple(RemoteUser(id=one, name=one) for one in event.ranks)
        case RemoteTopic() | RemoteAccess() | RemoteShutOut() | RemoteRemark():
            return ()


class FakeBotHost(FakeMetrics):
    """What ``sdk.BotHost`` promises to a bot. Talk to the bot through a ``FakeRoom``."""

    def __init__(
        self,
        instance: str = "test",
        *,
        store: FakeStore | None = None,
        clock: FakeClock | None = None,
        info: ModuleInfo | None = None,
    ) -> None:
        """``info``: the bot's; a ``FakeRoom`` fills it in."""
        super().__init__(info)
        self.instance = InstanceId(instance)
        self.log = ModuleLog(self.instance)
        self.clock = clock or FakeClock()
        self.store = store or FakeStore(self.clock)
        self.timers = FakeTimers(self.clock)

    def now(self) -> datetime:
        """The time of the clock, in UTC."""
        return self.clock.now()


@asynccontextmanager
async def running(client: Client, host: FakeHost) -> AsyncIterator[None]:
    """Have the client run for the length of the block, and stop it as the real host does.

    An early end that a ``ModuleError`` explains becomes the host's state, as in the real one.
    Raises ``AssertionError`` if the client does not stop in time or eats the cancellation, and
    whatever else ``run()`` raised.
    """
    # A task of a TaskGroup that eats its cancellation would keep the test from ever ending.
    task = asyncio.get_running_loop().create_task(_run(client, host))
    try:
        yield
    finally:
        if not task.done():
            await stop(task)
        else:
            task.result()


async def _run(client: Client, host: FakeHost) -> None:
    try:
        await client.run()
    except (LoginRequired, ModuleNotReady) as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # It stands in the way of the cancellation.
        refused = isinstance(error, LoginRequired)
        state = LoginState.SIGN_IN_NEEDED if refused else LoginState.RECONNECTING
        host.report(state, str(error))


async def stop(task: asyncio.Task[None], limit: float = STOP_SECONDS) -> None:
    """Cancel what runs a client's ``run()``.

    Raises ``AssertionError`` if it goes on, or ends as if nobody had cancelled it.
    """
    task.cancel()
    await asyncio.wait({task}, timeout=limit)
    if not task.done():
        raise AssertionError(
            f"run() did not end within {limit:g} seconds after it was cancelled; let "
            "CancelledError pass, and limit what is done in `finally`"
        )
    if task.cancelled():
        return
    error = task.exception()
    if error is None:
        raise AssertionError(
            "run() returned when it was cancelled; after cleaning up, raise CancelledError on, "
            "or the host takes it for a lost connection and starts the client again"
        )
    raise AssertionError(
        f"run() raised {type(error).__name__} when it was cancelled, not CancelledError: {error}"
    ) from error
