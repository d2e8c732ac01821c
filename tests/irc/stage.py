"""What a client needs around it in a test: a host that remembers, and somebody to run it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.demo.matrix_user import PATIENCE
from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.connector import IrcConnector
from bridge.networks.irc.settings import IrcSettings
from bridge.sdk.errors import DeliveryError, ModuleError, PermanentFailure
from bridge.sdk.events import (
    Message,
    MessageKind,
    ModeratorWish,
    RemoteChat,
    RemoteEvent,
    RemoteMembers,
    RemoteMessage,
    Sender,
)
from bridge.sdk.ids import EventId, InstanceId, LoginId, RemoteChatId, RemoteUserId, UserId
from bridge.sdk.login import Login, LoginKind, LoginState
from bridge.sdk.rich import Rich
from bridge.sdk.secret import Secret
from bridge.sdk.text import to_plain
from tests.irc.stores import MemoryStore
from tests.rigs.scripted_irc import Peer, ScriptedServer, scripted_server

WAIT_SECONDS = PATIENCE
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Host:
    """What ``sdk.Host`` promises; remembers all that it was given."""

    def __init__(self, store: MemoryStore) -> None:
        self.instance = InstanceId("test")
        self.log = logging.LoggerAdapter(logging.getLogger("tests.irc"), {})
        self.store = store
        self.events: list[RemoteEvent] = []
        self.states: list[tuple[LoginState, str]] = []
        self.opted_out: set[RemoteUserId] = set()
        self.accounts: list[RemoteUserId] = []
        self.kept: dict[str, Secret] = {}
        self.wishes: list[ModeratorWish] = []
        self.told = "and more"
        """What else is told to whoever wishes something."""
        self.failures: list[Exception] = []
        """Raised by the next calls of ``receive``."""
        self.refusals: list[Exception] = []
        """Raised by the next calls of ``keep_secret``."""
        self.noting = asyncio.Event()
        """Unset: who opts out waits, as without the database."""
        self.noting.set()
        self._changed = asyncio.Event()

    def now(self) -> datetime:
        """Return always the same time."""
        return NOW

    def count(self, name: str, /, **labels: str) -> None:
        """Refuse: the module declares no metrics."""
        raise ValueError(name)

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Refuse: the module declares no metrics."""
        raise ValueError(name)

    async def receive(self, event: RemoteEvent) -> None:
        """Remember the event."""
        if self.failures:
            raise self.failures.pop(0)
        self.events.append(event)
        self._changed.set()

    def report(self, state: LoginState, reason: str = "") -> None:
        """Remember the state."""
        self.states.append((state, reason))
        self._changed.set()

    async def identify(self, account: RemoteUserId) -> None:
        """Remember which account the login is."""
        self.accounts.append(account)
        self._changed.set()

    async def keep_secret(self, name: str, secret: Secret | None) -> None:
        """Keep it, for the login of a client that is made later."""
        if self.refusals:
            raise self.refusals.pop(0)
        if secret is None:
            self.kept.pop(name, None)
        else:
            self.kept[name] = secret
        self._changed.set()

    async def opt_out(self, user: RemoteUserId, *, is_out: bool = True) -> None:
        """Remember who wants no part in it."""
        await self.noting.wait()
        (self.opted_out.add if is_out else self.opted_out.discard)(user)
        self._changed.set()

    def has_opted_out(self, user: RemoteUserId) -> bool:
        """Whether somebody wants no part in it."""
        return user in self.opted_out

    async def obey(self, wish: ModeratorWish) -> str:
        """Remember what somebody who runs a channel wishes."""
        self.wishes.append(wish)
        return f"{wish.wish.value} is done\n{self.told}"

    async def wait_until(self, is_so: Callable[["Host"], bool]) -> None:
        """Wait until what was given is so."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not is_so(self):
                self._changed.clear()
                await self._changed.wait()

    async def wait_until_connected(self) -> None:
        """Wait until the client said that it is connected."""
        await self.wait_until(lambda host: (LoginState.CONNECTED, "") in host.states)

    async def wait_for(self, kind: type[RemoteEvent], count: int = 1) -> list[Any]:
        """Wait for events of a kind and return them."""
        await self.wait_until(lambda host: len(host.of(kind)) >= count)
        return self.of(kind)

    def of(self, kind: type[RemoteEvent]) -> list[Any]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def texts(self) -> list[str]:
        """What people said, as ``nick: text``."""
        return [f"{one.sender.name}: {to_plain(one.body)}" for one in self.of(RemoteMessage)]


class Network:
    """An instance of the connector with a host and a client per login."""

    def __init__(self, port: int, **settings: Any) -> None:
        server = {"host": "127.0.0.1", "port": port, "tls": False}
        known: dict[str, Any] = {
            "servers": [server],
            "own_network": True,
            "flood_burst": 100,
            "flood_rate": 1000,
            "connect_seconds": 60,
        }
        self.connector = IrcConnector(IrcSettings.model_validate(known | settings))
        self.store = MemoryStore()
        self._logins = 0

    def _client(
        self,
        kind: LoginKind,
        owner: UserId | None,
        name: str,
        kept: Mapping[str, Secret] | None = None,
    ) -> tuple[IrcClient, Host]:
        self._logins += 1
        host = Host(self.store)
        host.kept.update(kept or {})
        login = Login(
            id=LoginId(self._logins), kind=kind, owner=owner, name=name, secrets=dict(host.kept)
        )
        return self.connector.connect(login, host), host

    def relay(self, kept: Mapping[str, Secret] | None = None) -> tuple[IrcClient, Host]:
        """Make the instance's own client, with what its login kept before."""
        return self._client(LoginKind.RELAY, None, "test", kept)

    def puppet(self, name: str, kind: LoginKind = LoginKind.AUTOMATIC) -> tuple[IrcClient, Host]:
        """Make the client of a Matrix user."""
        return self._client(kind, user_id(name), name)


