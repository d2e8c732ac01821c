"""Bad input at the start: a sentence that names it, at once, without a traceback; and Ctrl-C."""

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from socket import create_server
from typing import Any

import asyncpg
import pytest

from bridge.cli.group import run_until_told
from bridge.model import SystemClock
from bridge.settings.records import DatabaseSettings
from bridge.storage.pool import Database
from tests.admin.commands import Outcome, command, read_yaml, run_program
from tests.admin.conftest import Installation
from tests.rigs.trestle import make_settings
from tests.rigs.yaml import dump

SOON = 120.0
"""Seconds; on a machine with nothing else to do it takes one or two."""


def write_config(
    folder: Path, database: str = "postgresql://x@127.0.0.1:9/x", **changes: Mapping[str, Any]
) -> Path:
    """Settings with free ports; ``changes`` go into their sections."""
    settings = make_settings(folder / "state")
    appservice = settings.appservice
    document: dict[str, Any] = {
        "homeserver": {"url": "http://127.0.0.1:9", "server_name": "test.example"},
        "appservice": {
            "listen": str(appservice.listen),
            "as_token": appservice.as_token.reveal(),
            "hs_token": appservice.hs_tokens[0].reveal(),
            "sender_localpart": appservice.sender_localpart,
        },
        "database": {"url": database},
        "ops": {"listen": None},
        "modules": {"dice": {"module": "dice"}},
    }
    for section, values in changes.items():
        document[section] = {**document[section], **values} if values else values
    file = folder / "config.yaml"
    file.write_text(dump(document))
    file.chmod(0o600)
    return file


async def refused(config: Path, code: int = 2) -> str:
    """Run the program; give the one sentence with which it ends, in its log if it has one."""
    began = time.monotonic()
    ended: Outcome = await asyncio.to_thread(run_program, "run", "-c", config)
    assert time.monotonic() - began < SOON
    assert ended.code == code, ended.said
    assert ended.output == ""
    sentences = [line for line in ended.errors.splitlines() if " INFO " not in line]
    assert len(sentences) == 1, ended.errors
    said = re.fullmatch(r"trestle: (.*)|\S+ CRITICAL (.*)  \[ended\]", sentences[0])
    assert said is not None, sentences[0]
    return said[1] or said[2]


