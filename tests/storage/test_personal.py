"""What is kept about one person: all of it is in their copy, nothing of another's, and it goes."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from bridge.model import AuditAction
from bridge.sdk.ids import InstanceId, UserId
from bridge.sdk.module import Holds as ModuleHolds
from bridge.sdk.module import Kept
from bridge.storage.audit import Audit
from bridge.storage.datamap import DATA_MAP
from bridge.storage.keys import DayKeys
from bridge.storage.labels import Goes, Holds, Stays, Table
from bridge.storage.masterkeys import MasterKeys
from bridge.storage.modulestore import InstanceStore
from bridge.storage.personal import ANOTHER, OWNED, SEALED, SECRET, UNREADABLE, PersonalData
from bridge.storage.pool import Database
from bridge.storage.schema import Connection, migrations
from bridge.storage.timers import InstanceTimers
from bridge.storage.vault import Vault
from tests.storage.conftest import TurnedClock
from tests.storage.rows import COLUMNS, FIXED, insert

ALICE, BEA = UserId("@alice:hs"), UserId("@bea:hs")
NEAR, FAR = InstanceId("near"), InstanceId("far")
SET_UP = [
    NEAR, InstanceId("remind"), *(
        InstanceId(f"{mark} {table} instance")
        for mark in ("ALICE", "BEA") for table in ("module_store", "timer")
    ),
]  # fmt: skip
"""Instances that are in the config, whose modules name no secrets."""
APART = ("login", "vault", "subject_key")
"""Tables that those empty who know what hangs on their rows."""


@pytest.fixture
def personal(database: Database, day_keys: DayKeys) -> PersonalData:
    return PersonalData(
        database, day_keys, is_ours=lambda user: user.startswith("@trestle"),
        modules=lambda: dict.fromkeys(SET_UP, ()),
    )  # fmt: skip


async def seed(
    admin: Connection, database: Database, person: str, tables: Sequence[Table] = OWNED
) -> None:
    """Put a row of the person's into every table, each value of which names its owner."""
    mark = person[1:].partition(":")[0].upper()
    for table in tables:
        columns = await admin.fetch(f"{COLUMNS} AND c.table_name = $1", table.name)
        said: dict[str, object] = {}
        for column in columns:
            name, kind = column["column_name"], column["data_type"]
            is_fixed = (table.name, name) in FIXED or name in FIXED or name in CHOSEN
            if not is_fixed and kind in ("text", "bytea"):
                value = f"{mark} {table.name} {name}"
                said[name] = value if kind == "text" else value.encode()
        await insert(admin, table, database.clock.today(), **{**said, str(table.subject): person})


CHOSEN = frozenset({"puppets", "members", "left_out", "reason"})
"""Columns with words of a closed set, which may be empty."""


def read(copy: bytes) -> tuple[Mapping[str, Any], Mapping[str, list[dict[str, Any]]]]:
    """The manifest, and the rows by table."""
    with zipfile.ZipFile(io.BytesIO(copy)) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        rows = {}
        for one in manifest["tables"]:
            lines = archive.read(one["file"])
            assert hashlib.sha256(lines).hexdigest() == one["sha256"]
            rows[one["table"]] = [json.loads(line) for line in lines.splitlines()]
            assert len(rows[one["table"]]) == one["rows"]
        assert set(archive.namelist()) == {
            "manifest.json", *(one["file"] for one in manifest["tables"])
        }  # fmt: skip
    return manifest, rows


def everything_in(copy: bytes) -> str:
    """All of it as one text."""
    with zipfile.ZipFile(io.BytesIO(copy)) as archive:
        return "".join(archive.read(name).decode() for name in archive.namelist())


async def count(personal: PersonalData, person: UserId) -> dict[str, int]:
    """How many rows each table has about the person."""
    return {one.table: one.number for one in await personal.summary(person)}


def clear(table: Table) -> Iterator[str]:
    """The columns whose values are shown as they are."""
    for name, label in table.columns.items():
        if label.holds is not Holds.SECRET and not label.sealed:
            yield name


async def test_a_copy_has_every_row_about_a_person_and_not_a_byte_of_another(
    admin: Connection, database: Database, personal: PersonalData
) -> None:
    for person in (ALICE, BEA):
        await seed(admin, database, person)
    copy = await personal.copy(ALICE)
    manifest, rows = read(copy)
    assert manifest["subject"] == ALICE
    assert manifest["schema"] == migrations()[-1][0]
    assert set(rows) == {table.name for table in DATA_MAP if table.subject is not None}
    for table in OWNED:
        (row,) = rows[table.name]
        assert set(row) == set(table.columns), table.name
        stored = await admin.fetchrow(
            f"SELECT * FROM {table.name} WHERE {table.subject} = $1", ALICE  # noqa: S608
        )  # fmt: skip
        assert stored is not None
        for name in clear(table):
            if isinstance(stored[name], str | int | None):
                assert row[name] == stored[name], (table.name, name)
            elif isinstance(stored[name], bytes):
                assert row[name] == stored[name].decode(), (table.name, name)
    said = everything_in(copy)
    assert "ALICE" in said
    assert "BEA" not in said
    assert BEA not in said
    assert set((await count(personal, ALICE)).values()) == {1}
    assert await count(personal, ALICE) == dict.fromkeys(rows, 1)


