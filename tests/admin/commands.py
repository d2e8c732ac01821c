"""The command line as an admin uses it: in this process, as a program, and at a terminal."""

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner
from ruamel.yaml import YAML

from bridge.cli import main
from bridge.config import load
from bridge.demo.processes import free_port
from bridge.model import SystemClock
from bridge.settings.records import DatabaseSettings
from bridge.storage.pool import Database

LIMIT = 120.0
"""Seconds: beside other tests a start takes long."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    output: str
    errors: str

    @property
    def said(self) -> str:
        """All it said."""
        return self.output + self.errors


def trestle(*arguments: object, answers: str | None = None) -> Outcome:
    """Run a command in this process. Raises what the command does not turn into a sentence."""
    result = CliRunner().invoke(
        main, [str(one) for one in arguments], input=answers, prog_name="trestle"
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def command(*arguments: object) -> list[str]:
    """The words that start it as a program."""
    return [sys.executable, "-m", "bridge", *map(str, arguments)]


def run_program(*arguments: object, env: Mapping[str, str] | None = None) -> Outcome:
    """Run a command as a program that ends by itself, and soon."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=LIMIT,
        stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})},
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


class Terminal:
    """A program at a terminal, and somebody who types."""

    def __init__(self, process: "subprocess.Popen[bytes]", screen: int) -> None:
        self.process = process
        self._screen = screen
        self._seen = ""
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Return when the text is on the screen, behind what was waited for before."""
        end = time.monotonic() + LIMIT
        while text not in self._seen:
            assert time.monotonic() < end, f"{text!r} is not shown: {self.shown}"
            assert self._read(end - time.monotonic()), f"it ended: {self.shown}"
        self._seen = self._seen.partition(text)[2]

    def type(self, text: str) -> None:
        """Type it, with the key at its end."""
        os.write(self._screen, text.encode())

    def interrupt(self) -> int:
        """Press Ctrl-C until it ends, as people do; give its exit code."""
        end = time.monotonic() + LIMIT
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it goes on: {self.shown}"
            self._wait_until_it_waits()
            self.type("\x03")  # One that comes while readline sets the terminal up is lost.
            while self._read(3):
                pass
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(3)
        return self.process.returncode

    def _wait_until_it_waits(self) -> None:
        """Return when it sleeps, as somebody does who waits for a key."""
        stat, end = Path(f"/proc/{self.process.pid}/stat"), time.monotonic() + LIMIT
        while stat.read_text().rpartition(")")[2].split()[0] == "R" and time.monotonic() < end:
            time.sleep(0.01)

    def end(self) -> int:
        """Wait for its end; give its exit code."""
        while self._read(LIMIT):
            pass
        return self.process.wait(LIMIT)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._screen], [], [], max(0, seconds))[0]:
            return False
        try:
            data = os.read(self._screen, 4096).decode(errors="replace").replace("\r\n", "\n")
        except OSError:  # So a terminal says that nobody writes any more.
            return False
        self.shown += data
        self._seen += data
        return bool(data)


@contextmanager
def at_a_terminal(*arguments: object) -> Iterator[Terminal]:
    """Run a command of ours where a person sits."""
    with typed(command(*arguments)) as terminal:
        yield terminal


@contextmanager
def typed(words: Sequence[str], folder: Path | None = None) -> Iterator[Terminal]:
    """Run a program where a person sits, in a folder."""
    screen, other = pty.openpty()
    # Only from the terminal that is its own does a program hear Ctrl-C.
    process = subprocess.Popen(
        ["setsid", "--ctty", *words], stdin=other, stdout=other, stderr=other, cwd=folder
    )
    os.close(other)
    try:
        yield Terminal(process, screen)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        os.close(screen)


def make_database(config: Path) -> None:
    """What the first start does with the database."""

    async def make() -> None:
        settings = load(config)
        async with Database.open(settings.database, settings.state_dir, SystemClock()):
            pass

    asyncio.run(make())


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds keys and values."""
    data = YAML(typ="safe").load(path.read_text())
    assert isinstance(data, dict)
    return data


def init(folder: Path, *more: object, modules: Sequence[str] = ("dice",)) -> Outcome:
    """``trestle init`` with all answers in flags."""
    flags = [word for module in modules for word in ("--module", module)]
    return trestle(
        "init", "--yes", "--homeserver-url", "http://127.0.0.1:8008", "--server-name",
        "test.example", "--directory", folder, *flags, *more,
    )  # fmt: skip


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command there is, by the words that name it."""
    yield path
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def config_in(folder: Path, database: DatabaseSettings) -> Path:
    """A configuration whose listeners are free ports, with that database."""
    made = init(
        folder, *("--set", f"database.url={database.url}"), *("--set", "ops.listen=null"),
        *("--set", f"appservice.listen=127.0.0.1:{free_port()}"),
    )  # fmt: skip
    assert made.code == 0, made.said
    return folder / "config.yaml"