@contextmanager
def taken_port() -> Iterator[int]:
    with closing(create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("section", ["appservice", "ops"])
async def test_a_port_that_is_taken(
    folder: Path, database_settings: DatabaseSettings, section: str
) -> None:
    with taken_port() as port:
        place = {"listen": f"127.0.0.1:{port}"}
        config = write_config(folder, database_settings.url, **{section: place})
        assert await refused(config) == (
            f"{section}.listen: 127.0.0.1:{port} is taken by another program, or by a Trestle "
            "that runs already; choose another port"
        )


async def test_a_database_that_is_down(folder: Path) -> None:
    config = write_config(folder, "postgresql://x:secret@127.0.0.1:9/x")
    assert await refused(config, os.EX_TEMPFAIL) == (
        "database.url: the database at 127.0.0.1:9 cannot be reached: Connection refused; is it "
        "running, and the address right?"
    )
    backup = await asyncio.to_thread(run_program, "backup", folder / "kept", "-c", config)
    assert "9 cannot be reached: Connection refused; is it running" in backup.errors


async def test_a_place_where_something_else_answers(folder: Path) -> None:
    with taken_port() as port:
        config = write_config(folder, f"postgresql://x@127.0.0.1:{port}/x")
        assert await refused(config, os.EX_TEMPFAIL) == (
            f"database.url: no Postgres answers at 127.0.0.1:{port}; is the address right?"
        )


async def test_a_schema_that_is_newer(folder: Path, database_settings: DatabaseSettings) -> None:
    async with Database.open(database_settings, folder / "made", SystemClock()):
        pass
    connection = await asyncpg.connect(database_settings.url)
    await connection.execute("INSERT INTO schema_version VALUES (9999)")
    await connection.close()
    said = await refused(write_config(folder, database_settings.url))
    assert said.startswith("database.url: the database has schema 9999, made by a newer Trestle")


async def test_an_unknown_module(folder: Path) -> None:
    config = write_config(folder, "embedded", modules={"luck": {"module": "dise"}})
    assert await refused(config) == (
        "modules.luck.module: there is no module called 'dise'; did you mean dice?"
    )
    assert not (folder / "state").exists()  # Before a database is made for it.


async def test_a_name_that_is_no_instance(folder: Path) -> None:
    said = await refused(write_config(folder, modules={"My Dice": {"module": "dice"}}))
    assert said.startswith("modules.My Dice: an instance's id is a lower-case letter")


async def test_a_state_folder_that_cannot_be_used(folder: Path) -> None:
    config = write_config(folder)
    (folder / "state").write_text("a file in its place")
    assert await refused(config) == (
        f"state_dir: {folder}/state cannot be used: Not a directory; it must be a folder that "
        "this user may write to"
    )


# --- what may come right by itself is waited for, and said ---


@contextmanager
def running(config: Path) -> Iterator["Running"]:
    log = config.with_name("log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("run", "-c", config), stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
    try:
        yield Running(process, log)
    finally:
        process.kill()
        process.wait()


class Running:
    """``trestle run`` in the background."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + SOON
        while not condition():
            assert time.monotonic() < end, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.005)

    def ctrl_c(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(SOON)
        assert "Traceback" not in self.said
        return code


def test_a_homeserver_that_is_away_is_waited_for_and_named(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    with running(write_config(folder, database_settings.url)) as trestle:
        trestle.wait_for(lambda: "cannot be reached: Connection refused" in trestle.said)
        trestle.wait_for(lambda: " ready at " in trestle.said)
        assert "homeserver.url='http://127.0.0.1:9'" in trestle.said
        assert trestle.ctrl_c() == 0
        assert trestle.said.count("WARNING") == 1


def test_a_token_that_the_homeserver_does_not_know_is_named_until_it_does(
    installation: Installation, folder: Path
) -> None:
    good = read_yaml(installation.config)
    good["ops"] = {"listen": None}
    file = write_config(folder, good["database"]["url"], homeserver=good["homeserver"])
    with running(file) as trestle:
        trestle.wait_for(lambda: "does not know our as_token; name registration" in trestle.said)
        trestle.wait_for(lambda: " ready at " in trestle.said)
        assert trestle.ctrl_c() == 0
    file.write_text(dump({**good, "state_dir": "state"}))
    with running(file) as trestle:
        trestle.wait_for(lambda: "the homeserver answers" in trestle.said)
        assert trestle.ctrl_c() == 0
        assert "WARNING" not in trestle.said


@pytest.mark.parametrize("words", [
    ("trace", "\udcff"), ("parked", "show", "\udcff"), ("rooms", "unbridge", "\udcff", "--yes"),
    ("export", "@\udcff:test.example"), ("waiting", "park", "\udcff"),
])  # fmt: skip
def test_bytes_that_are_no_text_get_a_sentence(words: tuple[str, ...], folder: Path) -> None:
    ended = run_program(*words, "-c", write_config(folder))
    assert ended.code == 2, ended.said
    assert ended.errors == "trestle: what was given is no text in UTF-8\n"


def test_a_reader_that_has_had_enough_is_no_fault_and_gets_no_word() -> None:
    unread, pipe = os.pipe()
    os.close(unread)
    try:
        done = subprocess.run(
            command("modules"), check=False, stdout=pipe, stderr=subprocess.PIPE, text=True,
            timeout=SOON,
        )  # fmt: skip
    finally:
        os.close(pipe)
    assert done.stderr == ""


# --- Ctrl-C, whenever it comes ---


def test_ctrl_c_while_the_program_is_loaded(folder: Path) -> None:
    with closing(create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]  # It gets no further than to a database that is silent.
        with running(write_config(folder, f"postgresql://x@127.0.0.1:{port}/x")) as trestle:
            maps = Path(f"/proc/{trestle.process.pid}/maps")
            trestle.wait_for(lambda: "_pydantic_core" in maps.read_text())
            assert trestle.ctrl_c() in (-signal.SIGINT, 0, 130)
            assert trestle.said == ""


def test_ctrl_c_while_the_database_does_not_answer(folder: Path) -> None:
    with closing(create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with running(write_config(folder, f"postgresql://x@127.0.0.1:{port}/x")) as trestle:
            server.settimeout(SOON)
            with server.accept()[0]:
                assert trestle.ctrl_c() == 0
            assert trestle.said == ""


def test_ctrl_c_while_a_database_is_made(folder: Path) -> None:
    with running(write_config(folder, "embedded")) as trestle:
        trestle.wait_for(lambda: any(folder.glob("state/*/*")))
        assert trestle.ctrl_c() == 0
        assert re.sub(r".* INFO .*\n", "", trestle.said) == ""
    assert _mentioning(folder) == []


def test_ctrl_c_when_all_is_well(folder: Path, database_settings: DatabaseSettings) -> None:
    with running(write_config(folder, database_settings.url)) as trestle:
        trestle.wait_for(lambda: " ready at " in trestle.said)
        began = time.monotonic()
        assert trestle.ctrl_c() == 0
        assert time.monotonic() - began < 60
        assert trestle.said.splitlines()[-1].endswith("stopping  [stopping]")


def test_a_second_signal_of_another_kind_does_not_cut_the_end_short() -> None:
    ended = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.Event().wait()
            ended.append("in order")

    assert run_until_told(work) is None
    assert ended == ["in order"]


def _mentioning(folder: Path) -> list[str]:
    """The processes that were started with something of the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_text(errors="replace")
        except OSError:  # Gone meanwhile.
            continue
        if str(folder) in words:
            found.append(words.replace("\0", " "))
    return found
