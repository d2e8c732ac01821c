"""Networks are started and ended one by one; one that fails is no other's trouble."""

import asyncio
import logging
from collections.abc import Mapping

import pytest

from bridge.core.host.instances import Instance
from bridge.core.logins.signin import SignIn
from bridge.demo.matrix_user import PATIENCE
from bridge.model import LoginRow, SystemClock
from bridge.running.crew import Crew
from bridge.sdk import (
    Host,
    Login,
    LoginFlow,
)
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import RemoteChat, RemoteEvent, RemoteShutOut
from bridge.sdk.ids import InstanceId, RemoteChatId, UserId
from bridge.sdk.login import Finished, LoginProcess, LoginState, Step
from bridge.sdk.secret import Secret
from bridge.sdk.testing.store import FakeStore
from bridge.telemetry import Telemetry
from tests.core.instances import NO_GUESTS, Line, Quiet, Rows, network


class Entangled(Quiet):
    """A client that waits for what it cancelled itself when it is to join a chat."""

    async def join(self, chat: RemoteChat) -> None:
        if chat.name == "knot":
            inner = asyncio.get_running_loop().create_future()
            inner.cancel()
            await inner

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        raise AssertionError("nothing is left")


class Knot(Line):
    """Its network; so is everybody who signs in."""

    def connect(self, login: Login, host: Host) -> Quiet:
        return Entangled(host)

    def begin_login(self, flow: str, owner: UserId) -> LoginProcess:
        return self

    async def start(self) -> Step:
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner
        raise AssertionError("it was cancelled")

    async def submit(self, answers: Mapping[str, Secret]) -> Step | Finished:
        raise AssertionError("nothing was asked")


async def test_a_network_that_cannot_be_started_leaves_the_others_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fine, broken = network("fine", Line()), network("broken", Line(RuntimeError("no")))
    async with asyncio.TaskGroup() as group:
        crew = Crew(group)
        with caplog.at_level(logging.ERROR):
            crew.start_networks({broken.name: broken, fine.name: fine})
            async with asyncio.timeout(PATIENCE):
                while fine.relay is None or "broken cannot be started" not in caplog.text:
                    await asyncio.sleep(0.01)
        await crew.end(broken.name)
        assert await fine.wait_until_connected(PATIENCE)
        await crew.end_all(asyncio.get_running_loop().time() + 10)
        assert fine.relay is not None
        assert fine.relay.supervisor.state is LoginState.OFF


async def test_a_database_that_is_away_when_a_network_is_started_is_waited_for() -> None:
    late = network("late", Line(), Rows(times_away=1))
    async with asyncio.TaskGroup() as group:
        crew = Crew(group)
        crew.start_networks({late.name: late})
        async with asyncio.timeout(PATIENCE):
            while late.relay is None:
                await asyncio.sleep(0.01)
        assert await late.wait_until_connected(PATIENCE)
        await crew.end_all(asyncio.get_running_loop().time() + 10)


async def test_a_module_that_cancels_itself_when_it_joins_or_signs_in_has_failed() -> None:
    chats = [RemoteChat(id=RemoteChatId(name), name=name) for name in ("knot", "fine")]
    knot = network("knot", Knot(), chats=chats)
    knot.trouble["fine"] = "not joined yet"
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        crew = Crew(group)
        crew.start_networks({knot.name: knot})
        while "fine" in knot.trouble:
            await asyncio.sleep(0.01)
        assert knot.trouble == {"knot": "the module failed with CancelledError"}
        assert await knot.wait_until_connected(PATIENCE)

        async def keep(end: Finished) -> LoginRow:
            raise AssertionError("nothing is kept")

        flow = LoginFlow(id="knot", title="By a knot")
        sign_in = SignIn(UserId("@alice:hs"), knot, flow, keep, lambda work: None)
        await sign_in.begin()
        assert sign_in.is_over
        assert sign_in.trouble == "It failed with CancelledError; the log says more."
        await crew.end_all(asyncio.get_running_loop().time() + 10)


async def test_that_the_relay_is_in_again_is_told_until_it_is_and_not_of_what_was_left() -> None:
    door = RemoteChat(id=RemoteChatId("door"), name="door")
    told: list[RemoteEvent] = []

    async def take(instance: InstanceId, row: LoginRow, event: RemoteEvent) -> None:
        told.append(event)
        if len(told) == 1:
            raise TemporaryFailure("the database is away")

    line = Instance(
        InstanceId("line"), Knot(), Rows(), FakeStore(), SystemClock(), Telemetry(),
        receive=take, guests=NO_GUESTS, chats=lambda *_: (),
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        task = group.create_task(line.run())
        while line.relay is None:
            await asyncio.sleep(0.01)
        line.trouble["door"] = "we are banned from it"
        with pytest.raises(TemporaryFailure):
            await line.join(door)
        await line.join(door)
        assert told == [RemoteShutOut(chat=door.id)] * 2
        assert not line.trouble
        line.trouble["door"] = "we are banned from it"
        task.cancel()
    await line.leave(door, "unbridged")
    assert not line.trouble