async def test_a_copy_says_that_there_are_secrets_and_shows_none(
    admin: Connection, database: Database, personal: PersonalData, day_keys: DayKeys
) -> None:
    await seed(admin, database, ALICE)
    _, rows = read(await personal.copy(ALICE))
    for table in OWNED:
        for name, label in table.columns.items():
            if label.holds is Holds.SECRET:
                assert rows[table.name][0][name] == SECRET
            elif label.sealed:
                # It was sealed with no key that is here.
                assert rows[table.name][0][name] == UNREADABLE


def test_of_every_sealed_column_about_people_it_is_known_how_it_is_opened() -> None:
    sealed = {
        table.name for table in OWNED for label in table.columns.values()
        if label.sealed and label.holds is not Holds.SECRET
    }  # fmt: skip
    assert sealed == set(SEALED)


async def test_what_is_sealed_stands_in_the_copy_as_it_was_said(
    database: Database, personal: PersonalData, day_keys: DayKeys, folder: Any
) -> None:
    timers = InstanceTimers(database, day_keys, InstanceId("remind"))
    await timers.set("one", after=timedelta(hours=1), note=b"water the lilies", subject=ALICE)
    audit = Audit(database, folder)
    await audit.record(
        actor=UserId("@boss:hs"), action=AuditAction.SET, target="#a, wished by @bea:hs",
        subject=ALICE,
    )  # fmt: skip
    _, rows = read(await personal.copy(ALICE))
    assert rows["timer"][0]["note"] == "water the lilies"
    assert rows["audit"][0]["actor"] == ANOTHER
    assert rows["audit"][0]["target"] == f"#a, wished by {ANOTHER}"


async def test_who_else_is_named_in_what_is_kept_is_struck_out_wherever_it_stands(
    admin: Connection, database: Database, personal: PersonalData, day_keys: DayKeys
) -> None:
    bots = InstanceTimers(database, day_keys, NEAR)
    await bots.set("one", after=timedelta(hours=1), note=b"tell @bea:hs, and me", subject=ALICE)
    store = InstanceStore(database, NEAR)
    value = b'{"m.mentions":{"user_ids":["@bea:hs","@alice:hs"]},"by":"@carl:hs"}'
    await store.put("said:1", value, subject=ALICE)
    _, rows = read(await personal.copy(ALICE))
    assert rows["timer"][0]["note"] == f"tell {ANOTHER}, and me"
    assert json.loads(rows["module_store"][0]["value"]) == {
        "m.mentions": {"user_ids": [ANOTHER, ALICE]}, "by": ANOTHER
    }  # fmt: skip


async def test_what_a_module_says_is_a_secret_is_not_shown(
    database: Database, day_keys: DayKeys
) -> None:
    said = Kept(prefix="k", holds=ModuleHolds.CONTENT, purpose="words", keep_for=None)
    key = Kept(prefix="key:", holds=ModuleHolds.SECRET, purpose="a key", keep_for=None)
    personal = PersonalData(
        database, day_keys, is_ours=lambda user: False, modules=lambda: {NEAR: (said, key)}
    )
    for name in ("key:1", "kind"):
        await InstanceStore(database, NEAR).put(name, b"hushhush", subject=ALICE)
    _, rows = read(await personal.copy(ALICE))
    assert {row["key"]: row["value"] for row in rows["module_store"]} == {
        "key:1": SECRET, "kind": "hushhush"
    }  # fmt: skip
    # What one keeps that is set up no more nobody can say.
    await InstanceStore(database, FAR).put("kind", b"hushhush", subject=ALICE)
    _, rows = read(await personal.copy(ALICE))
    assert [row["value"] for row in rows["module_store"] if row["instance"] == FAR] == [SECRET]


async def test_a_copy_of_somebody_of_whom_nothing_is_kept_has_all_tables_and_no_row(
    admin: Connection, database: Database, personal: PersonalData
) -> None:
    await seed(admin, database, BEA)
    for nobody in ("@carl:hs", "@be_:hs", "@bea:h", "%", ""):
        _, rows = read(await personal.copy(UserId(nobody)))
        assert not any(rows.values()), nobody
        assert await count(personal, UserId(nobody)) == {}


async def test_many_rows_are_all_in_the_copy(database: Database, personal: PersonalData) -> None:
    await database.core.executemany(
        "INSERT INTO told (subject, what, at) VALUES ($1, $2, now())",
        [(ALICE, f"word {number}") for number in range(2500)],
    )
    _, rows = read(await personal.copy(ALICE))
    assert {row["what"] for row in rows["told"]} == {f"word {n}" for n in range(2500)}


