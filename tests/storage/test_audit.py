"""The audit: what was changed, removed or swapped in it is named."""

import asyncio
import contextlib
import threading
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from bridge.demo.matrix_user import PATIENCE
from bridge.model import AuditAction
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import UserId
from bridge.storage.audit import Audit
from bridge.storage.pool import Database
from bridge.storage.schema import Connection

ALICE, BEA = UserId("@alice:hs"), UserId("@bea:hs")


@pytest.fixture
def audit(database: Database, folder: Path) -> Audit:
    return Audit(database, folder)


@pytest_asyncio.fixture
async def filled(audit: Audit) -> Audit:
    """Five rows."""
    for number in range(1, 6):
        await audit.record(
            actor=ALICE, action=AuditAction.BRIDGE, target=f"libera #{number} !r",
            subject=BEA if number % 2 else None,
        )  # fmt: skip
    assert await audit.verify() == []
    return audit


async def faults(audit: Audit) -> list[str]:
    return [fault.removeprefix("row ") for fault in await audit.verify()]


async def test_acts_are_read_back_in_their_order(filled: Audit) -> None:
    rows = [row async for row in filled.rows()]
    assert [(row.seq, row.target) for row in rows] == [(n, f"libera #{n} !r") for n in range(1, 6)]
    assert {(row.actor, row.action) for row in rows} == {(ALICE, AuditAction.BRIDGE)}


async def test_an_act_that_is_cut_off_does_not_write_beside_the_next_one(
    filled: Audit, folder: Path
) -> None:
    """The file with the newest row is written by one at a time; here no thread is free for it."""
    busy = threading.Event()
    loop = asyncio.get_running_loop()
    held = [loop.run_in_executor(None, busy.wait) for _ in range(64)]
    async with contextlib.AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(busy.set)
        act = filled.record(actor=ALICE, action=AuditAction.PAUSE, target="6")
        cut = group.create_task(act)
        async with asyncio.timeout(PATIENCE):
            while len([row async for row in filled.rows()]) < 6:
                await asyncio.sleep(0.01)
        cut.cancel()
        done, _ = await asyncio.wait({cut}, timeout=0.2)
        assert not done
    assert cut.cancelled()
    await asyncio.wait(held)
    await filled.record(actor=ALICE, action=AuditAction.PAUSE, target="7")
    assert (folder / "audit.head").read_text().startswith("7 ")
    assert await filled.verify() == []


async def test_acts_at_the_same_time_make_one_chain(audit: Audit) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(
                audit.record(actor=ALICE, action=AuditAction.PAUSE, target=str(number))
            )
    assert [row.target async for row in audit.rows()] == [str(n) for n in range(20)]
    assert await audit.verify() == []


async def test_the_chain_goes_on_after_a_restart(
    filled: Audit, database: Database, folder: Path
) -> None:
    again = Audit(database, folder)
    assert await again.record(actor=BEA, action=AuditAction.UNBRIDGE, target="x") == 6
    assert await again.verify() == []


async def test_a_changed_row_is_named_whatever_was_changed(
    filled: Audit, admin: Connection
) -> None:
    await admin.execute("CREATE TEMPORARY TABLE kept AS SELECT * FROM audit")
    for change in (
        "actor = '@mallory:hs'",
        "subject = NULL",
        "subject = '@mallory:hs'",
        "action = 'unbridge'",
        "target = 'elsewhere'",
        "detail = 'x'",
        "at = at + interval '1 microsecond'",
        "previous = 'x'",
        "hash = 'x'",
    ):
        await admin.execute(f"UPDATE audit SET {change} WHERE seq = 3")  # noqa: S608
        assert await faults(filled) == ["3 of the audit was changed"], change
        await admin.execute("DELETE FROM audit")
        await admin.execute("INSERT INTO audit SELECT * FROM kept")


@pytest.mark.parametrize("gone", [1, 3, 5])
async def test_a_removed_row_is_named(filled: Audit, admin: Connection, gone: int) -> None:
    await admin.execute("DELETE FROM audit WHERE seq = $1", gone)
    assert await faults(filled) == [f"{gone} of the audit is missing"]


