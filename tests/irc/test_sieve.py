"""What wakes none of those of our connections that only speak: what others say in channels, and
that the server has read what we said."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.flood import Flood
from bridge.networks.irc.connections.reader import Reader
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import Incoming, Source
from tests.irc import stage
from tests.irc.loops import SteppedLoop, run_stepped
from tests.irc.stage import Network
from tests.rigs.scripted_irc import scripted_server

SAID = b":bob!b@h PRIVMSG #room :hello\r\n"
TO_US = b":bob!b@h PRIVMSG ann :psst\r\n"


class Ground:
    """A connection that only speaks, whose server is this test; somebody reads it."""

    def __init__(self) -> None:
        server = {"host": "127.0.0.1", "port": 1, "tls": False}
        settings = IrcSettings.model_validate({"servers": [server], "own_network": True})
        self.reader = Reader(None)
        streams = (self.reader, cast(Any, SimpleNamespace(transport=None)))
        self.connection = Connection(streams, settings.servers[0], settings, Flood(1, 1.0))
        self.connection.own = Source("ann")
        self.connection.speak_only()
        self.read: list[Incoming] = []
        self.wakings = 0

    async def listen(self) -> None:
        while True:
            self.read.append(await self.connection.read())

    def say(self, data: bytes) -> bool:
        """Say it; whether that wakes whoever reads."""
        waiter = self.reader._waiter  # type: ignore[attr-defined]
        self.reader.feed_data(data)
        return waiter is not None and bool(waiter.done())


@asynccontextmanager
async def listening(loop: SteppedLoop) -> AsyncIterator[Ground]:
    ground = Ground()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(ground.listen())
        await loop.turn()
        yield ground
        task.cancel()


@pytest.mark.parametrize("data", [SAID, SAID * 50, b"@time=now " + SAID, SAID[:-2] + b"\n"])
def test_what_others_say_wakes_nobody_and_is_a_sign_of_life(data: bytes) -> None:
    async def check(loop: SteppedLoop) -> None:
        async with listening(loop) as ground:
            loop.now += 5
            assert not ground.say(data)
            assert ground.connection.waited == 5
            loop.now += 2
            assert ground.connection.waited == 7
            assert ground.say(TO_US)
            await loop.turn()
            assert [one.param(1) for one in ground.read] == ["psst"]

    run_stepped(check)


PONG = b":irc.test PONG irc.test :t1\r\n"


@pytest.mark.parametrize("data", [PONG, SAID + PONG, b"@time=now " + PONG, b"PONG t1\r\n"])
def test_an_answer_to_a_ping_is_heard_at_once_and_wakes_nobody(data: bytes) -> None:
    async def check(loop: SteppedLoop) -> None:
        async with listening(loop) as ground:
            heard: list[str] = []
            ground.connection.on_pong = lambda: heard.append("pong")
            assert not ground.say(data)
            assert heard == ["pong"]

    run_stepped(check)


REFUSED = b":irc.test 404 ann #room :No\r\n"


@pytest.mark.parametrize(
    "pieces", [(REFUSED + PONG,), (REFUSED, PONG), (REFUSED[:9], REFUSED[9:] + PONG)]
)
def test_an_answer_behind_what_is_to_be_read_is_heard_after_it(pieces: tuple[bytes, ...]) -> None:
    async def check(loop: SteppedLoop) -> None:
        async with listening(loop) as ground:
            before: list[list[str]] = []
            ground.connection.on_pong = lambda: before.append([one.command for one in ground.read])
            for data in pieces:
                ground.say(data)
            assert not before
            await loop.turn()
            assert before == [["404"]]

    run_stepped(check)


@pytest.mark.parametrize(
    "data",
    [
        SAID[:20], SAID + SAID[:9], SAID + TO_US, b"PING x\r\n", b"\r\n", b"@batch=a " + PONG,
        TO_US[:-2] + b" PONG t1\r\n",
    ],
)  # fmt: skip
def test_what_may_be_more_than_that_is_read(data: bytes) -> None:
    async def check(loop: SteppedLoop) -> None:
        async with listening(loop) as ground:
            assert ground.say(data)

    run_stepped(check)


def test_the_rest_of_a_line_is_read_whatever_it_looks_like() -> None:
    async def check(loop: SteppedLoop) -> None:
        async with listening(loop) as ground:
            ground.say(b":bob!b@h PRIVMSG ann :first ")
            await loop.turn()
            assert ground.say(SAID)
            await loop.turn()
            assert [one.param(1) for one in ground.read] == ["first " + SAID.decode().strip()]

    run_stepped(check)


def test_what_comes_behind_a_new_nick_is_read_by_that_nick() -> None:
    async def check(loop: SteppedLoop) -> None:
        async with listening(loop) as ground:
            ground.say(b":ann!a@h NICK zoe\r\n")
            # What the server says back to us, before anybody has read of the nick.
            ground.say(b":zoe!a@h PRIVMSG #room :an echo\r\n")
            await loop.turn()
            assert [one.command for one in ground.read] == ["NICK", "PRIVMSG"]
            assert not ground.say(SAID)

    run_stepped(check)


def test_behind_a_new_nick_that_is_read_and_not_worked_on_nothing_is_left_out() -> None:
    async def check(loop: SteppedLoop) -> None:
        ground = Ground()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(ground.connection.read())
            await loop.turn()
            loop.now += 5
            ground.say(TO_US + b":ann!a@h NICK zoe\r\n")
        assert first.result().param(1) == "psst"
        # Whoever reads is busy with that: the line behind it is out of the reader, not yet seen.
        loop.now += 7
        ground.say(b":zoe!a@h PRIVMSG #room :an echo\r\n")
        assert ground.connection.waited == 5
        assert (await ground.connection.read()).command == "NICK"
        assert (await ground.connection.read()).param(1) == "an echo"

    run_stepped(check)


async def test_each_persons_connection_only_speaks_and_the_relay_listens() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            stage.listening(server, network) as (relay, _, _, _),
            stage.speaking(server, network) as (alice, _, _, _),
        ):
            found = [one.link.connection for one in (relay, alice)]
            assert [one is not None and one.listens for one in found] == [True, False]