async def test_what_is_erased_is_what_the_map_says_and_of_that_person_alone(
    admin: Connection, database: Database, personal: PersonalData
) -> None:
    for person in (ALICE, BEA):
        await seed(admin, database, person)
    before = await count(personal, BEA)
    gone = await personal.erase(ALICE)
    left = await count(personal, ALICE)
    for table in OWNED:
        if table.name in APART:
            continue
        stays = isinstance(table.erased, Stays)
        assert (gone.get(table.name, 0) == 1) is not stays, table.name
        is_named = isinstance(table.erased, Stays) and table.erased.named
        assert (table.name in left) is is_named, table.name
    assert await count(personal, BEA) == before
    # The bridge of a room stays, and does not say whose it was.
    assert await admin.fetchval("SELECT count(*) FROM portal WHERE created_by IS NULL") == 1
    assert await personal.erase(ALICE) == {}


async def test_what_a_module_needs_against_abuse_stays_for_a_time_and_is_named(
    database: Database, day_keys: DayKeys, clock: TurnedClock
) -> None:
    day, year = timedelta(days=1), timedelta(days=365)
    an_id = ModuleHolds.ID
    name = Kept(prefix="name:", holds=an_id, purpose="a name", keep_for=None, outlasts=year)
    mark = Kept(prefix="mark:", holds=an_id, purpose="a mark", keep_for=day, outlasts=year)
    nick = Kept(prefix="nick:", holds=an_id, purpose="a nick", keep_for=None)
    modules = {NEAR: (name, mark, nick), FAR: (nick,)}
    personal = PersonalData(
        database, day_keys, is_ours=lambda user: False, modules=lambda: modules
    )
    for instance in (NEAR, FAR):
        store = InstanceStore(database, instance)
        for one in (name, mark, nick):
            for person in (ALICE, BEA):
                await store.put(
                    f"{one.prefix}{person}", b"x", subject=person, keep_for=one.keep_for
                )
    kept = {one.what: one.how_long for one in await personal.summary(ALICE)}
    assert kept["on near, a name"] == "as long as near is set up"
    assert kept["on near, a mark"] == f"until {(clock.now() + day).date()}"
    for gone in ({"module_store": 4}, {}):
        assert await personal.erase(ALICE) == gone
        left = await personal.summary(ALICE)
        assert [(one.what, one.number) for one in left] == [
            ("on near, a name", 1), ("on near, a mark", 1)
        ]  # fmt: skip
        assert all(one.stays and "365 days" in one.after_erasure for one in left)
        ends = [f"until {(clock.now() + one).date()}" for one in (year, day)]
        assert [one.how_long for one in left] == ends
    rows = await database.core.fetch("SELECT key, subject, until FROM module_store")
    assert {row["key"]: row["until"] is None for row in rows if row["subject"] == BEA} == {
        f"name:{BEA}": True, f"mark:{BEA}": False, f"nick:{BEA}": True
    }  # fmt: skip
    until = {row["key"]: row["until"] for row in rows if row["subject"] == ALICE}
    # What would have gone before goes then.
    assert until[f"mark:{ALICE}"] < clock.now() + day
    assert until[f"name:{ALICE}"] > clock.now() + year - day


async def test_who_may_have_something_to_erase_is_found(
    admin: Connection, database: Database, personal: PersonalData
) -> None:
    assert await personal.people() == set()
    for number, table in enumerate(OWNED):
        if not isinstance(table.erased, Stays) or table.name in ("portal", "audit"):
            await seed(admin, database, f"@p{number}:hs", [table])
    owners = {
        UserId(f"@p{number}:hs") for number, table in enumerate(OWNED)
        if not isinstance(table.erased, Stays) or table.name in ("portal", "audit")
    }  # fmt: skip
    # What lies in the vault for no login the core does not see.
    unseen = {
        UserId(f"@p{number}:hs") for number, table in enumerate(OWNED)
        if table.name in ("vault", "subject_key")
    }  # fmt: skip
    assert await personal.people() == owners - unseen


async def test_with_the_key_what_the_vault_has_goes(
    database: Database, personal: PersonalData, folder: Any
) -> None:
    vault = Vault(database, MasterKeys.load(folder))
    await vault.open()
    await vault.put(ALICE, InstanceId("near"), "1 password", b"hushhush")
    copy = await personal.copy(ALICE)
    assert "hushhush" not in everything_in(copy)
    assert read(copy)[1]["vault"][0]["record"] == "1 password"
    assert await vault.erase(ALICE) == 1
    assert await count(personal, ALICE) == {}


def test_every_table_says_what_becomes_of_its_rows_and_why_they_stay() -> None:
    for table in DATA_MAP:
        if isinstance(table.erased, Stays):
            assert table.subject is not None, table.name
            assert table.erased.why, table.name
    assert isinstance(next(t for t in OWNED if t.name == "vault").erased, Goes)
