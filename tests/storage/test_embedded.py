"""The embedded Postgres: whatever happens to it or lies in its way."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from bridge.demo.matrix_user import PATIENCE
from bridge.model import RowId, Source, SystemClock
from bridge.sdk.errors import ConfigError, NotNow, TemporaryFailure
from bridge.settings.records import DatabaseSettings
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database, only_one
from bridge.storage.postgres import EmbeddedPostgres
from bridge.storage.reach import readable
from bridge.storage.retention import Retention
from tests.rigs.small_disk import most_files, next_file, small_disk

EMBEDDED = DatabaseSettings(url="embedded")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def state_dir() -> AsyncIterator[Path]:
    """A state directory that an earlier run has left. Whoever changes it puts it back."""
    with tempfile.TemporaryDirectory(prefix="trestle-e-") as name:
        made = Path(name) / "state"
        Path(name).chmod(0o711)
        # Of a run that was killed before it had made its data.
        half_made = made / "postgres/data.new"
        half_made.parent.mkdir(mode=0o700, parents=True)
        half_made.mkdir()
        (half_made / "PG_VERSION").write_text("18\n")
        async with Database.open(EMBEDDED, made, SystemClock()) as database:
            await Retention(database, DayKeys(made, database.clock)).run_once()
        # Whatever ends here is a process; the machine and its disk do not.
        with (made / "postgres/data/postgresql.auto.conf").open("a") as conf:
            conf.write("fsync = off\n")
        yield made


@contextmanager
def moved(state_dir: Path, place: Path) -> Iterator[Path]:
    """Have it elsewhere."""
    place.parent.mkdir(parents=True, exist_ok=True)
    state_dir.rename(place)
    try:
        yield place
    finally:
        place.rename(state_dir)


@asynccontextmanager
async def opened(state_dir: Path) -> AsyncIterator[tuple[Database, Journal]]:
    """The database with its guard at work, and a journal in it."""
    async with (
        Database.open(EMBEDDED, state_dir, SystemClock()) as database,
        asyncio.TaskGroup() as group,
    ):
        guard = group.create_task(database.guard())
        journal = Journal(database, DayKeys(state_dir, database.clock))
        await journal.open()
        yield database, journal
        await journal.close()
        guard.cancel()


async def refusal(state_dir: Path) -> str:
    """Why the database does not start."""
    with pytest.raises(ConfigError) as refused:
        async with Database.open(EMBEDDED, state_dir, SystemClock()):
            raise AssertionError("it must not open")
    return refused.value.reason


async def land(journal: Journal) -> RowId:
    """Land a row, trying again as a homeserver would for ever."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await journal.land(
                    source=Source.TRANSACTION, body=b"{}", event_keys=b"", progress=b"", done=False
                )
            except TemporaryFailure:
                await asyncio.sleep(0.05)


async def unfinished(journal: Journal) -> list[RowId]:
    return [row.id async for row in journal.unfinished()]


async def until_back(database: Database) -> None:
    """Return when it was away and is back."""
    async with asyncio.timeout(PATIENCE):
        while database.up:
            await asyncio.sleep(0.01)
        while not database.up:
            await asyncio.sleep(0.01)


def postmaster(state_dir: Path) -> int:
    """The number of the server's process."""
    return int((state_dir / "postgres/data/postmaster.pid").read_text().split()[0])


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with us."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


# --- while it runs ---


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_that_somebody_ends_is_started_again_and_has_lost_nothing(
    state_dir: Path, number: signal.Signals
) -> None:
    async with opened(state_dir) as (database, journal):
        rows = await unfinished(journal)
        rows += [await land(journal) for _ in range(3)]
        first = postmaster(state_dir)
        os.kill(first, number)
        await until_back(database)
        assert postmaster(state_dir) != first
        rows.append(await land(journal))
        assert await unfinished(journal) == rows


