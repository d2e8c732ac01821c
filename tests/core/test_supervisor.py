"""When a client is started again, and what makes it try sooner."""

import asyncio
import errno
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.core.host.supervisor import REST, Supervisor
from bridge.sdk.errors import LoginRequired, ModuleNotReady
from bridge.sdk.events import Message, Receipt
from bridge.sdk.login import LoginState
from bridge.sdk.module import Client


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


class Stubborn:
    """A client that does not let its cancellation through, and speaks after it."""

    def __init__(self) -> None:
        self.tries = 0
        self.cancelled = asyncio.Event()
        self.may_end = asyncio.Event()
        self.supervisor: Supervisor

    async def run(self) -> None:
        self.tries += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            await self.may_end.wait()
            self.supervisor.report(LoginState.CONNECTED)

    async def send(self, message: Message) -> Receipt:
        return Receipt()


class Entangled:
    """A client that waits for what it cancelled itself, the first time."""

    def __init__(self) -> None:
        self.tries = 0

    async def run(self) -> None:
        self.tries += 1
        inner = asyncio.get_running_loop().create_future()
        if self.tries == 1:
            inner.cancel()
        await inner

    async def send(self, message: Message) -> Receipt:
        return Receipt()


class Weak:
    """A client that ends at once."""

    def __init__(self) -> None:
        self.tries = 0

    async def run(self) -> None:
        self.tries += 1

    async def send(self, message: Message) -> Receipt:
        return Receipt()


