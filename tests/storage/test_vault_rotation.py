"""The master key is changed under traffic, and whatever cuts it short, it goes on."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from bridge.demo.matrix_user import PATIENCE
from bridge.model import SystemClock
from bridge.sdk.errors import ConfigError, TemporaryFailure
from bridge.sdk.ids import InstanceId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.accounts import Accounts
from bridge.storage.doublepuppets import DoublePuppetStore
from bridge.storage.keys import KeyLost
from bridge.storage.masterkeys import VARIABLE, MasterKeys, random_master_key
from bridge.storage.pool import Database
from bridge.storage.rotation import Rotation, Step
from bridge.storage.schema import Connection
from bridge.storage.vault import Owner, Ring, Row, Vault, open_ring, seal_ring
from tests.rigs.scale import chance, scaled

NEAR = InstanceId("near")
PEOPLE = scaled(100_000)
LIMIT = 600.0
"""Seconds in which all of 100,000 must be done."""

CUT_SHORT = """
import asyncio, os, signal, sys
from pathlib import Path
from bridge.demo.matrix_user import PATIENCE
from bridge.model import SystemClock
from bridge.settings.records import DatabaseSettings
from bridge.storage.masterkeys import MasterKeys
from bridge.storage.pool import Database
from bridge.storage.rotation import Rotation
from bridge.storage.vault import Vault

async def main():
    folder, steps = Path(sys.argv[1]), int(sys.argv[3])
    async with Database.open(DatabaseSettings(url=sys.argv[2]), folder, SystemClock()) as database:
        vault = Vault(database, MasterKeys.load(folder, {}))
        await vault.open()
        async for step in Rotation(database, vault).rotate():
            if steps == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            steps -= 1

