"""The configured modules at work: connectors with their logins, each login supervised."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from bridge.core.host.announcing import Foretell
from bridge.core.host.hosting import InstanceMetrics
from bridge.core.host.lockedlogins import LockedLogin
from bridge.core.host.modulehost import Guests, Keep, ModuleHost, keep_nothing
from bridge.core.host.rejoining import Rejoining
from bridge.core.host.supervisor import REST, Supervisor
from bridge.core.lanes.cancellation import outliving_module
from bridge.core.permissions.claims import Claims
from bridge.model import Clock, LoginRow
from bridge.sdk.chatkeys import JoinsLockedChats
from bridge.sdk.errors import DeliveryError, LoginRequired, PermanentFailure, TemporaryFailure
from bridge.sdk.events import ConsentRequest, RemoteChat, RemoteEvent, RemoteShutOut, RemoteUser
from bridge.sdk.ids import InstanceId, LoginId, UserId
from bridge.sdk.login import Login, LoginKind, LoginState
from bridge.sdk.module import (
    AsksModerators,
    Client,
    Connector,
    JoinsChats,
    ModuleState,
    NamesPuppets,
    Store,
    WatchesDirectChats,
)
from bridge.sdk.secret import Secret
from bridge.telemetry import Telemetry
from bridge.waits import is_set_within

log = logging.getLogger(__name__)

Receive = Callable[[InstanceId, LoginRow, RemoteEvent], Awaitable[None]]


class Accounts(Protocol):
    """The part of the storage that keeps logins; tests have one whose database is away."""

    async def get_or_add_login(
        self, instance: InstanceId, kind: LoginKind, owner: UserId | None
    ) -> LoginRow: ...
    async def logins(self, instance: InstanceId) -> Sequence[LoginRow]: ...


class Chats(Protocol):
    """What is bridged of an instance: chats that its logins share, or that are one's alone."""

    def __call__(
        self, instance: InstanceId, receiver: LoginId | None = None
    ) -> Sequence[RemoteChat]: ...


Secrets = Callable[[LoginRow], Awaitable[Mapping[str, Secret]]]
"""What a login signs in with. Raises ``LoginRequired`` when that cannot be read any more."""

OnState = Callable[[LoginRow, LoginState, str], None]

MayUse = Callable[[UserId, InstanceId], bool]
"""Whether the settings let the person have a login on the instance."""

NOT_ALLOWED = "the settings of this bridge do not let you use it"
"""Why a login is off whose owner lost the leave to have one."""


async def _no_secrets(row: LoginRow) -> Mapping[str, Secret]:
    return {}


class Session:
    """One login at work: its row and its supervised client."""

    def __init__(self, row: LoginRow, supervisor: Supervisor) -> None:
        self.row = row
        self.supervisor = supervisor

    @property
    def client(self) -> Any:
        """The module's client."""
        return self.supervisor.client

    @property
    def is_refused(self) -> bool:
        """Whether the network refused it, and it is not to be tried again yet."""
        # What a person signs in with does not get better by itself.
        rests = self.row.kind is LoginKind.PERSON or not self.supervisor.has_rested
        return self.supervisor.state is LoginState.SIGN_IN_NEEDED and rests

    async def wake(self) -> None:
        """Have it try again now, because somebody wants to speak; not while it is refused.

        One that was refused has begun anew when this returns: the old reason no longer counts.
        """
        supervisor = self.supervisor
        if supervisor.connected.is_set() or self.is_refused:
            return
        was_refused = supervisor.state is LoginState.SIGN_IN_NEEDED
        supervisor.wake()
        if was_refused:
            await asyncio.sleep(0)

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        """Have it out of the chat; one that is not connected is out of it already."""
        if not isinstance(self.client, JoinsChats):
            return
        try:
            with outliving_module("leave a chat"):
                async with asyncio.timeout(5):
                    await self.client.leave(chat, reason)
        except (DeliveryError, TimeoutError) as error:
            log.info("a puppet is not connected: %s", error, extra={"event": "not_there"})


