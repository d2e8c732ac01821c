"""Whom a network bans does not knock again: as the core runs the logins, and all together."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from bridge.core.host.instances import Instance, Session
from bridge.demo.matrix_user import PATIENCE
from bridge.model import LoginRow, SystemClock
from bridge.networks.irc.connections.doors import HELD_SECONDS, Doors
from bridge.networks.irc.connector import IrcConnector
from bridge.networks.irc.protocol.endings import BannedError
from bridge.networks.irc.settings import IrcSettings
from bridge.sdk.errors import LoginRequired, PermanentFailure, TemporaryFailure
from bridge.sdk.events import ConsentRequest, RemoteChat, RemoteEvent
from bridge.sdk.ids import InstanceId, LoginId, UserId
from bridge.sdk.login import LoginKind, LoginState
from bridge.telemetry import Telemetry
from tests.core.instances import NO_GUESTS
from tests.irc.stage import chat, message, until, user_id
from tests.irc.stores import MemoryStore
from tests.rigs.scripted_irc import Peer, ScriptedServer, scripted_server

ROOM = chat("#room")


class Rows:
    """Logins as a database gives them."""

    def __init__(self) -> None:
        self._rows: dict[UserId | None, LoginRow] = {}

    async def get_or_add_login(
        self, instance: InstanceId, kind: LoginKind, owner: UserId | None
    ) -> LoginRow:
        number = LoginId(len(self._rows) + 1)
        row = LoginRow(id=number, instance=instance, kind=kind, owner=owner)
        return self._rows.setdefault(owner, row)

    async def logins(self, instance: InstanceId) -> Sequence[LoginRow]:
        return list(self._rows.values())


async def take(instance: InstanceId, row: LoginRow, event: RemoteEvent) -> None:
    """Take what the relay hears."""


@asynccontextmanager
async def at_work(
    server: ScriptedServer, rest: float = 60, rejoin: float = 30, room: RemoteChat = ROOM
) -> AsyncIterator[Instance]:
    """A network as the core runs it."""
    settings = IrcSettings.model_validate({
        "servers": [{"host": "127.0.0.1", "port": server.port, "tls": False}],
        "own_network": True, "connect_seconds": 60, "connect_rate": 100,
        "rejoin_seconds": rejoin,
    })  # fmt: skip

    def bridged(instance: InstanceId, receiver: LoginId | None = None) -> Sequence[RemoteChat]:
        return (room,) if receiver is None else ()

    instance = Instance(
        InstanceId("near"), IrcConnector(settings), Rows(), MemoryStore(), SystemClock(),
        Telemetry(), receive=take, guests=NO_GUESTS, chats=bridged, rest=rest,
    )  # fmt: skip
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(instance.run())
        try:
            yield instance
        finally:
            task.cancel()


def relay_of(instance: Instance) -> Session:
    assert instance.relay is not None
    return instance.relay


async def refusal(session: Session) -> None:
    await until(lambda: session.supervisor.state is LoginState.SIGN_IN_NEEDED)


def ban(peer: Peer, words: str) -> None:
    peer.say(f"ERROR :Closing Link: client.test ({words})")
    peer.close()


async def refuse(server: ScriptedServer, *words: str) -> Peer:
    """Let the next one not in."""
    peer = await server.accept()
    await peer.expect("USER")
    peer.say(*words)
    peer.close()
    return peer


async def speak(instance: Instance, name: str) -> Session:
    """Say something as the core does for who has a connection of their own."""
    session = await instance.session_of(user_id(name), name)
    await session.wake()
    await session.client.send(message("#room", "hello", sender=name))
    return session


async def let_in(server: ScriptedServer, instance: Instance, name: str) -> tuple[Peer, Session]:
    """Have somebody say something, who is let in; the peer is the next who connects."""
    async with asyncio.TaskGroup() as tasks:
        speaking = tasks.create_task(speak(instance, name))
        peer = await server.accept()
        await peer.welcome()
        assert peer.nick == name
        await peer.admit()
        await peer.expect("PRIVMSG #room")
    return peer, speaking.result()


async def rested(session: Session) -> None:
    await until(lambda: not session.is_refused)


async def test_who_speaks_while_the_relay_is_away_speaks_in_the_channel_by_its_name() -> None:
    async with (
        scripted_server() as server,
        at_work(server, room=chat("#Room")) as instance,
        asyncio.TaskGroup() as tasks,
    ):
        await refuse(server, ":irc.test 464 {nick} :Password incorrect")
        await refusal(relay_of(instance))
        bob = await instance.session_of(user_id("Bob"), "Bob")
        tasks.create_task(bob.client.send(message(ROOM.id, "hello", sender="Bob")))
        peer = await server.accept()
        await peer.welcome()
        assert await peer.admit() == "#Room"


async def test_a_relay_that_is_banned_connects_once_whatever_is_looked_up_or_wished() -> None:
    async with scripted_server() as server, at_work(server) as instance:
        peer = await server.accept()
        await peer.welcome()
        await peer.admit()
        ban(peer, "K-Lined: no bridges")
        await refusal(relay_of(instance))
        assert not await instance.wait_until_connected(0.01)
        with pytest.raises(TemporaryFailure, match="no bridges"):
            await instance.join(chat("#other"), 0.01)
        with pytest.raises(TemporaryFailure):
            await instance.ask(
                ConsentRequest(chat=ROOM, room="Room", asked_by=user_id("Bob"), minutes=5), 0.01
            )
        await instance.try_now()
        assert relay_of(instance).is_refused
        # Had the relay knocked, it would be the next: it goes before everybody.
        await let_in(server, instance, "Bob")
        assert len(server.peers) == 2


async def test_a_channel_that_bans_the_relay_after_a_kick_is_not_knocked_at_twice() -> None:
    async with scripted_server() as server, at_work(server, rejoin=0.01) as instance:
        peer = await server.accept()
        await peer.welcome()
        assert await peer.admit() == "#room"
        peer.say(":op!o@h KICK #room {nick} :out")
        await peer.expect("JOIN #room")
        peer.say(":irc.test 474 {nick} #room :Cannot join channel (+b)")
        await until(lambda: "banned" in relay_of(instance).supervisor.reason)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(instance.join(chat("#other")))
            # That the relay says what keeps it out is no new connection.
            assert await peer.admit() == "#other"


async def test_a_person_who_is_banned_connects_once_whatever_they_say() -> None:
    async with scripted_server() as server, at_work(server) as instance:
        await (await server.accept()).welcome()
        peer, bob = await let_in(server, instance, "Bob")
        ban(peer, "K-Lined: no bobs")
        await refusal(bob)
        for _ in range(3):
            assert bob.is_refused
            with pytest.raises(PermanentFailure, match="no bobs"):
                await speak(instance, "Bob")
        await let_in(server, instance, "Carol")
        assert len(server.peers) == 3


async def test_a_message_after_the_rest_goes_out_where_the_ban_is_over() -> None:
    async with scripted_server() as server, at_work(server, rest=0.1) as instance:
        await (await server.accept()).welcome()
        peer, bob = await let_in(server, instance, "Bob")
        ban(peer, "K-Lined: no bobs")
        await refusal(bob)
        await rested(bob)
        await let_in(server, instance, "Bob")


async def test_a_ban_of_the_address_holds_everybody_back_until_one_is_let_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scripted_server() as server, at_work(server, rest=0.1) as instance:
        # What kind of ban it is, the last words tell.
        await refuse(
            server, ":irc.test 465 * :Mail bans@irc.test",
            "ERROR :Closing link: (trestle@h) [Z-Lined: no bridges]",
        )  # fmt: skip
        await refusal(relay_of(instance))
        for name in ("Bob", "Carol"):
            with pytest.raises(PermanentFailure, match="The network bans the address from which"):
                await speak(instance, name)
        assert len(server.peers) == 1
        events = [getattr(one, "event", "") for one in caplog.records]
        assert events.count("irc_address_banned") == 1
        await rested(relay_of(instance))
        await instance.try_now()
        await (await server.accept()).welcome()
        assert await instance.wait_until_connected(PATIENCE)
        bob = await instance.session_of(user_id("Bob"), "Bob")
        await rested(bob)
        await let_in(server, instance, "Bob")


async def test_after_two_bans_that_do_not_say_whom_they_mean_nobody_else_tries() -> None:
    async with scripted_server() as server, at_work(server) as instance:
        words = "ERROR :Closing Link: client.test (K-Lined: no bridges)"
        await refuse(server, words)
        await refusal(relay_of(instance))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(refuse(server, words))
            with pytest.raises(PermanentFailure, match="no bridges"):
                await speak(instance, "Bob")
        with pytest.raises(PermanentFailure, match="The network seems to ban the address"):
            await speak(instance, "Carol")
        assert len(server.peers) == 2


def test_a_ban_of_one_holds_nobody_back_while_others_are_in_and_none_for_ever() -> None:
    now = 0.0
    doors = Doors(lambda: now)
    one, all_of_us = BannedError("irc.test", "K-Lined: no"), BannedError("irc.test", "D-Lined: no")
    doors.enter(1, None)
    assert not doors.refuse(2, None, one)
    assert not doors.refuse(3, None, one)
    doors.check(None)
    doors.leave(1)
    assert "seems to ban" in doors.refuse(2, None, one)
    with pytest.raises(LoginRequired, match="seems to ban"):
        doors.check(None)
    now += HELD_SECONDS
    doors.check(None)
    assert "bans the address" in doors.refuse(2, None, all_of_us)
    doors.enter(4, None)
    doors.check(None)