asyncio.run(main())
"""


@pytest_asyncio.fixture
async def vault(database: Database, folder: Path) -> Vault:
    made = Vault(database, MasterKeys.load(folder, {}))
    await made.open()
    return made


def person(number: int) -> UserId:
    return UserId(f"@person{number:06}:hs")


def password(number: int) -> bytes:
    return b"password of %d" % number


async def fill(admin: Connection, vault: Vault, count: int) -> None:
    """Give so many people a record each, as :meth:`Vault.put` would, quicker."""
    keys, rows = [], []
    for number in range(count):
        name = person(number)
        ring = Ring(key=number.to_bytes(32, "big"), count=1, rows={str(number + 1): 1})
        row = Row(
            subject=name, instance=NEAR, record="password", id=number + 1,
            key_version=ring.key_version, version=1,
        )  # fmt: skip
        sealed = ring.seal(row, password(number))
        rows.append((row.id, name, NEAR, "password", row.key_version, 1, sealed))
        owner = Owner.of(name, NEAR)
        keys.append((name, seal_ring(vault.master, owner, ring), vault.master.newest))
    await admin.copy_records_to_table(
        "subject_key", records=keys, columns=["subject", "wrapped", "key_version"]
    )
    await admin.copy_records_to_table(
        "vault", records=rows,
        columns=["id", "subject", "instance", "record", "key_version", "version", "sealed"],
    )  # fmt: skip
    await admin.execute(f"SELECT setval('vault_id_seq', {count + 1})")


async def steps_of(work: AsyncIterator[Step]) -> list[Step]:
    return [step async for step in work]


async def masters(admin: Connection) -> set[int]:
    rows = await admin.fetch(
        "SELECT key_version FROM subject_key UNION SELECT key_version FROM instance_key"
    )
    return {row["key_version"] for row in rows}


async def test_the_keys_of_many_people_are_changed_while_they_work(
    vault: Vault, database: Database, admin: Connection
) -> None:
    await fill(admin, vault, PEOPLE)
    await vault.put(None, NEAR, "device", b"the instance's own")
    random = chance("rotation")
    before, done = vault.master.newest, asyncio.Event()
    reads = writes = 0
    newest: dict[int, bytes] = {}

    async def work(first: int) -> None:
        nonlocal reads, writes
        while not done.is_set():
            number = random.randrange(first, PEOPLE, 4)  # No two of us for one person.
            if random.random() < 0.3:
                newest[number] = b"new %d" % writes
                await vault.put(person(number), NEAR, "password", newest[number])
                writes += 1
            expected = newest.get(number, password(number))
            assert await vault.find(person(number), NEAR, "password") == expected
            reads += 1
            fresh = UserId(f"@fresh{first}x{reads}:hs")
            if random.random() < 0.05:
                await vault.put(fresh, NEAR, "password", b"made meanwhile")

    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        for first in range(4):
            group.create_task(work(first))
        while reads < 40:
            await asyncio.sleep(0.01)
        began, reads_before = loop.time(), reads
        steps = await steps_of(Rotation(database, vault).rotate())
        took = loop.time() - began
        during = reads - reads_before
        done.set()
    assert took < max(LIMIT * PEOPLE / 100_000, 60)
    assert during > 0
    assert writes > 0
    assert [step.faults for step in steps if step.faults] == []
    assert steps[-1].done == steps[-1].total >= PEOPLE + 1
    assert await masters(admin) == {vault.master.newest} != {before}
    assert not vault.master.is_changing
    checked = await steps_of(Rotation(database, vault).check())
    assert [fault for step in checked for fault in step.faults] == []


@pytest.mark.parametrize("after", [0, 1, 2, 3])
async def test_a_change_that_was_killed_goes_on_where_it_was(
    migrated_settings: DatabaseSettings, folder: Path, after: int
) -> None:
    admin = await asyncpg.connect(migrated_settings.url)
    async with Database.open(migrated_settings, folder, SystemClock()) as database:
        vault = Vault(database, MasterKeys.load(folder, {}))
        await vault.open()
        await fill(admin, vault, 1200)
        await vault.put(None, NEAR, "device", b"the instance's own")
    await admin.close()
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CUT_SHORT, str(folder), migrated_settings.url, str(after)
    )
    assert await killed.wait() == -signal.SIGKILL
    master = MasterKeys.load(folder, {})
    assert master.is_changing
    async with Database.open(migrated_settings, folder, SystemClock()) as database:
        vault = Vault(database, master)
        await vault.open()
        assert await vault.find(person(0), NEAR, "password") == password(0)
        assert await vault.find(person(1199), NEAR, "password") == password(1199)
        newest = master.newest
        await steps_of(Rotation(database, vault).rotate())
        assert master.newest == newest  # No third key was made.
        again = Vault(database, MasterKeys.load(folder, {}))
        assert not again.master.is_changing
        for number in (0, 499, 500, 1199):
            assert await again.find(person(number), NEAR, "password") == password(number)
        assert await again.find(None, NEAR, "device") == b"the instance's own"


async def test_what_does_not_open_is_named_and_holds_up_nothing(
    vault: Vault, database: Database, admin: Connection, folder: Path
) -> None:
    await fill(admin, vault, 10)
    await admin.execute("UPDATE subject_key SET wrapped = 'x' WHERE subject = $1", person(3))
    await admin.execute("UPDATE subject_key SET key_version = 7 WHERE subject = $1", person(4))
    await admin.execute("UPDATE vault SET sealed = 'x' WHERE subject = $1", person(5))
    # By a login, and by leave to speak for somebody, people are found who have no key at all.
    hers = await Accounts(database).link_login(NEAR, person(7), "seven")
    await admin.execute("UPDATE vault SET login = $1 WHERE subject = $2", hers.id, person(7))
    await DoublePuppetStore(database, folder).set_puppet(person(8), "token")
    keyless = [person(7), person(8)]
    await admin.execute("DELETE FROM subject_key WHERE subject = ANY($1)", keyless)
    checked = [f for s in await steps_of(Rotation(database, vault).check()) for f in s.faults]
    assert [fault.partition(":")[0] for fault in checked[:2]] == [
        f"the key of {person(n)[:-3]}" for n in (3, 4)
    ]
    assert checked[2].startswith(f"{person(5)}: row 6 of the vault (password of near)")
    assert checked[3:] == [
        f"{person(n)}: row {n + 1} of the vault (password of near) belongs to somebody whose key "
        "was destroyed"
        for n in (7, 8)
    ]
    steps = await steps_of(Rotation(database, vault).rotate())
    assert len([fault for step in steps for fault in step.faults]) == 2
    for number in (0, 1, 2, 6, 9):
        assert await vault.find(person(number), NEAR, "password") == password(number)
    for number in (3, 4, 5):
        with pytest.raises(KeyLost):
            await vault.find(person(number), NEAR, "password")


async def test_what_was_read_just_before_the_old_key_went_still_opens_for_a_moment(
    vault: Vault, database: Database
) -> None:
    owner = Owner.of(person(1), NEAR)
    old = vault.master.newest
    sealed = seal_ring(vault.master, owner, Ring(key=bytes(32)))
    await steps_of(Rotation(database, vault).rotate())
    assert vault.master.newest != old
    assert vault.master.knows(old)
    assert open_ring(vault.master, owner, old, sealed).key == bytes(32)
    later = MasterKeys.load(vault.master.path.parents[1], {})
    assert not later.knows(old)
    with pytest.raises(KeyLost):
        open_ring(later, owner, old, sealed)


async def test_nobody_changes_the_keys_twice_at_a_time(
    vault: Vault, database: Database, admin: Connection
) -> None:
    await fill(admin, vault, 3)
    rotation = Rotation(database, vault)
    async with aclosing(rotation.rotate()) as first:
        await anext(first)
        with pytest.raises(ConfigError, match="being changed already"):
            await steps_of(rotation.rotate())
    assert vault.master.is_changing
    await steps_of(rotation.rotate())
    assert not vault.master.is_changing


async def test_a_database_that_says_nothing_ends_the_work_on_all_keys_and_it_can_be_done_later(
    vault: Vault, database: Database, admin: Connection
) -> None:
    await fill(admin, vault, 3)
    rotation, database.owner_limit = Rotation(database, vault), 0.5
    async with asyncio.timeout(PATIENCE):
        for work in (
            lambda: steps_of(rotation.rotate()), lambda: steps_of(rotation.check()), vault.reset,
        ):  # fmt: skip
            async with admin.transaction():
                await admin.execute("LOCK TABLE subject_key")
                with pytest.raises(TemporaryFailure):
                    await work()
            await work()


async def test_a_key_of_the_environment_is_changed_by_its_admin(
    database: Database, folder: Path, admin: Connection
) -> None:
    old, new = random_master_key(), random_master_key()
    vault = Vault(database, MasterKeys.load(folder, {VARIABLE: old}))
    await vault.open()
    await fill(admin, vault, 3)
    with pytest.raises(ConfigError, match=r"put a new one before it.*`trestle keys new`"):
        await steps_of(Rotation(database, vault).rotate())
    both = Vault(database, MasterKeys.load(folder, {VARIABLE: f"{new},{old}"}))
    await both.open()
    await steps_of(Rotation(database, both).rotate())
    alone = Vault(database, MasterKeys.load(folder, {VARIABLE: new}))
    await alone.open()
    assert await alone.find(person(2), NEAR, "password") == password(2)
    assert not (folder / "keys" / "master").exists()
