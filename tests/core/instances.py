"""Instances of a network that connects to nothing."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar, cast

from pydantic import BaseModel

from bridge.core.host.instances import Instance, Session
from bridge.core.host.supervisor import Supervisor
from bridge.model import LoginRow, SystemClock
from bridge.sdk import (
    Capabilities,
    Client,
    Connector,
    Host,
    Login,
    LoginFlow,
    Message,
    ModuleInfo,
    Receipt,
)
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import ModeratorWish, RemoteChat, RemoteEvent, RemoteShutOut
from bridge.sdk.ids import InstanceId, LoginId, RemoteChatId, RemoteUserId, UserId
from bridge.sdk.login import LoginKind, LoginState
from bridge.sdk.testing.store import FakeStore
from bridge.telemetry import Telemetry


class Quiet:
    """A client that is connected and says nothing."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def run(self) -> None:
        self._host.report(LoginState.CONNECTED)
        await asyncio.Event().wait()

    async def send(self, message: Message) -> Receipt:
        return Receipt()


class Line:
    """A network that can be told to fail when it is connected."""

    info: ClassVar[ModuleInfo] = ModuleInfo(
        id="line", name="Line", summary="Nothing.", docs="", removal=""
    )
    settings: ClassVar[type[BaseModel]] = BaseModel

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    def login_flows(self) -> Sequence[LoginFlow]:
        return ()

    def capabilities(self, chat: RemoteChatId) -> Capabilities:
        return Capabilities()

    def connect(self, login: Login, host: Host) -> Quiet:
        if self.failure is not None:
            raise self.failure
        return Quiet(host)


class Rows:
    """Logins, of a database that may be away at first."""

    def __init__(self, times_away: int = 0) -> None:
        self.times_away = times_away

    async def get_or_add_login(
        self, instance: InstanceId, kind: LoginKind, owner: UserId | None
    ) -> LoginRow:
        if self.times_away:
            self.times_away -= 1
            raise TemporaryFailure("the database is away")
        return LoginRow(id=LoginId(1), instance=instance, kind=kind, owner=owner)

    async def logins(self, instance: InstanceId) -> Sequence[LoginRow]:
        return ()


class NoGuests:
    """Where nothing is heard of anybody but who says it in a room."""

    async def identify(self, row: LoginRow, account: RemoteUserId) -> None:
        raise AssertionError("nobody is identified")

    async def opt_out(self, row: LoginRow, user: RemoteUserId, is_out: bool) -> None:
        raise AssertionError("nobody opts out")

    def has_opted_out(self, row: LoginRow, user: RemoteUserId) -> bool:
        raise AssertionError("nobody is out")

    async def obey(self, row: LoginRow, wish: ModeratorWish) -> str:
        raise AssertionError("nobody wishes anything")


NO_GUESTS = NoGuests()


def at_work(
    instance: Instance, client: object, owner: UserId | None = None, *, connected: bool = True,
    linked: bool = False,
) -> Session:  # fmt: skip
    """Have a client at work on an instance as its relay, or as the login of ``owner``."""
    kind = LoginKind.PERSON if linked else LoginKind.AUTOMATIC if owner else LoginKind.RELAY
    number = LoginId(1 if owner is None else 2 + len(instance.sessions))
    row = LoginRow(id=number, instance=instance.name, kind=kind, owner=owner)
    supervisor = Supervisor(cast(Client, client), instance.name, lambda state, reason: None)
    if connected:
        supervisor.report(LoginState.CONNECTED)
    session = instance._sessions[number] = Session(row, supervisor)
    if owner is None:
        instance.relay = session
    elif linked:
        instance._linked[owner] = [session]
    else:
        instance._by_owner[owner] = session
    return session


async def nobody(instance: InstanceId, row: LoginRow, event: RemoteEvent) -> None:
    """Receive that nothing comes through, and nothing else."""
    assert isinstance(event, RemoteShutOut), "nothing else is received"


def network(
    name: str, connector: Connector, rows: Rows | None = None, chats: Sequence[RemoteChat] = ()
) -> Instance:
    """An instance of that connector."""
    return Instance(
        InstanceId(name), connector, rows or Rows(), FakeStore(), SystemClock(),
        Telemetry(), receive=nobody, guests=NO_GUESTS, chats=lambda *_: chats,
    )  # fmt: skip