class Uptime:
    """Seconds that pass when the test says so."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Lasting:
    """A client that ends, or is refused, after more than a minute."""

    def __init__(self, uptime: Uptime, end: Exception | None = None) -> None:
        self.tries = 0
        self._uptime = uptime
        self._end = end

    async def run(self) -> None:
        self.tries += 1
        self._uptime.seconds += 61
        if self._end is not None:
            raise self._end

    async def send(self, message: Message) -> Receipt:
        return Receipt()


@asynccontextmanager
async def supervised(client: Client, **limits: Any) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    states: list[str] = []
    supervisor = Supervisor(client, "test", lambda state, _: states.append(state.value), **limits)
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
    async with supervised(client) as (supervisor, states):
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
    client, uptime = Banned(), Uptime()
    client.ban.set()
    async with supervised(client, elapsed=uptime) as (supervisor, _):
        await refusal(supervisor)
        for rest in (REST, 2 * REST, 4 * REST):
            tries = client.tries
            uptime.seconds += rest - 1
            supervisor.wake()
            await asyncio.sleep(0)
            assert client.tries == tries
            uptime.seconds += 1
            supervisor.wake()
            await asyncio.sleep(0)
            assert client.tries == tries + 1
            await refusal(supervisor)


async def test_each_pause_is_twice_the_last_until_a_connection_was_good() -> None:
    uptime = Uptime()
    weak, good, began = Weak(), Lasting(uptime), asyncio.get_running_loop().time()
    async with supervised(weak, first_delay=0.02), asyncio.timeout(10):
        while weak.tries < 6:
            await asyncio.sleep(0.005)
    # 0.02 s, 0.04 s and so on, each of them less three tenths at most.
    assert asyncio.get_running_loop().time() - began >= 0.02 * 31 * 0.7
    async with supervised(good, first_delay=0.02, elapsed=uptime), asyncio.timeout(10):
        while good.tries < 12:  # With pauses that double this would take half a minute.
            await asyncio.sleep(0.005)


async def test_who_is_tried_sooner_because_somebody_wants_it_waits_no_longer_after_that() -> None:
    client = Weak()
    async with supervised(client, first_delay=100.0) as (supervisor, _), asyncio.timeout(10):
        for tries in range(1, 9):
            while client.tries < tries or supervisor.state is not LoginState.RECONNECTING:
                await asyncio.sleep(0)
            supervisor.wake()
        # Had each try doubled the pause, it would be five minutes by now.
        assert re.search(r"the next try is in (\d\d|1[0-3]\d) s|in 2 min", supervisor.outlook)


async def test_who_was_signed_in_for_long_rests_as_short_as_at_first_when_refused() -> None:
    uptime = Uptime()
    client = Lasting(uptime, LoginRequired("No bridges."))
    async with supervised(client, elapsed=uptime) as (supervisor, _):
        for tries in range(1, 13):
            await refusal(supervisor)
            assert client.tries == tries
            uptime.seconds += REST
            supervisor.wake()
            await asyncio.sleep(0)


@pytest.mark.parametrize("limit", [5.0, 0.01])
async def test_who_was_stopped_is_not_begun_again_whatever_the_client_makes_of_that(
    limit: float,
) -> None:
    client, states = Stubborn(), list[str]()
    client.supervisor = supervisor = Supervisor(
        client, "test", lambda state, _: states.append(state.value), first_delay=0.01,
        stop_limit=limit,
    )  # fmt: skip
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        supervisor.start(group)
        await asyncio.sleep(0)
        stopping = group.create_task(supervisor.stop("signed out"))
        await client.cancelled.wait()
        if limit < 1:
            await stopping  # It is left behind, and ends some time.
        client.may_end.set()
    assert client.tries == 1
    assert states == ["starting", "off"]
    assert (supervisor.state, supervisor.reason) == (LoginState.OFF, "signed out")
    assert not supervisor.connected.is_set()


async def test_who_waits_for_what_it_cancelled_itself_has_crashed_and_is_begun_again() -> None:
    client, states = Entangled(), list[str]()
    supervisor = Supervisor(
        client, "test", lambda state, _: states.append(state.value), first_delay=0.01
    )
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        supervisor.start(group)
        while client.tries < 2:
            await asyncio.sleep(0.001)
        assert states == ["starting", "reconnecting", "starting"]
        await supervisor.stop()
    assert client.tries == 2


class Silenced:
    """A client that is connected until its server is silent."""

    def __init__(self) -> None:
        self.supervisor: Supervisor
        self.end = asyncio.Event()

    async def run(self) -> None:
        self.supervisor.report(LoginState.CONNECTED)
        await self.end.wait()
        silence = TimeoutError(errno.ETIMEDOUT, "alice is silent")
        raise ModuleNotReady("alice is not heard of") from silence

    async def send(self, message: Message) -> Receipt:
        return Receipt()


async def test_a_persons_login_says_why_since_when_and_when_next_and_its_log_names_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, uptime = Silenced(), Uptime()
    async with supervised(client, personal=True, first_delay=1000.0, elapsed=uptime) as (
        supervisor,
        _,
    ):
        client.supervisor = supervisor
        await supervisor.connected.wait()
        assert not supervisor.outlook
        uptime.seconds += 500
        client.end.set()
        while supervisor.state is not LoginState.RECONNECTING:
            await asyncio.sleep(0)
        uptime.seconds += 300
        assert supervisor.reason == "alice is not heard of"
        told = re.fullmatch(r"for 5 min; the next try is in (\d+) min", supervisor.outlook)
        assert told is not None
        assert 400 <= int(told[1]) * 60 <= 1030
    (line,) = [one for one in caplog.messages if "not connected" in one]
    begins = "test is not connected: reconnecting (Connection timed out); for 0 s; the next try "
    assert line.startswith(begins)


async def test_a_login_that_has_just_ended_is_said_to_be_tried_again_before_it_is_known_when() -> (
    None
):
    client, uptime = Silenced(), Uptime()
    async with supervised(client, personal=True, elapsed=uptime) as (supervisor, _):
        client.supervisor = supervisor
        await supervisor.connected.wait()
        # The client tidies up before it ends.
        supervisor.report(LoginState.RECONNECTING, "The connection broke.")
        assert supervisor.trouble == "The connection broke; for 0 s; it is tried again soon"


async def test_a_login_that_rested_counts_as_away_from_its_first_failed_try_on() -> None:
    client, uptime = Silenced(), Uptime()
    async with supervised(client, personal=True, first_delay=1000.0, elapsed=uptime) as (
        supervisor,
        _,
    ):
        client.supervisor = supervisor
        await supervisor.connected.wait()
        supervisor.report(LoginState.STARTING, "It connects with the next message.")
        uptime.seconds += 3 * 86400
        client.end.set()
        while supervisor.state is not LoginState.RECONNECTING:
            await asyncio.sleep(0)
        uptime.seconds += 60
        assert supervisor.outlook.startswith("for 60 s; the next try is in ")


class Retried:
    """A client whose first try fails, and whose second lasts until it is let in."""

    def __init__(self) -> None:
        self.supervisor: Supervisor
        self.tries = 0
        self.may_connect = asyncio.Event()

    async def run(self) -> None:
        self.tries += 1
        if self.tries == 1:
            raise ModuleNotReady("The network is away.")
        await self.may_connect.wait()
        self.supervisor.report(LoginState.CONNECTED)
        await asyncio.Event().wait()

    async def send(self, message: Message) -> Receipt:
        return Receipt()


async def test_while_a_login_is_tried_again_it_says_why_it_was_away_and_since_when() -> None:
    client, uptime = Retried(), Uptime()
    async with supervised(client, first_delay=1000.0, elapsed=uptime) as (supervisor, states):
        client.supervisor = supervisor
        assert not supervisor.account
        while supervisor.state is not LoginState.RECONNECTING:
            await asyncio.sleep(0)
        uptime.seconds += 300
        assert supervisor.trouble.startswith("The network is away; for 5 min; the next try is in ")
        supervisor.wake()
        while client.tries < 2:
            await asyncio.sleep(0)
        assert states[-1] == "starting"
        assert supervisor.trouble == "The network is away; for 5 min; it is being tried now"
        client.may_connect.set()
        await supervisor.connected.wait()
        assert (supervisor.account, supervisor.trouble) == ("", "")
        await supervisor.stop()
        assert (supervisor.account, supervisor.trouble) == ("stopped", "")
