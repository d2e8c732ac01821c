"""Where a connection comes from, who is said to be behind it, and when it rests."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from pydantic import ValidationError

from bridge.demo.processes import free_port
from bridge.networks.irc.client.tries import Tries
from bridge.networks.irc.connections import ident as ident_module
from bridge.networks.irc.connections.dial import Way, open_server
from bridge.networks.irc.connections.ident import Ident, listening
from bridge.networks.irc.protocol.endings import BannedError
from bridge.networks.irc.settings import IrcSettings
from bridge.sdk.errors import (
    DeliveryError,
    DeliveryUncertain,
    LoginRequired,
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
)
from bridge.sdk.events import RemoteMessage
from bridge.sdk.ids import EventId, LoginId
from bridge.sdk.login import Login, LoginKind, LoginState
from tests.irc.stage import Host, Network, chat, message, running, speaking, synced, user_id
from tests.rigs.scale import scaled
from tests.rigs.scripted_irc import Peer, scripted_server


@asynccontextmanager
async def asking(
    port: int, source: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(port: int, question: bytes, source: str = "127.0.0.1") -> bytes:
    async with asking(port, source) as (reader, writer):
        writer.write(question)
        return await reader.read()


async def test_a_server_is_told_who_of_us_is_behind_a_connection() -> None:
    port = free_port()
    async with scripted_server() as server:
        network = Network(server.port, ident_listen=f"127.0.0.1:{port}")
        async with speaking(server, network) as (_, _, peer, _):
            ours = peer.address[1]
            question = f"{ours} , {server.port}\r\n".encode()
            assert await ask(port, question) == (
                f"{ours}, {server.port} : USERID : UNIX : alice\r\n".encode()
            )
            # Others learn nothing of it.
            assert b"NO-USER" in await ask(port, question, "127.0.0.9")
            assert b"NO-USER" in await ask(port, f"{ours},{server.port + 1}\n".encode())
            assert b"INVALID-PORT" in await ask(port, b"0, 99999\r\n")
            assert b"INVALID-PORT" in await ask(port, b"QUIT\r\n")
            assert await ask(port, b"1" * 5000) == b""
        with pytest.raises(ConnectionRefusedError):
            await ask(port, question)


async def test_one_listener_serves_all_instances() -> None:
    address = ("127.0.0.1", free_port())
    async with listening(address) as one:
        async with listening(address) as other:
            assert one is other
        one.know(("127.0.0.1", 1000), ("::ffff:127.0.0.1", 6667), "alice")
        assert b"alice" in await ask(address[1], b"1000,6667\r\n")
    async with listening(address) as again:
        assert again is not one


async def test_a_port_that_is_taken_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = ("127.0.0.1", taken.getsockname()[1])
        relay, _ = Network(1, ident_listen=f"127.0.0.1:{address[1]}").relay()
        async with running(relay) as run:
            error = await run.wait_for_error()
    assert isinstance(error, ModuleNotReady)
    assert f"ident_listen 127.0.0.1:{address[1]} cannot be listened on" in str(error)
    assert address not in ident_module._LISTENERS


async def test_one_who_asks_too_early_is_answered_when_it_is_known() -> None:
    ident = Ident()
    async with asyncio.TaskGroup() as tasks:
        answering = tasks.create_task(ident.answer(b"1,2", "h"))
        await asyncio.sleep(0)
        ident.know(("l", 1), ("h", 2), "alice")
    assert answering.result() == b"1, 2 : USERID : UNIX : alice\r\n"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ipv6_prefix": "2001:db8::/120"}, "at most 96 bits"),
        ({"webirc": {"password": "x"}}, "set ipv6_prefix"),
        ({"webirc": {"password": "a b"}, "ipv6_prefix": "2001:db8::/64"}, "one word"),
        ({"ident_listen": "113"}, "address:port"),
        ({"certificate_file": "x.pem", "servers": [{"host": "h", "tls": False}]}, "set tls: true"),
        ({"webirc": {"password": "x"}, "ipv6_prefix": "2001:db8::/64",
          "servers": [{"host": "h", "tls": False}]}, "in the clear"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        IrcSettings.model_validate({"servers": [{"host": "h"}]} | changes)


async def test_a_silent_connection_rests_until_the_next_message() -> None:
    async with scripted_server() as server:
        alice, host = Network(server.port, idle_seconds=0.3).puppet("Alice")
        host.failures = [TemporaryFailure("away", retry_after=0.05)] * 10_000
        async with running(alice) as run, asyncio.TaskGroup() as t:
            sending = t.create_task(alice.send(message("#room", "first")))
            peer = await server.accept()
            await peer.welcome()
            await peer.admit()
            # While the other is on its way: the silence begins behind both.
            peer.say(":bob!b@h PRIVMSG Alice :psst")
            await sending
            assert "Silent for long" in await peer.expect("QUIT")
            assert not host.texts
            # It is over for the network, and what it said is stored all the same.
            await peer.ended.wait()
            host.failures.clear()
            await host.wait_for(RemoteMessage)
            assert host.texts == ["bob: psst"]
            await host.wait_until(lambda one: one.states[-1][0] is LoginState.STARTING)
            sending = t.create_task(alice.send(message("#room", "again")))
            again = await server.accept()
            await again.welcome()
            await again.admit()
            await again.expect("PRIVMSG #room :again")
            await sending
            assert not run.ended.is_set()


@pytest.mark.parametrize(
    ("kind", "chats", "rests"),
    [
        (LoginKind.AUTOMATIC, [], True), (LoginKind.AUTOMATIC, ["bob"], False),
        (LoginKind.PERSON, [], False),
    ],
)  # fmt: skip
async def test_who_is_in_no_channel_and_talks_to_nobody_rests_unless_an_account_is_linked(
    kind: LoginKind, chats: list[str], rests: bool
) -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        login = Login(
            id=LoginId(7), kind=kind, owner=user_id("Alice"), name="Alice", secrets={}
        )  # fmt: skip
        alice = network.connector.connect(login, Host(network.store))
        alice.watch_chats([chat(one) for one in chats])
        async with running(alice), asyncio.TaskGroup() as tasks:
            joining = tasks.create_task(alice.join(chat("#room")))
            peer = await server.accept()
            await peer.welcome()
            await peer.admit()
            await joining
            await alice.leave(chat("#room"), "left the room")
            await peer.expect("PART #room")
            if rests:
                await peer.expect("QUIT")
            else:
                await synced(peer)
                assert not any(one.startswith("QUIT") for one in peer.heard)


async def test_beyond_the_limit_who_was_silent_for_longest_goes() -> None:
    async with scripted_server() as server:
        network = Network(server.port, most_puppets=1)
        async with (
            speaking(server, network, "Alice") as (alice, _, alices, _),
            speaking(server, network, "Bob") as (_, _, bobs, _),
            asyncio.TaskGroup() as tasks,
        ):
            await alices.expect("QUIT")
            sending = tasks.create_task(alice.send(message("#room", "back")))
            again = await server.accept()
            await again.welcome()
            await again.admit()
            await sending
            await bobs.expect("QUIT")


async def test_beyond_the_limit_who_came_back_and_said_nothing_goes() -> None:
    async with scripted_server() as server:
        network = Network(server.port, most_puppets=1)
        login = Login(id=LoginId(7), kind=LoginKind.PERSON, owner=user_id("Ann"), name="Ann")
        ann = network.connector.connect(login, Host(network.store))
        async with running(ann):
            anns = await server.accept()
            await anns.welcome()
            async with speaking(server, network, "Bob"):
                await anns.expect("QUIT")


async def test_after_an_operators_kill_a_puppet_waits_for_its_owners_next_message() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with speaking(server, network) as (alice, host, peer, run), asyncio.TaskGroup() as t:
            peer.pong = None
            paste = replace(message("#room", "paste"), event_id=EventId("$paste"))
            waiting = replace(message("#other", "later"), event_id=EventId("$later"))
            ends = [t.create_task(failure_of(alice.send(one))) for one in (paste, waiting)]
            await peer.expect("PRIVMSG #room :paste")
            peer.say("ERROR :Closing Link: client.test (Killed (oper (enough)))")
            peer.close()
            error = await run.wait_for_error()
            assert "An operator closed the connection" in str(error)
            # Both are told at once that it is over: to try them again would be to come back.
            said = [await one for one in ends]
            assert [type(one) for one in said] == [PermanentFailure] * 2
            assert [str(error) in str(one) for one in said] == [True, True]
            assert ["may be there" in str(one) for one in said] == [True, False]
            async with running(alice):
                await host.wait_until(lambda one: one.states[-1][0] is LoginState.STARTING)
                await alice.leave(chat("#room"), "left the room")  # It is the last one.
                assert isinstance(await failure_of(alice.join(chat("#room"))), PermanentFailure)
                assert len(server.peers) == 1
                sending = t.create_task(alice.send(message("#room", "sorry")))
                again = await server.accept()
                await again.welcome()
                await again.admit()
                await sending


async def failure_of(doing: Coroutine[Any, Any, object]) -> DeliveryError | None:
    try:
        await doing
    except DeliveryError as error:
        return error
    return None


def test_what_was_tried_before_a_kill_is_refused_once_when_it_comes_again() -> None:
    tries, before, since = Tries(), message("#room", "a"), message("#other", "b")
    for error in (TemporaryFailure("no"), DeliveryUncertain("perhaps")):
        tries.begin(before)
        tries.finish(before, error)
        tries.end("Killed")
        with pytest.raises(PermanentFailure, match="Killed"):
            tries.begin(before)
        for one in (before, since):  # As `parked retry` has it: somebody wants it so.
            tries.begin(one)
        for one in (since, before):
            tries.finish(one, None)


def test_what_was_settled_before_the_next_in_its_chat_is_not_kept_for_a_kill() -> None:
    tries = Tries()
    first, second = (replace(message("#room", "a"), event_id=EventId(one)) for one in "12")
    tries.begin(first)
    tries.finish(first, DeliveryUncertain("perhaps"))
    tries.begin(second)
    tries.finish(second, TemporaryFailure("no"))
    tries.end("Killed")
    tries.begin(first)  # It was put aside: it comes again if somebody says so.


async def test_after_a_flood_kick_the_next_connection_writes_slower() -> None:
    async with scripted_server() as server:
        network = Network(server.port, flood_burst=4, flood_rate=1000)
        async with speaking(server, network) as (alice, _, peer, run):
            peer.say("ERROR :Closing Link: client.test (Excess Flood)")
            peer.close()
            assert "slower from now on" in str(await run.wait_for_error())
            shared = alice._network
        assert shared.flood == (2, 500.0)


async def test_a_ban_stops_the_login_and_no_other_server_is_tried() -> None:
    async with scripted_server() as server, scripted_server() as other:
        servers = [{"host": "127.0.0.1", "port": s.port, "tls": False} for s in (server, other)]
        relay, _ = Network(0, servers=servers).relay()
        async with running(relay) as run:
            peer = await server.accept()
            await peer.expect("USER")
            peer.say("ERROR :Closing Link: (G-Lined: no bridges)")
            peer.close()
            error = await run.wait_for_error()
        assert isinstance(error, LoginRequired)
        async with running(relay):
            again = await server.accept()
            await again.expect("USER")
        assert not other.peers


@pytest.mark.parametrize("is_in", [False, True])
async def test_why_a_server_closes_is_known_also_when_it_resets_the_connection(
    is_in: bool,
) -> None:
    async with scripted_server() as server, scripted_server() as other:
        servers = [{"host": "127.0.0.1", "port": s.port, "tls": False} for s in (server, other)]
        relay, host = Network(0, servers=servers).relay()
        async with running(relay) as run:
            peer = await server.accept()
            if is_in:
                await peer.welcome()
                await host.wait_until_connected()
            peer.say("ERROR :Closing Link: (Z-Lined: no bridges)")
            peer.slam()
            error = await run.wait_for_error()
        assert isinstance(error, BannedError)
        assert error.of_address
        async with running(relay):
            await (await server.accept()).expect("USER")
        assert not other.peers


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_was_said_before_a_write_failed_is_read(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def read(listener: socket.socket) -> list[bytes]:
        address = {"host": "127.0.0.1", "port": listener.getsockname()[1], "tls": False}
        settings = IrcSettings.model_validate({"servers": [address]})
        way = Way(flood=(1, 1.0))
        async with open_server(settings.servers[0], settings, way, "u") as (reader, writer):
            taken = listener.accept()[0]
            taken.sendall(b"ERROR :enough\r\n")
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            taken.close()
            writer.write(b"NICK a\r\n")
            found = [await reader.read(100)]
            with suppress(ConnectionError):
                found.append(await reader.read(100))
            writer.close()
            return found

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        asyncio.Runner(loop_factory=make_loop) as runner,
    ):
        found = runner.run(read(listener))
    assert found in ([b"ERROR :enough\r\n"], [b"ERROR :enough\r\n", b""])


async def test_a_full_server_is_left_for_the_next() -> None:
    async with scripted_server() as server, scripted_server() as other:
        servers = [{"host": "127.0.0.1", "port": s.port, "tls": False} for s in (server, other)]
        relay, host = Network(0, servers=servers).relay()
        async with running(relay) as run:
            peer = await server.accept()
            await peer.expect("USER")
            peer.say("ERROR :Closing Link: (Server is going down)")
            peer.close()
            await run.wait_for_error()
        async with running(relay):
            again = await other.accept()
            await again.welcome()
            await host.wait_until_connected()
            await synced(again)
        assert len(server.peers) == 1


def test_an_address_that_is_silent_keeps_nobody_from_the_next() -> None:
    with ExitStack() as stack:
        full, good = (
            stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=size))
            for size in (0, 5)
        )
        for _ in range(3):  # One whose queue is full answers nobody.
            knock = stack.enter_context(socket.socket())
            knock.setblocking(False)
            knock.connect_ex(full.getsockname())

        class Loop(asyncio.SelectorEventLoop):
            """One that finds many addresses for any host."""

            async def getaddrinfo(self, *_: object, **__: object) -> list[Any]:
                kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
                return [(*kind, one.getsockname()) for one in (full, *[good] * 19)]

        async def reach() -> object:
            settings = IrcSettings.model_validate({
                "servers": [{"host": "many.test", "tls": False}], "connect_seconds": 10
            })  # fmt: skip
            way = Way(flood=(1, 1.0))
            async with open_server(settings.servers[0], settings, way, "u") as (_, writer):
                writer.close()
                return writer.get_extra_info("peername")

        with asyncio.Runner(loop_factory=Loop) as runner:
            assert runner.run(reach()) == good.getsockname()


async def test_of_five_hundred_who_come_at_once_only_so_many_are_on_their_way() -> None:
    count, at_once = max(25, scaled(500)), 5
    async with scripted_server() as server:
        network = Network(server.port, connects_at_once=at_once, connect_rate=200.0)
        clients = [network.puppet(f"User{number}")[0] for number in range(count)]

        async def greet(peer: Peer) -> None:
            await peer.welcome()
            await peer.admit()

        async with running(*clients), asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.join(chat("#room")))
            waiting = [await server.accept() for _ in range(at_once)]
            # Until one of them is let in nobody else comes, though many might by now.
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await server.accept()
            for arrived in range(at_once, count + 1):
                tasks.create_task(greet(waiting.pop(0)))
                if arrived < count:
                    waiting.append(await server.accept())
            for peer in waiting:
                tasks.create_task(greet(peer))
        assert len(server.peers) == count


async def test_a_server_that_was_away_or_silent_makes_room_for_the_next_until_that_fails() -> None:
    async with scripted_server() as silent, scripted_server() as good:
        ports = (free_port(), silent.port, good.port)
        servers = [{"host": "127.0.0.1", "port": port, "tls": False} for port in ports]
        network = Network(0, servers=servers, connect_seconds=1)
        (relay, host), rotation = network.relay(), network.connector._network.rotation
        async with running(relay) as run:
            assert "did not let us in within 1 seconds" in str(await run.wait_for_error())
        assert [one.port for one in rotation.in_turn()] == [ports[2], ports[0], ports[1]]
        async with running(relay):
            await (await good.accept()).welcome()
            await host.wait_until_connected()
        # What served last is first, and the others are not asked.
        async with running(relay):
            await (await good.accept()).expect("USER")
        assert len(silent.peers) == 1
