"""A backup holds everything of one moment; what is damaged or over is not restored."""

import asyncio
import json
import os
import shutil
import stat
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.model import SystemClock
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.sdk.ids import InstanceId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage import archive
from bridge.storage.archive import BackupRefused, reading
from bridge.storage.audit import Audit
from bridge.storage.backup import Wanted, back_up, last_backup, note_backup
from bridge.storage.keys import DayKeys, KeyLost
from bridge.storage.pool import Database
from bridge.storage.restore import SESSIONS
from bridge.storage.retention import Retention
from bridge.storage.rotation import Rotation
from bridge.storage.vault import Vault
from tests.rigs.cluster import WAITS, Cluster, until_one_waits
from tests.rigs.owner import owner_of
from tests.rigs.scale import chance, scaled
from tests.storage.admin import admin_runs_what_is_printed, plain_role
from tests.storage.conftest import TurnedClock
from tests.storage.disks import small_disk
from tests.storage.everything import (
    EMPTY,
    Full,
    come_back,
    days,
    everything,
    files_of,
    fill,
    numbers,
    put,
    seeing_all,
    write,
)

# --- what comes back ---


async def test_every_row_right_and_key_comes_back_and_the_generation_is_another(
    full: Full, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> None:
    restored = await put(full.file, database_settings, folder / "state", clock)
    before = await everything(full.settings, EMPTY)
    assert await everything(database_settings, EMPTY) == come_back(before)
    assert files_of(folder / "state") == files_of(full.state_dir)
    async with (
        seeing_all(full.settings, folder) as old,
        seeing_all(database_settings, folder) as new,
    ):
        (generation, epoch), (next_generation, next_epoch) = await numbers(old), await numbers(new)
    assert (next_generation, next_epoch) == (generation + 1, epoch + 1)
    assert restored.generation == generation + 1
    assert (restored.days_over, restored.days_without_key, restored.aside) == (0, 0, None)


async def test_what_was_restored_opens_is_whole_and_numbers_go_on(
    full: Full, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> None:
    await put(full.file, database_settings, folder, clock)
    async with Database.open(database_settings, folder, clock) as database:
        assert await Audit(database, folder).verify() == []
        assert await Retention(database, DayKeys(folder, clock)).run_once() == []
        newest = await database.core.fetchval("SELECT max(id) FROM login")
        made = await database.core.fetchval(
            "INSERT INTO login (instance, kind, made_at) VALUES ('x', 'relay', $1) RETURNING id",
            clock.now(),
        )
        assert made == newest + 1


async def test_a_role_with_no_more_rights_than_it_needs_backs_up_and_restores_everything(
    full: Full, cluster: Cluster, folder: Path, clock: TurnedClock
) -> None:
    """Forced policies show nobody all rows of the vault."""
    plain = await plain_role(cluster, "keeper")
    await admin_runs_what_is_printed(cluster, url=plain.url)
    await put(full.file, plain, folder / "one", clock)
    as_admin = DatabaseSettings(url=cluster.url(plain.url.partition("@/")[2].partition("?")[0]))
    expected = come_back(await everything(full.settings, EMPTY))
    assert await everything(as_admin, EMPTY) == expected
    again = Full(plain, folder / "one", folder / "again.trestle")
    manifest = await write(again, again.file, clock)
    with reading(full.file) as first:
        sessions = sum(first.manifest.members[f"tables/{table}"].rows or 0 for table in SESSIONS)
        assert manifest.rows == first.manifest.rows - sessions
        differing = {
            name
            for name, note in manifest.members.items()
            if first.manifest.members[name].sha256 != note.sha256
        }
    gone = {f"tables/{table}" for table in SESSIONS}
    assert differing == {"tables/instance_state", "tables/lease", *gone}
    assert await everything(as_admin, EMPTY) == expected, "it left a trace"


async def test_a_backup_is_of_one_moment_while_others_write(
    full: Full, cluster: Cluster, database_settings: DatabaseSettings, folder: Path,
    clock: TurnedClock,
) -> None:  # fmt: skip
    """Pairs of rows are written together; a backup holds both or none."""
    source = await cluster.fresh()
    stop = asyncio.Event()
    pairs = 0

    async def keep_writing(database: Database) -> None:
        nonlocal pairs
        while not stop.is_set():
            async with database.core.acquire() as connection, connection.transaction():
                user = f"@{pairs}:hs"
                await connection.execute("INSERT INTO told VALUES ($1, 'x', now())", user)
                await connection.execute("INSERT INTO device VALUES ($1, 'x')", user)
            pairs += 1

    async with (
        Database.open(source, folder / "source", clock) as database,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(keep_writing(database))
        while pairs < 50:
            await asyncio.sleep(0.01)
        before = pairs
        file = folder / "moving.trestle"
        await write(Full(source, folder / "source", file), file, clock)
        after = pairs
        stop.set()
    assert after > before
    await put(file, database_settings, folder / "target", clock)
    async with seeing_all(database_settings, folder) as admin:
        told = await admin.fetchval("SELECT count(*) FROM told")
        devices = await admin.fetchval("SELECT count(*) FROM device")
    assert before <= told == devices <= after + 1


async def test_a_backup_keeps_nobody_from_dropping_a_day(
    full: Full, cluster: Cluster, folder: Path, clock: TurnedClock
) -> None:
    """Retention needs the table for itself, and all writing waits behind it."""
    source = await cluster.fresh()
    await fill(source, folder / "source", clock)
    dropping = asyncio.Event()
    dropped: list[str] = []

    def report(what: str, _done: int, _all: int) -> None:
        if what.startswith("message"):
            dropping.set()

    async def drop() -> None:
        await dropping.wait()
        async with seeing_all(source, folder) as admin:
            await admin.execute("SET lock_timeout = '60s'")
            await admin.execute(f"DROP TABLE journal_{days(clock)[0]:%Y%m%d}")
            dropped.append("journal")

    async with asyncio.TaskGroup() as group:
        group.create_task(drop())
        await back_up(
            folder / "x", source, folder / "source", clock=clock, server_name="hs", report=report
        )
    assert dropped == ["journal"]


@asynccontextmanager
async def half_made(
    settings: DatabaseSettings, state_dir: Path, file: Path
) -> AsyncIterator[None]:
    """A backup that somebody else makes, and that goes on only once the block ends."""
    async with (
        seeing_all(settings, state_dir) as admin,
        asyncio.TaskGroup() as group,
        admin.transaction(),
        asyncio.timeout(30),
    ):
        await admin.execute("LOCK TABLE told IN ACCESS EXCLUSIVE MODE")
        making = group.create_task(
            back_up(file, settings, state_dir, clock=SystemClock(), server_name="hs")
        )
        while not making.done() and not await admin.fetchval(WAITS):
            await asyncio.sleep(0.02)
        assert not making.done()
        yield


async def test_a_backup_goes_on_while_trestle_starts(
    cluster: Cluster, folder: Path, clock: TurnedClock
) -> None:
    source, state, file = await cluster.fresh(), folder / "state", folder / "x.trestle"
    await fill(source, state, clock)
    async with half_made(source, state, file), Database.open(source, state, clock):
        pass
    with reading(file) as found:
        assert found.manifest.members["tables/told"].rows


async def test_a_backup_of_a_database_that_ends_with_trestle_leaves_nothing_and_says_so(
    folder: Path, clock: TurnedClock
) -> None:
    embedded, state, backups = DatabaseSettings(), folder / "state", folder / "backups"
    backups.mkdir()
    with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match="went away meanwhile")):
        async with Database.open(embedded, state, clock) as database, asyncio.TaskGroup() as group:
            owner = await owner_of(database)
            await owner.execute("BEGIN; LOCK TABLE told IN ACCESS EXCLUSIVE MODE")
            group.create_task(
                back_up(backups / "x", embedded, state, clock=clock, server_name="hs")
            )
            await until_one_waits(owner)
            assert database._server is not None
            await database._server.stop()
    assert not list(backups.iterdir())


async def test_a_database_that_is_not_there_is_told_as_such_and_not_as_one_that_went_away(
    folder: Path, clock: TurnedClock
) -> None:
    nowhere = DatabaseSettings(url="postgresql://trestle@127.0.0.1:9/trestle")
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1.* cannot be reached"):
        await back_up(folder / "backup", nowhere, folder, clock=clock, server_name="test.example")
    assert not list(folder.glob("backup*"))


async def test_a_backup_over_which_the_schema_changed_is_none(
    cluster: Cluster, folder: Path, clock: TurnedClock
) -> None:
    """A table that is written anew looks empty to whoever reads at an earlier moment."""
    source, state, file = await cluster.fresh(), folder / "state", folder / "x.trestle"
    await fill(source, state, clock)
    with pytest.RaisesGroup(pytest.RaisesExc(TrestleError, match="was upgraded meanwhile")):
        async with half_made(source, state, file), seeing_all(source, state) as newer:
            await newer.execute("INSERT INTO schema_version VALUES (9999)")
    assert [one.name for one in folder.iterdir()] == ["state"]


# --- keys ---


async def test_no_key_of_a_day_that_is_over_is_ever_inside(
    full: Full, folder: Path, clock: TurnedClock
) -> None:
    clock.ahead += timedelta(days=5)
    file = folder / "later.trestle"
    manifest = await write(full, file, clock)
    oldest = (clock.today() - timedelta(days=13)).isoformat()
    inside = [name[-10:] for name in manifest.members if "keys/day" in name]
    assert inside
    assert all(day >= oldest for day in inside)
    parts = [name[-10:] for name in manifest.members if name.startswith("tables/journal/")]
    assert parts
    assert all(day >= oldest for day in parts)


async def test_days_that_are_over_by_now_are_not_restored(
    full: Full, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> None:
    clock.ahead += timedelta(days=1)
    first, last = (day - timedelta(days=1) for day in (days(clock)[0], days(clock)[1]))
    restored = await put(full.file, database_settings, folder, clock)
    assert restored.days_over == 1
    assert not (folder / "keys/day" / first.isoformat()).exists()
    assert (folder / "keys/day" / last.isoformat()).exists()
    async with seeing_all(database_settings, folder) as admin:
        rows = await admin.fetch("SELECT DISTINCT day FROM journal")
        assert [row["day"] for row in rows] == [last]
        # Addresses are kept for longer.
        assert len(await admin.fetch("SELECT DISTINCT day FROM access")) == 2
        assert await admin.fetchval("SELECT count(*) FROM timer") == 1


async def test_keys_that_were_left_out_are_those_that_are_there(
    full: Full, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> None:
    file = folder / "bare.trestle"
    manifest = await write(full, file, clock, Wanted(day_keys=False, master_key=False))
    assert not manifest.has_day_keys
    assert not manifest.has_master_key
    assert (full.state_dir / "keys/master").read_bytes() not in file.read_bytes()
    elsewhere = await put(file, database_settings, folder / "elsewhere", clock)
    assert (elsewhere.days_without_key, elsewhere.has_master_key) == (2, False)
    at_home = folder / "home"
    shutil.copytree(full.state_dir, at_home)
    here = await put(file, database_settings, at_home, clock, force=True)
    assert (here.days_without_key, here.has_master_key) == (0, True)
    assert {k: v for k, v in files_of(at_home).items() if not k.startswith("before-")} == files_of(
        full.state_dir
    )


async def test_what_was_erased_since_the_backup_stays_erased(
    cluster: Cluster, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> None:
    source = await cluster.fresh()
    async with Database.open(source, folder / "state", clock):
        erased = folder / "state/keys/erased"
        erased.parent.mkdir(exist_ok=True)
        erased.write_text("first\n")
        await write(Full(source, folder / "state", folder / "x"), folder / "x", clock)
    erased.write_text("first\nsecond\n")
    await put(folder / "x", database_settings, folder / "state", clock)
    assert erased.read_text() == "first\nsecond\n"
    await put(folder / "x", database_settings, folder / "elsewhere", clock)
    assert (folder / "elsewhere/keys/erased").read_text() == "first\n"


@pytest.mark.parametrize("keys", [True, False], ids=["with-the-old-key", "without-it"])
async def test_who_was_erased_stays_so_over_a_new_master_key_and_an_older_backup(
    cluster: Cluster, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock,
    keys: bool,
) -> None:  # fmt: skip
    source, state, file = await cluster.fresh(), folder / "state", folder / "older.trestle"
    alice, bea, near = UserId("@alice:hs"), UserId("@bea:hs"), InstanceId("near")
    async with Database.open(source, state, clock) as database:
        vault = await Vault.at(database, state)
        for person in (alice, bea):
            await vault.put(person, near, "password", b"of before")
        await write(Full(source, state, file), file, clock, Wanted(master_key=keys))
        await vault.erase(alice)
        async for _ in Rotation(database, vault).rotate():
            pass
    await put(file, database_settings, state, clock)
    async with Database.open(database_settings, state, clock) as database:
        if not keys:
            with pytest.raises(ConfigError, match="is not the one that it was"):
                await Vault.at(database, state)
            return
        vault = await Vault.at(database, state)
        assert await vault.find(bea, near, "password") == b"of before"
        with pytest.raises(KeyLost, match="erased, and it came back from a copy"):
            await vault.find(alice, near, "password")


async def test_what_was_kept_aside_forgets_too(
    full: Full, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> None:
    await put(full.file, database_settings, folder, clock)
    restored = await put(full.file, database_settings, folder, clock, force=True)
    assert restored.aside is not None
    oldest, newest = (restored.aside / "keys/day" / day.isoformat() for day in days(clock))
    assert oldest.exists()
    with reading(restored.aside / "database") as kept:
        assert not kept.manifest.has_day_keys, "a key in a file is not destroyed with its day"
    async with Database.open(database_settings, folder, clock) as database:
        clock.ahead = timedelta(minutes=59)
        await Retention(database, DayKeys(folder, clock)).run_once()
        DayKeys(folder, clock).destroy_aside(days(clock)[0] + timedelta(days=1))
    assert not oldest.exists()
    assert newest.exists()


# --- what is refused ---


async def test_a_file_that_was_cut_or_changed_anywhere_is_refused_and_nothing_is_touched(
    full: Full, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> None:
    good = full.file.read_bytes()
    dice = chance("broken backups")
    file = folder / "broken"
    for length in {0, 1, 3, 64, 65, len(good) - 1, *dice.sample(range(len(good)), 20)}:
        file.write_bytes(good[:length])
        with pytest.raises(BackupRefused):
            await put(file, database_settings, folder / "state", clock)
    for place in {0, len(good) - 1, len(good) - 65, *dice.sample(range(len(good)), scaled(5000))}:
        changed = bytearray(good)
        changed[place] ^= 1 << dice.randrange(8)
        file.write_bytes(changed)
        with pytest.raises(BackupRefused):
            await put(file, database_settings, folder / "state", clock)
    file.write_bytes(good + b"\n")
    with pytest.raises(BackupRefused, match="damaged"):
        await put(file, database_settings, folder / "state", clock)
    assert not (folder / "state").exists()
    async with seeing_all(database_settings, folder) as admin:
        assert (
            await admin.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
        )


def made_by_hand(full: Full, file: Path, **changes: object) -> Path:
    """A file whose digests are right, of somebody who changed the manifest or added a member."""
    with zipfile.ZipFile(full.file) as old, zipfile.ZipFile(file, "w") as new:
        new.comment = b"0" * 64
        for name in old.namelist():
            data = old.read(name)
            if name == "manifest.json":
                data = json.dumps({**json.loads(data), **changes}).encode()
            new.writestr(name, data)
        for name in changes.get("members", {}):  # type: ignore[attr-defined]
            if name not in old.namelist():
                new.writestr(name, b"x")
    with file.open("r+b") as opened:
        archive._seal(opened)
    return file


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 999}, "schema 999, made by Trestle"),
        ({"format": 2}, "in a newer format"),
        ({"members": {}}, "does not hold what its manifest says"),
        ({"members": {"files/../../evil": {"bytes": 1, "sha256": ""}}}, "does not hold what"),
        ({"tables": None}, "no backup of Trestle"),
    ],
)
async def test_a_file_that_is_not_for_us_is_refused_in_words(
    full: Full, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock,
    change: dict[str, object], words: str,
) -> None:  # fmt: skip
    file = made_by_hand(full, folder / "x.trestle", **change)
    with pytest.raises(BackupRefused, match=words):
        await put(file, database_settings, folder / "state", clock)
    assert not (folder / "state").exists()


async def test_rows_that_are_there_are_not_replaced_unasked_and_then_kept(
    full: Full, cluster: Cluster, folder: Path, clock: TurnedClock
) -> None:
    there = await cluster.fresh()
    await fill(there, folder / "state", clock)
    before, files = await everything(there, EMPTY), files_of(folder / "state")
    with pytest.raises(TrestleError, match="--force restores, and keeps"):
        await put(full.file, there, folder / "state", clock)
    assert (await everything(there, EMPTY), files_of(folder / "state")) == (before, files)
    restored = await put(full.file, there, folder / "state", clock, force=True)
    expected = come_back(await everything(full.settings, EMPTY))
    assert await everything(there, EMPTY) == expected
    # And back, with what was kept.
    assert restored.aside is not None
    back = await put(restored.aside / "database", there, folder / "state", clock, force=True)
    assert await everything(there, EMPTY) == come_back(before)
    assert back.generation > restored.generation > 1


async def test_a_database_that_a_trestle_works_with_is_not_replaced(
    full: Full, cluster: Cluster, folder: Path, clock: TurnedClock
) -> None:
    there = await cluster.fresh()
    async with Database.open(there, folder / "state", clock):
        with pytest.raises(ConfigError, match=r"another Trestle is at work in .*state"):
            await put(full.file, there, folder / "state", clock, force=True)
        with pytest.raises(ConfigError, match="another Trestle is at work on this database"):
            await put(full.file, there, folder / "other", clock, force=True)


# --- the file ---


async def test_the_file_is_for_its_owner_alone_and_is_not_written_over_unasked(
    full: Full, folder: Path, clock: TurnedClock
) -> None:
    before = os.umask(0)
    try:
        await write(full, folder / "x", clock)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "x").stat().st_mode) == 0o600
    with pytest.raises(TrestleError, match="--force writes over it"):
        await write(full, folder / "x", clock)
    assert os.listdir(folder) == ["x"]
    assert last_backup(full.state_dir) is not None
    assert last_backup(folder) is None


async def test_a_full_disk_leaves_the_file_that_was_there(
    full: Full, folder: Path, clock: TurnedClock
) -> None:
    with small_disk(folder / "disk", 16 * 1024) as disk:
        good = disk / "x"
        before = full.file.read_bytes()[:200]
        good.write_bytes(before)
        with pytest.raises(TrestleError, match="cannot be written"):
            await back_up(
                good, full.settings, full.state_dir, clock=clock, server_name="hs", force=True,
                wanted=Wanted(settings={"config.yaml": os.urandom(40_000)}),
            )  # fmt: skip
        assert os.listdir(disk) == ["x"]
        assert good.read_bytes() == before


def test_a_note_is_not_written_to_where_a_link_leads(folder: Path, clock: TurnedClock) -> None:
    # The state may be another user's than root's, who notes the backup there.
    theirs = folder / "theirs"
    theirs.write_text("kept")
    (folder / "last-backup.new").symlink_to(theirs)
    note_backup(folder, clock.now())
    assert theirs.read_text() == "kept"
    assert last_backup(folder) is not None
