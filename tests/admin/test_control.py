"""The door for the command line: what is answered piece by piece, and where nothing is."""

import asyncio
import itertools
import signal
import stat
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.doors.control import ask, follow
from bridge.doors.endpoints import Endpoints
from bridge.doors.place import socket_of
from bridge.matrix.answer import Answer
from bridge.matrix.listener import Listener, Request
from bridge.sdk.errors import TemporaryFailure
from tests.admin.commands import command

LIMIT = 120.0


class Steps:
    """Says a line each time it is let; ends as it is told."""

    def __init__(self, lines: Iterable[bytes] = (), fails: Exception | None = None) -> None:
        self.lines = lines
        self.fails = fails
        self.may_go_on = asyncio.Event()
        self.is_over = asyncio.Event()

    async def say(self) -> AsyncGenerator[bytes, None]:
        """The lines."""
        try:
            for line in self.lines:
                yield line
                await self.may_go_on.wait()
                await asyncio.sleep(0)  # Who goes on for ever must leave others their turn.
            if self.fails is not None:
                raise self.fails
        finally:
            self.is_over.set()


@asynccontextmanager
async def listening(
    folder: Path, say: Callable[[], AsyncGenerator[bytes, None]]
) -> AsyncIterator[None]:
    """A door at which one place is answered so."""
    places = Endpoints()

    async def answer(request: Request, name: str) -> Answer:
        return Answer(kind="application/x-ndjson", more=say())

    places.add("GET", "/steps/*", answer)
    listener = Listener(places.serve, 60.0)
    await listener.start_at(socket_of(folder))
    try:
        yield
    finally:
        await listener.stop(2.0)


def connector(folder: Path) -> aiohttp.UnixConnector:
    return aiohttp.UnixConnector(path=str(socket_of(folder)))


async def test_each_line_is_there_as_soon_as_it_is_said(folder: Path) -> None:
    steps = Steps([b'{"n":1}\n', b'{"n":2}\n'])
    told: list[dict[str, Any]] = []

    def hear(step: dict[str, Any]) -> None:
        told.append(step)
        steps.may_go_on.set()  # Only the first lets the second come.

    async with asyncio.timeout(LIMIT), listening(folder, steps.say):
        assert await follow(folder, "GET", "/steps/some", hear)
    assert told == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("error", [ValueError("unforeseen"), OSError("the disk is full")])
async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one_and_is_in_the_log(
    folder: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps([b'{"n":1}\n'], fails=error)
    steps.may_go_on.set()
    told: list[dict[str, Any]] = []
    async with asyncio.timeout(LIMIT), listening(folder, steps.say):
        with pytest.raises(TemporaryFailure, match="stopped answering"):
            await follow(folder, "GET", "/steps/some", told.append)
    assert told == [{"n": 1}]
    assert str(error) in caplog.text


async def test_what_nobody_reads_on_is_ended(folder: Path) -> None:
    steps = Steps(itertools.repeat(b'{"n":1}\n'))
    async with asyncio.timeout(LIMIT), listening(folder, steps.say):
        async with (
            aiohttp.ClientSession(connector=connector(folder)) as session,
            session.get("http://trestle/steps/some") as response,
        ):
            assert await response.content.readline() == b'{"n":1}\n'
            response.close()
        steps.may_go_on.set()
        await steps.is_over.wait()


async def test_only_what_is_in_the_table_is_answered(folder: Path) -> None:
    wanted = {
        ("GET", "/"): 404, ("GET", "/steps"): 404, ("GET", "/steps/a/b"): 404,
        ("POST", "/steps/a"): 405, ("HEAD", "/steps/a"): 200,
    }  # fmt: skip
    found = {}
    async with (
        asyncio.timeout(LIMIT),
        listening(folder, Steps([b"{}\n"]).say),
        aiohttp.ClientSession(connector=connector(folder)) as session,
    ):
        for method, path in wanted:
            async with session.request(method, f"http://trestle{path}") as response:
                found[method, path] = response.status
                if response.status == 405:
                    assert response.headers["Allow"] == "GET, HEAD"
    assert found == wanted


async def test_an_old_client_has_the_pieces_as_one(folder: Path) -> None:
    steps = Steps([b"one\n", b"two\n"])
    steps.may_go_on.set()
    async with asyncio.timeout(LIMIT), listening(folder, steps.say):
        reader, writer = await asyncio.open_unix_connection(socket_of(folder))
        writer.write(b"GET /steps/some HTTP/1.0\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert body == b"one\ntwo\n"
    assert b"chunked" not in head


async def test_nobody_else_may_open_the_door(folder: Path) -> None:
    async with listening(folder, Steps().say):
        assert stat.S_IMODE(socket_of(folder).stat().st_mode) == 0o600


@asynccontextmanager
async def silent(folder: Path) -> AsyncIterator[asyncio.Event]:
    """A door at which nobody ever has an answer; set once somebody has asked."""
    asked = asyncio.Event()

    async def keep_silent(request: Request) -> Answer:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError("it waits for ever")

    listener = Listener(keep_silent, idle_limit=60.0)
    await listener.start_at(socket_of(folder))
    try:
        yield asked
    finally:
        await listener.stop(0)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("GET", r"does not answer: no answer in time; its log"),
        ("DELETE", r"no answer in time\. What was asked for may still be done, so look before"),
    ],
)
async def test_that_it_does_not_answer_in_time_is_said_in_words(
    folder: Path, method: str, said: str
) -> None:
    async with silent(folder) as asked:
        with pytest.raises(TemporaryFailure, match=said):
            await ask(folder, method, "/status", limit=0.5)
        assert asked.is_set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("erase", "@a:b.example", "--yes"), "may still be done"),
        (("parked", "drop", "a-1"), "may still be done"),
        (("keys", "forget", "@a:b.example"), "may still be done"),
        (("reload",), "may still be done"),
        (("rooms", "list"), ""),
        (("keys", "rotate"), "Give the same command again: it goes on from there"),
        (("keys", "check"), ""),
        (("parked", "drop", "--all", "--yes"), "At least 0 let go; "),
    ],
)
async def test_who_presses_ctrl_c_amid_a_change_is_told_what_is_so(
    folder: Path, words: tuple[str, ...], said: str
) -> None:
    code, errors = await end_amid(folder, words, signal.SIGINT)
    assert code == 130
    assert said in errors
    assert bool(said) == bool(errors), errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143)])
async def test_whoever_ends_a_command_in_order_has_the_exit_code_of_that_signal(
    folder: Path, number: signal.Signals, code: int
) -> None:
    found, errors = await end_amid(folder, ("erase", "@a:b.example", "--yes"), number)
    assert (found, "may still be done" in errors) == (code, True)


async def end_amid(
    folder: Path, words: Sequence[str], number: signal.Signals
) -> tuple[int | None, str]:
    """Send a command this signal while it waits for an answer; its exit code and errors."""
    config = folder / "config.yaml"
    config.write_text(f"state_dir: {folder}\n")
    async with asyncio.timeout(LIMIT), silent(folder) as asked:
        one = await asyncio.create_subprocess_exec(
            *command(*words, "--config", config), stdout=PIPE, stderr=PIPE
        )
        await asked.wait()
        one.send_signal(number)
        output, errors = await one.communicate()
    assert output == b""
    return one.returncode, errors.decode()