class Instance:
    """One configured network: the connector and its sessions."""

    def __init__(
        self,
        name: InstanceId,
        connector: Connector,
        accounts: Accounts,
        store: Store,
        clock: Clock,
        telemetry: Telemetry,
        *,
        receive: Receive,
        guests: Guests,
        chats: Chats,
        rest: float = REST,
    ) -> None:
        """``rest``: seconds before a login that was refused may be tried again."""
        self.name = name
        self.connector = connector
        self._accounts = accounts
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._metrics = InstanceMetrics(telemetry, name, connector.info)
        self._receive = receive
        self._guests = guests
        self._chats = chats
        self._rest = rest
        self._group: asyncio.TaskGroup | None = None
        self._sessions: dict[int, Session] = {}
        self._by_owner: dict[UserId, Session] = {}
        """The automatic logins."""
        self._linked: dict[UserId, list[Session]] = {}
        self.secrets: Secrets = _no_secrets
        self.keep: Keep = keep_nothing
        self.on_state: OnState = lambda row, state, reason: None
        self.may_use: MayUse = lambda person, instance: True
        self.claims = Claims()
        self._making = asyncio.Lock()
        self.relay: Session | None = None
        self.is_open = False
        """Whether it is known who speaks for whom: the logins of people are at work."""
        self.trouble: dict[str, str] = {}
        """Chats that the relay could not join: id to reason."""
        self.rejoining = Rejoining(self, lambda: self._chats(name), tell=self._tell_shut_out)

    @property
    def state(self) -> tuple[ModuleState, str]:
        """How the module is, and why, in a sentence."""
        if self.relay is None:
            return ModuleState.STOPPED, "not started"
        supervisor = self.relay.supervisor
        return {
            LoginState.STARTING: ModuleState.STARTING,
            LoginState.CONNECTED: ModuleState.RUNNING,
            LoginState.RECONNECTING: ModuleState.RECONNECTING,
            LoginState.SIGN_IN_NEEDED: ModuleState.FAILED,
            LoginState.OFF: ModuleState.STOPPED,
        }[supervisor.state], supervisor.account

    @property
    def sessions(self) -> Sequence[Session]:
        """All logins at work."""
        return list(self._sessions.values())

    async def run(self) -> None:
        """Keep the relay login, and those of people as they come, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                row = await self._accounts.get_or_add_login(self.name, LoginKind.RELAY, None)
                # What it keeps are keys of chats; without them it is of use, too.
                kept, _ = await self._unlock(row)
                self.relay = self._open(row, self.name, kept)
                for row in await self._accounts.logins(self.name):
                    if row.kind is LoginKind.PERSON:
                        await self.open_login(row)
                self.is_open = True
                await self.rejoining.run()
            finally:
                self._group, self.is_open = None, False
                async with asyncio.TaskGroup() as stopping:
                    for session in self._sessions.values():
                        stopping.create_task(session.supervisor.stop())
                self._sessions.clear()
                self._by_owner.clear()
                self._linked.clear()

    async def session_of(self, owner: UserId, name: str) -> Session:
        """Give the Matrix user's automatic login, made on the first call.

        One that they linked goes before it. Raises ``PermanentFailure`` where the settings do not
        let them have one, ``TemporaryFailure`` while they are erased or the database is away.
        """
        session = self._by_owner.get(owner)
        if session is not None:
            return session
        async with self._making:
            session = self._by_owner.get(owner)
            if session is None:
                self.claims.check(owner)
                row = await self._accounts.get_or_add_login(self.name, LoginKind.AUTOMATIC, owner)
                secrets, locked = await self._unlock(row)
                # Asked last: a reload or a sign-in that ended meanwhile looks at what is there.
                if not self.may_use(owner, self.name):
                    raise PermanentFailure(NOT_ALLOWED)
                if linked := self.logins_of(owner):
                    return linked[0]
                session = self._begin(row, name, secrets, locked, may_use=True)
                self._by_owner[owner] = session
        return session

    async def _unlock(self, row: LoginRow) -> tuple[Mapping[str, Secret], LockedLogin | None]:
        """What a login signs in with; what stands for its client if that does not open."""
        try:
            return await self.secrets(row), None
        except LoginRequired as error:
            return {}, LockedLogin(str(error))

    def _begin(
        self, row: LoginRow, name: str, secrets: Mapping[str, Secret], locked: LockedLogin | None,
        *, may_use: bool,
    ) -> Session:  # fmt: skip
        if locked is not None:
            return self._start(row, locked, may_use=may_use)
        return self._open(row, name, secrets, may_use=may_use)

    def foretell(self, owner: UserId, name: str) -> Foretell:
        """What tells how a connection would be called that is made for the Matrix user."""

        async def foretell() -> str:
            connector: object = self.connector
            if isinstance(connector, NamesPuppets):
                return await connector.foretell_name(owner, name)
            return ""

        return foretell

    def logins_of(self, owner: UserId) -> Sequence[Session]:
        """The logins that the person linked and that are at work, the one that speaks first."""
        return self._linked.get(owner, ())

    def find_login(self, login: LoginId) -> Session | None:
        """The login of that number, if it is at work."""
        return self._sessions.get(login)

    def tell_chats(self, login: LoginId) -> None:
        """Have a login at work know of the chats that are its own, the relay of the shared."""
        session = self._sessions.get(login)
        if session is not None and isinstance(session.client, WatchesDirectChats):
            receiver = None if session.row.kind is LoginKind.RELAY else login
            session.client.watch_chats(self._chats(self.name, receiver))

    async def open_login(self, row: LoginRow) -> Session:
        """Have a person's login at work, begun anew if it is; the automatic one gives way.

        It is off where the settings do not let its owner use it. Raises ``TemporaryFailure``
        when the database is away, or the instance is not at work.
        """
        if row.owner is None:
            raise PermanentFailure("a login without an owner is nobody's")
        secrets, locked = await self._unlock(row)
        await self.close_login(row.id)
        # Asked last: a reload may have changed the answer meanwhile, and looks at what is there.
        may_use = self.may_use(row.owner, self.name)
        name = row.owner[1:].partition(":")[0]
        session = self._begin(row, name, secrets, locked, may_use=may_use)
        self._sort_linked(row.owner)
        automatic = self._by_owner.pop(row.owner, None)
        if automatic is not None:
            await self.close_login(automatic.row.id)
        return session

    async def close_login(self, login: LoginId) -> Session | None:
        """Stop a login, if it is at work; give what was."""
        session = self._sessions.pop(login, None)
        if session is not None:
            if session.row.owner is not None:
                self._sort_linked(session.row.owner)
            await session.supervisor.stop()
            self._count()
        return session

    async def end_automatic(self, owner: UserId) -> None:
        """Stop the login that was made for the person, until they speak again."""
        async with self._making:  # Whoever is just making one has read the vault before.
            automatic = self._by_owner.pop(owner, None)
        if automatic is not None:
            await self.close_login(automatic.row.id)

    async def reopen(self, owner: UserId) -> None:
        """Begin anew what is at work for the person, with what the vault has now.

        Raises ``TemporaryFailure`` when the database is away.
        """
        await self.end_automatic(owner)
        for session in self.logins_of(owner):
            if self._sessions.get(session.row.id) is session:
                await self.open_login(session.row)

    async def review(self) -> None:
        """Have nobody connected whom the settings do not let, and everybody back whom they let.

        Call after they changed. Raises ``TemporaryFailure`` when the database is away.
        """
        for session in self.sessions:
            row, supervisor = session.row, session.supervisor
            if row.owner is None or self._sessions.get(row.id) is not session:
                continue  # Nobody's, or ended or begun anew while another one was seen to.
            may_use = self.may_use(row.owner, self.name)
            if row.kind is LoginKind.AUTOMATIC:
                if not may_use:
                    self._by_owner.pop(row.owner, None)
                    await self.close_login(row.id)
            elif not may_use and supervisor.state is not LoginState.OFF:
                await supervisor.stop(NOT_ALLOWED)
            elif may_use and supervisor.state is LoginState.OFF:
                await self.open_login(row)

    def prefer(self, owner: UserId, login: LoginId) -> None:
        """Have that one of the person's logins speak."""
        for session in self.logins_of(owner):
            session.row = replace(session.row, preferred=session.row.id == login)
        self._sort_linked(owner)

    def _sort_linked(self, owner: UserId) -> None:
        own = [
            session for session in self._sessions.values()
            if session.row.owner == owner and session.row.kind is LoginKind.PERSON
        ]  # fmt: skip
        self._linked.pop(owner, None)
        if own:
            own.sort(key=lambda session: (not session.row.preferred, session.row.id))
            self._linked[owner] = own

    def find_session(self, owner: UserId) -> Session | None:
        """Give the Matrix user's login that speaks, if there is one at work."""
        return next(iter(self.logins_of(owner)), None) or self._by_owner.get(owner)

    async def try_now(self) -> None:
        """Have the relay try again now, as a person here wishes who needs it.

        For nothing else: what strangers look up, or we do by ourselves, must not make it knock.
        """
        if self.relay is not None:
            await self.relay.wake()

    @property
    def is_connected(self) -> bool:
        """Whether the network is reached now."""
        return self.relay is not None and self.relay.supervisor.connected.is_set()

    async def wait_until_connected(self, limit: float) -> bool:
        """Whether the network is reached, now or within ``limit`` seconds."""
        relay = self.relay
        return relay is not None and await is_set_within(limit, relay.supervisor.connected)

    async def join(self, chat: RemoteChat, limit: float = 20, key: Secret | None = None) -> None:
        """Have the relay in the chat, with the key if one was said.

        Raises a ``DeliveryError`` with the network's reason.
        """
        if self.relay is None:
            raise TemporaryFailure(f"{self.name} is not started yet")
        supervisor = self.relay.supervisor
        client = supervisor.client
        if key is not None and not isinstance(client, JoinsLockedChats):
            raise PermanentFailure(f"the chats of {self.name} have no keys")
        if not isinstance(client, JoinsChats):
            return
        try:
            async with asyncio.timeout(limit):
                await supervisor.connected.wait()
                with outliving_module("join a chat"):
                    if key is not None and isinstance(client, JoinsLockedChats):
                        await client.join_with_key(chat, key)
                    else:
                        await client.join(chat)
        except TimeoutError as error:
            reason = supervisor.reason or "the network did not answer"
            raise TemporaryFailure(f"{self.name} is not connected: {reason}") from error
        trouble = self.trouble.get(chat.id)
        # Without any, too: an earlier process may have told it otherwise.
        await self._tell_shut_out(chat, "")
        # Not before: else nobody would tell it if that fails.
        if trouble and self.trouble.get(chat.id) == trouble:
            del self.trouble[chat.id]

    async def _tell_shut_out(self, chat: RemoteChat, reason: str) -> None:
        """Have a chat's room know that the relay is out of it, or there (again)."""
        if self.relay is not None:
            told = RemoteShutOut(chat=chat.id, reason=reason)
            await self._receive(self.name, self.relay.row, told)

    async def ask(self, request: ConsentRequest, limit: float = 20) -> Sequence[RemoteUser]:
        """Have those who run a chat asked; give whom. Raises a ``DeliveryError``."""
        client = self.relay.client if self.relay is not None else None
        if self.relay is None or not isinstance(client, AsksModerators):
            raise PermanentFailure(
                f"{request.chat.name} belongs to others, and {self.name} has no way to ask them"
            )
        try:
            async with asyncio.timeout(limit):
                await self.relay.supervisor.connected.wait()
                return await client.ask(request)
        except TimeoutError as error:
            raise TemporaryFailure(f"{self.name} did not answer in time") from error

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        """Have every login out of the chat."""
        self.trouble.pop(chat.id, None)
        async with asyncio.TaskGroup() as group:
            for session in self.sessions:
                group.create_task(session.leave(chat, reason))

    def _open(
        self, row: LoginRow, name: str, secrets: Mapping[str, Secret], *, may_use: bool = True
    ) -> Session:
        login = Login(id=row.id, kind=row.kind, owner=row.owner, name=name, secrets=secrets)
        session: Session

        async def receive(event: RemoteEvent) -> None:
            if isinstance(event, RemoteShutOut) and event.reason:
                self.trouble[event.chat] = event.reason
            elif isinstance(event, RemoteShutOut):
                self.trouble.pop(event.chat, None)
            await self._receive(self.name, row, event)

        def report(state: LoginState, reason: str = "") -> None:
            session.supervisor.report(state, reason)

        host = ModuleHost(
            self.name, self._store, self._clock, self._metrics, receive, report, self._guests,
            row, self.keep, personal=row.owner is not None,
        )  # fmt: skip
        session = self._start(row, self.connector.connect(login, host), may_use=may_use)
        return session

    def _start(self, row: LoginRow, client: Client, *, may_use: bool) -> Session:
        if self._group is None:
            raise TemporaryFailure(f"{self.name} is not started yet")

        was_connected = False

        def note(state: LoginState, reason: str) -> None:
            nonlocal was_connected
            is_connected = state is LoginState.CONNECTED
            # With a reason it may be a word about the connection that there is: a chat that has
            # just shut the relay out, say, which is not to be knocked at for that.
            if row.kind is LoginKind.RELAY and is_connected and not (was_connected and reason):
                self.rejoining.note_connected()
            was_connected = is_connected
            self._count()
            self.on_state(row, state, reason)

        supervisor = Supervisor(
            client, f"{self.name} login {row.id}", note, personal=row.owner is not None,
            rest=self._rest,
        )  # fmt: skip
        session = Session(row, supervisor)
        self._sessions[row.id] = session
        self.tell_chats(row.id)
        if may_use:
            supervisor.start(self._group)
        else:
            supervisor.report(LoginState.OFF, NOT_ALLOWED)
        return session

    def _count(self) -> None:
        for one in LoginState:
            number = sum(s.supervisor.state is one for s in self._sessions.values())
            self._telemetry.logins.labels(instance=self.name, state=one.value).set(number)
        now = self.state[0]
        gauge = self._telemetry.module_state
        for module_state in ModuleState:
            gauge.labels(instance=self.name, state=module_state.value).set(module_state is now)