class Run:
    """One call of a client's ``run``."""

    def __init__(self) -> None:
        self.error: ModuleError | None = None
        self.ended = asyncio.Event()

    async def wait_for_error(self) -> ModuleError:
        """Wait until the client gave up, and return why."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self.ended.wait()
        assert self.error is not None
        return self.error


@asynccontextmanager
async def running(*clients: IrcClient) -> AsyncIterator[Run]:
    """Run clients, and stop them at the end as a host does."""
    run = Run()

    async def one(client: IrcClient) -> None:
        try:
            await client.run()
        except ModuleError as error:
            run.error = error
            run.ended.set()

    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(one(client)) for client in clients]
        try:
            yield run
        finally:
            for task in started:
                task.cancel()


def user_id(name: str) -> UserId:
    """Return the Matrix id of a person in these tests."""
    return UserId(f"@{name.lower()}:example.org")


def chat(name: str) -> RemoteChat:
    """Return a channel's record."""
    return RemoteChat(id=RemoteChatId(name.lower()), name=name)


def message(
    channel: str,
    body: str | Rich,
    *,
    sender: str = "Alice",
    kind: MessageKind = MessageKind.TEXT,
    relayed: bool = False,
) -> Message:
    """Return a message from Matrix."""
    return Message(
        chat=chat(channel).id,
        event_id=EventId("$event"),
        sender=Sender(user_id=user_id(sender), name=sender),
        kind=kind,
        body=Rich.plain(body) if isinstance(body, str) else body,
        relayed=relayed,
    )


