"""The data map is true: of the live catalogue, of what is forgotten, of its page."""

from datetime import date, timedelta
from pathlib import Path

from bridge.manual.datapage import data_map_page
from bridge.storage.datamap import DATA_MAP
from bridge.storage.keys import DayKeys
from bridge.storage.labels import After, ByDay, Holds
from bridge.storage.pool import Database
from bridge.storage.schema import Connection
from tests.storage.conftest import TurnedClock
from tests.storage.rows import COLUMNS, forget, insert

TOP = Path(__file__).parents[2]


async def differences(connection: Connection) -> set[tuple[str, str]]:
    """Columns that are in the catalogue or in the map, but not in both."""
    rows = await connection.fetch(COLUMNS)
    live = {(row["parent"] or row["table_name"], row["column_name"]) for row in rows}
    return live ^ {(table.name, column) for table in DATA_MAP for column in table.columns}


async def test_every_column_of_the_database_is_in_the_map_and_nothing_else(
    admin: Connection,
) -> None:
    assert await differences(admin) == set()


async def test_a_column_without_a_label_is_found(admin: Connection) -> None:
    await admin.execute("ALTER TABLE journal ADD COLUMN note text")
    await admin.execute("CREATE TABLE extra (word text)")
    assert await differences(admin) == {("journal", "note"), ("extra", "word")}


def test_the_page_is_made_from_the_map() -> None:
    page = TOP / "docs" / "reference" / "data-map.md"
    assert page.read_text() == data_map_page(), "run python -m bridge.manual"


def test_a_subject_is_a_column_and_an_id() -> None:
    for table in DATA_MAP:
        if table.subject is not None:
            assert table.columns[table.subject].holds is Holds.ID, table.name


async def test_what_people_say_is_sealed_before_it_is_stored(
    admin: Connection,
) -> None:
    types = {
        (r["table_name"], r["column_name"]): r["data_type"] for r in await admin.fetch(COLUMNS)
    }
    plain = set()
    for table in DATA_MAP:
        for column, label in table.columns.items():
            if label.sealed:
                assert types[table.name, column] == "bytea"
            elif label.holds in (Holds.CONTENT, Holds.SECRET):
                plain.add(f"{table.name}.{column}")
    # A module's own; it has the vault for what is secret.
    assert plain == {"module_store.value"}


async def test_days_are_dropped_and_kept_as_the_map_says(
    admin: Connection, database: Database, day_keys: DayKeys, clock: TurnedClock
) -> None:
    today = database.clock.today()
    kept: dict[str, set[date]] = {}
    by_day = [(table, table.keep) for table in DATA_MAP if isinstance(table.keep, ByDay)]
    for table, keep in by_day:
        days = {today - timedelta(days=n) for n in (0, 1, keep.days - 1, keep.days, 200)}
        for day in days:
            await admin.execute(
                f"CREATE TABLE IF NOT EXISTS {table.name}_{day:%Y%m%d} PARTITION OF "
                f"{table.name} FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
            )
            await admin.execute(f"ALTER TABLE {table.name}_{day:%Y%m%d} OWNER TO trestle_owner")
            await insert(admin, table, day)
            clock.ahead = timedelta(days=-200)
            day_keys.seal(day, b"", b"")
            clock.ahead = timedelta()
        kept[table.name] = {day for day in days if (today - day).days < keep.days}
    await forget(database, day_keys)
    left: dict[str, set[date]] = {}
    for table, _ in by_day:
        rows = await admin.fetch(f"SELECT day FROM {table.name}")  # noqa: S608
        left[table.name] = {row["day"] for row in rows}
    assert left == kept
    assert min(day_keys.days()) == today - timedelta(days=13)
    parts = await admin.fetch(
        "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relname LIKE $1",
        f"%{today - timedelta(days=200):%Y%m%d}",
    )
    assert parts == []


async def test_rows_with_a_time_of_their_own_go_when_it_is_over(
    admin: Connection, database: Database, day_keys: DayKeys
) -> None:
    today, now = database.clock.today(), database.clock.now()
    timed = {
        table.name: (table, table.keep) for table in DATA_MAP if isinstance(table.keep, After)
    }
    timer, keep = timed.pop("timer")
    for days in (0, keep.days - 1, keep.days, 200):
        await insert(admin, timer, today - timedelta(days=days), key=str(days))
    store, _ = timed.pop("module_store")
    for key, until in (("past", -1), ("future", 1), ("for ever", None)):
        moment = None if until is None else now + timedelta(minutes=until)
        await insert(admin, store, today, key=key, until=moment)
    tally, kept_for = timed.pop("tally")
    for days in (0, kept_for.days - 1, kept_for.days):
        await insert(admin, tally, today - timedelta(days=days))
    for name, (table, told) in timed.items():
        assert told == After("until"), name
        for minutes in (-60, 0, 1):
            await insert(admin, table, today, until=now + timedelta(minutes=minutes))
    await forget(database, day_keys)
    left = await admin.fetch("SELECT key FROM timer UNION ALL SELECT key FROM module_store")
    assert {row["key"] for row in left} == {"0", str(keep.days - 1), "future", "for ever"}
    counted = await admin.fetch("SELECT counted_at FROM tally")
    assert {(today - row["counted_at"].date()).days for row in counted} == {0, kept_for.days - 1}
    for name in timed:
        kept = await admin.fetch(f"SELECT until FROM {name}")  # noqa: S608 - names of the map
        assert [row["until"] for row in kept] == [now + timedelta(minutes=1)], name


async def test_what_has_no_time_stays(
    admin: Connection, database: Database, day_keys: DayKeys
) -> None:
    long_ago = database.clock.today() - timedelta(days=4000)
    counts: dict[str, int] = {}
    for table in DATA_MAP:
        if isinstance(table.keep, ByDay | After):
            continue
        if table.name != "instance_state":  # It has its one row.
            await insert(admin, table, long_ago)
        counts[table.name] = await admin.fetchval(f"SELECT count(*) FROM {table.name}")  # noqa: S608
    await forget(database, day_keys)
    for name, count in counts.items():
        assert await admin.fetchval(f"SELECT count(*) FROM {name}") == count, name  # noqa: S608