async def test_a_server_that_cannot_start_again_is_tried_until_it_can(
    state_dir: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with moved(state_dir, folder / ("d" * 60) / ("e" * 60) / "state") as deep:
        data = deep / "postgres/data"
        async with opened(deep) as (_, journal):
            rows = await unfinished(journal)
            rows.append(await land(journal))
            # What stands in its way could as well be a full disk.
            data.chmod(0o755)
            os.kill(postmaster(deep), signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                while "has invalid permissions" not in caplog.text:
                    await asyncio.sleep(0.01)
            with pytest.raises(TemporaryFailure):
                await journal.land(
                    source=Source.TRANSACTION, body=b"{}", event_keys=b"", progress=b"",
                    done=False,
                )  # fmt: skip
            data.chmod(0o700)
            rows.append(await land(journal))
            assert await unfinished(journal) == rows


async def test_a_server_whose_files_cannot_be_opened_just_now_is_tried_until_they_can(
    state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(state_dir) as (_, journal):
        words = state_dir / "postgres/postgres.log"
        words.unlink()
        words.symlink_to("nowhere")  # It is not followed: no more than a full disk lets it open.
        os.kill(postmaster(state_dir), signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while "postgres.log" not in caplog.text:
                await asyncio.sleep(0.01)
        words.unlink()
        await land(journal)


async def test_a_look_at_the_server_that_no_file_is_left_for_is_put_off(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir)
    await server.start()
    try:
        with most_files(next_file()):
            server.end_if_it_waits()
        assert server.is_running
    finally:
        await server.stop()


async def test_a_session_that_somebody_kills_costs_a_moment(state_dir: Path) -> None:
    async with opened(state_dir) as (database, journal):
        rows = await unfinished(journal)
        rows.append(await land(journal))
        backend = await database.core.fetchval("SELECT pg_backend_pid()")
        first = postmaster(state_dir)
        os.kill(backend, signal.SIGKILL)
        await until_back(database)
        rows.append(await land(journal))
        assert postmaster(state_dir) == first
        assert await unfinished(journal) == rows


async def test_data_that_somebody_takes_away_is_waited_for_and_never_made_anew(
    state_dir: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, password = state_dir / "postgres/data", state_dir / "postgres/owner.password"
    before = password.read_bytes()
    async with opened(state_dir) as (database, journal):
        rows = await unfinished(journal)
        rows.append(await land(journal))
        first = postmaster(state_dir)
        with moved(data, folder / "elsewhere"):
            os.kill(first, signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                while "is gone" not in caplog.text:
                    await asyncio.sleep(0.01)
            assert not database.up
        rows.append(await land(journal))
        assert await unfinished(journal) == rows
    with moved(data, folder / "elsewhere"):
        data.mkdir()  # A place where something is mounted, and is not yet.
        with pytest.raises(NotNow, match="Mount its disk"):
            async with Database.open(EMBEDDED, state_dir, SystemClock()):
                raise AssertionError("it must not open")
        data.rmdir()
    assert password.read_bytes() == before
    async with opened(state_dir) as (_, journal):
        assert await unfinished(journal) == rows


# --- what an earlier run left ---


async def test_a_server_that_is_stopped_while_it_recovers_stops_soon(
    state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(state_dir) as (database, journal):
        await land(journal)
        backend = await database.core.fetchval("SELECT pg_backend_pid()")
        os.kill(backend, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while database.up:
                await asyncio.sleep(0.01)
    # It says so before it takes to another signal, which would end it late.
    assert "the embedded database is slow to stop" not in caplog.text


def stale(state_dir: Path, first_line: str) -> Path:
    """Leave a pid file as a killed server's, with another number."""
    data = state_dir / "postgres/data"
    pid_file = data / "postmaster.pid"
    text = f"{first_line}\n{data}\n1700000000\n5432\n" if first_line else ""
    pid_file.write_text(text)
    pid_file.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(pid_file, data.stat().st_uid, data.stat().st_gid)
    return pid_file


async def test_a_stale_pid_file_does_not_matter(
    state_dir: Path, bystander: subprocess.Popen[bytes]
) -> None:
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    for first_line in (str(gone.pid), str(bystander.pid), str(os.getpid()), "0", "", "nonsense"):
        pid_file = stale(state_dir, first_line)
        server = EmbeddedPostgres(state_dir)
        await server.start()
        await server.stop()
        assert not pid_file.exists(), first_line
    assert bystander.poll() is None


async def test_data_that_others_may_read_is_refused(state_dir: Path) -> None:
    data = state_dir / "postgres/data"
    data.chmod(0o755)
    assert "invalid permissions" in await refusal(state_dir)
    data.chmod(0o700)


async def test_data_keeps_its_owner_whoever_else_is_there_by_now(state_dir: Path) -> None:
    data = state_dir / "postgres/data"
    before = data.stat().st_uid
    if os.geteuid() == 0:
        await give(data, "nobody")
    owner = data.stat().st_uid
    async with opened(state_dir) as (_, journal):
        await land(journal)
        assert Path(f"/proc/{postmaster(state_dir)}").stat().st_uid == owner
    if os.geteuid() == 0:
        await give(data, str(before))


async def give(data: Path, user: str) -> None:
    giving = await asyncio.create_subprocess_exec("chown", "-R", user, data)
    assert await giving.wait() == 0


async def test_data_of_a_stranger_is_refused(state_dir: Path) -> None:
    data = state_dir / "postgres/data"
    before = data.stat()
    if os.geteuid() == 0:
        os.chown(data, 54321, 54321)
        assert "belongs to user 54321, whom this machine does not know" in await refusal(state_dir)
        os.chown(data, 0, 0)
        assert "belongs to root, and not to" in await refusal(state_dir)
        os.chown(data, before.st_uid, before.st_gid)
    else:  # Nobody but root can give it away.
        with pytest.raises(PermissionError):
            os.chown(data, 54321, 54321)


async def test_data_of_another_version_is_refused_and_left_alone(state_dir: Path) -> None:
    version = state_dir / "postgres/data/PG_VERSION"
    version.write_text("16\n")
    assert "was made by Postgres 16" in await refusal(state_dir)
    assert version.read_text() == "16\n"
    version.write_text("18\n")


async def test_a_password_that_was_made_and_not_put_in_its_place_is_found(
    state_dir: Path,
) -> None:
    password = state_dir / "postgres/owner.password"
    password.rename(password.with_name("owner.password.made"))
    async with opened(state_dir) as (_, journal):
        await land(journal)
    assert password.exists()


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("")])
async def test_an_owners_password_that_is_gone_is_named(
    state_dir: Path, damage: Callable[[Path], object]
) -> None:
    password = state_dir / "postgres/owner.password"
    kept = password.read_text()
    damage(password)
    try:
        assert f"{password} is missing or empty" in await refusal(state_dir)
    finally:
        password.write_text(kept)


async def test_passwords_that_are_damaged_are_told_as_such_and_made_anew_when_removed(
    state_dir: Path,
) -> None:
    passwords = state_dir / "keys/database"
    for damaged in ("half", "{}", "[]"):
        passwords.write_text(damaged)
        said = await refusal(state_dir)
        assert f"{passwords} cannot be read: it is damaged" in said
    passwords.unlink()
    async with opened(state_dir) as (_, journal):
        await land(journal)


def test_data_that_was_half_made_is_made_again(state_dir: Path) -> None:
    assert not (state_dir / "postgres/data.new").exists()
    assert (state_dir / "postgres/data/global").exists()


# --- where it lies ---


async def test_a_path_too_long_for_a_socket_gets_one_elsewhere(
    state_dir: Path, folder: Path
) -> None:
    with moved(state_dir, folder / ("d" * 60) / ("e" * 60) / "state") as deep:
        noted = deep / "postgres/run.elsewhere"
        async with opened(deep) as (_, journal):
            await land(journal)
            elsewhere = Path(noted.read_text())
            assert elsewhere.stat().st_mode & 0o777 == 0o700
        assert not elsewhere.exists()
        # The folder of a run that was killed goes with the next one.
        left = Path(tempfile.mkdtemp(prefix="trestle-pg-", dir="/tmp"))
        noted.write_text(str(left))
        async with opened(deep):
            assert not left.exists()
            assert Path(noted.read_text()) != left


async def test_a_path_with_spaces_and_letters_of_all_kinds_is_fine(
    state_dir: Path, folder: Path
) -> None:
    with moved(state_dir, folder / 'it\'s ä "state" %d $HOME') as odd:
        async with opened(odd) as (_, journal):
            await land(journal)


async def test_nothing_of_it_is_open_to_others(state_dir: Path) -> None:
    log = state_dir / "postgres/postgres.log"
    log.touch()
    log.chmod(0o644)  # As earlier versions made it.
    async with opened(state_dir) as (database, _):
        for path in (
            state_dir / "keys", state_dir / "postgres/data", state_dir / "postgres/run", log,
        ):  # fmt: skip
            assert path.stat().st_mode & 0o077 == 0, path
        with pytest.raises(asyncpg.UniqueViolationError):
            await database.core.execute(
                "INSERT INTO long_id (user_id, instance, remote_id) "
                "SELECT '@alice:secret.example', '', '' FROM generate_series(1, 2)"
            )
        said = log.read_text()
        assert "duplicate key" in said
        assert "alice" not in said
        assert (state_dir / "postgres").stat().st_mode & 0o066 == 0


async def test_a_disk_with_too_little_room_for_a_new_database_is_named(folder: Path) -> None:
    async with small_disk(folder / "disk", mebibytes=40) as disk:
        state = disk.folder / "state"
        with pytest.raises(NotNow, match=rf"the disk of {state} has \d+ MiB left.*make room"):
            await EmbeddedPostgres(state).start()


async def test_while_the_first_start_makes_the_database_there_is_none_to_back_up_yet(
    folder: Path,
) -> None:
    state_dir = folder / "state"
    with (
        only_one(state_dir),
        pytest.raises(
            NotNow, match=r"starting or stopping, or its database stands still \(.*\); try again$"
        ),
    ):
        async with readable(EMBEDDED, state_dir):
            raise AssertionError("there is none")


async def test_who_gives_up_while_the_data_is_made_leaves_nobody_who_writes_to_it(
    folder: Path,
) -> None:
    async def until_they_write(data: Path) -> list[int]:
        while not (writers := writers_to(data)):
            await asyncio.sleep(0.002)
        return writers

    await give_up(folder / "state", until_they_write)


async def test_who_gives_up_while_the_program_that_makes_the_data_is_started_leaves_nobody(
    folder: Path,
) -> None:
    async def until_they_write_unheard(data: Path) -> list[int]:
        while not at_work(b"/initdb", data.parent):
            await asyncio.sleep(0)
        # Nobody else runs meanwhile, who would learn that it has been started.
        ends = time.monotonic() + PATIENCE
        while not (writers := writers_to(data)):
            assert time.monotonic() < ends
        return writers

    await give_up(folder / "state", until_they_write_unheard)


async def give_up(state: Path, until_they_write: Callable[[Path], Awaitable[list[int]]]) -> None:
    """Give a first start up once somebody writes to the new data; return when nobody does."""
    data = state / "postgres/data.new"
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(EmbeddedPostgres(state).start())
        async with asyncio.timeout(PATIENCE):
            writers = await until_they_write(data)
        for one in writers:  # So that they do not end by themselves meanwhile.
            with suppress(ProcessLookupError):  # This one had.
                os.kill(one, signal.SIGSTOP)
        starting.cancel()
    async with asyncio.timeout(PATIENCE):
        while writers_to(data):
            await asyncio.sleep(0.01)


def writers_to(data: Path) -> list[int]:
    """Servers at work in a folder, those that `initdb` runs too."""
    return at_work(b"/postgres", data)


def at_work(program: bytes, folder: Path) -> list[int]:
    """The processes of a program that are in a folder, or have it among their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            is_there = (process / "cwd").readlink() == folder or bytes(folder) in b" ".join(words)
            if words[0].endswith(program) and is_there:
                found.append(int(process.name))
    return found