@asynccontextmanager
async def listening(
    server: ScriptedServer, network: Network, names: str = "bob", capabilities: str = "",
    prefix: str = "(ov)@+",
) -> AsyncIterator[tuple[IrcClient, Host, Peer, Run]]:  # fmt: skip
    """Have the relay connected and in #room."""
    relay, host = network.relay()
    async with running(relay) as run, asyncio.TaskGroup() as tasks:
        peer = await server.accept()
        limits = f"NICKLEN=30 CASEMAPPING=rfc1459 PREFIX={prefix}"
        await peer.welcome(limits, capabilities=capabilities)
        joined = tasks.create_task(relay.join(chat("#room")))
        await peer.admit(names)
        await joined
        await host.wait_for(RemoteMembers)
        yield relay, host, peer, run


@asynccontextmanager
async def speaking(
    server: ScriptedServer, network: Network, name: str = "Alice", capabilities: str = ""
) -> AsyncIterator[tuple[IrcClient, Host, Peer, Run]]:
    """Have a puppet connected and in #room, having said ``first``."""
    puppet, host = network.puppet(name)
    async with running(puppet) as run, asyncio.TaskGroup() as tasks:
        sent = tasks.create_task(puppet.send(message("#room", "first")))
        peer = await server.accept()
        await peer.welcome(capabilities=capabilities)
        await peer.admit()
        await peer.expect("PRIVMSG #room :first")
        await sent
        yield puppet, host, peer, run


@asynccontextmanager
async def a_listener(
    names: str = "bob", capabilities: str = "", prefix: str = "(ov)@+", **settings: Any
) -> AsyncIterator[tuple[IrcClient, Host, Peer, Run]]:
    """Have the relay in #room of a server of its own, on a network with these settings."""
    async with scripted_server() as server:
        network = Network(server.port, **settings)
        async with listening(server, network, names, capabilities, prefix) as listener:
            yield listener


@asynccontextmanager
async def a_speaker(
    name: str = "Alice", capabilities: str = "", **settings: Any
) -> AsyncIterator[tuple[IrcClient, Host, Peer, Run]]:
    """Have a puppet in #room of a server of its own, on a network with these settings."""
    async with scripted_server() as server:
        network = Network(server.port, **settings)
        async with speaking(server, network, name, capabilities) as speaker:
            yield speaker


async def let_in_without_mine(peer: Peer, limits: str) -> None:
    """Let somebody in who asks for the nick ``mine``, which another has; ``limits`` as in 005."""
    await peer.expect("USER")
    peer.say(":irc.test CAP * LS :")
    await peer.expect("CAP END")
    peer.say(":irc.test 433 * mine :In use")
    peer.nick = (await peer.expect("NICK mine_")).removeprefix("NICK ")
    peer.let_in(limits)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so of which nobody tells."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not is_so():
            await asyncio.sleep(0.01)


async def synced(peer: Peer) -> None:
    """Wait until the client has read all that was said to it."""
    peer.say("PING :sync")
    await peer.expect("PONG sync")


async def refusal(doing: Awaitable[object]) -> str:
    """Why what is done is refused for good."""
    with pytest.raises(PermanentFailure) as caught:
        await doing
    return str(caught.value)


async def refusal_of_join(client: IrcClient, name: str) -> str:
    """Why it may not join."""
    return await refusal(client.join(chat(name)))


async def outcome(client: IrcClient, channel: str, text: str) -> DeliveryError | None:
    """Why what is said does not arrive, or nothing if it does."""
    try:
        await client.send(message(channel, text))
    except DeliveryError as error:
        return error
    return None


def list_names(peer: Peer, names: str, channel: str = "#room", **places: str) -> None:
    """Answer who is in the channel, and later where people are."""
    for nick, place in places.items():
        peer.answers[f"USERHOST {nick}"] = f":irc.test 302 {{nick}} :{nick}*=+{place}"
    peer.say(
        f":irc.test 353 {{nick}} = {channel} :{{nick}} {names}",
        f":irc.test 366 {{nick}} {channel} :End of names",
    )


def direct(host: Host) -> list[tuple[str, str, str]]:
    """What came for direct chats: chat, kind, text."""
    return [
        (one.chat, one.kind.value, to_plain(one.body))
        for one in host.of(RemoteMessage)
        if one.direct
    ]
