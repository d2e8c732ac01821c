"""When a client is started again, and what makes it try sooner."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.core.supervisor import Supervisor
from bridge.sdk.errors import LoginRequired
from bridge.sdk.events import Message, Receipt
from bridge.sdk.login import LoginState


class Banned:
    """A client that is at work until it is banned, and refused from then on."""

    def __init__(self) -> None:
        self.tries = 0
        self.ban = asyncio.Event()

    async def run(self) -> None:
        self.tries += 1
        await self.ban.wait()
        raise LoginRequired("No bridges.")

    async def send(self, message: Message) -> Receipt:
        return Receipt()


@asynccontextmanager
async def supervised(client: Banned, rest: float) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    states: list[str] = []
    supervisor = Supervisor(client, "test", lambda state, _: states.append(state.value), rest=rest)
    async with asyncio.TaskGroup() as group:
        supervisor.start(group)
        yield supervisor, states
        await supervisor.stop()


async def refusal(supervisor: Supervisor) -> None:
    async with asyncio.timeout(10):
        while supervisor.state is not LoginState.SIGN_IN_NEEDED:
            await asyncio.sleep(0)


async def test_a_refused_login_is_not_tried_again_for_what_was_wanted_before_or_at_once() -> None:
    client = Banned()
    async with supervised(client, rest=60) as (supervisor, states):
        await asyncio.sleep(0)
        supervisor.report(LoginState.CONNECTED)
        supervisor.wake()
        client.ban.set()
        await refusal(supervisor)
        for _ in range(3):
            supervisor.wake()
            await asyncio.sleep(0)
        assert client.tries == 1
        assert states == ["starting", "connected", "sign-in needed"]


async def test_a_refused_login_that_rested_is_tried_when_it_is_wanted_and_rests_longer() -> None:
    client = Banned()
    client.ban.set()
    async with supervised(client, rest=0.1) as (supervisor, _):
        began = asyncio.get_running_loop().time()
        for tries in (1, 2, 3):
            async with asyncio.timeout(10):
                while client.tries < tries:
                    supervisor.wake()
                    await asyncio.sleep(0.01)
            await refusal(supervisor)
        # It rested once, and then twice as long.
        assert asyncio.get_running_loop().time() - began >= 0.3
