"""The database moves to a server, back, and to another major version, and nothing is lost."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.model import SystemClock
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.settings.records import DatabaseSettings
from bridge.storage.audit import Audit
from bridge.storage.backup import back_up
from bridge.storage.move import move_to_embedded, move_to_url, upgrade
from bridge.storage.pool import Database
from bridge.storage.postgres import EmbeddedPostgres, version_of
from bridge.storage.programs import find_programs
from bridge.storage.roles import embedded_access
from bridge.storage.schema import migrations
from tests.rigs.cluster import Cluster
from tests.storage.everything import come_back, everything, fill, numbers, put, seeing_all

EMBEDDED = DatabaseSettings(url="embedded")
OLD = "16"
"""The wheel brings it beside the newest."""
CLOCK = SystemClock()


@pytest.fixture
def state_dir(folder: Path) -> Path:
    return folder / "state"


@contextlib.asynccontextmanager
async def old_server(state_dir: Path) -> AsyncIterator[DatabaseSettings]:
    """An embedded server as an older Trestle would run it; its database by URL."""
    server = EmbeddedPostgres(state_dir, major=OLD)
    try:
        await server.start()
        await embedded_access(server, state_dir)
        yield DatabaseSettings(
            url=f"postgresql://postgres:{server.password}@/trestle?host={server.socket_dir}"
        )
    finally:
        await server.stop()


async def test_to_a_server_and_back_nothing_is_lost(
    state_dir: Path, database_settings: DatabaseSettings
) -> None:
    await fill(EMBEDDED, state_dir, CLOCK)
    before = await everything(EMBEDDED, state_dir)
    async with seeing_all(EMBEDDED, state_dir) as admin:
        first = await numbers(admin)
    told: list[str] = []
    moved = await move_to_url(
        EMBEDDED, database_settings, state_dir, clock=CLOCK,
        report=lambda what, _done, _all: told.append(what),
    )  # fmt: skip
    assert moved.old == state_dir / "postgres"
    # Not the schema's number, but generation and epoch.
    assert moved.rows == sum(len(rows) for rows in before[0].values()) - len(migrations()) + 2
    assert "checking vault" in told
    assert await everything(database_settings, state_dir) == before
    async with Database.open(database_settings, state_dir, CLOCK) as database:
        assert await Audit(database, state_dir).verify() == []
        await database.core.execute("INSERT INTO told VALUES ('@new:hs', 'x', now())")
    since = await everything(database_settings, state_dir)
    back = await move_to_embedded(database_settings, state_dir, clock=CLOCK)
    assert back.old is not None
    assert await everything(EMBEDDED, state_dir) == since != before
    assert await everything(database_settings, state_dir) == since
    # The one from before is kept, and could be put back.
    (state_dir / "postgres").rename(state_dir / "later")
    (back.old / "postgres").rename(state_dir / "postgres")
    assert await everything(EMBEDDED, state_dir) == before
    async with seeing_all(EMBEDDED, state_dir) as admin:
        assert await numbers(admin) == first, "a move is no restore"


async def test_another_major_version_is_refused_carried_over_and_kept(state_dir: Path) -> None:
    async with old_server(state_dir) as settings:
        await fill(settings, state_dir, CLOCK)
        before = await everything(settings, state_dir)
    assert version_of(state_dir) == OLD
    with pytest.raises(ConfigError, match=r"made by Postgres 16, .* `trestle database upgrade`"):
        async with Database.open(EMBEDDED, state_dir, CLOCK):
            raise AssertionError("it must not open")
    done = await upgrade(state_dir, clock=CLOCK)
    assert done is not None
    assert done.old is not None
    assert (done.old / "postgres/data/PG_VERSION").read_text() == "16\n"
    assert await everything(EMBEDDED, state_dir) == before
    async with Database.open(EMBEDDED, state_dir, CLOCK) as database:
        assert await Audit(database, state_dir).verify() == []
        assert (await database.core.fetchval("SHOW server_version")).startswith("18.")
    assert await upgrade(state_dir, clock=CLOCK) is None


async def test_a_backup_of_one_major_version_is_restored_into_another(
    folder: Path, state_dir: Path
) -> None:
    async with old_server(folder / "server") as settings:
        await fill(settings, folder / "old", CLOCK)
        before = await everything(settings, folder / "old")
        manifest = await back_up(
            folder / "b", settings, folder / "old", clock=CLOCK, server_name="hs"
        )
        assert manifest.postgres == int(OLD)
    await put(folder / "b", EMBEDDED, state_dir, CLOCK)
    assert await everything(EMBEDDED, state_dir) == come_back(before)
    # And into an older one: an admin's server may be behind ours.
    await back_up(folder / "c", EMBEDDED, state_dir, clock=CLOCK, server_name="hs")
    async with old_server(folder / "server") as settings:
        await put(folder / "c", settings, folder / "old", CLOCK, force=True)
        assert await everything(settings, folder / "old") == come_back(before)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("9", r"Install them \(Debian: postgresql-9\), or name their folder with --programs; or"),
        ("99", "newer than ours"),
    ],
)
async def test_a_version_whose_programs_are_nowhere_has_a_way_out(
    state_dir: Path, version: str, words: str
) -> None:
    data = state_dir / "postgres/data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text(f"{version}\n")
    with pytest.raises(TrestleError, match=words):
        await upgrade(state_dir, clock=CLOCK)
    assert [path.name for path in state_dir.iterdir() if path.name != "lock"] == ["postgres"]


def test_programs_are_found_where_somebody_says(tmp_path: Path) -> None:
    found = find_programs(OLD)
    assert found is not None
    (tmp_path / "elsewhere").symlink_to(found)
    assert find_programs(OLD, tmp_path / "elsewhere") == tmp_path / "elsewhere"
    assert find_programs(OLD, tmp_path / "elsewhere/bin") == tmp_path / "elsewhere"
    assert find_programs("9", tmp_path / "elsewhere") is None


@pytest_asyncio.fixture
async def small(cluster: Cluster, folder: Path) -> DatabaseSettings:
    """A database that a Trestle has opened, and no more."""
    settings = await cluster.fresh()
    async with Database.open(settings, folder / "small", CLOCK):
        pass
    return settings


async def test_a_database_that_holds_rows_is_not_moved_to(
    cluster: Cluster, small: DatabaseSettings, database_settings: DatabaseSettings, folder: Path
) -> None:
    async with seeing_all(database_settings, folder) as admin:
        await admin.execute("CREATE TABLE portal (whose text)")
    with pytest.raises(ConfigError, match="somebody else's"):
        await move_to_url(small, database_settings, folder / "small", clock=CLOCK)
    held = await cluster.fresh()
    async with Database.open(held, folder / "held", CLOCK) as database:
        await database.core.execute("INSERT INTO told VALUES ('@a:hs', 'x', now())")
        with pytest.raises(ConfigError, match="another Trestle is at work on this database"):
            await move_to_url(small, held, folder / "small", clock=CLOCK)
    with pytest.raises(TrestleError, match="holds a Trestle's rows already"):
        await move_to_url(small, held, folder / "small", clock=CLOCK)
    # One that was opened and no more is empty enough.
    opened = await cluster.fresh()
    async with Database.open(opened, folder / "opened", CLOCK):
        pass
    await move_to_url(small, opened, folder / "small", clock=CLOCK)
    assert await everything(opened, folder) == await everything(small, folder)