async def test_a_removed_end_is_named(filled: Audit, admin: Connection) -> None:
    await admin.execute("DELETE FROM audit WHERE seq > 2")
    assert await faults(filled) == [f"{n} of the audit is missing" for n in (3, 4, 5)]


async def test_an_emptied_audit_is_named(filled: Audit, admin: Connection) -> None:
    await admin.execute("TRUNCATE audit")
    assert [fault.split()[0] for fault in await faults(filled)] == ["1", "2", "3", "4", "5"]


async def test_swapped_rows_are_named(filled: Audit, admin: Connection) -> None:
    await admin.execute("UPDATE audit SET seq = 99 WHERE seq = 2")
    await admin.execute("UPDATE audit SET seq = 2 WHERE seq = 4")
    await admin.execute("UPDATE audit SET seq = 4 WHERE seq = 99")
    assert await faults(filled) == ["2 of the audit was changed", "4 of the audit was changed"]


async def test_a_row_of_another_history_is_named(
    filled: Audit, admin: Connection, database: Database, folder: Path
) -> None:
    await admin.execute("CREATE TEMPORARY TABLE kept AS SELECT * FROM audit")
    await admin.execute("DELETE FROM audit WHERE seq > 2")
    other = Audit(database, folder)
    for target in ("other 3", "other 4", "other 5"):
        await other.record(actor=BEA, action=AuditAction.PAUSE, target=target)
    await admin.execute("DELETE FROM audit WHERE seq = 4")
    await admin.execute("INSERT INTO audit SELECT * FROM kept WHERE seq = 4")
    assert (await faults(other))[0] == "4 of the audit follows another row"
    # The whole earlier history back in its place, each row as it was written once.
    await admin.execute("DELETE FROM audit")
    await admin.execute("INSERT INTO audit SELECT * FROM kept")
    assert await faults(other) == ["5 of the audit is not the one written"]


async def test_rows_that_somebody_without_the_key_made_anew_are_named(
    filled: Audit, database: Database, folder: Path, admin: Connection
) -> None:
    await admin.execute("TRUNCATE audit")
    forger = Audit(database, folder / "forger")
    for number in range(5):
        await forger.record(actor=ALICE, action=AuditAction.PAUSE, target=str(number))
    assert await forger.verify() == []
    assert [fault.split()[0] for fault in await faults(filled)] == ["1", "2", "3", "4", "5"]


async def test_the_core_cannot_change_or_remove_a_row(filled: Audit, database: Database) -> None:
    for statement in ("UPDATE audit SET actor = ''", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.core.execute(statement)
    assert await filled.verify() == []


async def test_a_person_sees_the_rows_about_them(filled: Audit, database: Database) -> None:
    async with database.as_subject(BEA) as connection:
        rows = await connection.fetch("SELECT seq FROM audit ORDER BY seq")
    assert [row["seq"] for row in rows] == [1, 3, 5]


async def test_an_instance_that_was_replaced_records_nothing(
    filled: Audit, database: Database
) -> None:
    await database.core.execute("UPDATE lease SET epoch = epoch + 1")
    with pytest.raises(TemporaryFailure, match="another instance"):
        await filled.record(actor=ALICE, action=AuditAction.PAUSE, target="late")
    assert await filled.verify() == []


async def test_a_row_whose_answer_was_lost_is_followed(
    filled: Audit, database: Database, folder: Path
) -> None:
    # Stored, but the process did not live to remember it.
    head = (folder / "audit.head").read_text()
    await Audit(database, folder).record(actor=BEA, action=AuditAction.PAUSE, target="unheard of")
    (folder / "audit.head").write_text(head)
    with pytest.raises(TemporaryFailure):
        await filled.record(actor=ALICE, action=AuditAction.PAUSE, target="again")
    assert await filled.record(actor=ALICE, action=AuditAction.PAUSE, target="again") == 7
    assert await filled.verify() == []
